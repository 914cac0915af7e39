/* Fast attention, one function per instruction set. Contract: struct attention_args in
 * kernels/kernel_ops.h. Local.
 *
 * With a bf16 cache, queries are rounded to bf16 everywhere. Where the instruction set has bf16 dot
 * products (avx512_bf16), the weights exp(score - maximum) are rounded to bf16 too before they
 * multiply the values; their sum is taken from the unrounded f32 weights. */
#ifndef MOEBIUS_KERNELS_CPU_ATTENTION_H
#define MOEBIUS_KERNELS_CPU_ATTENTION_H

#include "kernels/kernel_ops.h"

void cpu_attention_attention_baseline(const struct kernels *, const struct attention_args *);
void cpu_attention_attention_avx2(const struct kernels *, const struct attention_args *);
void cpu_attention_attention_avx512(const struct kernels *, const struct attention_args *);
void cpu_attention_attention_avx512_bf16(const struct kernels *, const struct attention_args *);

#endif
