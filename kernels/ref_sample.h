/* The reference of the sampler's inner loops. */
#ifndef MOEBIUS_KERNELS_REF_SAMPLE_H
#define MOEBIUS_KERNELS_REF_SAMPLE_H

#include "kernels/sample_ops.h"

extern const struct sample_ops ref_sample_ops;

/* Ten rounds of Philox4x32 on `counter` under `key`. `out` may be `counter`. Source: Salmon,
 * Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (doi
 * 10.1145/2063384.2063405). Local. */
void ref_sample_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* The 64 random bits of one id: the upper 16 as struct chance_args has them; the lower 48 are the
 * lower 16 of word 1, then all of word 0 of the counter (id, position low, position high, 1).
 * Local. */
uint16_t ref_sample_high(uint64_t seed, int64_t position, int32_t id);
uint64_t ref_sample_low(uint64_t seed, int64_t position, int32_t id);

#endif
