/* Log-probabilities of a row: the log-softmax of the raw logits, before bias, penalties and
 * temperature (vLLM's default, "raw_logprobs"). */
#ifndef MOEBIUS_RUNTIME_SAMPLER_LOGPROBS_H
#define MOEBIUS_RUNTIME_SAMPLER_LOGPROBS_H

#include <stdint.h>

#include "runtime/sampler_scan.h"
#include "runtime/sampling_params.h"

struct sampler_logprob {
    int32_t id;
    double logprob;
};

struct sampler_logprobs {
    struct sampler_logprob chosen;
    int32_t rank;      /* 1 + ids before the chosen one: greater logit, or equal with a lower id */
    int32_t top_count; /* as asked, or fewer where fewer ids are above -infinity */
    struct sampler_logprob top[SAMPLING_LOGPROBS_MAX]; /* greatest first, ties by lower id */
};

/* log-softmax of a whole row at `id` (within the vocabulary), its rank, and the `top_count` (0 ..
 * SAMPLING_LOGPROBS_MAX) greatest: logit - greatest - log(sum of exp(logit - greatest)) in double,
 * the sum within 1e-6 of the true one (sample_ops' weigh), the same on every instruction set. NaN
 * counts as -infinity; where there are +infinities they share the probability evenly; where
 * nothing is above -infinity every logprob is -infinity and top_count 0. Local. */
void sampler_logprobs(const struct sampler_scan *scan, int32_t id, int32_t top_count,
                      struct sampler_logprobs *logprobs);

#endif
