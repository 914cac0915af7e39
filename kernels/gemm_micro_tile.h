/* The tiles of gemm_micro.h in terms of a vec_ header. Each gemm_micro_<isa>.c includes its vec_
 * header, names TILE_ROWS and TILE_VECS (vectors side by side: panel = TILE_VECS * VEC_LANES), and
 * then includes this file: the same text, compiled once for each instruction set. Everything is
 * static. The tile is sized so that its sums, one vector of weights and the broadcast inputs fill
 * the registers. */
#ifndef MOEBIUS_KERNELS_GEMM_MICRO_TILE_H
#define MOEBIUS_KERNELS_GEMM_MICRO_TILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/dtype.h"
#include "kernels/gemm_micro.h"

#define TILE_PANEL (TILE_VECS * VEC_LANES)
#define TILE_INLINE static inline __attribute__((always_inline))

/* The sums must live in registers: gcc wants to be told before it splits arrays, clang sees it
 * alone (and is led astray by the same hint). */
#if defined(__clang__)
#define TILE_UNROLL
#else
#define TILE_UNROLL _Pragma("GCC unroll 6")
#endif

/* With few rows a tile is bound by memory: how far ahead of the multiplication it asks for weights.
 */
#define TILE_PREFETCH_ROWS 2
#define TILE_PREFETCH_BYTES 4096

TILE_INLINE vec_f32 vec_splat(float value) {
    return value - (vec_f32){0};
}

TILE_INLINE vec_u32 vec_splat_bits(uint32_t bits) {
    return bits - (vec_u32){0};
}

/* Vectors at any address, over whatever type stands there. */
typedef vec_f32 vec_f32_loose __attribute__((aligned(1), may_alias));
typedef vec_u32 vec_u32_loose __attribute__((aligned(1), may_alias));

TILE_INLINE vec_f32 vec_load(const void *source) {
    return *(const vec_f32_loose *)source;
}

TILE_INLINE vec_u32 vec_load_bits(const void *source) {
    return *(const vec_u32_loose *)source;
}

TILE_INLINE void vec_store(float *target, vec_f32 value) {
    *(vec_f32_loose *)target = value;
}

/* exp to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, Taylor to r^7 (error 5e-9), times 2^n.
 * Results below the normal range and overflow to infinity come out right. NaN stays. */
TILE_INLINE vec_f32 vec_exp(vec_f32 x) {
    const vec_f32 low = vec_splat(-105.0f), high = vec_splat(90.0f);
    const vec_f32 magic = vec_splat(0x1.8p23f); /* adding it rounds to an integer */
    x = vec_clamp(x, low, high);
    vec_f32 n = vec_fma(x, vec_splat(0x1.715476p0f), magic) - magic;
    vec_f32 r = vec_fma(n, vec_splat(-0x1.63p-1f), x); /* ln 2 in two parts; n * 0x1.63p-1 exact */
    r = vec_fma(n, vec_splat(0x1.bd0106p-13f), r);
    vec_f32 sum = vec_splat(1.0f / 5040.0f);
    sum = vec_fma(sum, r, vec_splat(1.0f / 720.0f));
    sum = vec_fma(sum, r, vec_splat(1.0f / 120.0f));
    sum = vec_fma(sum, r, vec_splat(1.0f / 24.0f));
    sum = vec_fma(sum, r, vec_splat(1.0f / 6.0f));
    sum = vec_fma(sum, r, vec_splat(0.5f));
    sum = vec_fma(sum, r, vec_splat(1.0f));
    sum = vec_fma(sum, r, vec_splat(1.0f));
    return vec_scale(sum, n);
}

/* Asks for weights that come later. A prefetch never faults, so the end of the weights needs no
 * care.
 */
TILE_INLINE void tile_prefetch(int rows, const char *w, const char *ahead) {
    if (rows > TILE_PREFETCH_ROWS) {
        __builtin_prefetch(ahead, 0, 2);
        __builtin_prefetch(ahead + 64, 0, 2);
        return;
    }
    for (int line = 0; line < TILE_PANEL * 4; line += 64)
        __builtin_prefetch(w + TILE_PREFETCH_BYTES + line, 0, 3);
}

/* The sums before a tile and after it. */
TILE_INLINE void tile_start(int rows, int vecs, const struct gemm_tile *tile,
                            vec_f32 sum[TILE_ROWS][TILE_VECS]) {
    const float *from = tile->sums;
    const bool fresh = tile->fresh;
    const int64_t stride = tile->sums_stride;
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        TILE_UNROLL
        for (int j = 0; j < vecs; j++)
            sum[i][j] = vec_splat(0.0f);
    }
    if (fresh)
        return;
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        TILE_UNROLL
        for (int j = 0; j < vecs; j++)
            sum[i][j] = vec_load(from + i * stride + j * VEC_LANES);
    }
}

