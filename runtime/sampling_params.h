/* How one request wants its tokens drawn: the parameters that people know from vLLM and Hugging
 * Face, their "off" values, and the check that every request passes before it is admitted. */
#ifndef MOEBIUS_RUNTIME_SAMPLING_PARAMS_H
#define MOEBIUS_RUNTIME_SAMPLING_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"

#define SAMPLING_BIAS_MAX 300
#define SAMPLING_BANNED_MAX 128
#define SAMPLING_LOGPROBS_MAX 20

struct sampling_bias {
    int32_t id;
    float bias; /* added to the logit */
};

/* Plain data, copied by value. sampler.h says in what order the fields act. */
struct sampling_params {
    float temperature;        /* 0: greedy; else 1e-5 .. 1000 */
    int32_t top_k;            /* the k likeliest ids; 0: off */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1], relative to the likeliest id; 0: off */
    float repetition_penalty; /* [0.01, 100], over prompt and output; 1: off */
    float frequency_penalty;  /* [-100, 100], times the count in the output; 0: off */
    float presence_penalty;   /* [-100, 100], once for an id in the output; 0: off */
    uint64_t seed;
    int32_t logprobs; /* top log-probabilities wanted, 0 .. 20; -1: none at all */
    int32_t bias_count;
    struct sampling_bias bias[SAMPLING_BIAS_MAX]; /* each within [-100, 100]; an id twice: both */
    int32_t banned_count;
    int32_t banned[SAMPLING_BANNED_MAX]; /* never produced (EOS while min tokens are missing) */
};

/* Greedy, everything else off, seed 0, no logprobs. Local. */
struct sampling_params sampling_params_default(void);

/* Holds every field against its range above and every id against [0, vocabulary). Returns
 * STATUS_BAD_REQUEST after one log line that names field, expected range and value found; NaN and
 * infinities are refused. Local. */
enum status sampling_params_check(const struct sampling_params *params, int32_t vocabulary);

/* Whether the choice depends on what the sequence said so far, that is, whether a sampler_state is
 * needed. Local. */
bool sampling_params_have_penalty(const struct sampling_params *params);

#endif
