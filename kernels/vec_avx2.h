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

#endif