TILE_INLINE void tile_end(int rows, int vecs, const struct gemm_tile *tile,
                          vec_f32 sum[TILE_ROWS][TILE_VECS]) {
    float *to = tile->sums;
    const int64_t stride = tile->sums_stride;
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        TILE_UNROLL
        for (int j = 0; j < vecs; j++)
            vec_store(to + i * stride + j * VEC_LANES, sum[i][j]);
    }
}

TILE_INLINE void tile_multiply_f32(int rows, int vecs, const struct gemm_tile *tile) {
    const void *const *x = tile->x;
    const char *w = tile->w, *ahead = tile->ahead;
    vec_f32 sum[TILE_ROWS][TILE_VECS];
    tile_start(rows, vecs, tile, sum);
    for (int64_t k = 0; k < tile->steps; k++, w += TILE_PANEL * 4, ahead += tile->ahead_stride) {
        vec_f32 input[TILE_ROWS];
        tile_prefetch(rows, w, ahead);
        TILE_UNROLL
        for (int i = 0; i < rows; i++)
            input[i] = vec_splat(((const float *)x[i])[k]);
        TILE_UNROLL
        for (int j = 0; j < vecs; j++) {
            vec_f32 weight = vec_load(w + j * VEC_LANES * 4);
            TILE_UNROLL
            for (int i = 0; i < rows; i++)
                sum[i][j] = vec_fma(input[i], weight, sum[i][j]);
        }
    }
    tile_end(rows, vecs, tile, sum);
}

#ifndef TILE_HAS_BF16_DOT
/* bf16 widened to f32: the even element of each pair stands in the low half of its 32 bits. */
TILE_INLINE void tile_multiply_bf16(int rows, const struct gemm_tile *tile) {
    const void *const *x = tile->x;
    const char *w = tile->w, *ahead = tile->ahead;
    const vec_u32 odd_mask = vec_splat_bits(0xffff0000u);
    vec_f32 sum[TILE_ROWS][TILE_VECS];
    tile_start(rows, TILE_VECS, tile, sum);
    for (int64_t k = 0; k < tile->steps; k++, w += TILE_PANEL * 4, ahead += tile->ahead_stride) {
        vec_f32 input[TILE_ROWS];
        tile_prefetch(rows, w, ahead);
        TILE_UNROLL
        for (int i = 0; i < rows; i++)
            input[i] = (vec_f32)vec_splat_bits(((const uint32_t *)x[i])[k] << 16);
        TILE_UNROLL
        for (int j = 0; j < TILE_VECS; j++) {
            vec_f32 even = (vec_f32)(vec_load_bits(w + j * VEC_LANES * 4) << 16);
            TILE_UNROLL
            for (int i = 0; i < rows; i++)
                sum[i][j] = vec_fma(input[i], even, sum[i][j]);
        }
        /* Weights and mask are loaded (again): kept, they would push sums out of registers. */
        const char *again = w;
        const vec_u32 *mask = &odd_mask;
        __asm__("" : "+r"(again), "+r"(mask) : "m"(odd_mask));
        TILE_UNROLL
        for (int i = 0; i < rows; i++)
            input[i] = (vec_f32)vec_splat_bits(((const uint32_t *)x[i])[k] & 0xffff0000u);
        TILE_UNROLL
        for (int j = 0; j < TILE_VECS; j++) {
            vec_f32 odd = (vec_f32)(vec_load_bits(again + j * VEC_LANES * 4) & *mask);
            TILE_UNROLL
            for (int i = 0; i < rows; i++)
                sum[i][j] = vec_fma(input[i], odd, sum[i][j]);
        }
    }
    tile_end(rows, TILE_VECS, tile, sum);
}
#else
TILE_INLINE void tile_multiply_bf16(int rows, const struct gemm_tile *tile) {
    const void *const *x = tile->x;
    const char *w = tile->w, *ahead = tile->ahead;
    vec_f32 sum[TILE_ROWS][TILE_VECS];
    tile_start(rows, TILE_VECS, tile, sum);
    for (int64_t k = 0; k < tile->steps; k++, w += TILE_PANEL * 4, ahead += tile->ahead_stride) {
        vec_u32 input[TILE_ROWS];
        tile_prefetch(rows, w, ahead);
        TILE_UNROLL
        for (int i = 0; i < rows; i++)
            input[i] = vec_splat_bits(((const uint32_t *)x[i])[k]);
        TILE_UNROLL
        for (int j = 0; j < TILE_VECS; j++) {
            vec_u32 weight = vec_load_bits(w + j * VEC_LANES * 4);
            TILE_UNROLL
            for (int i = 0; i < rows; i++)
                sum[i][j] = vec_bf16_dot(sum[i][j], input[i], weight);
        }
    }
    tile_end(rows, TILE_VECS, tile, sum);
}
#endif

