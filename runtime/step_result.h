/* What a group's ranks found out about a plan entry, on its way to the coordinator: a few bytes.
 * The results of a group's entries stand in the order of the plan; of an entry first its scored
 * rows, then the chosen token. */
#ifndef MOEBIUS_RUNTIME_STEP_RESULT_H
#define MOEBIUS_RUNTIME_STEP_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/sampler_logprobs.h"
#include "runtime/wire.h"

/* Of one row. */
struct step_result {
    int32_t token;     /* chosen, or scored; -1: no id could be chosen */
    bool has_logprobs; /* always of a scored row */
    struct sampler_logprobs logprobs;
};

/* Most bytes of one on the wire. */
int64_t step_result_bytes_max(void);

/* To the wire and back; ids are held against `vocabulary`. Local. */
void step_result_put(struct wire_writer *writer, const struct step_result *result);
void step_result_get(struct wire_reader *reader, int32_t vocabulary, struct step_result *result);

#endif
