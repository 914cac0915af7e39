/* The two products of attention as register-blocked micro-kernels over a tile of queries. Included
 * by cpu_attention.c only, which is compiled once for each instruction set.
 *
 * Both walk "steps" of 4 bytes a lane: a step is one dim (of a key) or one slot (of a value) when
 * the cache is f32, and a pair of them when it is bf16 (kv_layout.h). Whatever the block shape, an
 * accumulator lane belongs to one query and one slot (scores) or one dim (values) and takes its
 * steps in ascending order, so the shape never changes a bit. */
#ifndef MOEBIUS_KERNELS_CPU_ATTENTION_TILE_H
#define MOEBIUS_KERNELS_CPU_ATTENTION_TILE_H

#include "kernels/cpu_vector.h"
#include "kernels/kernel_ops.h"

#if defined(__AVX512BF16__)
#define TILE_DOT_BF16 1
#else
#define TILE_DOT_BF16 0
#endif

#define TILE_LINE_BYTES 64
#define TILE_QUERIES 32 /* at most, in one tile */
/* Queries of the largest micro-kernel, and the accumulators it may keep in registers. */
#define TILE_MICRO (VEC_LANES / 2)
#define TILE_SUMS (VEC_LANES == 16 ? 16 : 8)
#define TILE_CHUNK_BLOCKS (ATTENTION_CHUNK / KV_BLOCK_TOKENS)
#define TILE_BLOCK_VECTORS (KV_BLOCK_TOKENS / VEC_LANES)
#define TILE_KEY_STEP_BYTES (4 * KV_BLOCK_TOKENS)

/* The scratch of one thread. */
struct tile_scratch {
    float scores[TILE_QUERIES][ATTENTION_CHUNK];
    /* What multiplies the values when it is not `scores` itself: pairs of bf16. */
    uint32_t weights[TILE_QUERIES][ATTENTION_CHUNK / 2];
    /* f32, or pairs of bf16 where the instruction set multiplies those. */
    float queries[TILE_QUERIES][ATTENTION_HEAD_DIM_MAX];
    float values[TILE_QUERIES][ATTENTION_HEAD_DIM_MAX]; /* running sums */
    float maximum[TILE_QUERIES];
    float sum[TILE_QUERIES];
    const char *blocks[TILE_CHUNK_BLOCKS];      /* this chunk's blocks of this kv head */
    const char *next_blocks[TILE_CHUNK_BLOCKS]; /* the next chunk's, to prefetch keys from */
};

/* Both sides of a multiplication: one vector, or two (the even and the odd half of a pair). */
struct tile_operand {
    vec even, odd;
};

/* Which half of a pair counts. */
enum tile_keep { TILE_KEEP_BOTH, TILE_KEEP_EVEN, TILE_KEEP_ODD };

/* Vectors of K or V side by side in a micro-kernel of `count` queries. */
VEC_INLINE int tile_vectors(int count) {
    return count * 4 <= TILE_SUMS ? 4 : 2;
}

/* Steps of K or V as they stand in the cache. */
VEC_INLINE struct tile_operand tile_split(enum dtype dtype, vec_bits bits) {
    if (dtype == DTYPE_F32 || TILE_DOT_BF16)
        return (struct tile_operand){(vec)bits, (vec)bits};
    return (struct tile_operand){(vec)(bits << 16), (vec)(bits & 0xffff0000u)};
}

/* One query's (or weight's) step in every lane. */
VEC_INLINE struct tile_operand tile_broadcast(enum dtype dtype, const void *row, int64_t step) {
    const float *values = row;
    if (dtype == DTYPE_F32 || TILE_DOT_BF16) {
        vec value = vec_set(values[step]);
        return (struct tile_operand){value, value};
    }
    return (struct tile_operand){vec_set(values[2 * step]), vec_set(values[2 * step + 1])};
}

/* sum + x * y: pairs in one instruction where there is one, else even, then odd. */
VEC_INLINE vec tile_multiply(enum dtype dtype, struct tile_operand x, struct tile_operand y,
                             vec sum) {
#if TILE_DOT_BF16
    if (dtype == DTYPE_BF16)
        return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x.even, (__m512bh)y.even);
#endif
    sum = vec_fma(x.even, y.even, sum);
    return dtype == DTYPE_F32 ? sum : vec_fma(x.odd, y.odd, sum);
}

/* The same for half a pair: what stands in the other half is never touched. */
VEC_INLINE vec tile_multiply_half(enum tile_keep keep, struct tile_operand x, struct tile_operand y,
                                  vec sum) {
#if TILE_DOT_BF16
    vec_bits mask = vec_set_bits(keep == TILE_KEEP_EVEN ? 0x0000ffffu : 0xffff0000u);
    x.even = (vec)((vec_bits)x.even & mask);
    y.even = (vec)((vec_bits)y.even & mask);
    return tile_multiply(DTYPE_BF16, x, y, sum);
#else
    return keep == TILE_KEEP_EVEN ? vec_fma(x.even, y.even, sum) : vec_fma(x.odd, y.odd, sum);
#endif
}

