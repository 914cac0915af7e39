/* What the kernel tests share: noise that is the same everywhere, and every instruction set that
 * this machine can run. Static inline, for unit tests only. */
#ifndef MOEBIUS_TESTS_UNIT_KERNEL_TEST_H
#define MOEBIUS_TESTS_UNIT_KERNEL_TEST_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernel_ops.h"

/* Uniform in [-1, 1), a function of (seed, index) alone. */
static inline float kernel_test_noise(uint32_t seed, int64_t index) {
    uint64_t x = (uint64_t)index * UINT64_C(0x9e3779b97f4a7c15) + seed;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    return (float)(int32_t)(x >> 40) * 0x1p-23f - 1.0f;
}

/* Allocated; the caller frees. */
static inline void *kernel_test_take(int64_t bytes) {
    void *taken = calloc(1, (size_t)bytes + 64);
    if (taken == NULL)
        abort();
    return taken;
}

/* `count` f32 of noise times `scale`; the caller frees. */
static inline float *kernel_test_floats(uint32_t seed, int64_t count, float scale) {
    float *values = kernel_test_take(count * (int64_t)sizeof(float));
    for (int64_t i = 0; i < count; i++)
        values[i] = scale * kernel_test_noise(seed, i);
    return values;
}

/* Element of an f32 or bf16 array. */
static inline float kernel_test_element(const void *data, enum dtype dtype, int64_t index) {
    if (dtype == DTYPE_F32)
        return ((const float *)data)[index];
    return dtype_bf16_to_f32(((const uint16_t *)data)[index]);
}

/* The same values as `dtype`, dense; the caller frees. */
static inline void *kernel_test_converted(const float *values, int64_t count, enum dtype dtype) {
    void *converted = kernel_test_take(count * dtype_bytes(dtype));
    for (int64_t i = 0; i < count; i++) {
        if (dtype == DTYPE_F32)
            ((float *)converted)[i] = values[i];
        else
            ((uint16_t *)converted)[i] = dtype_f32_to_bf16(values[i]);
    }
    return converted;
}

/* The next instruction set after *isa that this machine runs; start with -1. False at the end. */
static inline bool kernel_test_next_isa(int *isa) {
    do
        (*isa)++;
    while (*isa < CPU_ISA_COUNT && !cpu_isa_supported((enum cpu_isa) * isa));
    return *isa < CPU_ISA_COUNT;
}

static inline struct kernels kernel_test_open(int isa, int32_t threads) {
    struct kernels kernels;
    if (kernels_init(&kernels, (enum cpu_isa)isa, threads) != STATUS_OK)
        abort();
    return kernels;
}

#endif
