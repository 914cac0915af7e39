/* Random bits and passes over logits, for the sampler; this file is compiled once for each
 * instruction set (CPU_SUFFIX). Nothing is fused and sums are exact: every set gives the bits of
 * the reference, ref_sample.c. */
#include "kernels/cpu_sample.h"

#include <math.h>

#include "kernels/cpu_vector.h"

#define ROUNDS 10
#define WIDE_LANES (VEC_LANES / 2)
#define STREAMS 4 /* independent vectors, to fill the time that a product takes */
#define GROUPS_AT_ONCE (STREAMS * WIDE_LANES / 8)

/* Numbers of 32 bits in lanes of 64: what stands above is ignored, until it is cut off at the end.
 */
typedef uint64_t wide __attribute__((vector_size(8 * WIDE_LANES)));
typedef uint16_t narrow __attribute__((vector_size(2 * WIDE_LANES)));
typedef uint16_t narrow_memory __attribute__((vector_size(2 * WIDE_LANES), aligned(2), may_alias));
typedef double wide_double __attribute__((vector_size(8 * WIDE_LANES)));

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

/* The lower halves of a word, and 32 ids behind them the upper ones. */
VEC_INLINE void store_halves(uint16_t *to, wide word) {
    *(narrow_memory *)to = __builtin_convertvector(word, narrow);
    *(narrow_memory *)(to + 32) = __builtin_convertvector(word >> 16, narrow);
}

/* Stream s holds the counters from s * WIDE_LANES on; eight counters are a group. */
VEC_INLINE void noise_of(const struct noise_args *args, int32_t group, uint16_t *high) {
    struct block blocks[STREAMS];
    uint32_t k0 = (uint32_t)args->seed, k1 = (uint32_t)(args->seed >> 32);
    for (int s = 0; s < STREAMS; s++) {
        wide first = {0};
        for (int lane = 0; lane < WIDE_LANES; lane++)
            first[lane] = (uint32_t)(8 * group + s * WIDE_LANES + lane);
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
        uint16_t *to = high + s * WIDE_LANES / 8 * SAMPLE_GROUP + s * WIDE_LANES % 8;
        store_halves(to, b->c0);
        store_halves(to + 8, b->c1);
        store_halves(to + 16, b->c2);
        store_halves(to + 24, b->c3);
    }
}

static void noise(const struct noise_args *args) {
    int32_t i = 0;
    for (; i <= args->groups - GROUPS_AT_ONCE; i += GROUPS_AT_ONCE)
        noise_of(args, args->first_group + i, args->high + i * SAMPLE_GROUP);
    if (i == args->groups)
        return;
    uint16_t high[GROUPS_AT_ONCE * SAMPLE_GROUP];
    noise_of(args, args->first_group + i, high);
    memcpy(args->high + i * SAMPLE_GROUP, high,
           sizeof(uint16_t) * SAMPLE_GROUP * (size_t)(args->groups - i));
}

/* ---- passes over logits ---- */

/* What is left of x at i, NaN behind its end. */
static inline vec load_rest(const float *x, int32_t i, int32_t count) {
    float rest[VEC_LANES];
    if (count - i >= VEC_LANES)
        return vec_load(x + i);
    for (int lane = 0; lane < VEC_LANES; lane++)
        rest[lane] = i + lane < count ? x[i + lane] : NAN;
    return vec_load(rest);
}

static inline vec_half load_rest_half(const uint16_t *x, int32_t i, int32_t count) {
    vec_half rest = {0};
    if (count - i >= VEC_LANES)
        return *(const vec_half_memory *)(x + i);
    memcpy(&rest, x + i, sizeof(uint16_t) * (size_t)(count - i));
    return rest;
}

/* Bit l: lane l of a is at least that of b. */
VEC_INLINE uint32_t at_least(vec a, vec b) {
#if VEC_LANES == 16
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
#elif VEC_LANES == 8
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GE_OQ));
#elif defined(__SSE4_2__)
    return (uint32_t)_mm_movemask_ps(_mm_cmpge_ps((__m128)a, (__m128)b));
#else
    uint32_t mask = 0;
    for (int lane = 0; lane < VEC_LANES; lane++)
        mask |= (uint32_t)(a[lane] >= b[lane]) << lane;
    return mask;
#endif
}

/* Two sums side by side: of the lower lanes and of the upper ones. */
struct sums {
    wide_double low, high;
};

VEC_INLINE void add_exactly(struct sums *sums, vec value) {
#if VEC_LANES == 16
    sums->low += (wide_double)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)value));
    sums->high += (wide_double)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)value, 1));
#elif VEC_LANES == 8
    sums->low += (wide_double)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)value));
    sums->high += (wide_double)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)value, 1));
#elif defined(__SSE4_2__)
    sums->low += (wide_double)_mm_cvtps_pd((__m128)value);
    sums->high += (wide_double)_mm_cvtps_pd(_mm_movehl_ps((__m128)value, (__m128)value));