/* Scaled scores of `count` queries against `blocks` blocks: scores[query][16 * block + slot]. */
struct tile_score_args {
    int32_t first_query, first_block;
    int32_t steps;
    int64_t values_offset; /* bytes from a block's keys to its values */
    float scale;
};

VEC_INLINE void tile_score(enum dtype dtype, int count, int blocks,
                           const struct tile_score_args *args, struct tile_scratch *scratch) {
    vec sums[8][4] = {{{0}}};
    const int vectors = blocks * TILE_BLOCK_VECTORS;
    const char *const *block = &scratch->blocks[args->first_block];
    const float *queries = scratch->queries[args->first_query];
    for (int32_t step = 0; step < args->steps; step++) {
        struct tile_operand key[4];
#pragma GCC unroll 4
        for (int n = 0; n < blocks; n++) /* the values of these slots are needed next */
            __builtin_prefetch(block[n] + args->values_offset +
                               (int64_t)step * TILE_KEY_STEP_BYTES);
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) {
            const char *from = block[n / TILE_BLOCK_VECTORS] + (int64_t)step * TILE_KEY_STEP_BYTES;
            key[n] =
                tile_split(dtype, vec_load_bits(from + n % TILE_BLOCK_VECTORS * 4 * VEC_LANES));
        }
#pragma GCC unroll 8
        for (int m = 0; m < count; m++) {
            struct tile_operand query =
                tile_broadcast(dtype, queries + m * ATTENTION_HEAD_DIM_MAX, step);
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++)
                sums[m][n] = tile_multiply(dtype, query, key[n], sums[m][n]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < count; m++) {
        float *to = scratch->scores[args->first_query + m] + args->first_block * KV_BLOCK_TOKENS;
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++)
            vec_store(to + n * VEC_LANES, sums[m][n] * args->scale);
    }
}

/* Adds weighted values of steps first_step .. end_step - 1 of the chunk, for dims dim ..
 * dim + vectors * VEC_LANES - 1. */
struct tile_value_args {
    int32_t first_query, dim, head_dim;
    int32_t first_step, end_step; /* seen by all queries */
    /* Steps end_step .. edge_step - 1 are seen in part: query first_query + m sees slots up to
     * seen_end[m] - 1. None when edge_step <= end_step. */
    int32_t edge_step;
    int32_t seen_end[TILE_MICRO];
    int64_t values_offset; /* bytes from a block's keys to its values */
};

VEC_INLINE const void *tile_weights(enum dtype dtype, const struct tile_scratch *scratch,
                                    int32_t query) {
    if (TILE_DOT_BF16 && dtype == DTYPE_BF16)
        return scratch->weights[query];
    return scratch->scores[query];
}

VEC_INLINE int32_t tile_slots_per_step(enum dtype dtype) {
    return dtype == DTYPE_F32 ? 1 : 2;
}

VEC_INLINE int32_t tile_steps_per_block(enum dtype dtype) {
    return KV_BLOCK_TOKENS / tile_slots_per_step(dtype);
}

/* Where the values of a step of the chunk begin. */
VEC_INLINE const char *tile_values(enum dtype dtype, const struct tile_scratch *scratch,
                                   const struct tile_value_args *args, int32_t step) {
    int32_t per_block = tile_steps_per_block(dtype);
    int64_t row = (int64_t)(step % per_block) * args->head_dim + args->dim;
    return scratch->blocks[step / per_block] + args->values_offset + 4 * row;
}

/* Keys of the next chunk at the same distance into their block as those values: both are as large,
 * so whoever walks the values has fetched the keys. */
VEC_INLINE const char *tile_next_keys(enum dtype dtype, const struct tile_scratch *scratch,
                                      const struct tile_value_args *args, int32_t step) {
    int32_t per_block = tile_steps_per_block(dtype);
    int64_t row = (int64_t)(step % per_block) * args->head_dim + args->dim;
    return scratch->next_blocks[step / per_block] + 4 * row;
}

/* sum + weight * value as far as the query sees the slots of the step: `slots` of them (any number
 * from the step on, or none). */
VEC_INLINE vec tile_multiply_seen(enum dtype dtype, int32_t slots, struct tile_operand weight,
                                  struct tile_operand value, vec sum) {
    if (dtype == DTYPE_BF16 && slots == 1)
        return tile_multiply_half(TILE_KEEP_EVEN, weight, value, sum);
    return slots > 0 ? tile_multiply(dtype, weight, value, sum) : sum;
}