/* A case of the switches below that the tile is too small for: never reached, not compiled twice.
 */
#define TILE_AT_MOST(rows) ((rows) <= TILE_ROWS ? (rows) : TILE_ROWS)

TILE_INLINE void tile_rows_f32(int vecs, const struct gemm_tile *tile) {
    switch (tile->rows) {
    case 1:
        tile_multiply_f32(1, vecs, tile);
        break;
    case 2:
        tile_multiply_f32(TILE_AT_MOST(2), vecs, tile);
        break;
    case 3:
        tile_multiply_f32(TILE_AT_MOST(3), vecs, tile);
        break;
    case 4:
        tile_multiply_f32(TILE_AT_MOST(4), vecs, tile);
        break;
    case 5:
        tile_multiply_f32(TILE_AT_MOST(5), vecs, tile);
        break;
    default:
        tile_multiply_f32(TILE_ROWS, vecs, tile);
    }
}

/* A router has few experts: one vector of a panel is often enough for it. */
static void tile_f32(const struct gemm_tile *tile) {
    if (tile->columns <= VEC_LANES)
        tile_rows_f32(1, tile);
    else
        tile_rows_f32(TILE_VECS, tile);
}

static void tile_bf16(const struct gemm_tile *tile) {
    switch (tile->rows) {
    case 1:
        tile_multiply_bf16(1, tile);
        break;
    case 2:
        tile_multiply_bf16(TILE_AT_MOST(2), tile);
        break;
    case 3:
        tile_multiply_bf16(TILE_AT_MOST(3), tile);
        break;
    case 4:
        tile_multiply_bf16(TILE_AT_MOST(4), tile);
        break;
    case 5:
        tile_multiply_bf16(TILE_AT_MOST(5), tile);
        break;
    default:
        tile_multiply_bf16(TILE_ROWS, tile);
    }
}

static void tile_swiglu(float *sums, int32_t rows) {
    const vec_f32 one = vec_splat(1.0f);
    for (int32_t i = 0; i < rows; i++, sums += TILE_PANEL) {
        for (int n = 0; n < TILE_PANEL / 2; n += VEC_LANES) {
            vec_f32 gate = vec_load(sums + n), up = vec_load(sums + TILE_PANEL / 2 + n);
            vec_store(sums + n, gate / (one + vec_exp(-gate)) * up);
        }
    }
}

TILE_INLINE vec_u16 vec_narrow_bf16(vec_u32 bits) {
    vec_u32 nan = (vec_u32)((bits & 0x7fffffffu) > vec_splat_bits(0x7f800000u));
    vec_u32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    vec_u32 quiet = (bits >> 16) | 0x40u;
    return __builtin_convertvector((quiet & nan) | (rounded & ~nan), vec_u16);
}

static void tile_round_bf16(const struct gemm_round *args) {
    const float *from = args->from;
    uint16_t *to = args->to;
    for (int32_t i = 0; i < args->rows; i++, from += TILE_PANEL, to += args->to_stride) {
        int32_t n = 0;
        for (; n + VEC_LANES <= args->count; n += VEC_LANES) {
            vec_u16 narrow = vec_narrow_bf16(vec_load_bits(from + n));
            memcpy(to + n, &narrow, sizeof narrow);
        }
        for (; n < args->count; n++)
            to[n] = dtype_f32_to_bf16(from[n]);
    }
}

static uint32_t tile_read(const void *data, size_t bytes) {
    vec_u32 sum[8] = {{0}};
    const char *at = data, *end = at + bytes;
    for (; at < end; at += sizeof sum) {
        for (size_t line = 0; line < sizeof sum; line += 64)
            __builtin_prefetch(at + TILE_PREFETCH_BYTES + line, 0, 3);
        for (int i = 0; i < 8; i++)
            sum[i] += vec_load_bits(at + i * (int)sizeof(vec_u32));
    }
    uint32_t total = 0;
    for (int i = 0; i < 8; i++)
        for (int lane = 0; lane < VEC_LANES; lane++)
            total += sum[i][lane];
    return total;
}

#endif
