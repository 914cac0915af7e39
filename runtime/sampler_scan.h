/* One row of logits as the sampler looks at it, and the search for the border that top-k, top-p and
 * the likeliest tokens of a reply share. All keep a prefix of one order: greater logit first, lower
 * id first among equals. NaN and -infinity are in no prefix. */
#ifndef MOEBIUS_RUNTIME_SAMPLER_SCAN_H
#define MOEBIUS_RUNTIME_SAMPLER_SCAN_H

#include "kernels/sample_ops.h"

/* An id with logit x is in the prefix if x > value, or x == value and id <= this id. The open
 * border, {-INFINITY, -1}, keeps everything. */
struct sampler_border {
    float value;
    int32_t id;
};

struct sampler_scan {
    const float *logits; /* [count], f32, borrowed */
    int32_t count;
    float greatest; /* of the logits; sampler_scan_begin finds it */
    const struct sample_ops *ops;
};

/* ops NULL: the reference, with the same results. Local. */
struct sampler_scan sampler_scan_begin(const float *logits, int32_t count,
                                       const struct sample_ops *ops);

/* The last of the shortest prefix whose weights (one each where weights is NULL) sum to at least
 * `goal`, which is above 0; the open border where all together do not. The greatest logit is above
 * -infinity; sums of weights are exact, as those of sample_ops' weigh are. Local. */
struct sampler_border sampler_scan_reach(const struct sampler_scan *scan, const float *weights,
                                         double goal);

/* The sum of a prefix's weights. Local. */
double sampler_scan_sum(const struct sampler_scan *scan, const float *weights,
                        struct sampler_border border);

#endif
