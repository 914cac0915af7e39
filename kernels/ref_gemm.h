/* Reference matrix products: slow, obvious, summed in double in ascending K. They read any panel
 * width through weight_element. Contracts: kernel_ops.h. */
#ifndef MOEBIUS_KERNELS_REF_GEMM_H
#define MOEBIUS_KERNELS_REF_GEMM_H

#include "kernels/kernel_ops.h"

void ref_gemm_gemm(const struct kernels *kernels, const struct gemm_args *args);
void ref_gemm_expert_gate_up(const struct kernels *kernels, const struct expert_gate_up_args *args);
void ref_gemm_expert_down(const struct kernels *kernels, const struct expert_down_args *args);

#endif
