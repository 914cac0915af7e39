/* Element types, their conversions and the stride of activation rows. */
#ifndef MOEBIUS_KERNELS_DTYPE_H
#define MOEBIUS_KERNELS_DTYPE_H

#include <stdint.h>
#include <string.h>

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_COUNT };

/* 4, 2, 2. Local. */
static inline int64_t dtype_bytes(enum dtype dtype) {
    return dtype == DTYPE_F32 ? 4 : 2;
}

/* "f32", "bf16", "f16". Local. */
static inline const char *dtype_name(enum dtype dtype) {
    static const char *const names[DTYPE_COUNT] = {"f32", "bf16", "f16"};
    return names[dtype];
}

static inline float dtype_bf16_to_f32(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Round to nearest even; NaN stays NaN (quiet). The same rounding as the hardware's vcvtneps2bf16,
 * except that subnormals are kept. */
static inline uint16_t dtype_f32_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* IEEE half to single, exact, subnormals included. Scalar and slow: for loading only. */
static inline float dtype_f16_to_f32(uint16_t value) {
    uint32_t sign = (uint32_t)(value & 0x8000u) << 16;
    uint32_t exponent = (value >> 10) & 0x1fu;
    uint32_t fraction = value & 0x3ffu;
    float result;
    if (exponent == 0) {
        result = (float)fraction * 0x1p-24f;
        return sign != 0 ? -result : result;
    }
    uint32_t bits = sign | (fraction << 13);
    bits |= exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Rows of activations (f32 or bf16) that feed a matrix product stand `activation_stride(columns)`
 * elements apart; the elements past `columns` are zero, written by whoever produces the row. A
 * multiple of 32. */
static inline int64_t activation_stride(int64_t columns) {
    return (columns + 31) & ~INT64_C(31);
}

#endif
