/* Stands before collective_reduce_scatter. */
#include "tests/support/reduce_fault.h"

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

/* All members' partial sums added one after the other. */
static enum status add_in_line(const struct collective_group *group,
                               const struct transport_scope *scope,
                               const struct collective_rows *rows, const float *partial,
                               float *out) {
    int64_t count = (int64_t)rows->rows * rows->columns, bytes = count * (int64_t)sizeof(float);
    float *all = malloc((size_t)(bytes * group->count));
    if (all == NULL)
        return STATUS_NO_MEMORY;
    enum status status = collective_share(group, scope, partial, bytes, (char *)(void *)all);
    int64_t first = (int64_t)rows->slices[group->self] * rows->columns;
    int64_t end = (int64_t)rows->slices[group->self + 1] * rows->columns;
    int32_t begin = reduce_fault == REDUCE_RING ? group->self + 1 : 0;
    for (int64_t i = first; status == STATUS_OK && i < end; i++) {
        float sum = 0.0f;
        for (int32_t member = 0; member < group->count; member++)
            sum += all[(begin + member) % group->count * count + i];
        out[i - first] = sum;
    }
    free(all);
    return status;
}

/* The right sums of wrong parts. */
static enum status add_scaled(const struct collective_group *group,
                              const struct transport_scope *scope,
                              const struct collective_rows *rows, const float *partial,
                              float *out) {
    int64_t count = (int64_t)rows->rows * rows->columns;
    float scale = group->self == group->count - 1 ? SCALE : 1.0f;
    float *scaled = malloc((size_t)count * sizeof(float));
    if (scaled == NULL)
        return STATUS_NO_MEMORY;
    for (int64_t i = 0; i < count; i++)
        scaled[i] = scale * partial[i];
    enum status status = __real_collective_reduce_scatter(group, scope, rows, scaled, out);
    free(scaled);
    return status;
}

enum status __wrap_collective_reduce_scatter(const struct collective_group *group,
                                             const struct transport_scope *scope,
                                             const struct collective_rows *rows,
                                             const float *partial, float *out) {
    if (reduce_fault == REDUCE_RIGHT)
        return __real_collective_reduce_scatter(group, scope, rows, partial, out);
    return reduce_fault == REDUCE_SCALED ? add_scaled(group, scope, rows, partial, out)
                                         : add_in_line(group, scope, rows, partial, out);
}
// NOLINTEND(bugprone-reserved-identifier,cert-*)
