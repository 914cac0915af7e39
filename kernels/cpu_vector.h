/* Vectors of f32 as wide as the instruction set that a file is compiled for. Only files that are
 * compiled once per instruction set (CPU_SUFFIX) include this; everything is static, so that no
 * code of a wider instruction set can be linked into a file of a lesser one. Written on the
 * compilers' generic vectors; intrinsics stand where generic code would not give the instruction
 * that is meant. Nothing here contracts a * b + c: only vec_fma may fuse. */
#ifndef MOEBIUS_KERNELS_CPU_VECTOR_H
#define MOEBIUS_KERNELS_CPU_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE4_2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VEC_LANES 16
#elif defined(__AVX2__)
#define VEC_LANES 8
#else
#define VEC_LANES 4
#endif

/* The instruction set's own name for a shared function: CPU_SYMBOL(cpu_ops_add) is
 * cpu_ops_add_avx2 in a file compiled with -DCPU_SUFFIX=avx2. */
#define CPU_JOIN2(stem, suffix) stem##_##suffix
#define CPU_JOIN(stem, suffix) CPU_JOIN2(stem, suffix)
#define CPU_SYMBOL(stem) CPU_JOIN(stem, CPU_SUFFIX)

#define VEC_INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * VEC_LANES)));
typedef int32_t vec_int __attribute__((vector_size(4 * VEC_LANES)));
typedef uint32_t vec_bits __attribute__((vector_size(4 * VEC_LANES)));
typedef uint16_t vec_half __attribute__((vector_size(2 * VEC_LANES)));
/* Twins for memory of any alignment. */
typedef float vec_memory __attribute__((vector_size(4 * VEC_LANES), aligned(4), may_alias));
typedef uint32_t vec_bits_memory __attribute__((vector_size(4 * VEC_LANES), aligned(4), may_alias));
typedef uint16_t vec_half_memory __attribute__((vector_size(2 * VEC_LANES), aligned(2), may_alias));

VEC_INLINE vec vec_load(const float *from) {
    return *(const vec_memory *)from;
}

VEC_INLINE void vec_store(float *to, vec value) {
    *(vec_memory *)to = value;
}

/* The first `count` lanes (0 .. VEC_LANES), zero in the others; memory past them is not touched. */
VEC_INLINE vec_bits vec_load_bits_part(const void *from, int64_t count) {
#if VEC_LANES == 16
    return (vec_bits)_mm512_maskz_loadu_epi32((__mmask16)((1u << count) - 1), from);
#else
    vec_bits value = {0};
    if (count >= VEC_LANES)
        return *(const vec_bits_memory *)from;
    memcpy(&value, from, (size_t)count * sizeof(uint32_t));
    return value;
#endif
}

VEC_INLINE vec vec_load_part(const float *from, int64_t count) {
    return (vec)vec_load_bits_part(from, count);
}

/* Writes the first `count` lanes (0 .. VEC_LANES). */
VEC_INLINE void vec_store_part(float *to, vec value, int64_t count) {
#if VEC_LANES == 16
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)value);
#else
    if (count >= VEC_LANES)
        vec_store(to, value);
    else
        memcpy(to, &value, (size_t)count * sizeof(float));
#endif
}

VEC_INLINE vec vec_set(float value) {
#if VEC_LANES == 16
    return (vec)_mm512_set1_ps(value);
#elif VEC_LANES == 8
    return (vec)_mm256_set1_ps(value);
#else
    return (vec){value, value, value, value};
#endif
}

VEC_INLINE vec_bits vec_set_bits(uint32_t value) {
    return (vec_bits){0} + value;
}

VEC_INLINE vec_bits vec_load_bits(const void *from) {
    return *(const vec_bits_memory *)from;
}

/* a * b + c: fused where the instruction set has it, two roundings where it has not. */
VEC_INLINE vec vec_fma(vec a, vec b, vec c) {
#if VEC_LANES == 16
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__) && VEC_LANES == 8
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* Where mask lanes are all ones a, else b. */
VEC_INLINE vec vec_select(vec_int mask, vec a, vec b) {
    return (vec)((mask & (vec_int)a) | (~mask & (vec_int)b));
}

/* a > b ? a : b (b when either is NaN), lane by lane. */
VEC_INLINE vec vec_max(vec a, vec b) {
#if VEC_LANES == 16
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif VEC_LANES == 8
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE4_2__)
    return (vec)_mm_max_ps((__m128)a, (__m128)b);
#else
    return vec_select(a > b, a, b);
#endif
}

/* a < b ? a : b (b when either is NaN), lane by lane. */
VEC_INLINE vec vec_min(vec a, vec b) {
#if VEC_LANES == 16
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif VEC_LANES == 8
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE4_2__)
    return (vec)_mm_min_ps((__m128)a, (__m128)b);
#else
    return vec_select(a < b, a, b);
#endif
}

/* Four lanes: the last step of every reduction. */
typedef float vec_quad __attribute__((vector_size(16)));

