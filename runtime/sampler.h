/* One row of logits in, one token out: Gumbel-max sampling with counter-based noise.
 *
 * The token is the id of the support with the greatest logit / temperature + noise(seed, position,
 * id); that is an exact draw from the softmax over the support (Maddison, Tarlow, Minka, "A*
 * sampling", NeurIPS 2014, section 2) that needs no normaliser. Greedy is zero noise. Equal values
 * go to the lower id. The choice is a function of parameters, logits, position and what the
 * sequence said so far, and of nothing else: not of batch, rank, thread or the order of scanning.
 *
 * Order of steps, as vLLM and Hugging Face have it:
 *   1. logit_bias is added;
 *   2. repetition penalty (prompt and output), then frequency, then presence penalty (output);
 *   3. banned ids get -infinity;
 *   4. temperature;
 *   5. top_k, top_p, min_p on the tempered distribution (sampler_support.h);
 *   6. the noise, and the maximum.
 * Steps 1 to 3 and the weights of top_p in f32, the others in double.
 *
 * NaN and -infinity are never chosen. A +infinity beats every finite logit.
 *
 * With the vocabulary in shards, each rank calls sampler_prepare and sampler_best on its own ids
 * and the results are merged with sampler_best_merge, in any order; where top_k, top_p or min_p is
 * on, the border is found first, by a rank that holds the whole adjusted row. */
#ifndef MOEBIUS_RUNTIME_SAMPLER_H
#define MOEBIUS_RUNTIME_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "kernels/sample_ops.h"
#include "runtime/sampler_state.h"
#include "runtime/sampler_support.h"
#include "runtime/sampling_params.h"

/* Logits of the ids [first_id, first_id + count) for the token at absolute `position` (a prompt of
 * n tokens is followed by the token at position n). */
struct sampler_row {
    const float *logits; /* [count], f32, borrowed */
    int32_t first_id, count;
    int64_t position;
    const struct sample_ops *ops; /* NULL: the reference; the same choice, only slower */
};

/* The winner of some ids; id -1 (value ignored): none of them can be chosen. */
struct sampler_best {
    double value; /* tempered logit plus noise; the logit itself where greedy */
    int32_t id;
};

/* Whether steps 1 to 3 change anything; if not, sampler_adjust can be left out. Local. */
bool sampler_adjusts(const struct sampling_params *params);

/* Steps 1 to 3 from row->logits into `adjusted` [row->count], which may be row->logits. `state`
 * may be NULL where no penalty is on. Local. */
void sampler_adjust(const struct sampling_params *params, const struct sampler_state *state,
                    const struct sampler_row *row, float *adjusted);

/* Steps 4 and 6 over adjusted logits within `border`. Local. */
struct sampler_best sampler_best(const struct sampling_params *params, struct sampler_border border,
                                 const struct sampler_scan *scan, int64_t position);

/* The winner of two disjoint sets of ids: greater value, then lower id. Local. */
struct sampler_best sampler_best_merge(struct sampler_best a, struct sampler_best b);

/* Working memory, to be aligned to MEMORY_ALIGNMENT; one call at a time may use it, its contents
 * need not survive. Local. */
size_t sampler_scratch_bytes(int32_t vocabulary);

/* Steps 1 to 3 (params NULL: none of them) and the peaks, in working memory for at least row->count
 * ids. Local. */
struct sampler_scan sampler_prepare(const struct sampling_params *params,
                                    const struct sampler_state *state,
                                    const struct sampler_row *row, void *scratch);

/* Steps 4 to 6 over a whole vocabulary (scan->first_id 0) that sampler_prepare has prepared for
 * `params`, which passed sampling_params_check, in the same working memory; `scan` is still good
 * afterwards. Allocates nothing. If no id can be chosen (all NaN, -infinity or banned) logs one
 * line, writes token 0 and returns STATUS_INTERNAL. Local. */
enum status sampler_choose(const struct sampling_params *params, const struct sampler_scan *scan,
                           int64_t position, void *scratch, int32_t *token);

#endif
