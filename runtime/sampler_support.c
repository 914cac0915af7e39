/* Finds the border of top-k, top-p and min-p. Called by sampler.c between the penalties and the
 * noise. */
#include "runtime/sampler_support.h"

#include <math.h>

#include "runtime/sampler_math.h"

#define LOG2_E 0x1.71547652b82fep+0

size_t sampler_support_scratch_bytes(int32_t vocabulary) {
    return (size_t)vocabulary * sizeof(float);
}

/* Of all ids; the sum is theirs. */
static double weigh(const struct sampling_params *params, const struct sampler_scan *scan,
                    float *weights) {
    struct weigh_args args = {.x = scan->logits,
                              .count = scan->count,
                              .greatest = scan->greatest,
                              .scale = (float)(LOG2_E / (double)params->temperature),
                              .coarse = sample_coarse(scan->count),
                              .weights = weights};
    return scan->ops->weigh(&args);
}

/* The least float that is at least `limit`, which is no greater than `greatest`. */
static float round_up(double limit) {
    float value = (float)limit;
    return (double)value < limit ? nextafterf(value, INFINITY) : value;
}

static struct sampler_border apply_min_p(const struct sampling_params *params, float greatest,
                                         struct sampler_border border) {
    double log_min_p = sampler_math_log((double)params->min_p);
    float least = round_up((double)greatest + (double)params->temperature * log_min_p);
    if (least > border.value)
        return (struct sampler_border){.value = least, .id = INT32_MAX};
    return border;
}

struct sampler_border sampler_support_border(const struct sampling_params *params,
                                             const float *logits, int32_t vocabulary,
                                             const struct sample_ops *ops, void *scratch) {
    struct sampler_border border = {.value = -INFINITY, .id = -1};
    bool top_k = params->top_k > 0 && params->top_k < vocabulary;
    bool top_p = params->top_p<1.0f, min_p = params->min_p> 0.0f;
    if (!top_k && !top_p && !min_p)
        return border;
    struct sampler_scan scan = sampler_scan_begin(logits, vocabulary, ops);
    if (!(scan.greatest > -INFINITY))
        return border; /* nothing to choose from */
    if (top_k)
        border = sampler_scan_reach(&scan, NULL, (double)params->top_k);
    if (top_p) {
        float *weights = scratch;
        double total = weigh(params, &scan, weights);
        if (border.id >= 0)
            total = sampler_scan_sum(&scan, weights, border);
        border = sampler_scan_reach(&scan, weights, (double)params->top_p * total);
    }
    return min_p ? apply_min_p(params, scan.greatest, border) : border;
}
