/* The noise of one id, exactly; kernels' sample_ops have the upper halves of the bits of many. */
#include "runtime/sampler_noise.h"

#include "kernels/ref_sample.h"
#include "runtime/sampler_math.h"

uint64_t sampler_noise_bits(uint64_t seed, int64_t position, int32_t id) {
    return (uint64_t)ref_sample_high(seed, position, id) << 48 | ref_sample_low(seed, position, id);
}

double sampler_noise_uniform(uint64_t bits) {
    return (double)((bits >> 12) * 2 + 1) * 0x1p-53;
}

double sampler_noise_gumbel(uint64_t bits) {
    return -sampler_math_log(-sampler_math_log(sampler_noise_uniform(bits)));
}
