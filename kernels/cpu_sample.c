/* Passes over logits, for the sampler; this file is compiled once for each instruction set
 * (CPU_SUFFIX). Nothing is fused and sums are exact: every set gives the bits of the reference,
 * ref_sample.c. */
#include "kernels/cpu_sample.h"

#include <math.h>

#include "kernels/cpu_chance.h"
#include "kernels/cpu_vector.h"
#include "kernels/ref_sample.h"

#define WIDE_LANES (VEC_LANES / 2)
#define AHEAD 768 /* logits may be in another core's cache */
#define LINE_FLOATS 16
#define BLOCK_VECTORS 256 /* of weights of at most 2^23 * coarse: their sums fit 32 bits */

typedef double wide_double __attribute__((vector_size(8 * WIDE_LANES)));

/* What is left of x, at most a vector, NaN behind its end. */
VEC_INLINE vec load_rest(const float *x, int32_t left) {
#if VEC_LANES == 16
    return left >= VEC_LANES
               ? vec_load(x)
               : (vec)_mm512_mask_loadu_ps(_mm512_set1_ps(NAN), (__mmask16)((1u << left) - 1), x);
#else
    float rest[VEC_LANES];
    if (left >= VEC_LANES)
        return vec_load(x);
    for (int lane = 0; lane < VEC_LANES; lane++)
        rest[lane] = lane < left ? x[lane] : NAN;
    return vec_load(rest);
#endif
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

/* The greatest lane of quads without NaN. */
VEC_INLINE vec_quad quad_max(vec_quad a, vec_quad b) {
#if defined(__SSE4_2__)
    return (vec_quad)_mm_max_ps((__m128)a, (__m128)b);
#else
    return vec_max(a, b);
#endif
}

VEC_INLINE float greatest_lane(vec_quad four) {
    vec_quad two = quad_max(four, __builtin_shufflevector(four, four, 2, 3, 2, 3));
    return two[0] > two[1] ? two[0] : two[1];
}

/* Writes the peaks of a whole group's octets, returns the greatest. Each vector is freed of NaN
 * first. */
#if VEC_LANES == 16
VEC_INLINE float octet_peaks(const float *x, float *octets) {
    __m512 v[4], least = _mm512_set1_ps(-INFINITY);
    for (int i = 0; i < 4; i++)
        v[i] = _mm512_max_ps(_mm512_loadu_ps(x + 16 * i), least);
    /* quarters: octets 0 .. 3 of ids; then 4 .. 7 */
    __m512 lower = _mm512_max_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x88),
                                 _mm512_shuffle_f32x4(v[0], v[1], 0xdd)),
           upper = _mm512_max_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x88),
                                 _mm512_shuffle_f32x4(v[2], v[3], 0xdd));
    __m512 pairs =
        _mm512_max_ps(_mm512_shuffle_ps(lower, upper, 0x44), _mm512_shuffle_ps(lower, upper, 0xee));
    __m512 twins = _mm512_max_ps(pairs, _mm512_permute_ps(pairs, 0xb1));
    const __m512i one_each =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14);
    __m256 found = _mm512_castps512_ps256(_mm512_permutexvar_ps(one_each, twins));
    _mm256_storeu_ps(octets, found);
    return greatest_lane(
        (vec_quad)_mm_max_ps(_mm256_castps256_ps128(found), _mm256_extractf128_ps(found, 1)));
}
#else
VEC_INLINE vec_quad octet_quad(const float *x) {
    vec first = vec_max(vec_load(x), vec_set(-INFINITY));
#if VEC_LANES == 8
    return (vec_quad)_mm_max_ps(_mm256_castps256_ps128((__m256)first),
                                _mm256_extractf128_ps((__m256)first, 1));
#else
    return quad_max(first, vec_max(vec_load(x + 4), vec_set(-INFINITY)));
#endif
}

