/* Packs checkpoint rows into panels while a model is loaded. Up to 16 rows of one panel at a time
 * are transposed in 32-bit units (one f32, or a pair of bf16, whose order inside the pair stays),
 * strip by strip; rows of another dtype are converted into a strip in the first cache before. Plain
 * 16-byte vectors: the speed is that of memory, not of the instruction set. */
#include "kernels/weight_pack.h"

#include <stdbool.h>
#include <string.h>

#include "kernels/base/check.h"

#define STRIP_ROWS 16
#define STRIP_UNITS 64
#define STRIP_COLUMNS (2 * STRIP_UNITS)

/* Checkpoint data stands at any address. */
typedef float loose_f32 __attribute__((aligned(1), may_alias));
typedef uint16_t loose_u16 __attribute__((aligned(1), may_alias));
typedef uint32_t loose_u32 __attribute__((aligned(1), may_alias));
typedef uint32_t units4 __attribute__((vector_size(16)));
typedef float floats4 __attribute__((vector_size(16)));
typedef uint16_t loose_halves4 __attribute__((vector_size(8), aligned(1), may_alias));
typedef uint32_t loose_units4 __attribute__((vector_size(16), aligned(1), may_alias));

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

static void widen_bf16(const loose_u16 *source, uint32_t *target, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        target[i] = (uint32_t)source[i] << 16;
}

/* dtype_f16_to_f32, 4 at a time: the exponent is moved by 112, twice for infinity and NaN;
 * subnormals are finished by a subtraction that is exact. */
static void widen_f16(const char *source, float *target, int64_t count) {
    const units4 none = {0}, moved = none + (112u << 23), top = none + 0x0f800000u;
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        units4 half =
            __builtin_convertvector(*(const loose_halves4 *)(const void *)(source + i * 2), units4);
        units4 bits = (half & 0x7fffu) << 13, sign = (half & 0x8000u) << 16;
        units4 exponent = bits & top;
        units4 normal = bits + moved + ((units4)(exponent == top) & moved);
        floats4 small = (floats4)(bits + moved + (1u << 23)) - 0x1p-14f;
        units4 tiny = (units4)(exponent == none);
        *(loose_units4 *)(void *)(target + i) = ((units4)small & tiny) | (normal & ~tiny) | sign;
    }
    for (; i < count; i++)
        target[i] = dtype_f16_to_f32(((const loose_u16 *)(const void *)source)[i]);
}

static void narrow_f32(const loose_f32 *source, uint16_t *target, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        target[i] = dtype_f32_to_bf16(source[i]);
}

/* At most STRIP_COLUMNS elements from unaligned `source` of dtype `from` to `to` (F32 or BF16). */
static void convert(const char *source, enum dtype from, void *target, enum dtype to,
                    int64_t count) {
    float wide[STRIP_COLUMNS];
    if (from == to) {
        memcpy(target, source, (size_t)(count * dtype_bytes(to)));
    } else if (from == DTYPE_BF16) {
        widen_bf16((const loose_u16 *)(const void *)source, target, count);
    } else if (from == DTYPE_F32) {
        narrow_f32((const loose_f32 *)(const void *)source, target, count);
    } else if (to == DTYPE_F32) {
        widen_f16(source, target, count);
    } else {
        widen_f16(source, wide, count);
        narrow_f32(wide, target, count);
    }
}

static void convert_row(const char *source, enum dtype from, char *target, enum dtype to,
                        int64_t count) {
    if (from == to) {
        memcpy(target, source, (size_t)(count * dtype_bytes(to)));
        return;
    }
    for (int64_t first = 0; first < count; first += STRIP_COLUMNS) {
        int64_t left = count - first;
        convert(source + first * dtype_bytes(from), from, target + first * dtype_bytes(to), to,
                left < STRIP_COLUMNS ? left : STRIP_COLUMNS);
    }
}

