/* Which expert gets which rows: the (row, slot) pairs of a step sorted by expert, and the way back.
 */
#ifndef MOEBIUS_MOE_EXPERT_PLAN_H
#define MOEBIUS_MOE_EXPERT_PLAN_H

#include <stddef.h>
#include <stdint.h>

struct expert_plan {
    int32_t *offsets;  /* [experts + 1]: expert e owns pairs offsets[e] .. offsets[e+1]-1 */
    const void **x_at; /* [rows * top_k]: the row that each pair reads */
    int32_t *row_of;   /* [rows][top_k]: the pair that each slot of a row became */
};

/* Sorts the pairs by expert, then by row (stable), in O(rows * top_k + experts). ids: [rows][top_k]
 * in [0, experts); x: the rows, `x_row_bytes` apart. The arrays of `plan` are the caller's and hold
 * at least the sizes above. Local.
 */
void expert_plan_build(int32_t rows, int32_t top_k, int32_t experts, const int32_t *ids,
                       const void *x, size_t x_row_bytes, struct expert_plan *plan);

#endif
