/* What collective_reduce_scatter must not be: a sum that goes round the group and ends at the owner
 * of a row, so that its order, and with it its bits, depend on who owns the row. Linked in by
 * --wrap, for a control. */
#include <stdlib.h>

#include "comm/collective.h"

enum status __wrap_collective_reduce_scatter( // NOLINT(bugprone-reserved-identifier,cert-*)
    const struct collective_group *group, const struct transport_scope *scope,
    const struct collective_rows *rows, const float *partial, float *out);

enum status __wrap_collective_reduce_scatter( // NOLINT(bugprone-reserved-identifier,cert-*)
    const struct collective_group *group, const struct transport_scope *scope,
    const struct collective_rows *rows, const float *partial, float *out) {
    int64_t count = (int64_t)rows->rows * rows->columns, bytes = count * (int64_t)sizeof(float);
    float *all = malloc((size_t)(bytes * group->count));
    if (all == NULL)
        return STATUS_NO_MEMORY;
    enum status status = collective_share(group, scope, partial, bytes, (char *)(void *)all);
    int64_t first = (int64_t)rows->slices[group->self] * rows->columns;
    int64_t end = (int64_t)rows->slices[group->self + 1] * rows->columns;
    for (int64_t i = first; i < end; i++) {
        float sum = 0.0f;
        for (int32_t hop = 1; hop <= group->count; hop++)
            sum += all[(group->self + hop) % group->count * count + i];
        out[i - first] = sum;
    }
    free(all);
    return status;
}