/* 4 units of 4 rows. */
static void transpose4(const char *const *rows, int64_t offset, uint32_t *target, int64_t panel) {
    units4 a = *(const loose_units4 *)(const void *)(rows[0] + offset);
    units4 b = *(const loose_units4 *)(const void *)(rows[1] + offset);
    units4 c = *(const loose_units4 *)(const void *)(rows[2] + offset);
    units4 d = *(const loose_units4 *)(const void *)(rows[3] + offset);
    units4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    units4 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    units4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    units4 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(loose_units4 *)(target) = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    *(loose_units4 *)(target + panel) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    *(loose_units4 *)(target + 2 * panel) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    *(loose_units4 *)(target + 3 * panel) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

/* Units 0 .. units - 1 of `count` rows to [units][panel]. */
static void transpose(const char *const *rows, int32_t count, uint32_t *target, int64_t panel,
                      int32_t units) {
    int32_t blocks = count / 4 * 4, unit = 0;
    for (; unit + 4 <= units; unit += 4)
        for (int32_t row = 0; row + 4 <= count; row += 4)
            transpose4(rows + row, unit * 4, target + unit * panel + row, panel);
    for (int32_t rest = 0; rest < units; rest++) {
        int32_t row = rest < unit ? blocks : 0; /* what the blocks above left */
        for (; row < count; row++)
            target[rest * panel + row] = ((const loose_u32 *)(const void *)rows[row])[rest];
    }
}

static void pack_run(const struct run *run) {
    const struct weight *weight = run->weight;
    const struct weight_piece *piece = run->piece;
    int32_t per_unit = weight->dtype == DTYPE_BF16 ? 2 : 1;
    uint32_t strip[STRIP_ROWS][STRIP_UNITS];
    for (int64_t column = 0; column < weight->columns; column += STRIP_UNITS * per_unit) {
        int64_t columns = weight->columns - column;
        if (columns > STRIP_UNITS * per_unit)
            columns = STRIP_UNITS * per_unit;
        int32_t units = (int32_t)((columns + per_unit - 1) / per_unit);
        bool direct = piece->source_dtype == weight->dtype && columns % per_unit == 0;
        const char *rows[STRIP_ROWS];
        for (int32_t row = 0; row < run->count; row++) {
            rows[row] = source_at(piece, run->first + row, column);
            if (direct)
                continue;
            strip[row][units - 1] = 0; /* the second half of a last, lone bf16 */
            convert(rows[row], piece->source_dtype, strip[row], weight->dtype, columns);
            rows[row] = (const char *)strip[row];
        }
        transpose(rows, run->count, run->target + column / per_unit * weight->panel, weight->panel,
                  units);
    }
}

void weight_pack_panels(const struct weight *weight, const struct weight_piece *piece) {
    char *group = (char *)weight->data + (size_t)piece->group * weight->group_bytes;
    int64_t element_bytes = dtype_bytes(weight->dtype);
    ASSERT(piece->source_dtype < DTYPE_COUNT);
    if (weight->form == WEIGHT_ROWS) {
        for (int32_t row = 0; row < piece->row_count; row++) {
            int64_t start = weight_element(weight, WEIGHT_PART_ONLY, piece->first_row + row, 0);
            convert_row(source_at(piece, row, 0), piece->source_dtype,
                        group + start * element_bytes, weight->dtype, weight->columns);
        }
        return;
    }
    int32_t share = weight->form == WEIGHT_GATED ? weight->panel / 2 : weight->panel;
    for (int32_t row = 0, count; row < piece->row_count; row += count) {
        count = share - (piece->first_row + row) % share;
        if (count > STRIP_ROWS)
            count = STRIP_ROWS;
        if (count > piece->row_count - row)
            count = piece->row_count - row;
        int64_t start = weight_element(weight, piece->part, piece->first_row + row, 0);
        struct run run = {weight, piece, row, count,
                          (uint32_t *)(void *)(group + start * element_bytes)};
        pack_run(&run);
    }
}
