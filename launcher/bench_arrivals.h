/* When an open-loop load sends its requests. */
#ifndef MOEBIUS_LAUNCHER_BENCH_ARRIVALS_H
#define MOEBIUS_LAUNCHER_BENCH_ARRIVALS_H

#include <stdint.h>

/* A renewal process: gaps are gamma distributed with mean 1 / rate and shape `burstiness`: 1 is a
 * Poisson process, less is burstier, more is more even (vLLM's --burstiness). */
struct bench_arrivals {
    double rate;       /* requests a second; infinite: all at once */
    double burstiness; /* > 0 */
    uint64_t state;    /* of the random numbers: the seed at first */
};

/* Seconds until the next request. Local. */
double bench_arrivals_gap_s(struct bench_arrivals *arrivals);

#endif