/* Sum of the lanes, always by the same tree: the upper half folded onto the lower one. */
VEC_INLINE float vec_total(vec value) {
#if VEC_LANES == 16
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)value),
                                 _mm512_extractf32x8_ps((__m512)value, 1));
    vec_quad four =
        (vec_quad)_mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#elif VEC_LANES == 8
    vec_quad four = (vec_quad)_mm_add_ps(_mm256_castps256_ps128((__m256)value),
                                         _mm256_extractf128_ps((__m256)value, 1));
#else
    vec_quad four = value;
#endif
    vec_quad two = four + __builtin_shufflevector(four, four, 2, 3, 2, 3);
    return two[0] + two[1];
}

/* The largest lane; unspecified when a lane is NaN. */
VEC_INLINE float vec_peak(vec value) {
#if VEC_LANES == 16
    return _mm512_reduce_max_ps((__m512)value);
#else
    float lanes[VEC_LANES];
    vec_store(lanes, value);
    float peak = lanes[0];
    for (int i = 1; i < VEC_LANES; i++)
        peak = lanes[i] > peak ? lanes[i] : peak;
    return peak;
#endif
}

VEC_INLINE vec_bits vec_widen_half(vec_half half) {
#if VEC_LANES == 16
    return (vec_bits)_mm512_cvtepu16_epi32((__m256i)half);
#elif VEC_LANES == 8
    return (vec_bits)_mm256_cvtepu16_epi32((__m128i)half);
#else
    return __builtin_convertvector(half, vec_bits);
#endif
}

/* The lower half of each lane. */
VEC_INLINE vec_half vec_narrow_half(vec_bits bits) {
#if VEC_LANES == 16
    return (vec_half)_mm512_cvtepi32_epi16((__m512i)bits);
#else
    return __builtin_convertvector(bits, vec_half);
#endif
}

VEC_INLINE vec vec_widen_bf16(vec_half half) {
    return (vec)(vec_widen_half(half) << 16);
}

/* The lower half of each lane by the rounding of dtype_f32_to_bf16, NaN and subnormals included, on
 * every instruction set. */
VEC_INLINE vec_bits vec_round_bf16(vec value) {
    vec_bits bits = (vec_bits)value;
    vec_bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    vec_bits quiet = (bits >> 16) | 0x40u;
    vec_bits is_nan = (vec_bits)((vec_int)(bits & 0x7fffffffu) > 0x7f800000);
    return (is_nan & quiet) | (~is_nan & rounded);
}

VEC_INLINE vec_half vec_narrow_bf16(vec value) {
    return vec_narrow_half(vec_round_bf16(value));
}

VEC_INLINE vec vec_load_bf16(const uint16_t *from) {
    return vec_widen_bf16(*(const vec_half_memory *)from);
}

static inline vec vec_load_bf16_part(const uint16_t *from, int64_t count) {
    vec_half half = {0};
    if (count >= VEC_LANES)
        return vec_load_bf16(from);
    memcpy(&half, from, (size_t)count * sizeof(uint16_t));
    return vec_widen_bf16(half);
}

VEC_INLINE void vec_store_bf16(uint16_t *to, vec value) {
    *(vec_half_memory *)to = vec_narrow_bf16(value);
}

static inline void vec_store_bf16_part(uint16_t *to, vec value, int64_t count) {
    vec_half half = vec_narrow_bf16(value);
    if (count >= VEC_LANES)
        *(vec_half_memory *)to = half;
    else
        memcpy(to, &half, (size_t)count * sizeof(uint16_t));
}

/* e^x for x <= 88.37, within 2 ulp for results from 2^-126 up; below exactly 0 (so exp(-inf) = 0);
 * NaN stays NaN. x = n ln 2 + r, |r| <= ln 2 / 2, e^r by a minimax polynomial, the power of two put
 * into the exponent bits. */
VEC_INLINE vec vec_exp_bounded(vec x) {
    const float magic = 0x1.8p23f; /* adding it rounds to an integer, left in the low bits */
    vec shifted = vec_fma(x, vec_set(0x1.715476p0f), vec_set(magic));
    vec n = shifted - magic;
    vec r = vec_fma(n, vec_set(-0x1.62e4p-1f), x); /* the product is exact: 15 bits times 8 */
    r = vec_fma(n, vec_set(-0x1.7f7d1cp-20f), r);
    vec p = vec_fma(vec_set(0x1.6a2352p-10f), r, vec_set(0x1.123a6cp-7f));
    p = vec_fma(p, r, vec_set(0x1.5558f4p-5f));
    p = vec_fma(p, r, vec_set(0x1.55549p-3f));
    p = vec_fma(p, r, vec_set(0x1.fffffcp-2f));
    p = vec_fma(p, r * r, r) + 1.0f;
    vec power = (vec)(((vec_bits)shifted << 23) + (127u << 23));
    return (vec)(~(x < -87.33f) & (vec_int)(p * power));
}

/* The same for every x: infinity above 88.37. */
VEC_INLINE vec vec_exp(vec x) {
    return vec_select(x > 88.37f, vec_set(__builtin_inff()), vec_exp_bounded(x));
}

VEC_INLINE vec vec_sigmoid(vec x) {
    return 1.0f / (1.0f + vec_exp(-x));
}

#endif
