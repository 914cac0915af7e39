/* Monotonic time. Results never depend on it; deadlines and reports do. */
#ifndef MOEBIUS_KERNELS_BASE_CLOCK_H
#define MOEBIUS_KERNELS_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of CLOCK_MONOTONIC. Local. */
int64_t clock_now_ns(void);

#endif
