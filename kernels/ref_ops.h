/* The reference of every op that is neither a matrix product nor attention: slow, obvious, one
 * thread. Contracts are those of the args structs in kernels/kernel_ops.h. All Local. */
#ifndef MOEBIUS_KERNELS_REF_OPS_H
#define MOEBIUS_KERNELS_REF_OPS_H

#include "kernels/kernel_ops.h"

void ref_ops_embedding(const struct kernels *kernels, const struct embedding_args *args);
void ref_ops_rmsnorm(const struct kernels *kernels, const struct rmsnorm_args *args);
void ref_ops_head_norm(const struct kernels *kernels, const struct head_norm_args *args);
void ref_ops_square_sum(const struct kernels *kernels, const struct square_sum_args *args);
void ref_ops_rope(const struct kernels *kernels, const struct rope_args *args);
void ref_ops_clamp(const struct kernels *kernels, const struct clamp_args *args);
void ref_ops_router(const struct kernels *kernels, const struct router_args *args);
void ref_ops_combine(const struct kernels *kernels, const struct combine_args *args);
void ref_ops_add(const struct kernels *kernels, const struct add_args *args);
void ref_ops_kv_store(const struct kernels *kernels, const struct kv_store_args *args);

#endif
