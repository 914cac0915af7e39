/* Stands before collective_reduce_scatter. */
#include "tests/support/reduce_fault.h"

#include <stdbool.h>
#include <stdlib.h>

#include "comm/collective.h"

#define SCALE 1.01f

enum reduce_fault reduce_fault = REDUCE_RIGHT;

// NOLINTBEGIN(bugprone-reserved-identifier,cert-*): names are the linker's
enum status __real_collective_reduce_scatter(const struct collective_group *group,
                                             const struct transport_scope *scope,
                                             const struct collective_rows *rows,
                                             const float *partial, float *out);
enum status __wrap_collective_reduce_scatter(const struct collective_group *group,
                                             const struct transport_scope *scope,
                                             const struct collective_rows *rows,
                                             const float *partial, float *out);

/* One element's sum. values: those of all members, `stride` apart. */
static float wrong_sum(const struct collective_group *group, const float *values, int64_t stride) {
    float sum = 0.0f;
    int32_t first = reduce_fault == REDUCE_RING ? group->self + 1 : 0;
    for (int32_t i = 0; i < group->count; i++) {
        bool scaled = reduce_fault == REDUCE_SCALED && i == group->count - 1;
        sum += (scaled ? SCALE : 1.0f) * values[(first + i) % group->count * stride];
    }
    return sum;
}

enum status __wrap_collective_reduce_scatter(const struct collective_group *group,
                                             const struct transport_scope *scope,
                                             const struct collective_rows *rows,
                                             const float *partial, float *out) {
    if (reduce_fault == REDUCE_RIGHT)
        return __real_collective_reduce_scatter(group, scope, rows, partial, out);
    int64_t count = (int64_t)rows->rows * rows->columns, bytes = count * (int64_t)sizeof(float);
    float *all = malloc((size_t)(bytes * group->count));
    if (all == NULL)
        return STATUS_NO_MEMORY;
    enum status status = collective_share(group, scope, partial, bytes, (char *)(void *)all);
    int64_t first = (int64_t)rows->slices[group->self] * rows->columns;
    int64_t end = (int64_t)rows->slices[group->self + 1] * rows->columns;
    for (int64_t i = first; status == STATUS_OK && i < end; i++)
        out[i - first] = wrong_sum(group, all + i, count);
    free(all);
    return status;
}
// NOLINTEND(bugprone-reserved-identifier,cert-*)
