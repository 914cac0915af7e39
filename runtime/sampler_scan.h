/* One row of logits as the sampler looks at it: the greatest of each octet and each group of ids is
 * known, so that what looks for great ones passes over those that have none. */
#ifndef MOEBIUS_RUNTIME_SAMPLER_SCAN_H
#define MOEBIUS_RUNTIME_SAMPLER_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/sample_ops.h"

struct sampler_scan {
    const float *logits;     /* [count], f32, borrowed */
    int32_t first_id, count; /* the ids first_id .. first_id + count - 1 */
    float *octets, *peaks; /* of octets [groups][SAMPLE_OCTETS], of groups [groups]; NaN is none */
    float greatest;        /* of all */
    const struct sample_ops *ops;
};

/* Groups of SAMPLE_GROUP ids, which begin where the ids are multiples of it. Local. */
int32_t sampler_scan_groups(int32_t first_id, int32_t count);

/* Writes the peaks; the rest is the caller's. ops NULL: the reference, with the same results.
 * Local. */
void sampler_scan_begin(struct sampler_scan *scan);

/* Indices of logits, first .. end - 1. */
struct sampler_span {
    int32_t first, end;
};

/* A group's. Local. */
struct sampler_span sampler_scan_span(const struct sampler_scan *scan, int32_t group);

/* Goes to the next span, behind *span ({0, 0} at first), of neighbouring groups in all of which
 * some logit is at least `least`. False: there is none. Local. */
bool sampler_scan_next(const struct sampler_scan *scan, float least, struct sampler_span *span);

#endif
