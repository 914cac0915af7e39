/* The inner loops of choosing a token: random bits, and passes over the logits of one row, on the
 * calling thread. Every instruction set gives the reference's bits: integers, comparisons, f32
 * products and sums that are never fused, and sums in double that are exact, so that their order
 * does not show. NaN counts as no logit at all: it is never greatest, weighs nothing, is never
 * counted or listed. */
#ifndef MOEBIUS_KERNELS_SAMPLE_OPS_H
#define MOEBIUS_KERNELS_SAMPLE_OPS_H

#include <stdint.h>
#include <string.h>

/* Ids come in groups of so many, which begin with an id that is a multiple of it. */
#define SAMPLE_GROUP 64

/* Eight ids with neighbouring numbers are an octet. Octet 2 j + h of a group has its ids from
 * 32 h + 8 j on (h = 0, 1; j = 0 .. 3), which is the order of the random words below. */
#define SAMPLE_OCTETS 8

/* The greatest of each octet and of each group of x [count], -infinity where there is none. The
 * first group lacks its first `skipped` ids (0 .. SAMPLE_GROUP - 1), the last one may be short;
 * there are (skipped + count + SAMPLE_GROUP - 1) / SAMPLE_GROUP groups. */
struct peak_args {
    const float *x; /* [count] */
    int32_t skipped, count;
    float *octets; /* [groups][SAMPLE_OCTETS] */
    float *groups; /* [groups] */
};

/* Which ids of some groups have a chance to reach `limit` with logit * inverse_temperature + Gumbel
 * noise, by the upper 16 of their 64 random bits: all that do, where the logit is at most the
 * octet's peak (sampler.c takes the rounding of f32 off `limit`), and some more; so also ids
 * without a logit.
 *
 * Id 64 g + 32 h + 8 j + l has the lower (h = 0) or upper (h = 1) 16 bits of word j of
 * Philox4x32-10 of the counter (8 g + l, position low, position high, 0) under the key seed. Its
 * other 48 bits: see ref_sample_low. */
struct chance_args {
    uint64_t seed;
    int64_t position;
    int32_t first_group;  /* its ids begin with SAMPLE_GROUP times this */
    const int32_t *group; /* [groups]: counted from that one */
    int32_t groups;
    const float *octets; /* of first_group and those behind it */
    float inverse_temperature, limit;
    int32_t *ids;   /* [groups * SAMPLE_GROUP]: in any order */
    uint16_t *high; /* [groups * SAMPLE_GROUP]: the 16 bits of each */
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

/* Every i with least <= x[i] <= most. */
struct list_args {
    const float *x; /* [count] */
    int32_t count;
    float least, most;
    int32_t *at;   /* [count]: ascending */
    float *values; /* [count]: x there */
};

struct sample_ops {
    float (*peaks)(const struct peak_args *args);       /* the greatest of all */
    int32_t (*chances)(const struct chance_args *args); /* how many */
    double (*weigh)(const struct weigh_args *args);     /* the sum, exact */
    /* Of those with x >= least. weights NULL: counts only. */
    struct sample_tally (*tally)(const float *x, const float *weights, int32_t count, float least);
    int32_t (*list)(const struct list_args *args); /* how many */
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
 * most 2^23 (log2(v) + 127). With v = 65535 - high, which is (1 - u) 2^16 rounded down, that bounds
 * -log(1 - u), which Gumbel noise never exceeds. */
#define SAMPLE_BOUND_SLOPE (-0x1.62e43p-24f) /* -ln(2) 2^-23 */
#define SAMPLE_BOUND_TOP 0x1.8c7af0p+6f      /* (127 + 16) ln(2) */
#define SAMPLE_BOUND_RISE 0x1.715476p+23f    /* 2^23 / ln(2) */
#define SAMPLE_BOUND_MOST 0x1.1dfffcp+30f    /* the bits of 65535.0f */

/* The noise of an id with these upper 16 bits is less than this, mostly by less than 0.1. */
static inline float sample_bound(uint16_t high) {
    float rest = (float)(UINT16_MAX - high);
    int32_t bits;
    memcpy(&bits, &rest, sizeof bits);
    return (float)bits * SAMPLE_BOUND_SLOPE + SAMPLE_BOUND_TOP;
}

/* The other way round: an octet's peak p reaches the limit with 65535 - high of at most the float
 * whose bits, read as an integer, are p * slope + top; where that is NaN, with any. */
struct sample_threshold {
    float slope, top;
};
static inline struct sample_threshold sample_threshold(const struct chance_args *args) {
    return (struct sample_threshold){.slope = args->inverse_temperature * SAMPLE_BOUND_RISE,
                                     .top = (SAMPLE_BOUND_TOP - args->limit) * SAMPLE_BOUND_RISE};
}

/* 2^-30 times the power of two at or above `vocabulary`: weights of at most 1 in steps of 2^-23 of
 * this have a sum of at most 53 bits. */
static inline float sample_coarse(int32_t vocabulary) {
    float coarse = 0x1p-30f;
    for (int64_t ids = 1; ids < vocabulary; ids *= 2)
        coarse *= 2.0f;
    return coarse;
}

#endif
