/* Fast writing of new keys and values, one function per instruction set. Contract: struct
 * kv_store_args in kernels/kernel_ops.h. Local. */
#ifndef MOEBIUS_KERNELS_CPU_KV_STORE_H
#define MOEBIUS_KERNELS_CPU_KV_STORE_H

#include "kernels/kernel_ops.h"

void cpu_kv_store_kv_store_baseline(const struct kernels *, const struct kv_store_args *);
void cpu_kv_store_kv_store_avx2(const struct kernels *, const struct kv_store_args *);
void cpu_kv_store_kv_store_avx512(const struct kernels *, const struct kv_store_args *);
void cpu_kv_store_kv_store_avx512_bf16(const struct kernels *, const struct kv_store_args *);

#endif
