/* Log-probabilities for replies that ask for them, beside the choice of sampler.c. */
#include "runtime/sampler_logprobs.h"

#include <math.h>

#include "kernels/base/check.h"
#include "runtime/sampler_math.h"

struct normaliser {
    float greatest;
    double log_sum;
};

static float number(float logit) {
    return isnan(logit) ? -INFINITY : logit;
}

static struct normaliser find_normaliser(const float *logits, int32_t vocabulary) {
    struct normaliser normaliser = {.greatest = -INFINITY};
    for (int32_t i = 0; i < vocabulary; i++) {
        if (logits[i] > normaliser.greatest)
            normaliser.greatest = logits[i];
    }
    double sum = 0;
    for (int32_t i = 0; i < vocabulary; i++) {
        if (logits[i] == normaliser.greatest)
            sum += 1.0; /* also where both are infinite */
        else if (logits[i] > -INFINITY)
            sum += sampler_math_exp((double)logits[i] - (double)normaliser.greatest);
    }
    normaliser.log_sum = sampler_math_log(sum);
    return normaliser;
}

static struct sampler_logprob logprob_of(const float *logits, int32_t id,
                                         const struct normaliser *normaliser) {
    float logit = number(logits[id]);
    double logprob = -(double)INFINITY;
    if (logit > -INFINITY) {
        double gap =
            logit == normaliser->greatest ? 0.0 : (double)logit - (double)normaliser->greatest;
        logprob = gap - normaliser->log_sum;
    }
    return (struct sampler_logprob){.id = id, .logprob = logprob};
}

static int32_t rank_of(const float *logits, int32_t vocabulary, int32_t id) {
    float logit = number(logits[id]);
    int32_t before = 0;
    for (int32_t i = 0; i < vocabulary; i++)
        before += logits[i] > logit;
    for (int32_t i = 0; i < id; i++)
        before += number(logits[i]) == logit;
    return before + 1;
}

/* Insertion into a short sorted list; ids ascend, so a later equal goes behind. */
static int32_t find_top(const float *logits, int32_t vocabulary, int32_t wanted, int32_t *top) {
    int32_t count = 0;
    float least = -INFINITY;
    for (int32_t i = 0; i < vocabulary; i++) {
        if (!(logits[i] > least))
            continue;
        int32_t at = count < wanted ? count++ : count - 1;
        for (; at > 0 && logits[top[at - 1]] < logits[i]; at--)
            top[at] = top[at - 1];
        top[at] = i;
        if (count == wanted)
            least = logits[top[count - 1]];
    }
    return count;
}

void sampler_logprobs(const float *logits, int32_t vocabulary, int32_t id, int32_t top_count,
                      struct sampler_logprobs *logprobs) {
    ASSERT(id >= 0 && id < vocabulary);
    ASSERT(top_count >= 0 && top_count <= SAMPLING_LOGPROBS_MAX);
    struct normaliser normaliser = find_normaliser(logits, vocabulary);
    logprobs->chosen = logprob_of(logits, id, &normaliser);
    logprobs->rank = rank_of(logits, vocabulary, id);
    int32_t top[SAMPLING_LOGPROBS_MAX];
    logprobs->top_count = top_count > 0 ? find_top(logits, vocabulary, top_count, top) : 0;
    for (int32_t i = 0; i < logprobs->top_count; i++)
        logprobs->top[i] = logprob_of(logits, top[i], &normaliser);
}
