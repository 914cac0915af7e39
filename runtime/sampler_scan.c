/* Passes over a row of logits for sampler_support.c and sampler_logprobs.c. The border is found by
 * bisection: a pass over the row says what lies at or above a logit, and a handful of ids is left
 * to be sorted; since sums of weights are exact, the order in which they are made does not show. */
#include "runtime/sampler_scan.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernels/ref_sample.h"

#define BLOCK_IDS 256
#define FEW 24 /* ids that are worth sorting; a pass halves the ids between the bounds */

/* The border's logit is in [low, high). */
struct bounds {
    float low, high;
    struct sample_tally at_low, at_high;
};

struct sampler_scan sampler_scan_begin(const float *logits, int32_t count,
                                       const struct sample_ops *ops) {
    const struct sample_ops *used = ops != NULL ? ops : &ref_sample_ops;
    return (struct sampler_scan){
        .logits = logits, .count = count, .greatest = used->greatest(logits, count), .ops = used};
}

static struct sample_tally tally(const struct sampler_scan *scan, const float *weights,
                                 float least) {
    struct sample_tally tally = scan->ops->tally(scan->logits, weights, scan->count, least);
    if (weights == NULL)
        tally.weight = (double)tally.count;
    return tally;
}

static double weight_at(const float *weights, int32_t id) {
    return weights != NULL ? (double)weights[id] : 1.0;
}

/* The ids among [first, first + BLOCK_IDS) with a logit from `least` to `most`. */
static int32_t list_block(const struct sampler_scan *scan, int32_t first, float least, float most,
                          int32_t *ids) {
    int32_t count = scan->count - first < BLOCK_IDS ? scan->count - first : BLOCK_IDS;
    int32_t found = scan->ops->between(scan->logits + first, count, least, most, ids);
    for (int32_t i = 0; i < found; i++)
        ids[i] += first;
    return found;
}

/* The last of the shortest prefix of the ids of one logit that weighs `missing`. */
static struct sampler_border reach_among_equals(const struct sampler_scan *scan,
                                                const float *weights, float value, double missing) {
    struct sampler_border border = {.value = value, .id = -1};
    for (int32_t first = 0; first < scan->count && missing > 0; first += BLOCK_IDS) {
        int32_t ids[BLOCK_IDS], found = list_block(scan, first, value, value, ids);
        for (int32_t i = 0; i < found && missing > 0; i++) {
            border.id = ids[i];
            missing -= weight_at(weights, ids[i]);
        }
    }
    return border;
}

/* The ids between the bounds, which are few, in order. */
static int32_t sort_few(const struct sampler_scan *scan, const struct bounds *bounds,
                        int32_t *sorted) {
    int32_t count = 0;
    float most = nextafterf(bounds->high, -INFINITY);
    for (int32_t first = 0; first < scan->count; first += BLOCK_IDS) {
        int32_t ids[BLOCK_IDS], found = list_block(scan, first, bounds->low, most, ids);
        for (int32_t i = 0; i < found; i++) {
            int32_t at = count++;
            for (; at > 0 && scan->logits[sorted[at - 1]] < scan->logits[ids[i]]; at--)
                sorted[at] = sorted[at - 1];
            sorted[at] = ids[i];
        }
    }
    return count;
}

static struct sampler_border reach_among_few(const struct sampler_scan *scan, const float *weights,
                                             const struct bounds *bounds, double goal) {
    int32_t ids[FEW] = {0}, count = sort_few(scan, bounds, ids), last = 0;
    double sum = bounds->at_high.weight;
    for (; last < count - 1; last++) {
        sum += weight_at(weights, ids[last]);
        if (sum >= goal)
            break;
    }
    return (struct sampler_border){.value = scan->logits[ids[last]], .id = ids[last]};
}

/* Steps down from the greatest logit, each twice as far, to one at which the goal is reached. False
 * where no finite logit is low enough. */
static bool find_bounds(const struct sampler_scan *scan, const float *weights, double goal,
                        struct bounds *bounds) {
    float step = fmaxf(1.0f, fminf(fabsf(bounds->high), FLT_MAX) * 0x1p-20f);
    bounds->low = bounds->high > FLT_MAX ? FLT_MAX : fmaxf(bounds->high - step, -FLT_MAX);
    bounds->at_low = tally(scan, weights, bounds->low);
    while (bounds->at_low.weight < goal && bounds->low > -FLT_MAX) {
        bounds->high = bounds->low;
        bounds->at_high = bounds->at_low;
        step *= 2.0f;
        bounds->low = fmaxf(bounds->low - step, -FLT_MAX);
        bounds->at_low = tally(scan, weights, bounds->low);
    }
    return bounds->at_low.weight >= goal;
}

struct sampler_border sampler_scan_reach(const struct sampler_scan *scan, const float *weights,
                                         double goal) {
    struct bounds bounds = {.high = scan->greatest};
    bounds.at_high = tally(scan, weights, scan->greatest);
    if (bounds.at_high.weight >= goal)
        return reach_among_equals(scan, weights, scan->greatest, goal);
    if (!find_bounds(scan, weights, goal, &bounds))
        return (struct sampler_border){.value = -INFINITY, .id = -1};
    while (bounds.at_low.count - bounds.at_high.count > FEW) {
        float middle = bounds.low * 0.5f + bounds.high * 0.5f;
        if (!(middle > bounds.low && middle < bounds.high)) /* neighbours: all are `low` */
            return reach_among_equals(scan, weights, bounds.low, goal - bounds.at_high.weight);
        struct sample_tally at_middle = tally(scan, weights, middle);
        if (at_middle.weight >= goal) {
            bounds.low = middle;
            bounds.at_low = at_middle;
        } else {
            bounds.high = middle;
            bounds.at_high = at_middle;
        }
    }
    return reach_among_few(scan, weights, &bounds, goal);
}

double sampler_scan_sum(const struct sampler_scan *scan, const float *weights,
                        struct sampler_border border) {
    struct sample_tally above = tally(scan, weights, nextafterf(border.value, INFINITY)),
                        with_equals = tally(scan, weights, border.value);
    if (border.id < 0 || with_equals.count - above.count <= 1)
        return with_equals.weight;
    double sum = border.value == INFINITY ? 0 : above.weight;
    for (int32_t id = 0; id <= border.id; id++)
        sum += scan->logits[id] == border.value ? weight_at(weights, id) : 0.0;
    return sum;
}
