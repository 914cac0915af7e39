/* Counter-based random bits and a maximum, one by one. */
#include "kernels/ref_sample.h"

#include <math.h>

#define PHILOX_ROUNDS 10

void ref_sample_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
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

void ref_sample_noise(const struct noise_args *args) {
    const uint32_t key[2] = {(uint32_t)args->seed, (uint32_t)(args->seed >> 32)};
    for (int32_t i = 0; i < args->pairs; i++) {
        uint32_t block[4] = {(uint32_t)(args->first_pair + i), (uint32_t)args->position,
                             (uint32_t)((uint64_t)args->position >> 32), 0};
        ref_sample_philox(block, key, block);
        args->even[i] = (uint64_t)block[1] << 32 | block[0];
        args->odd[i] = (uint64_t)block[3] << 32 | block[2];
    }
}

float ref_sample_greatest(const float *x, int32_t count) {
    float greatest = -INFINITY;
    for (int32_t i = 0; i < count; i++)
        greatest = x[i] > greatest ? x[i] : greatest;
    return greatest;
}
