/* What a sequence has said so far, as far as penalties need it: which ids its prompt holds and how
 * often its output holds each id. Fixed memory, taken at create; a step pushes the tokens it emits,
 * a verifier pushes the path to a tree node, looks, and pops it again. */
#ifndef MOEBIUS_RUNTIME_SAMPLER_STATE_H
#define MOEBIUS_RUNTIME_SAMPLER_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/sampling_params.h"

struct sampler_state;

/* Memory that sampler_state_create takes, for the memory plan. `token_capacity`: most tokens of
 * prompt and output together (tree paths included). Local. */
size_t sampler_state_bytes(int32_t vocabulary, int32_t token_capacity);

/* An empty state for ids [0, vocabulary), both arguments at least 1. STATUS_NO_MEMORY is logged.
 * Give back with sampler_state_destroy, which takes NULL. Local. */
enum status sampler_state_create(int32_t vocabulary, int32_t token_capacity,
                                 struct sampler_state **state);
void sampler_state_destroy(struct sampler_state *state);

/* Empties the state for the next sequence; time goes with the tokens it held. Local. */
void sampler_state_reset(struct sampler_state *state);

/* Adds prompt tokens; may be called chunk by chunk, but not while output is held (our bug). An id
 * outside the vocabulary is STATUS_BAD_REQUEST, more tokens than the capacity STATUS_LIMIT, both
 * logged; the state is then as before. Local. */
enum status sampler_state_add_prompt(struct sampler_state *state, const int32_t *ids,
                                     int32_t count);

/* Appends one output token. Errors as above. Local. */
enum status sampler_state_push(struct sampler_state *state, int32_t id);

/* Takes back the last `count` output tokens; more than there are is our bug. Local. */
void sampler_state_pop(struct sampler_state *state, int32_t count);

/* Tokens of output held; occurrences of `id` among them; whether the prompt holds `id`. Local. */
int32_t sampler_state_output_count(const struct sampler_state *state);
int32_t sampler_state_count_of(const struct sampler_state *state, int32_t id);
bool sampler_state_in_prompt(const struct sampler_state *state, int32_t id);

/* Applies the penalties of `params` to logits of the ids [first_id, first_id + count), in f32, in
 * place: an id of prompt or output has its logit divided (if above 0) or multiplied (else) by the
 * repetition penalty; then an id of the output loses frequency_penalty times its count, then
 * presence_penalty. Time goes with the distinct tokens held, not with the vocabulary. Local. */
void sampler_state_penalise(const struct sampler_state *state, const struct sampling_params *params,
                            int32_t first_id, int32_t count, float *logits);

#endif
