/* Reference attention: slow, obvious, one thread. */
#ifndef MOEBIUS_KERNELS_REF_ATTENTION_H
#define MOEBIUS_KERNELS_REF_ATTENTION_H

#include "kernels/kernel_ops.h"

/* Contract: struct attention_args in kernels/kernel_ops.h. Local. */
void ref_attention_attention(const struct kernels *kernels, const struct attention_args *args);

#endif
