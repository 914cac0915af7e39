/* Vectors of 32 bytes for files compiled with AVX2 and FMA. See vec_baseline.h. */
#ifndef MOEBIUS_KERNELS_VEC_AVX2_H
#define MOEBIUS_KERNELS_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define VEC_LANES 8
typedef float vec_f32 __attribute__((vector_size(32)));
typedef uint32_t vec_u32 __attribute__((vector_size(32)));
typedef uint16_t vec_u16 __attribute__((vector_size(16)));

static inline vec_f32 vec_fma(vec_f32 a, vec_f32 b, vec_f32 c) {
    return (vec_f32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

/* x, but at least low and at most high; NaN stays. */
static inline vec_f32 vec_clamp(vec_f32 x, vec_f32 low, vec_f32 high) {
    __m256 raised = _mm256_max_ps((__m256)low, (__m256)x); /* the second one when either is NaN */
    return (vec_f32)_mm256_min_ps((__m256)high, raised);
}

/* value * 2^n for whole n, |n| <= 160: also where that is below the normal range, or infinite: the
 * power is multiplied in two steps. */
static inline vec_f32 vec_scale(vec_f32 value, vec_f32 n) {
    vec_u32 exponent = (vec_u32)(n + 0x1.8p23f) - 0x4b400000u + 256; /* positive: >> 1 is a floor */
    vec_u32 half = exponent >> 1;
    vec_f32 first = (vec_f32)((half - 128 + 127) << 23);
    vec_f32 second = (vec_f32)((exponent - half - 128 + 127) << 23);
    return value * first * second;
}

#endif
