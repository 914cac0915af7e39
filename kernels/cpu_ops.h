/* The fast ops between the matrix products, one function per op and instruction set:
 * cpu_ops_<op>_<baseline|avx2|avx512|avx512_bf16>. Contracts are those of the args structs in
 * kernels/kernel_ops.h; the reference is ref_ops.c. All Local. */
#ifndef MOEBIUS_KERNELS_CPU_OPS_H
#define MOEBIUS_KERNELS_CPU_OPS_H

#include "kernels/kernel_ops.h"

#define CPU_OPS_DECLARE(isa)                                                                       \
    void cpu_ops_embedding_##isa(const struct kernels *, const struct embedding_args *);           \
    void cpu_ops_rmsnorm_##isa(const struct kernels *, const struct rmsnorm_args *);               \
    void cpu_ops_head_norm_##isa(const struct kernels *, const struct head_norm_args *);           \
    void cpu_ops_square_sum_##isa(const struct kernels *, const struct square_sum_args *);         \
    void cpu_ops_rope_##isa(const struct kernels *, const struct rope_args *);                     \
    void cpu_ops_clamp_##isa(const struct kernels *, const struct clamp_args *);                   \
    void cpu_ops_router_##isa(const struct kernels *, const struct router_args *);                 \
    void cpu_ops_combine_##isa(const struct kernels *, const struct combine_args *);               \
    void cpu_ops_add_##isa(const struct kernels *, const struct add_args *)

CPU_OPS_DECLARE(baseline);
CPU_OPS_DECLARE(avx2);
CPU_OPS_DECLARE(avx512);
CPU_OPS_DECLARE(avx512_bf16);

#endif
