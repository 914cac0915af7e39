/* The noise of Gumbel-max sampling: a pure function of (seed, position, token id), so every rank,
 * every split of the vocabulary and every order of evaluation sees the same numbers. The random
 * bits are Philox's (kernels/ref_sample.h). */
#ifndef MOEBIUS_RUNTIME_SAMPLER_NOISE_H
#define MOEBIUS_RUNTIME_SAMPLER_NOISE_H

#include <stdint.h>

/* No noise is greater: -log(-log(u)) at the greatest u is 36.74. */
#define SAMPLER_NOISE_MAX 36.75

/* 64 random bits for each of the ids 2 pair and 2 pair + 1 at `position` (the absolute position of
 * the token being drawn) under `seed`: kernel_ops' noise, of one pair. Local. */
void sampler_noise_pair(uint64_t seed, int64_t position, int32_t pair, uint64_t bits[2]);

/* u = (k + 1/2) 2^-52 with k the upper 52 of 64 random bits: strictly inside (0, 1), and both u and
 * 1 - u are exact. Local. */
double sampler_noise_uniform(uint64_t bits);

/* Standard Gumbel noise, -log(-log(u)) of that u, within [-3.61, SAMPLER_NOISE_MAX]. Local. */
double sampler_noise_gumbel(uint64_t bits);

/* A cheap bound: sampler_noise_gumbel(bits) <= this, and at most 0.7 above it where the noise is
 * large. Lets a scan skip the two logarithms of ids that cannot win. Local. */
double sampler_noise_bound(uint64_t bits);

/* A cheaper one for many: bits below this have noise <= gap. Local. */
uint64_t sampler_noise_threshold(double gap);

#endif
