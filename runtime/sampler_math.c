/* log and exp for the sampler: argument reduction to a small interval, then the Taylor series to
 * the last bit. Nothing here depends on the CPU at hand; the build forbids contraction. */
#include "runtime/sampler_math.h"

#include <stdint.h>
#include <string.h>

/* ln 2 in two parts; the first has 12 zero bits at its end, so k * LN2_HIGH is exact. */
#define LN2_HIGH 0x1.62e42fefa3000p-1
#define LN2_LOW 0x1.3de6af278ece6p-42
#define LOG2_E 0x1.71547652b82fep+0
#define SQRT_2 0x1.6a09e667f3bcdp+0

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
    double series = 2.0 / 21;
    for (int n = 19; n >= 3; n -= 2)
        series = series * z + 2.0 / n;
    double tail = s * (z * series);
    double exponent = (double)k;
    return exponent * LN2_HIGH + (2.0 * s + (tail + exponent * LN2_LOW));
}

/* x = k ln 2 + r with |r| <= ln(2) / 2; Taylor to r^13 leaves less than 2^-57. */
double sampler_math_exp(double x) {
    if (x < -700.0)
        return 0.0;
    double scaled = x * LOG2_E;
    int32_t k = (int32_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    double r = (x - (double)k * LN2_HIGH) - (double)k * LN2_LOW;
    double series = 1.0 / 6227020800;
    series = series * r + 1.0 / 479001600;
    series = series * r + 1.0 / 39916800;
    series = series * r + 1.0 / 3628800;
    series = series * r + 1.0 / 362880;
    series = series * r + 1.0 / 40320;
    series = series * r + 1.0 / 5040;
    series = series * r + 1.0 / 720;
    series = series * r + 1.0 / 120;
    series = series * r + 1.0 / 24;
    series = series * r + 1.0 / 6;
    series = series * r + 0.5;
    double value = 1.0 + (r + r * r * series);
    return value * from_bits((uint64_t)(k + 1023) << 52);
}
