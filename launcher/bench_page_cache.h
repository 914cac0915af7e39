/* Whether a model's files are in the page cache, and how they get out of it. */
#ifndef MOEBIUS_LAUNCHER_BENCH_PAGE_CACHE_H
#define MOEBIUS_LAUNCHER_BENCH_PAGE_CACHE_H

#include <stdbool.h>

#include "kernels/base/status.h"

/* Asks the system to drop the pages of every file of the folder, when `drops`; pages that someone
 * else maps stay. *share (0 to 1) is what is in memory afterwards; *bytes the size of all.
 * STATUS_IO (logged). Local. */
enum status bench_page_cache_look(const char *folder, bool drops, double *share, double *bytes);

#endif
