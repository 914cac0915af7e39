/* The CPU's matrix products: cut into items for the thread pool, each item into tiles of the
 * instruction set's gemm_micro (kernels->ops->micro). Contracts: kernel_ops.h. */
#ifndef MOEBIUS_KERNELS_CPU_GEMM_H
#define MOEBIUS_KERNELS_CPU_GEMM_H

#include "kernels/kernel_ops.h"

/* Most groups of one weight. */
#define CPU_GEMM_GROUPS_MAX 1024

void cpu_gemm_gemm(const struct kernels *kernels, const struct gemm_args *args);
void cpu_gemm_expert_gate_up(const struct kernels *kernels, const struct expert_gate_up_args *args);
void cpu_gemm_expert_down(const struct kernels *kernels, const struct expert_down_args *args);

#endif
