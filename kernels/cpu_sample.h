/* The inner loops of choosing a token, as each instruction set has them. */
#ifndef MOEBIUS_KERNELS_CPU_SAMPLE_H
#define MOEBIUS_KERNELS_CPU_SAMPLE_H

#include "kernels/sample_ops.h"

extern const struct sample_ops cpu_sample_ops_baseline;
extern const struct sample_ops cpu_sample_ops_avx2;
extern const struct sample_ops cpu_sample_ops_avx512;
extern const struct sample_ops cpu_sample_ops_avx512_bf16;

#endif
