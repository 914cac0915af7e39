/* What tensor parallelism adds to a layer: called by model_forward around attention and at a
 * layer's end. */
#include "runtime/row_slice.h"

#include <string.h>

#include "runtime/model.h"

static bool is_alone(const struct model *model) {
    return model->ranks.tensor.count <= 1;
}

static struct transport_scope scope_of(const struct model *model, int32_t layer,
                                       enum traffic_kind kind) {
    return (struct transport_scope){.step = model->step, .layer = layer, .kind = kind};
}

/* Where a member's rows begin. */
static int32_t first_row(int32_t rows, int32_t index, int32_t members) {
    return (int32_t)(((int64_t)rows * index + members - 1) / members);
}

int32_t row_slice_size(int32_t rows, int32_t index, int32_t members) {
    return first_row(rows, index + 1, members) - first_row(rows, index, members);
}

void row_slice_take(struct arena *arena, const struct model *model, int32_t rows,
                    struct row_slice *slice) {
    *slice = (struct row_slice){0};
    slice->norm_sums =
        arena_take(arena, (TENSOR_PARTS_MAX + 1) * (size_t)rows * sizeof *slice->norm_sums);
    if (is_alone(model))
        return;
    int32_t members = model->ranks.tensor.count, hidden = model->spec->hidden;
    int32_t largest = row_slice_size(rows, 0, members);
    size_t bytes = (size_t)largest * (size_t)hidden * sizeof(float);
    slice->slices = arena_take(arena, ((size_t)members + 1) * sizeof(int32_t));
    slice->own_x = arena_take(arena, bytes);
    slice->own_out = arena_take(arena, bytes);
    int32_t experts = model->limits.routing ? model->spec->moe.router.experts : 0;
    int32_t widest = hidden > experts ? hidden : experts;
    slice->widest = widest;
    slice->all = (struct collective_rows){
        .columns = hidden,
        .slices = slice->slices,
        .scratch =
            arena_take(arena, (size_t)collective_scratch_bytes(members, largest, 0, widest))};
    if (experts > 0)
        slice->routing = arena_take(arena, (size_t)rows * (size_t)experts * sizeof(float));
    slice->norm_shares = arena_take(arena, (size_t)members * 2 * (size_t)rows * sizeof(float));
}

void row_slice_plan(struct model *model, int32_t rows) {
    struct row_slice *slice = &model->workspace.slice;
    int32_t members = model->ranks.tensor.count, self = model->ranks.tensor.self;
    if (is_alone(model)) {
        slice->rows = rows;
        slice->x = model->workspace.x;
        slice->block_out = model->workspace.block_out;
        return;
    }
    for (int32_t i = 0; i <= members; i++)
        slice->slices[i] = first_row(rows, i, members);
    slice->all.rows = rows;
    slice->rows = slice->slices[self + 1] - slice->slices[self];
    slice->x = slice->own_x;
    slice->block_out = slice->own_out;
}

/* The own rows of the residual stream, in the slice's order. */
static void copy_residual(const struct model *model, struct row_slice *slice) {
    size_t hidden = (size_t)model->spec->hidden;
    int32_t first = slice->slices[model->ranks.tensor.self];
    for (int32_t i = 0; i < slice->rows; i++) {
        int32_t row = slice->all.order != NULL ? slice->all.order[first + i] : first + i;
        memcpy(slice->x + (size_t)i * hidden, model->workspace.x + (size_t)row * hidden,
               hidden * sizeof(float));
    }
}

/* NULL: none. */
static void add_bias(const float *bias, struct row_slice *slice, int32_t columns) {
    for (int32_t row = 0; bias != NULL && row < slice->rows; row++)
        for (int32_t i = 0; i < columns; i++)
            slice->block_out[(int64_t)row * columns + i] += bias[i];
}

enum status row_slice_reduce(struct model *model, int32_t layer) {
    struct row_slice *slice = &model->workspace.slice;
    if (is_alone(model) || slice->all.rows == 0)
        return STATUS_OK;
    const struct collective_group *group = &model->ranks.tensor;
    float *sums = model->workspace.block_out;
    enum traffic_kind kind = model->ranks.all_reduce ? TRAFFIC_ALL_REDUCE : TRAFFIC_REDUCE_SCATTER;
    struct transport_scope scope = scope_of(model, layer, kind);
    copy_residual(model, slice);
    RETURN_IF_ERROR(collective_reduce_scatter(group, &scope, &slice->all, sums, slice->block_out));
    /* With all-reduce everybody gets every sum, and drops those that are not its own. */
    if (model->ranks.all_reduce)
        RETURN_IF_ERROR(collective_all_gather(group, &scope, &slice->all, slice->block_out, sums));
    add_bias(model->weights.layers[layer].o_bias, slice, model->spec->hidden);
    return STATUS_OK;
}

enum status row_slice_gather(struct model *model, int32_t layer) {
    const struct row_slice *slice = &model->workspace.slice;
    if (is_alone(model) || slice->all.rows == 0)
        return STATUS_OK;
    struct transport_scope scope = scope_of(model, layer, TRAFFIC_ALL_GATHER);
    return collective_all_gather(&model->ranks.tensor, &scope, &slice->all, slice->x,
                                 model->workspace.x);
}

enum status row_slice_share_routing(struct model *model, int32_t layer, int32_t columns,
                                    const void *own, const void **all) {
    struct row_slice *slice = &model->workspace.slice;
    *all = own;
    if (is_alone(model) || !model->limits.routing || slice->all.rows == 0)
        return STATUS_OK;
    struct transport_scope scope = scope_of(model, layer, TRAFFIC_ROWS);
    struct collective_rows rows = slice->all;
    rows.columns = columns;
    *all = slice->routing;
    return collective_all_gather(&model->ranks.tensor, &scope, &rows, own, slice->routing);
}

enum status row_slice_share_norm(struct model *model, int32_t layer, int32_t rows) {
    const struct collective_group *group = &model->ranks.tensor;
    float *sums = model->workspace.slice.norm_sums, *shares = model->workspace.slice.norm_shares;
    struct transport_scope scope = scope_of(model, layer, TRAFFIC_NORM);
    if (is_alone(model) || rows == 0)
        return STATUS_OK;
    RETURN_IF_ERROR(collective_share(group, &scope, sums, 2 * rows * (int64_t)sizeof(float),
                                     (char *)(void *)shares));
    /* Neighbours that hold the same keys must not count them twice. */
    int32_t copies = model->weights.shard.kv_copies;
    tensor_shard_add_up(shares, 2 * (int64_t)rows, group->count, rows);
    tensor_shard_add_up(shares + rows, copies * 2 * (int64_t)rows, group->count / copies, rows);
    memcpy(sums, shares, 2 * (size_t)rows * sizeof(float));
    return STATUS_OK;
}
