/* What bench throughput has measured, as a table and as JSON. */
#ifndef MOEBIUS_LAUNCHER_BENCH_LEVELS_H
#define MOEBIUS_LAUNCHER_BENCH_LEVELS_H

#include <stdint.h>

/* One number of sequences at once: one line of the table. */
struct bench_level {
    int32_t concurrency, requests;
    double seconds;
    double cpu_seconds; /* of all threads of this process: what a shared machine cannot blur */
    int64_t prompt_tokens, output_tokens, steps;
    int64_t step_ns, forward_ns, sample_ns; /* in steps; of that in forwards, in choosing tokens */
    double flop, bytes;                     /* that had to be done and read */
    double waiting; /* share of the time that the coordinator waited for other ranks */
};

struct bench_levels {
    const char *family, *dtype, *isa;
    int32_t ranks, threads;
    double peak, bandwidth;          /* of this machine; 0: unknown, as on several ranks */
    const struct bench_level *level; /* [count] borrowed */
    int32_t count;
};

/* On standard output. Local. */
void bench_levels_table(const struct bench_levels *levels);
void bench_levels_json(const struct bench_levels *levels);

#endif
