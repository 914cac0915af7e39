/* The reference of the sampler's inner loops. */
#ifndef MOEBIUS_KERNELS_REF_SAMPLE_H
#define MOEBIUS_KERNELS_REF_SAMPLE_H

#include "kernels/kernel_ops.h"

/* Ten rounds of Philox4x32 on `counter` under `key`. `out` may be `counter`. Source: Salmon,
 * Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (doi
 * 10.1145/2063384.2063405). Local. */
void ref_sample_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

void ref_sample_noise(const struct noise_args *args);
float ref_sample_greatest(const float *x, int32_t count);

#endif
