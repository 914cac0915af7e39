/* Log-probabilities for replies that ask for them, beside the choice of sampler.c. */
#include "runtime/sampler_logprobs.h"

#include <float.h>
#include <math.h>
#include <stddef.h>

#include "kernels/base/check.h"
#include "runtime/sampler_math.h"

#define LOG2_E 0x1.715476p+0f
#define BLOCK_IDS 64

static double find_log_sum(const struct sampler_scan *scan) {
    struct weigh_args args = {.x = scan->logits,
                              .count = scan->count,
                              .greatest = scan->greatest,
                              .scale = LOG2_E,
                              .coarse = sample_coarse(scan->count)};
    return scan->greatest > -INFINITY ? sampler_math_log(scan->ops->weigh(&args)) : 0.0;
}

static struct sampler_logprob logprob_of(const struct sampler_scan *scan, int32_t id,
                                         double log_sum) {
    float logit = scan->logits[id];
    double logprob = -(double)INFINITY;
    if (logit > -INFINITY) {
        double gap = logit == scan->greatest ? 0.0 : (double)logit - (double)scan->greatest;
        logprob = gap - log_sum;
    }
    return (struct sampler_logprob){.id = id, .logprob = logprob};
}

/* How many of the first `count` ids have at least this logit. */
static int32_t count_from(const struct sampler_scan *scan, int32_t count, float least) {
    return scan->ops->tally(scan->logits, NULL, count, least).count;
}

static int32_t rank_of(const struct sampler_scan *scan, int32_t id) {
    float logit = scan->logits[id];
    if (!(logit > -INFINITY)) /* NaN as well: among those below all finite logits */
        return count_from(scan, scan->count, -FLT_MAX) + id - count_from(scan, id, -FLT_MAX) + 1;
    int32_t greater_behind = 0, not_less_before = count_from(scan, id, logit);
    if (logit < INFINITY)
        greater_behind =
            scan->ops->tally(scan->logits + id, NULL, scan->count - id, nextafterf(logit, INFINITY))
                .count;
    return not_less_before + greater_behind + 1;
}

/* Ids ascend, so a later equal goes behind. */
static int32_t insert(const float *logits, int32_t id, int32_t count, int32_t wanted,
                      int32_t *top) {
    int32_t at = count < wanted ? count : count - 1;
    for (; at > 0 && logits[top[at - 1]] < logits[id]; at--)
        top[at] = top[at - 1];
    top[at] = id;
    return count < wanted ? count + 1 : count;
}

/* A short sorted list; blocks without an id for it are left out. */
static int32_t find_top(const struct sampler_scan *scan, int32_t wanted, int32_t *top) {
    const float *logits = scan->logits;
    int32_t count = 0;
    float least = -INFINITY;
    for (int32_t first = 0; first < scan->count; first += BLOCK_IDS) {
        int32_t size = scan->count - first < BLOCK_IDS ? scan->count - first : BLOCK_IDS;
        if (!(scan->ops->greatest(logits + first, size) > least))
            continue;
        for (int32_t id = first; id < first + size; id++) {
            if (!(logits[id] > least))
                continue;
            count = insert(logits, id, count, wanted, top);
            if (count == wanted)
                least = logits[top[count - 1]];
        }
    }
    return count;
}

void sampler_logprobs(const struct sampler_scan *scan, int32_t id, int32_t top_count,
                      struct sampler_logprobs *logprobs) {
    ASSERT(id >= 0 && id < scan->count);
    ASSERT(top_count >= 0 && top_count <= SAMPLING_LOGPROBS_MAX);
    double log_sum = find_log_sum(scan);
    logprobs->chosen = logprob_of(scan, id, log_sum);
    logprobs->rank = rank_of(scan, id);
    int32_t top[SAMPLING_LOGPROBS_MAX];
    logprobs->top_count = top_count > 0 ? find_top(scan, top_count, top) : 0;
    for (int32_t i = 0; i < logprobs->top_count; i++)
        logprobs->top[i] = logprob_of(scan, top[i], log_sum);
}
