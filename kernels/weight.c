/* The shape of packed weights; packing itself is weight_pack.c, reached through the ops table. */
#include "kernels/weight.h"

#include "kernels/base/check.h"
#include "kernels/base/memory.h"
#include "kernels/kernel_ops.h"

int32_t weight_panels(const struct weight *weight) {
    if (weight->form == WEIGHT_ROWS)
        return 1;
    int32_t share = weight->form == WEIGHT_GATED ? weight->panel / 2 : weight->panel;
    return weight->rows / share + (weight->rows % share != 0);
}

/* Fills in group_bytes. */
static void measure(struct weight *weight) {
    int64_t elements = weight->form == WEIGHT_ROWS
                           ? (int64_t)weight->rows * weight->columns
                           : weight_panels(weight) * weight_panel_elements(weight);
    size_t bytes = (size_t)(elements * dtype_bytes(weight->dtype));
    weight->group_bytes = (bytes + MEMORY_ALIGNMENT - 1) & ~(size_t)(MEMORY_ALIGNMENT - 1);
}

void weight_describe(const struct kernels *kernels, enum weight_form form, enum dtype dtype,
                     int32_t groups, int32_t rows, int32_t columns, struct weight *weight) {
    ASSERT(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    ASSERT(groups >= 1 && rows >= 1 && columns >= 1);
    *weight = (struct weight){.form = form,
                              .dtype = dtype,
                              .groups = groups,
                              .rows = rows,
                              .columns = columns,
                              .panel = kernels->ops->panel};
    measure(weight);
}

struct weight weight_rows(const struct weight *weight, int32_t first_row, int32_t rows) {
    ASSERT(weight->form == WEIGHT_PLAIN && weight->groups == 1 && rows >= 1);
    ASSERT(first_row >= 0 && first_row % weight->panel == 0 && rows <= weight->rows - first_row);
    ASSERT(rows % weight->panel == 0 || first_row + rows == weight->rows);
    struct weight view = *weight;
    view.rows = rows;
    measure(&view);
    if (view.data != NULL)
        view.data = (char *)weight->data + weight_element(weight, WEIGHT_PART_ONLY, first_row, 0) *
                                               dtype_bytes(weight->dtype);
    return view;
}

size_t weight_bytes(const struct weight *weight) {
    return (size_t)weight->groups * weight->group_bytes;
}

void weight_pack(const struct kernels *kernels, const struct weight *weight,
                 const struct weight_piece *piece) {
    ASSERT(piece->group >= 0 && piece->group < weight->groups);
    ASSERT(piece->first_row >= 0 && piece->row_count >= 0 &&
           piece->row_count <= weight->rows - piece->first_row);
    ASSERT(piece->source_stride >= weight->columns);
    ASSERT((piece->part == WEIGHT_PART_ONLY) == (weight->form != WEIGHT_GATED));
    kernels->ops->weight_pack(weight, piece);
}

void weight_unpack_row(const struct weight *weight, int32_t group, enum weight_part part,
                       int32_t row, float *out) {
    const char *data = (const char *)weight->data + (size_t)group * weight->group_bytes;
    for (int32_t column = 0; column < weight->columns; column++) {
        int64_t element = weight_element(weight, part, row, column);
        if (weight->dtype == DTYPE_BF16)
            out[column] = dtype_bf16_to_f32(((const uint16_t *)(const void *)data)[element]);
        else
            out[column] = ((const float *)(const void *)data)[element];
    }
}
