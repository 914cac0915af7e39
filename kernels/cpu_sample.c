/* Random bits and maxima over a vocabulary, for the sampler; this file is compiled once for each
 * instruction set (CPU_SUFFIX). Integers and comparisons only: every set gives the same bits. The
 * reference is ref_sample.c. */
#include "kernels/cpu_sample.h"

#include <math.h>

#include "kernels/cpu_vector.h"

#define ROUNDS 10
#define WIDE_LANES (VEC_LANES / 2)
#define STREAMS 4 /* independent vectors, to fill the time that a product takes */

/* Numbers of 32 bits in lanes of 64: what stands above is ignored, until it is cut off at the end.
 */
typedef uint64_t wide __attribute__((vector_size(8 * WIDE_LANES)));
typedef uint64_t wide_memory __attribute__((vector_size(8 * WIDE_LANES), aligned(8), may_alias));

VEC_INLINE wide spread(uint64_t value) {
    return (wide){0} + value;
}

/* The whole products of the lower halves. */
VEC_INLINE wide multiply(wide a, wide b) {
#if defined(__AVX512F__)
    return (wide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE4_2__)
    return (wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & UINT32_MAX) * (b & UINT32_MAX);
#endif
}

struct block {
    wide c0, c1, c2, c3;
};

VEC_INLINE void philox_round(struct block *block, uint32_t k0, uint32_t k1) {
    wide left = multiply(block->c0, spread(0xd2511f53)),
         right = multiply(block->c2, spread(0xcd9e8d57));
    block->c0 = (right >> 32) ^ block->c1 ^ spread(k0);
    block->c1 = right;
    block->c2 = (left >> 32) ^ block->c3 ^ spread(k1);
    block->c3 = left;
}

/* STREAMS * WIDE_LANES pairs from `pair` on. */
VEC_INLINE void noise_of(const struct noise_args *args, int32_t pair, uint64_t *even,
                         uint64_t *odd) {
    struct block blocks[STREAMS];
    uint32_t k0 = (uint32_t)args->seed, k1 = (uint32_t)(args->seed >> 32);
    for (int s = 0; s < STREAMS; s++) {
        wide first = {0};
        for (int lane = 0; lane < WIDE_LANES; lane++)
            first[lane] = (uint32_t)(pair + s * WIDE_LANES + lane);
        blocks[s] = (struct block){first, spread((uint32_t)args->position),
                                   spread((uint64_t)args->position >> 32), spread(0)};
    }
    for (int round = 0; round < ROUNDS; round++) {
#pragma GCC unroll 4
        for (int s = 0; s < STREAMS; s++)
            philox_round(&blocks[s], k0, k1);
        k0 += 0x9e3779b9;
        k1 += 0xbb67ae85;
    }
    for (int s = 0; s < STREAMS; s++) {
        const struct block *b = &blocks[s];
        *(wide_memory *)(even + s * WIDE_LANES) = b->c1 << 32 | (b->c0 & UINT32_MAX);
        *(wide_memory *)(odd + s * WIDE_LANES) = b->c3 << 32 | (b->c2 & UINT32_MAX);
    }
}

void CPU_SYMBOL(cpu_sample_noise)(const struct noise_args *args) {
    const int32_t step = STREAMS * WIDE_LANES;
    int32_t i = 0;
    for (; i <= args->pairs - step; i += step)
        noise_of(args, args->first_pair + i, args->even + i, args->odd + i);
    if (i == args->pairs)
        return;
    uint64_t even[STREAMS * WIDE_LANES], odd[STREAMS * WIDE_LANES];
    size_t bytes = sizeof(uint64_t) * (size_t)(args->pairs - i);
    noise_of(args, args->first_pair + i, even, odd);
    memcpy(args->even + i, even, bytes);
    memcpy(args->odd + i, odd, bytes);
}

/* The greater one; `best` where value is NaN. */
VEC_INLINE vec greater(vec value, vec best) {
    vec_int mask = value > best;
    return (vec)(((vec_int)value & mask) | ((vec_int)best & ~mask));
}

float CPU_SYMBOL(cpu_sample_greatest)(const float *x, int32_t count) {
    vec best[STREAMS];
    int32_t i = 0;
    float greatest = -INFINITY;
    for (int s = 0; s < STREAMS; s++)
        best[s] = (vec){0} - INFINITY;
    for (; i <= count - STREAMS * VEC_LANES; i += STREAMS * VEC_LANES) {
#pragma GCC unroll 4
        for (int s = 0; s < STREAMS; s++)
            best[s] = greater(vec_load(x + i + s * VEC_LANES), best[s]);
    }
    for (int s = 0; s < STREAMS; s++)
        for (int lane = 0; lane < VEC_LANES; lane++)
            greatest = best[s][lane] > greatest ? best[s][lane] : greatest;
    for (; i < count; i++)
        greatest = x[i] > greatest ? x[i] : greatest;
    return greatest;
}
