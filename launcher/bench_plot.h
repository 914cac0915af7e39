/* A load test as a page to look at. */
#ifndef MOEBIUS_LAUNCHER_BENCH_PLOT_H
#define MOEBIUS_LAUNCHER_BENCH_PLOT_H

#include <stdio.h>

#include "launcher/bench_figures.h"

/* HTML with SVG, complete in itself: the setup, the figures, requests open over time, output tokens
 * a second, and the distributions of TTFT, ITL and end-to-end latency. setup: [setup_count] pairs
 * of name and value. Local. */
void bench_plot_write(FILE *out, const struct bench_figures *figures,
                      const struct bench_outcome *outcomes, int32_t count,
                      const char *const (*setup)[2], int32_t setup_count);

#endif
