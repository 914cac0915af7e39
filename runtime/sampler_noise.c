/* Counter-based Gumbel noise. sampler.c adds it to the tempered logits and takes the maximum. */
#include "runtime/sampler_noise.h"

#include "kernels/ref_sample.h"
#include "runtime/sampler_math.h"

#define LN_2 0x1.62e42fefa39efp-1

void sampler_noise_pair(uint64_t seed, int64_t position, int32_t pair, uint64_t bits[2]) {
    struct noise_args args = {.seed = seed,
                              .position = position,
                              .first_pair = pair,
                              .pairs = 1,
                              .even = bits,
                              .odd = bits + 1};
    ref_sample_noise(&args);
}

double sampler_noise_uniform(uint64_t bits) {
    return (double)((bits >> 12) * 2 + 1) * 0x1p-53;
}

double sampler_noise_gumbel(uint64_t bits) {
    return -sampler_math_log(-sampler_math_log(sampler_noise_uniform(bits)));
}

/* -log(u) >= 1 - u >= 2^-n with n the leading zero bits of 1 - u, plus one: noise <= n ln 2. The
 * slack covers the rounding of the logarithms. */
double sampler_noise_bound(uint64_t bits) {
    uint64_t complement = (UINT64_C(1) << 53) - ((bits >> 12) * 2 + 1); /* (1 - u) 2^53, odd */
    int32_t n = (int32_t)__builtin_clzll(complement) - 10;
    return (double)n * LN_2 + 1e-9;
}

/* Noise above the gap needs n > gap / ln 2 leading zeros in the bound's sense: 1 - u < 2^(1 - n),
 * that is, k >= 2^52 - 2^(53 - n). Rounding n down keeps more than needed. */
uint64_t sampler_noise_threshold(double gap) {
    double zeros = gap * (1.0 / LN_2) - 1e-6;
    if (!(zeros >= 2.0))
        return 0;
    int32_t n = zeros < 53.0 ? (int32_t)zeros : 53;
    return ((UINT64_C(1) << 52) - (UINT64_C(1) << (53 - n))) << 12;
}