VEC_INLINE void tile_add_values(enum dtype dtype, int count, int vectors,
                                const struct tile_value_args *args, struct tile_scratch *scratch) {
    vec sums[8][4];
    float *values = scratch->values[args->first_query] + args->dim;
    int32_t per_block = tile_steps_per_block(dtype);
#pragma GCC unroll 8
    for (int m = 0; m < count; m++) {
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++)
            sums[m][n] = vec_load(values + m * ATTENTION_HEAD_DIM_MAX + n * VEC_LANES);
    }
    const float *weights = tile_weights(dtype, scratch, args->first_query);
    const int64_t weights_stride =
        TILE_DOT_BF16 && dtype == DTYPE_BF16 ? ATTENTION_CHUNK / 2 : ATTENTION_CHUNK;
    for (int32_t step = args->first_step; step < args->end_step;) {
        int32_t end = (step / per_block + 1) * per_block;
        end = end < args->end_step ? end : args->end_step;
        const char *from = tile_values(dtype, scratch, args, step);
        const char *next = tile_next_keys(dtype, scratch, args, step);
        for (; step < end; step++, from += 4 * (int64_t)args->head_dim) {
            struct tile_operand value[4];
#pragma GCC unroll 4
            for (int n = 0; n < vectors * VEC_LANES / KV_BLOCK_TOKENS; n++)
                __builtin_prefetch(next + n * TILE_LINE_BYTES);
            next += 4 * (int64_t)args->head_dim;
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++)
                value[n] = tile_split(dtype, vec_load_bits(from + n * 4 * VEC_LANES));
#pragma GCC unroll 8
            for (int m = 0; m < count; m++) {
                struct tile_operand weight =
                    tile_broadcast(dtype, weights + m * weights_stride, step);
#pragma GCC unroll 4
                for (int n = 0; n < vectors; n++)
                    sums[m][n] = tile_multiply(dtype, weight, value[n], sums[m][n]);
            }
        }
    }
    for (int32_t step = args->end_step; step < args->edge_step; step++) {
        const char *from = tile_values(dtype, scratch, args, step);
        struct tile_operand value[4];
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++)
            value[n] = tile_split(dtype, vec_load_bits(from + n * 4 * VEC_LANES));
#pragma GCC unroll 8
        for (int m = 0; m < count; m++) {
            int32_t slots = args->seen_end[m] - step * tile_slots_per_step(dtype);
            struct tile_operand weight = tile_broadcast(dtype, weights + m * weights_stride, step);
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++)
                sums[m][n] = tile_multiply_seen(dtype, slots, weight, value[n], sums[m][n]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < count; m++) {
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++)
            vec_store(values + m * ATTENTION_HEAD_DIM_MAX + n * VEC_LANES, sums[m][n]);
    }
}

/* The same for query first_query + m alone and the dims that do not fill a vector. */
static inline void tile_add_values_part(enum dtype dtype, int32_t m,
                                        const struct tile_value_args *args,
                                        struct tile_scratch *scratch) {
    int32_t lanes = args->head_dim - args->dim;
    int32_t edge = args->edge_step > args->end_step ? args->edge_step : args->end_step;
    float *values = scratch->values[args->first_query + m] + args->dim;
    const void *weights = tile_weights(dtype, scratch, args->first_query + m);
    vec sum = vec_load_part(values, lanes);
    for (int32_t step = args->first_step; step < edge; step++) {
        int32_t slots = tile_slots_per_step(dtype);
        if (step >= args->end_step)
            slots = args->seen_end[m] - step * slots;
        const char *from = tile_values(dtype, scratch, args, step);
        sum = tile_multiply_seen(dtype, slots, tile_broadcast(dtype, weights, step),
                                 tile_split(dtype, vec_load_bits_part(from, lanes)), sum);
    }
    vec_store_part(values, sum, lanes);
}

/* Adds half the pair at first_step for one query: all dims. bf16 only. */
static inline void tile_add_half(enum tile_keep keep, const struct tile_value_args *args,
                                 struct tile_scratch *scratch) {
    struct tile_value_args at = *args;
    struct tile_operand weight = tile_broadcast(
        DTYPE_BF16, tile_weights(DTYPE_BF16, scratch, args->first_query), args->first_step);
    for (at.dim = 0; at.dim < at.head_dim; at.dim += VEC_LANES) {
        int32_t left = at.head_dim - at.dim;
        int32_t lanes = left < VEC_LANES ? left : VEC_LANES;
        const char *from = tile_values(DTYPE_BF16, scratch, &at, args->first_step);
        float *values = scratch->values[args->first_query] + at.dim;
        struct tile_operand value = tile_split(DTYPE_BF16, vec_load_bits_part(from, lanes));
        vec sum = tile_multiply_half(keep, weight, value, vec_load_part(values, lanes));
        vec_store_part(values, sum, lanes);
    }
}

#endif