#else
    sums->low += (wide_double){(double)value[0], (double)value[1]};
    sums->high += (wide_double){(double)value[2], (double)value[3]};
#endif
}

VEC_INLINE double total_of(const struct sums *sums) {
    wide_double both = sums->low + sums->high;
    double total = 0;
    for (int lane = 0; lane < WIDE_LANES; lane++)
        total += both[lane];
    return total;
}

/* Signed numbers as f32. */
VEC_INLINE vec to_float(vec_bits value) {
    return __builtin_convertvector((vec_int)value, vec);
}

static int32_t hopefuls(const struct hopeful_args *args) {
    int32_t found = 0;
    vec limit = vec_set(args->limit);
    for (int32_t i = 0; i < args->count; i += VEC_LANES) {
        vec_half high = load_rest_half(args->high, i, args->count);
        vec bits = to_float((vec_bits)to_float(UINT16_MAX - vec_widen_half(high)));
        vec bound = bits * SAMPLE_BOUND_SLOPE + SAMPLE_BOUND_TOP;
        vec value = load_rest(args->x, i, args->count) * args->inverse_temperature + bound;
        for (uint32_t mask = at_least(value, limit); mask != 0; mask &= mask - 1)
            args->out[found++] = i + __builtin_ctz(mask);
    }
    return found;
}

static float greatest(const float *x, int32_t count) {
    vec best[STREAMS];
    int32_t i = 0;
    float found = -INFINITY;
    for (int s = 0; s < STREAMS; s++)
        best[s] = vec_set(-INFINITY);
    for (; i <= count - STREAMS * VEC_LANES; i += STREAMS * VEC_LANES) {
#pragma GCC unroll 4
        for (int s = 0; s < STREAMS; s++)
            best[s] = vec_max(vec_load(x + i + s * VEC_LANES), best[s]);
    }
    for (int s = 1; s < STREAMS; s++)
        best[0] = vec_max(best[s], best[0]);
    for (int lane = 0; lane < VEC_LANES; lane++)
        found = best[0][lane] > found ? best[0][lane] : found;
    for (; i < count; i++)
        found = x[i] > found ? x[i] : found;
    return found;
}

VEC_INLINE vec weight_of(const struct weigh_args *args, vec x) {
    vec coarse = vec_set(args->coarse);
    vec gap = vec_select(x == args->greatest, vec_set(0.0f), x - args->greatest);
    vec exponent = gap * args->scale;
    vec shifted = exponent + SAMPLE_ROUNDER;
    vec r = exponent - (shifted - SAMPLE_ROUNDER);
    vec power = SAMPLE_POWER_C6 * r + SAMPLE_POWER_C5;
    power = power * r + SAMPLE_POWER_C4;
    power = power * r + SAMPLE_POWER_C3;
    power = power * r + SAMPLE_POWER_C2;
    power = power * r + SAMPLE_POWER_C1;
    power = power * r + 1.0f;
    vec weight = (vec)((vec_bits)power + ((vec_bits)shifted << 23));
    weight = (vec)((vec_int)weight & (exponent >= SAMPLE_POWER_LEAST));
    return vec_select(weight < coarse, (weight + coarse) - coarse, weight);
}

static double weigh(const struct weigh_args *args) {
    struct sums sums = {{0}, {0}};
    for (int32_t i = 0; i < args->count; i += VEC_LANES) {
        vec weight = weight_of(args, load_rest(args->x, i, args->count));
        add_exactly(&sums, weight);
        if (args->weights != NULL && args->count - i >= VEC_LANES)
            vec_store(args->weights + i, weight);
        else if (args->weights != NULL)
            vec_store_part(args->weights + i, weight, args->count - i);
    }
    return total_of(&sums);
}

static struct sample_tally tally(const float *x, const float *weights, int32_t count, float least) {
    struct sample_tally tally = {0};
    struct sums sums = {{0}, {0}};
    vec border = vec_set(least);
    for (int32_t i = 0; i < count; i += VEC_LANES) {
        vec here = load_rest(x, i, count);
        tally.count += __builtin_popcount(at_least(here, border));
        if (weights == NULL)
            continue;
        vec weight = load_rest(weights, i, count);
        add_exactly(&sums, (vec)((vec_int)weight & (here >= border)));
    }
    tally.weight = total_of(&sums);
    return tally;
}

static int32_t between(const float *x, int32_t count, float least, float most, int32_t *out) {
    int32_t found = 0;
    vec low = vec_set(least), high = vec_set(most);
    for (int32_t i = 0; i < count; i += VEC_LANES) {
        vec here = load_rest(x, i, count);
        for (uint32_t mask = at_least(here, low) & at_least(high, here); mask != 0;
             mask &= mask - 1)
            out[found++] = i + __builtin_ctz(mask);
    }
    return found;
}

const struct sample_ops CPU_SYMBOL(cpu_sample_ops) = {.noise = noise,
                                                      .hopefuls = hopefuls,
                                                      .greatest = greatest,
                                                      .weigh = weigh,
                                                      .tally = tally,
                                                      .between = between};
