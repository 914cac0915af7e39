/* The two inner loops of choosing a token, as each instruction set has them. */
#ifndef MOEBIUS_KERNELS_CPU_SAMPLE_H
#define MOEBIUS_KERNELS_CPU_SAMPLE_H

#include "kernels/kernel_ops.h"

#define CPU_SAMPLE_DECLARE(isa)                                                                    \
    void cpu_sample_noise_##isa(const struct noise_args *);                                        \
    float cpu_sample_greatest_##isa(const float *, int32_t)

CPU_SAMPLE_DECLARE(baseline);
CPU_SAMPLE_DECLARE(avx2);
CPU_SAMPLE_DECLARE(avx512);
CPU_SAMPLE_DECLARE(avx512_bf16);

#endif
