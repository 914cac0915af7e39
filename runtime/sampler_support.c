/* Finds the border of top-k, top-p and min-p. Called by sampler.c between the penalties and the
 * noise. */
#include "runtime/sampler_support.h"

#include <math.h>

#include "runtime/sampler_math.h"

#define LOG2_E 0x1.71547652b82fep+0

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
                                             const struct sampler_scan *scan,
                                             struct sampler_list *list) {
    struct sampler_border border = {.value = -INFINITY, .id = -1};
    if (!(scan->greatest > -INFINITY))
        return border; /* nothing to choose from */
    if (params->top_k > 0 && params->top_k < scan->count)
        border = sampler_reach_count(scan, params->top_k, list);
    if (params->top_p < 1.0f) {
        struct weigh_args weigh = {.x = scan->logits,
                                   .count = scan->count,
                                   .greatest = scan->greatest,
                                   .scale = (float)(LOG2_E / (double)params->temperature),
                                   .coarse = sample_coarse(scan->count)};
        if (border.id >= 0) {
            double sum = sampler_reach_cut(scan, &weigh, border, list);
            border = sampler_reach_listed(scan, sum, (double)params->top_p * sum, list);
        } else {
            double sum = scan->ops->weigh(&weigh);
            border = sampler_reach_weight(scan, &weigh, sum, (double)params->top_p * sum, list);
        }
    }
    return params->min_p > 0.0f ? apply_min_p(params, scan->greatest, border) : border;
}
