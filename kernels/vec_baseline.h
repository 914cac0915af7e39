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

#endif
