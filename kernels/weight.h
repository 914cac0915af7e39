/* Weight matrices in the layout that the kernels want: packed once, at load. */
#ifndef MOEBIUS_KERNELS_WEIGHT_H
#define MOEBIUS_KERNELS_WEIGHT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "kernels/dtype.h"

struct kernels;

enum weight_form {
    WEIGHT_ROWS,  /* row-major [rows][columns]: an embedding table that is only looked up */
    WEIGHT_PLAIN, /* for gemm and expert_down, and for embedding when the table is tied to the
                     output */
    WEIGHT_GATED, /* gate and up projections of a SwiGLU, interleaved so that one pass computes both
                   */
};

/* A stack of `groups` equal matrices W[rows][columns] (rows = outputs N, columns = inputs K; y = x
 * W^T). groups is the number of experts, or 1. For WEIGHT_GATED, rows is the number of gate rows =
 * the number of up rows. Plain data; may be copied. */
struct weight {
    enum weight_form form;
    enum dtype dtype; /* DTYPE_F32 or DTYPE_BF16 */
    int32_t groups, rows, columns;
    int32_t panel;      /* rows in a panel of the packed layout (private to the kernels) */
    size_t group_bytes; /* from one group to the next; a multiple of 64 */
    void *data; /* groups * group_bytes bytes, 64-byte aligned, owned by whoever took the region */
};

enum weight_part { WEIGHT_PART_ONLY, WEIGHT_PART_GATE, WEIGHT_PART_UP };

/* Fills in everything but data (NULL). groups, rows, columns >= 1. Local. */
void weight_describe(const struct kernels *kernels, enum weight_form form, enum dtype dtype,
                     int32_t groups, int32_t rows, int32_t columns, struct weight *weight);

/* Elements of one packed panel: its rows times its columns, bf16 columns rounded up to a pair.
 * Local.
 */
static inline int64_t weight_panel_elements(const struct weight *weight) {
    int64_t columns = weight->dtype == DTYPE_BF16 ? (weight->columns + 1) & ~1 : weight->columns;
    return columns * weight->panel;
}

/* Where element (row, column) stands inside its group, in elements. WEIGHT_ROWS: row-major.
 * Otherwise panels of `panel` rows, one after another; inside a panel f32 is [columns][panel] and
 * bf16 [ceil(columns / 2)][panel][2]. A WEIGHT_GATED panel holds panel / 2 gate rows, then the up
 * rows of the same numbers. Local. */
static inline int64_t weight_element(const struct weight *weight, enum weight_part part,
                                     int32_t row, int32_t column) {
    if (weight->form == WEIGHT_ROWS)
        return (int64_t)row * weight->columns + column;
    int32_t share = weight->form == WEIGHT_GATED ? weight->panel / 2 : weight->panel;
    int64_t base = row / share * weight_panel_elements(weight);
    int32_t lane = row % share + (part == WEIGHT_PART_UP ? share : 0);
    if (weight->dtype == DTYPE_BF16)
        return base + ((int64_t)(column / 2) * weight->panel + lane) * 2 + column % 2;
    return base + (int64_t)column * weight->panel + lane;
}

/* Panels of one group (1 for WEIGHT_ROWS). Local. */
int32_t weight_panels(const struct weight *weight);

/* Bytes that `data` must have; a multiple of 64. Local. */
size_t weight_bytes(const struct weight *weight);

/* Rows first_row .. first_row + rows - 1 of a WEIGHT_PLAIN of one group, as a weight of its own
 * that shares the data. first_row is a multiple of weight->panel, rows >= 1; the view ends with a
 * whole panel or with the weight. Local. */
struct weight weight_rows(const struct weight *weight, int32_t first_row, int32_t rows);

/* Where a piece of row-major source goes. */
struct weight_piece {
    int32_t group;
    enum weight_part part; /* WEIGHT_PART_ONLY unless the form is WEIGHT_GATED */
    int32_t first_row, row_count;
    const void *source; /* [row_count][source_stride], any alignment */
    enum dtype
        source_dtype; /* F32, BF16 or F16; converted to weight->dtype (round to nearest even) */
    int64_t source_stride; /* elements from one row to the next, >= columns */
};

/* Packs one piece. Pieces of one weight may be packed by different threads at once if their rows
 * differ. The region must be zero-filled before (padding stays zero). Local. */
void weight_pack(const struct kernels *kernels, const struct weight *weight,
                 const struct weight_piece *piece);

/* Reads one row back, as f32 [columns] (tests, inspection). Local. */
void weight_unpack_row(const struct weight *weight, int32_t group, enum weight_part part,
                       int32_t row, float *out);

#endif
