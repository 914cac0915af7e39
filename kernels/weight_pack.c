/* Packs checkpoint rows into panels while a model is loaded: converts a strip of 16 rows at a time
 * to the weight's dtype, then transposes it in 32-bit units (one f32, or a pair of bf16, whose
 * order inside the pair stays). A strip fits the first cache, so the speed is that of memory. */
#include "kernels/weight_pack.h"

#include <string.h>

#define STRIP_ROWS 16
#define STRIP_UNITS 64

/* Rows first .. first + count - 1 of a piece, all in one panel (and one half of it). */
struct run {
    const struct weight *weight;
    const struct weight_piece *piece;
    int32_t first, count; /* in the piece; count <= STRIP_ROWS */
    uint32_t *target;     /* unit 0 of the run's first lane: [units][panel] */
};

static const char *source_at(const struct weight_piece *piece, int32_t row, int64_t column) {
    return (const char *)piece->source +
           ((int64_t)row * piece->source_stride + column) * dtype_bytes(piece->source_dtype);
}

static float load_f32(const char *source, enum dtype dtype) {
    float value;
    uint16_t half;
    switch (dtype) {
    case DTYPE_F32:
        memcpy(&value, source, sizeof value);
        return value;
    case DTYPE_BF16:
        memcpy(&half, source, sizeof half);
        return dtype_bf16_to_f32(half);
    case DTYPE_F16:
        memcpy(&half, source, sizeof half);
        return dtype_f16_to_f32(half);
    case DTYPE_COUNT:
        break;
    }
    return 0.0f;
}

/* `count` elements from unaligned `source` of dtype `from` to `to`. */
static void convert(const char *source, enum dtype from, void *target, enum dtype to,
                    int64_t count) {
    if (from == to) {
        memcpy(target, source, (size_t)(count * dtype_bytes(to)));
        return;
    }
    int64_t step = dtype_bytes(from);
    if (to == DTYPE_F32) {
        float *out = target;
        for (int64_t i = 0; i < count; i++)
            out[i] = load_f32(source + i * step, from);
    } else {
        uint16_t *out = target;
        for (int64_t i = 0; i < count; i++)
            out[i] = dtype_f32_to_bf16(load_f32(source + i * step, from));
    }
}

static void transpose(const struct run *run, const uint32_t (*strip)[STRIP_UNITS], int64_t first,
                      int32_t units) {
    for (int32_t unit = 0; unit < units; unit++)
        for (int32_t row = 0; row < run->count; row++)
            run->target[(first + unit) * run->weight->panel + row] = strip[row][unit];
}

static void pack_run(const struct run *run) {
    const struct weight *weight = run->weight;
    int32_t per_unit = weight->dtype == DTYPE_BF16 ? 2 : 1;
    int64_t units = (weight->columns + per_unit - 1) / per_unit;
    uint32_t strip[STRIP_ROWS][STRIP_UNITS];
    for (int64_t first = 0; first < units; first += STRIP_UNITS) {
        int64_t column = first * per_unit;
        int64_t columns = weight->columns - column;
        if (columns > STRIP_UNITS * per_unit)
            columns = STRIP_UNITS * per_unit;
        int32_t strip_units = (int32_t)((columns + per_unit - 1) / per_unit);
        for (int32_t row = 0; row < run->count; row++) {
            strip[row][strip_units - 1] = 0; /* the second half of a last, lone bf16 */
            convert(source_at(run->piece, run->first + row, column), run->piece->source_dtype,
                    strip[row], weight->dtype, columns);
        }
        transpose(run, (const uint32_t(*)[STRIP_UNITS])strip, first, strip_units);
    }
}

void weight_pack_panels(const struct weight *weight, const struct weight_piece *piece) {
    char *group = (char *)weight->data + (size_t)piece->group * weight->group_bytes;
    int64_t element_bytes = dtype_bytes(weight->dtype);
    if (weight->form == WEIGHT_ROWS) {
        for (int32_t row = 0; row < piece->row_count; row++)
            convert(source_at(piece, row, 0), piece->source_dtype,
                    group + weight_element(weight, WEIGHT_PART_ONLY, piece->first_row + row, 0) *
                                element_bytes,
                    weight->dtype, weight->columns);
        return;
    }
    int32_t share = weight->form == WEIGHT_GATED ? weight->panel / 2 : weight->panel;
    for (int32_t row = 0; row < piece->row_count;) {
        int32_t count = share - (piece->first_row + row) % share;
        if (count > STRIP_ROWS)
            count = STRIP_ROWS;
        if (count > piece->row_count - row)
            count = piece->row_count - row;
        int64_t start = weight_element(weight, piece->part, piece->first_row + row, 0);
        struct run run = {weight, piece, row, count,
                          (uint32_t *)(void *)(group + start * element_bytes)};
        pack_run(&run);
        row += count;
    }
}
