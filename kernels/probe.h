/* What this machine can do at best, measured now with the same threads and instruction set as the
 * kernels: benchmarks print shares of these. Best of several short passes; ratios inside one run
 * count, absolute figures do not travel. */
#ifndef MOEBIUS_KERNELS_PROBE_H
#define MOEBIUS_KERNELS_PROBE_H

#include <stdint.h>

#include "kernels/kernel_ops.h"

/* All threads read a region of `bytes` (rounded up to 256 KiB) with wide loads, some 0.3 s in all.
 * A region larger than the caches gives the bandwidth of memory; a smaller one that of its cache.
 * STATUS_NO_MEMORY (logged) when the region cannot be had. Local. */
enum status probe_read_bandwidth(const struct kernels *kernels, int64_t bytes,
                                 double *bytes_per_second);

/* All threads run the instruction set's register-blocked tile of `dtype` (F32 or BF16) on data that
 * fits the first cache, some 0.2 s in all. 2 operations a multiply-add. For the reference kernels:
 * a small product of theirs. Local. */
enum status probe_gemm_peak(const struct kernels *kernels, enum dtype dtype,
                            double *operations_per_second);

#endif
