/* What this machine can do at best, measured now with the same threads and instruction set as the
 * kernels: benchmarks print shares of these. Best of several short passes; ratios inside one run
 * count, absolute figures do not travel. */
#ifndef MOEBIUS_KERNELS_PROBE_H
#define MOEBIUS_KERNELS_PROBE_H

#include <stdint.h>

#include "kernels/kernel_ops.h"

/* Bytes that are read one after the other. */
struct probe_range {
    const void *data; /* 64-byte aligned */
    int64_t bytes;    /* what is over a multiple of 1024 is left out */
};

/* All threads read the ranges in order with wide loads, again and again for some 0.3 s; the best
 * pass counts. What the caches keep from one pass, or one range, to the next counts as it would in
 * use: give the ranges that the work at hand touches. STATUS_NO_MEMORY (logged). Local. */
enum status probe_read_bandwidth(const struct kernels *kernels, const struct probe_range *ranges,
                                 int32_t count, double *bytes_per_second);

/* All threads run the instruction set's register-blocked tile of `dtype` (F32 or BF16) on data that
 * fits the first cache, some 0.2 s in all. 2 operations a multiply-add. For the reference kernels:
 * a small product of theirs. Local. */
enum status probe_gemm_peak(const struct kernels *kernels, enum dtype dtype,
                            double *operations_per_second);

#endif
