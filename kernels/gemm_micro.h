/* The part of the matrix products that is written once for each instruction set: register-blocked
 * tiles over packed panels. cpu_gemm.c cuts whole products into such tiles; probe.c measures their
 * speed. Layout of panels: weight_element in weight.h. */
#ifndef MOEBIUS_KERNELS_GEMM_MICRO_H
#define MOEBIUS_KERNELS_GEMM_MICRO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GEMM_MICRO_ROWS_MAX 6
#define GEMM_MICRO_PANEL_MAX 64

/* One tile: sums[i][n] = start + sum over k, ascending, of x[i][k] * w[k][n], i < rows, n < panel;
 * start is 0 or sums[i][n] as it was. The bits of a row do not depend on `rows`. */
struct gemm_tile {
    int32_t rows;                       /* 1 .. tile_rows */
    const void *x[GEMM_MICRO_ROWS_MAX]; /* each at the first step */
    const void *w;                      /* part of a panel, at the first step */
    int64_t steps; /* number of k (f32) or of pairs of k (bf16, the even one added first) */
    bool fresh;    /* start from 0 */
    float *sums;   /* row i at sums + i * sums_stride, any alignment */
    int64_t sums_stride;
    int32_t columns; /* <= panel: how many n are wanted; the others may stay as they were */
    /* Weights that will be wanted soon: step k asks for 128 bytes at ahead + k * ahead_stride (not
     * in tiles of 1 or 2 rows, which look ahead by themselves). May point anywhere: nothing is
     * read. */
    const char *ahead;
    int64_t ahead_stride;
};

typedef void (*gemm_micro_tile)(const struct gemm_tile *tile);

/* to[i][n] = from[i][n] rounded to nearest even, n < count <= panel. */
struct gemm_round {
    int32_t rows, count;
    const float *from; /* [rows][panel] */
    uint16_t *to;      /* row i at to + i * to_stride, any alignment */
    int64_t to_stride;
};

struct gemm_micro {
    int32_t panel;     /* columns of a tile */
    int32_t tile_rows; /* most rows of a tile, <= GEMM_MICRO_ROWS_MAX */
    gemm_micro_tile tile_f32, tile_bf16;
    /* sums[i][n] = silu(sums[i][n]) * sums[i][panel / 2 + n], n < panel / 2, on dense rows. */
    void (*swiglu)(float *sums, int32_t rows);
    void (*round_bf16)(const struct gemm_round *args);
    /* Reads `bytes` (a multiple of 1024) at 64-byte aligned `data` with the widest loads; returns
     * something that depends on all of them. */
    uint32_t (*read)(const void *data, size_t bytes);
};

extern const struct gemm_micro gemm_micro_baseline;
extern const struct gemm_micro gemm_micro_avx2;
extern const struct gemm_micro gemm_micro_avx512;
extern const struct gemm_micro gemm_micro_avx512_bf16;

#endif
