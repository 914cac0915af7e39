/* Counter-based Gumbel noise. sampler.c adds it to the tempered logits and takes the maximum: a
 * pure function of (seed, position, token id), so every rank, every split of the vocabulary and
 * every order of evaluation sees the same numbers. */
#ifndef MOEBIUS_RUNTIME_SAMPLER_NOISE_H
#define MOEBIUS_RUNTIME_SAMPLER_NOISE_H

#include <stdint.h>

/* No noise is greater: -log(-log(u)) at the greatest u is 36.74. */
#define SAMPLER_NOISE_MAX 36.75

/* 64 random bits for `id` at `position` (the absolute position of the token being drawn) under
 * `seed`: Philox's, as kernels/sample_ops.h lays them out. Local. */
uint64_t sampler_noise_bits(uint64_t seed, int64_t position, int32_t id);

/* u = (k + 1/2) 2^-52 with k the upper 52 of 64 random bits: strictly inside (0, 1), and both u and
 * 1 - u are exact. Local. */
double sampler_noise_uniform(uint64_t bits);

/* Standard Gumbel noise, -log(-log(u)) of that u, within [-3.61, SAMPLER_NOISE_MAX]. Local. */
double sampler_noise_gumbel(uint64_t bits);

#endif
