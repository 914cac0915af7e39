/* The inner loops of choosing a token: random bits, and passes over the logits of one row, on the
 * calling thread. Every instruction set gives the reference's bits: integers, comparisons, f32
 * products and sums that are never fused, and sums in double that are exact, so that their order
 * does not show. NaN counts as no logit at all: it is never greatest, weighs nothing, is never
 * counted or listed. */
#ifndef MOEBIUS_KERNELS_SAMPLE_OPS_H
#define MOEBIUS_KERNELS_SAMPLE_OPS_H

#include <stdint.h>

/* Ids come in groups of so many, which begin with an id that is a multiple of it. */
#define SAMPLE_GROUP 64

/* The upper 16 of 64 random bits for each id of whole groups: enough to tell most of those that
 * cannot win. Id 64 g + 32 h + 8 j + l has the lower (h = 0) or upper (h = 1) 16 bits of word j
 * (0 .. 3) of Philox4x32-10 of the counter (8 g + l, position low, position high, 0) under the key
 * seed. Its other 48 bits: see ref_sample_bits. */
struct noise_args {
    uint64_t seed;
    int64_t position;
    int32_t first_group, groups;
    uint16_t *high; /* [groups * SAMPLE_GROUP] */
};

/* Which of x could reach `limit` with their noise: every i with x[i] * inverse_temperature + the
 * Gumbel noise of high[i] >= limit, and a few more (sampler.c looks at them exactly; `limit` has
 * the rounding of f32 taken off). In f32, the noise bounded from above by less than 0.1 more than
 * -log(1 - u), which Gumbel noise never exceeds. */
struct hopeful_args {
    const float *x;       /* [count] */
    const uint16_t *high; /* [count] */
    int32_t count;
    float inverse_temperature, limit;
    int32_t *out; /* [count]: ascending */
};

/* weight = 2^((x - greatest) * scale) in f32, rounded to multiples of 2^-23 times `coarse`: with
 * sample_coarse(vocabulary) every sum of weights is exact in double. 1 where x == greatest, also
 * for +infinity; 0 for -infinity and NaN. greatest is above -infinity. */
struct weigh_args {
    const float *x; /* [count] */
    int32_t count;
    float greatest, scale;
    float coarse;   /* a power of two */
    float *weights; /* [count], or NULL: only the sum is wanted */
};

struct sample_tally {
    int32_t count;
    double weight; /* exact */
};

struct sample_ops {
    void (*noise)(const struct noise_args *args);
    int32_t (*hopefuls)(const struct hopeful_args *args); /* how many */
    float (*greatest)(const float *x, int32_t count);     /* -infinity: there is no other */
    double (*weigh)(const struct weigh_args *args);       /* the sum, exact */
    /* Of those with x >= least. weights NULL: counts only. */
    struct sample_tally (*tally)(const float *x, const float *weights, int32_t count, float least);
    /* Writes every i with least <= x[i] <= most, ascending, to out [count]; returns how many. */
    int32_t (*between)(const float *x, int32_t count, float least, float most, int32_t *out);
};

/* 2^r for |r| <= 1/2 within 1e-7: 1 + r (c1 + r (c2 + ...)), from the interpolation of
 * (2^r - 1) / r at Chebyshev's points. Below 2^-126 a weight is 0. */
#define SAMPLE_POWER_C1 0x1.62e43p-1f
#define SAMPLE_POWER_C2 0x1.ebfbep-3f
#define SAMPLE_POWER_C3 0x1.c6af6cp-5f
#define SAMPLE_POWER_C4 0x1.3b2a1cp-7f
#define SAMPLE_POWER_C5 0x1.5f0896p-10f
#define SAMPLE_POWER_C6 0x1.44404p-13f
#define SAMPLE_POWER_LEAST (-126.0f)
#define SAMPLE_ROUNDER 0x1.8p23f /* adding it rounds to an integer, left in the low bits */

/* log2(m) >= m - 1 for m in [1, 2], so the bits of a float of value v, read as an integer, are at
 * most 2^23 (log2(v) + 127); v stands for (1 - u) 2^16, rounded down. */
#define SAMPLE_BOUND_SLOPE (-0x1.62e43p-24f) /* -ln(2) 2^-23 */
#define SAMPLE_BOUND_TOP 0x1.8c7af0p+6f      /* (127 + 16) ln(2) */

/* 2^-30 times the power of two at or above `vocabulary`: weights of at most 1 in steps of 2^-23 of
 * this have a sum of at most 53 bits. */
static inline float sample_coarse(int32_t vocabulary) {
    float coarse = 0x1p-30f;
    for (int64_t ids = 1; ids < vocabulary; ids *= 2)
        coarse *= 2.0f;
    return coarse;
}

#endif
