/* sample_ops' chances, as each instruction set has it. */
#ifndef MOEBIUS_KERNELS_CPU_CHANCE_H
#define MOEBIUS_KERNELS_CPU_CHANCE_H

#include "kernels/sample_ops.h"

int32_t cpu_chance_baseline(const struct chance_args *args);
int32_t cpu_chance_avx2(const struct chance_args *args);
int32_t cpu_chance_avx512(const struct chance_args *args);
int32_t cpu_chance_avx512_bf16(const struct chance_args *args);

#endif
