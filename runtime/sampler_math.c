/* log and exp for the sampler: argument reduction to a small interval, then the Taylor series to
 * the last bit. Nothing here depends on the CPU at hand; the build forbids contraction. */
#include "runtime/sampler_math.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ln 2 in two parts; the first ends in 17 zero bits, so its product with an integer below 2^17 is
 * exact. */
#define LN2_HIGH 0x1.62e42fefa0000p-1
#define LN2_LOW 0x1.cf79abc9e3b3ap-40
#define STEPS_PER_UNIT 0x1.71547652b82fep+5 /* 32 / ln 2 */
#define ROUNDER 0x1.8p52
#define SQRT_2 0x1.6a09e667f3bcdp+0

/* 2^(j / 32). */
static const double root_of_two[32] = {
    0x1.0000000000000p+0, 0x1.059b0d3158574p+0, 0x1.0b5586cf9890fp+0, 0x1.11301d0125b51p+0,
    0x1.172b83c7d517bp+0, 0x1.1d4873168b9aap+0, 0x1.2387a6e756238p+0, 0x1.29e9df51fdee1p+0,
    0x1.306fe0a31b715p+0, 0x1.371a7373aa9cbp+0, 0x1.3dea64c123422p+0, 0x1.44e086061892dp+0,
    0x1.4bfdad5362a27p+0, 0x1.5342b569d4f82p+0, 0x1.5ab07dd485429p+0, 0x1.6247eb03a5585p+0,
    0x1.6a09e667f3bcdp+0, 0x1.71f75e8ec5f74p+0, 0x1.7a11473eb0187p+0, 0x1.82589994cce13p+0,
    0x1.8ace5422aa0dbp+0, 0x1.93737b0cdc5e5p+0, 0x1.9c49182a3f090p+0, 0x1.a5503b23e255dp+0,
    0x1.ae89f995ad3adp+0, 0x1.b7f76f2fb5e47p+0, 0x1.c199bdd85529cp+0, 0x1.cb720dcef9069p+0,
    0x1.d5818dcfba487p+0, 0x1.dfc97337b9b5fp+0, 0x1.ea4afa2a490dap+0, 0x1.f50765b6e4540p+0};

static double from_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); with s = f / (2 + f),
 * log(1 + f) = 2 (s + s^3/3 + s^5/5 + ...), |s| < 0.1716: 11 terms reach 2^-53. */
double sampler_math_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    int32_t k = (int32_t)((bits >> 52) & 0x7ff) - 1023;
    double m = from_bits((bits & UINT64_C(0xfffffffffffff)) | (UINT64_C(1023) << 52));
    if (m > SQRT_2) {
        m *= 0.5;
        k++;
    }
    double f = m - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    static const double behind[] = {2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13, 2.0 / 11,
                                    2.0 / 9,  2.0 / 7,  2.0 / 5,  2.0 / 3};
    double series = 2.0 / 21;
    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++)
        series = series * z + behind[i];
    double tail = s * (z * series);
    double exponent = (double)k;
    return exponent * LN2_HIGH + (2.0 * s + (tail + exponent * LN2_LOW));
}

/* x = (32 k + j) ln(2) / 32 + r with |r| <= ln(2) / 64, so e^x = 2^k 2^(j/32) e^r; Taylor to r^6
 * leaves less than 2^-57. Adding and taking away 1.5 2^52 rounds to the nearest integer. */
double sampler_math_exp(double x) {
    if (x < -700.0)
        return 0.0;
    double steps = (x * STEPS_PER_UNIT + ROUNDER) - ROUNDER;
    int32_t index = (int32_t)steps;
    double r = (x - steps * (LN2_HIGH / 32)) - steps * (LN2_LOW / 32);
    double square = r * r;
    double low = 0.5 + r * (1.0 / 6);
    double high = (1.0 / 24) + r * (1.0 / 120) + square * (1.0 / 720);
    double series = r + square * (low + square * high);
    double root = root_of_two[index & 31];
    double scale = from_bits((uint64_t)((index >> 5) + 1023) << 52);
    return (root + root * series) * scale;
}
