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

#endif
