/* Counter-based Gumbel noise. sampler.c adds it to the tempered logits and takes the maximum. */
#include "runtime/sampler_noise.h"

#include "runtime/sampler_math.h"

#define PHILOX_ROUNDS 10
#define LN_2 0x1.62e42fefa39efp-1

void sampler_noise_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t left = UINT64_C(0xd2511f53) * c0;
        uint64_t right = UINT64_C(0xcd9e8d57) * c2;
        c0 = (uint32_t)(right >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)right;
        c2 = (uint32_t)(left >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)left;
        k0 += 0x9e3779b9; /* the golden ratio */
        k1 += 0xbb67ae85; /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void sampler_noise_pair(uint64_t seed, int64_t position, int32_t pair, uint64_t bits[2]) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t block[4] = {(uint32_t)pair, (uint32_t)position, (uint32_t)((uint64_t)position >> 32),
                         0};
    sampler_noise_philox(block, key, block);
    bits[0] = (uint64_t)block[1] << 32 | block[0];
    bits[1] = (uint64_t)block[3] << 32 | block[2];
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
