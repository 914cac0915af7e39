/* The search for the border that top-k and top-p share. Both keep a prefix of one order: greater
 * logit first, lower id first among equals. NaN and -infinity are in no prefix. */
#ifndef MOEBIUS_RUNTIME_SAMPLER_REACH_H
#define MOEBIUS_RUNTIME_SAMPLER_REACH_H

#include <stddef.h>

#include "runtime/sampler_scan.h"

/* An id with logit x is in the prefix if x > value, or x == value and id <= this id. The open
 * border, {-INFINITY, -1}, keeps everything. */
struct sampler_border {
    float value;
    int32_t id;
};

static inline bool sampler_reach_keeps(struct sampler_border border, float logit, int32_t id) {
    return logit > border.value || (logit == border.value && id <= border.id);
}

/* The ids whose logit is at least `least`, ascending, or a prefix of them. Memory for as many as
 * the row has. */
struct sampler_list {
    int32_t count;
    float least;
    int32_t *ids;            /* [count] */
    float *logits, *weights; /* [count]; weights where they were wanted */
};

/* A logit that at least `goal` of some `values` of the scan have, and about `more` others at most;
 * -infinity where fewer have any. The greatest of all is above that. Local. */
float sampler_reach_low(const struct sampler_scan *scan, const float *values, int32_t count,
                        int32_t goal, int32_t more);

/* Bytes of a list's memory, to be aligned to MEMORY_ALIGNMENT. Local. */
size_t sampler_reach_bytes(int32_t vocabulary);

/* An empty list in `memory`. Local. */
struct sampler_list sampler_reach_list(void *memory, int32_t vocabulary);

/* All of whole rows (first_id 0) whose greatest logit is above -infinity. Weights are those of
 * `weigh` (greatest, scale and coarse; its other fields are not used); sums of them are exact. The
 * prefix is in `list` afterwards, unless the border is open. */

/* The border of the `count` > 0 first ids; the open one where there are fewer. Local. */
struct sampler_border sampler_reach_count(const struct sampler_scan *scan, int32_t count,
                                          struct sampler_list *list);

/* The last of the shortest prefix whose weights sum to at least `goal`, which is above 0; the open
 * border where all, which weigh `sum`, do not. Local. */
struct sampler_border sampler_reach_weight(const struct sampler_scan *scan,
                                           const struct weigh_args *weigh, double sum, double goal,
                                           struct sampler_list *list);

/* Leaves the prefix that ends at the border in the list, weighs it and returns the sum. Local. */
double sampler_reach_cut(const struct sampler_scan *scan, const struct weigh_args *weigh,
                         struct sampler_border border, struct sampler_list *list);

/* sampler_reach_weight for a list that is weighed and weighs `sum`, at least the goal. Local. */
struct sampler_border sampler_reach_listed(const struct sampler_scan *scan, double sum, double goal,
                                           const struct sampler_list *list);

#endif
