/* Log-probabilities for replies that ask for them, beside the choice of sampler.c. */
#include "runtime/sampler_logprobs.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernels/base/check.h"
#include "runtime/sampler_math.h"
#include "runtime/sampler_reach.h"

#define LOG2_E 0x1.715476p+0f
#define MORE 4 /* groups that are looked at in vain are cheaper than finding out */

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

static int32_t count_from(const struct sampler_scan *scan, int32_t first, int32_t end,
                          float least) {
    return scan->ops->tally(scan->logits + first, NULL, end - first, least).count;
}

/* 1 + those of at least this logit before the id + those of a greater one behind it. */
static int32_t rank_of(const struct sampler_scan *scan, int32_t id) {
    float logit = scan->logits[id];
    if (!(logit > -INFINITY)) /* NaN as well: among those below all finite logits */
        return count_from(scan, 0, scan->count, -FLT_MAX) + id - count_from(scan, 0, id, -FLT_MAX) +
               1;
    float above = nextafterf(logit, INFINITY);
    int32_t rank = 1;
    for (struct sampler_span span = {0}; sampler_scan_next(scan, logit, &span);) {
        int32_t middle = id < span.first ? span.first : id < span.end ? id : span.end;
        rank += count_from(scan, span.first, middle, logit);
        if (logit < INFINITY)
            rank += count_from(scan, middle, span.end, above);
    }
    return rank;
}

/* A short sorted list of indices of `values`: greater ones first, ties by lower index. */
struct top {
    const float *values;
    int32_t count, wanted;
    int32_t at[SAMPLING_LOGPROBS_MAX];
};

static bool comes_before(const struct top *top, int32_t a, int32_t b) {
    return top->values[a] > top->values[b] || (top->values[a] == top->values[b] && a < b);
}

static void insert(struct top *top, int32_t index) {
    int32_t at = top->count;
    if (at == top->wanted && !comes_before(top, index, top->at[--at]))
        return;
    for (; at > 0 && comes_before(top, index, top->at[at - 1]); at--)
        top->at[at] = top->at[at - 1];
    top->at[at] = index;
    top->count += top->count < top->wanted;
}

/* As many groups as ids are wanted have one of them at `low` or above, so no other is wanted. */
static void find_top(const struct sampler_scan *scan, int32_t wanted, struct top *top) {
    int32_t groups = sampler_scan_groups(scan->first_id, scan->count);
    float low = scan->greatest > -INFINITY
                    ? sampler_reach_low(scan, scan->peaks, groups, wanted, MORE)
                    : -INFINITY;
    *top = (struct top){.values = scan->logits, .wanted = wanted};
    low = fmaxf(low, -FLT_MAX);
    for (int32_t group = 0; group < groups; group++) {
        int32_t at[SAMPLE_GROUP];
        float values[SAMPLE_GROUP];
        struct sampler_span span = sampler_scan_span(scan, group);
        struct list_args args = {.x = scan->logits + span.first,
                                 .count = span.end - span.first,
                                 .least = low,
                                 .most = INFINITY,
                                 .at = at,
                                 .values = values};
        int32_t count = scan->peaks[group] >= low ? scan->ops->list(&args) : 0;
        for (int32_t i = 0; i < count; i++)
            insert(top, span.first + at[i]);
    }
}

void sampler_logprobs(const struct sampler_scan *scan, int32_t id, int32_t top_count,
                      struct sampler_logprobs *logprobs) {
    ASSERT(id >= 0 && id < scan->count);
    ASSERT(top_count >= 0 && top_count <= SAMPLING_LOGPROBS_MAX);
    double log_sum = find_log_sum(scan);
    logprobs->chosen = logprob_of(scan, id, log_sum);
    logprobs->rank = rank_of(scan, id);
    struct top top = {0};
    if (top_count > 0)
        find_top(scan, top_count, &top);
    logprobs->top_count = top.count;
    for (int32_t i = 0; i < top.count; i++)
        logprobs->top[i] = logprob_of(scan, top.at[i], log_sum);
}
