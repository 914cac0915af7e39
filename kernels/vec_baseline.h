/* Vectors of 16 bytes in the compiler's own vector language: SSE on x86, the like elsewhere.
 * Everything in the vec_ headers is static: nothing that was compiled for one instruction set may
 * be shared with another. */
#ifndef MOEBIUS_KERNELS_VEC_BASELINE_H
#define MOEBIUS_KERNELS_VEC_BASELINE_H

#include <stdint.h>

#define VEC_LANES 4
typedef float vec_f32 __attribute__((vector_size(16)));
typedef uint32_t vec_u32 __attribute__((vector_size(16)));
typedef uint16_t vec_u16 __attribute__((vector_size(8)));

/* a * b + c, rounded twice on machines without FMA. */
static inline vec_f32 vec_fma(vec_f32 a, vec_f32 b, vec_f32 c) {
    return a * b + c;
}

/* x, but at least low and at most high; NaN stays. */
static inline vec_f32 vec_clamp(vec_f32 x, vec_f32 low, vec_f32 high) {
    vec_u32 below = (vec_u32)(x < low), above = (vec_u32)(x > high);
    vec_u32 inside = (vec_u32)x & ~(below | above);
    return (vec_f32)(inside | ((vec_u32)low & below) | ((vec_u32)high & above));
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
