/* The sort between router and experts: dispatch reads it forwards, combine backwards. */
#include "moe/expert_plan.h"

#include <string.h>

void expert_plan_build(int32_t rows, int32_t top_k, int32_t experts, const int32_t *ids,
                       const void *x, size_t x_row_bytes, struct expert_plan *plan) {
    int32_t pairs = rows * top_k;
    memset(plan->offsets, 0, sizeof *plan->offsets * (size_t)(experts + 1));
    for (int32_t i = 0; i < pairs; i++)
        plan->offsets[ids[i] + 1]++;
    for (int32_t e = 0; e < experts; e++)
        plan->offsets[e + 1] += plan->offsets[e];
    /* Handing out places moves each expert's start to its end, which is the next expert's start ...
     */
    for (int32_t i = 0; i < pairs; i++) {
        int32_t place = plan->offsets[ids[i]]++;
        plan->x_at[place] = (const char *)x + (size_t)(i / top_k) * x_row_bytes;
        plan->row_of[i] = place;
    }
    /* ... so one shift restores the starts. */
    memmove(plan->offsets + 1, plan->offsets, sizeof *plan->offsets * (size_t)experts);
    plan->offsets[0] = 0;
}
