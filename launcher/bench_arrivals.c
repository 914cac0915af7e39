/* Random gaps between requests, the same for the same seed on every machine. */
#include "launcher/bench_arrivals.h"

#include <math.h>

/* SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): uniform in (0, 1). */
static double uniform(struct bench_arrivals *arrivals) {
    uint64_t value = arrivals->state += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    value ^= value >> 31;
    return ((double)(value >> 11) + 0.5) * 0x1p-53;
}

static double normal(struct bench_arrivals *arrivals) {
    double radius = sqrt(-2.0 * log(uniform(arrivals)));
    return radius * cos(6.283185307179586 * uniform(arrivals));
}

/* Gamma with this shape and scale 1 (Marsaglia and Tsang, "A simple method for generating gamma
 * variables", 2000; shapes below 1 by their section 6). */
static double gamma_of(struct bench_arrivals *arrivals, double shape) {
    if (shape < 1.0)
        return gamma_of(arrivals, shape + 1.0) * pow(uniform(arrivals), 1.0 / shape);
    double d = shape - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = normal(arrivals), v = 1.0 + c * x;
        if (v <= 0.0)
            continue;
        v = v * v * v;
        if (log(uniform(arrivals)) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}

double bench_arrivals_gap_s(struct bench_arrivals *arrivals) {
    if (isinf(arrivals->rate))
        return 0.0;
    return gamma_of(arrivals, arrivals->burstiness) / (arrivals->rate * arrivals->burstiness);
}
