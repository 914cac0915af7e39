/* Vectors of 64 bytes for files compiled with AVX-512. See vec_baseline.h. */
#ifndef MOEBIUS_KERNELS_VEC_AVX512_H
#define MOEBIUS_KERNELS_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define VEC_LANES 16
typedef float vec_f32 __attribute__((vector_size(64)));
typedef uint32_t vec_u32 __attribute__((vector_size(64)));
typedef uint16_t vec_u16 __attribute__((vector_size(32)));

static inline vec_f32 vec_fma(vec_f32 a, vec_f32 b, vec_f32 c) {
    return (vec_f32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

/* x, but at least low and at most high; NaN stays. */
static inline vec_f32 vec_clamp(vec_f32 x, vec_f32 low, vec_f32 high) {
    __m512 raised = _mm512_max_ps((__m512)low, (__m512)x); /* the second one when either is NaN */
    return (vec_f32)_mm512_min_ps((__m512)high, raised);
}

/* value * 2^n for whole n, |n| <= 160: also where that is below the normal range, or infinite. */
static inline vec_f32 vec_scale(vec_f32 value, vec_f32 n) {
    return (vec_f32)_mm512_scalef_ps((__m512)value, (__m512)n);
}

#endif
