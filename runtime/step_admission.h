/* What the ranks of a data-parallel group need to know of a request to choose its tokens: told
 * once, when its first rows run, and again when it begins anew after a preemption. Everything that
 * the sampler looks at later is this, and the tokens of the plans' rows. */
#ifndef MOEBIUS_RUNTIME_STEP_ADMISSION_H
#define MOEBIUS_RUNTIME_STEP_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/sampling_params.h"
#include "runtime/wire.h"

struct step_admission {
    int32_t group, place;
    int32_t prompt_count;
    int32_t min_tokens; /* the model's end tokens are banned before, */
    int32_t stop_count; /* and so many ids that stand behind the banned ones in `sampling` */
    int32_t prompt_top; /* likeliest ids beside scored rows */
    const struct sampling_params *sampling; /* borrowed */
    int32_t history_count;                  /* tokens of positions that never come as rows (a prefix
                                               hit); only where a penalty looks at them, else 0 */
    const int32_t *history;                 /* [history_count] borrowed */
};

/* Most bytes of one on the wire, its history apart. */
int64_t step_admission_bytes_max(void);

/* To the wire and back, a byte or two for a greedy request. get writes the parameters to *sampling
 * and the history to history[room] and lets the admission point there; ids are held against
 * `vocabulary`, counts against their arrays, the rest is taken as it is (the coordinator checked
 * it). Local. */
void step_admission_put(struct wire_writer *writer, const struct step_admission *admission);
void step_admission_get(struct wire_reader *reader, int32_t vocabulary, int32_t room,
                        struct sampling_params *sampling, int32_t *history,
                        struct step_admission *admission);

#endif