/* Those of the octets at j, j + 4, j + 1 and j + 5. */
VEC_INLINE vec_quad four_octets(const float *x, int j) {
    vec_quad a = octet_quad(x + 8 * j), b = octet_quad(x + 8 * j + 32),
             c = octet_quad(x + 8 * j + 8), d = octet_quad(x + 8 * j + 40);
    vec_quad ab = quad_max(__builtin_shufflevector(a, b, 0, 1, 4, 5),
                           __builtin_shufflevector(a, b, 2, 3, 6, 7)),
             cd = quad_max(__builtin_shufflevector(c, d, 0, 1, 4, 5),
                           __builtin_shufflevector(c, d, 2, 3, 6, 7));
    return quad_max(__builtin_shufflevector(ab, cd, 0, 2, 4, 6),
                    __builtin_shufflevector(ab, cd, 1, 3, 5, 7));
}

VEC_INLINE float octet_peaks(const float *x, float *octets) {
    vec_quad first = four_octets(x, 0), second = four_octets(x, 2);
    memcpy(octets, &first, sizeof first);
    memcpy(octets + 4, &second, sizeof second);
    return greatest_lane(quad_max(first, second));
}
#endif

static float peaks(const struct peak_args *args) {
    float greatest = -INFINITY;
    int32_t end = args->skipped + args->count;
    for (int32_t first = 0; first < end; first += SAMPLE_GROUP) {
        int32_t group = first / SAMPLE_GROUP, at = first - args->skipped;
        float rest[SAMPLE_GROUP];
        const float *x = rest;
        if (at >= 0 && args->count - at >= SAMPLE_GROUP)
            x = args->x + at;
        for (int32_t i = 0; x == rest && i < SAMPLE_GROUP; i++)
            rest[i] = at + i >= 0 && at + i < args->count ? args->x[at + i] : NAN;
        for (int32_t i = AHEAD; i < AHEAD + SAMPLE_GROUP && at + i < args->count; i += LINE_FLOATS)
            __builtin_prefetch(args->x + at + i);
        float peak = octet_peaks(x, args->octets + group * SAMPLE_OCTETS);
        args->groups[group] = peak;
        greatest = peak > greatest ? peak : greatest;
    }
    return greatest;
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

/* 2^exponent, not yet rounded to steps, for exponents of at least SAMPLE_POWER_LEAST; for others,
 * and NaN, as for that one, which rounds to 0. */
VEC_INLINE vec power_of(vec exponent) {
    exponent = vec_max(exponent, vec_set(SAMPLE_POWER_LEAST));
    vec shifted = exponent + SAMPLE_ROUNDER;
    vec r = exponent - (shifted - SAMPLE_ROUNDER);
    vec power = SAMPLE_POWER_C6 * r + SAMPLE_POWER_C5;
    power = power * r + SAMPLE_POWER_C4;
    power = power * r + SAMPLE_POWER_C3;
    power = power * r + SAMPLE_POWER_C2;
    power = power * r + SAMPLE_POWER_C1;
    power = power * r + 1.0f;
    return (vec)((vec_bits)power + ((vec_bits)shifted << 23));
}

/* The weights of x [count], at most BLOCK_VECTORS vectors, in steps of 2^-23 of args->coarse; their
 * sum. A weight is a multiple of `coarse` and a rest of at most half of that; adding a number whose
 * last place is coarse, or a step, leaves the multiple in the low bits: whole numbers to be summed.
 */
static int64_t weigh_block(const struct weigh_args *args, const float *x, int32_t count,
                           float *weights) {
    vec greatest = vec_set(args->greatest), scale = vec_set(args->scale),
        coarse_zero = vec_set(args->coarse * 0x1p23f), step_zero = vec_set(args->coarse * 1.5f);
    vec_bits coarse_sum = {0}, step_sum = {0};
    uint32_t vectors = 0;
    for (int32_t i = 0; i < count; i += VEC_LANES, vectors++) {
        int32_t left = count - i;
        vec power = power_of((load_rest(x + i, left) - greatest) * scale);
        vec coarse = power + coarse_zero, rest = power - (coarse - coarse_zero);
        vec steps = rest + step_zero;
        coarse_sum += (vec_bits)coarse;
        step_sum += (vec_bits)steps;
        if (weights != NULL)
            vec_store_part(weights + i, (coarse - coarse_zero) + (steps - step_zero),
                           left < VEC_LANES ? left : VEC_LANES);
    }
    coarse_sum -= (vec_bits)coarse_zero * vectors;
    step_sum -= (vec_bits)step_zero * vectors;
    int64_t sum = 0;
    for (int lane = 0; lane < VEC_LANES; lane++)
        sum += ((int64_t)coarse_sum[lane] << 23) + (int32_t)step_sum[lane];
    return sum;
}

/* The reference's are infinities, where x - greatest would be no number, and vocabularies so small
 * that 2^23 * coarse is less than a weight may be. */
static double weigh(const struct weigh_args *args) {
    int64_t steps = 0;
    if (args->greatest == INFINITY || args->coarse < 0x1p-23f)
        return ref_sample_ops.weigh(args);
    for (int32_t first = 0; first < args->count; first += BLOCK_VECTORS * VEC_LANES) {
        int32_t left = args->count - first;
        steps += weigh_block(args, args->x + first,
                             left < BLOCK_VECTORS * VEC_LANES ? left : BLOCK_VECTORS * VEC_LANES,
                             args->weights != NULL ? args->weights + first : NULL);
    }
    return (double)steps * ((double)args->coarse * 0x1p-23);
}

static struct sample_tally tally(const float *x, const float *weights, int32_t count, float least) {
    struct sample_tally tally = {0};
    struct sums sums = {{0}, {0}};
    vec border = vec_set(least);
    for (int32_t i = 0; i < count; i += VEC_LANES) {
        vec here = load_rest(x + i, count - i);
        tally.count += __builtin_popcount(at_least(here, border));
        if (weights == NULL)
            continue;
        vec weight = load_rest(weights + i, count - i);
        add_exactly(&sums, (vec)((vec_int)weight & (here >= border)));
    }
    tally.weight = total_of(&sums);
    return tally;
}

/* Writes i + l and lane l of `here` for each bit l of the mask; returns how many. */
VEC_INLINE int32_t list_lanes(uint32_t mask, int32_t i, vec here, int32_t *at, float *values) {
    int32_t found = __builtin_popcount(mask);
#if VEC_LANES == 16
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i numbers = _mm512_add_epi32(lanes, _mm512_set1_epi32(i));
    numbers = _mm512_maskz_compress_epi32((__mmask16)mask, numbers);
    _mm512_mask_storeu_epi32(at, (__mmask16)((1u << found) - 1), numbers);
    vec_store_part(values, (vec)_mm512_maskz_compress_ps((__mmask16)mask, (__m512)here), found);
#else
    float lane[VEC_LANES];
    vec_store(lane, here);
    for (; mask != 0; mask &= mask - 1) {
        *at++ = i + __builtin_ctz(mask);
        *values++ = lane[__builtin_ctz(mask)];
    }
#endif
    return found;
}

static int32_t list(const struct list_args *args) {
    const float *x = args->x;
    float *values = args->values;
    int32_t *at = args->at, found = 0;
    vec low = vec_set(args->least), high = vec_set(args->most);
    for (int32_t i = 0, count = args->count; i < count; i += VEC_LANES) {
        vec here = load_rest(x + i, count - i);
        uint32_t mask = at_least(here, low) & at_least(high, here);
        found += list_lanes(mask, i, here, at + found, values + found);
    }
    return found;
}

const struct sample_ops CPU_SYMBOL(cpu_sample_ops) = {.peaks = peaks,
                                                      .chances = CPU_SYMBOL(cpu_chance),
                                                      .weigh = weigh,
                                                      .tally = tally,
                                                      .list = list};
