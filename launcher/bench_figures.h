/* What a load test measured, and how it is told: vLLM's block of text and JSON (and as a page:
 * bench_plot.h). */
#ifndef MOEBIUS_LAUNCHER_BENCH_FIGURES_H
#define MOEBIUS_LAUNCHER_BENCH_FIGURES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "kernels/base/status.h"
#include "runtime/rpc_code.h"

/* One request. Times are seconds; start from the beginning of the run. */
struct bench_outcome {
    bool succeeded;
    double start_s, first_token_s, end_s; /* the latter two from its own start */
    int32_t prompt_tokens, output_tokens, cached_tokens;
    double *gaps_s; /* [gap_count]: between news of tokens; owned */
    int32_t gap_count;
    /* Of one that did not succeed: */
    enum rpc_code code; /* RPC_OK: the answer was not whole */
    bool was_told;      /* the server said so; else the client found it out, or lost it */
    char failure[96];   /* in words */
};

/* Bounds of a good request, in ms; 0: none. */
struct bench_goals {
    double ttft_ms, tpot_ms, e2e_ms;
};

/* Of one quantity over all successful requests, ms. */
struct bench_spread {
    double mean, median, sd, p90, p99;
    int64_t count;
};

/* How requests came, for whoever reads the figures. */
struct bench_pace {
    int32_t num_prompts, max_concurrency; /* the latter 0: no bound */
    double request_rate, burstiness;      /* INFINITY: all at once, or as a trace says */
};

struct bench_figures {
    struct bench_pace pace;                 /* the caller's to fill in */
    int32_t requests, succeeded, good;      /* good: within all goals */
    int32_t lost;                           /* failed without a status of the server's */
    int32_t failed_by_code[RPC_CODE_COUNT]; /* the server's refusals */
    bool has_goals;
    double duration_s;
    int64_t prompt_tokens, output_tokens, cached_tokens;
    double peak_tokens_s; /* most output tokens within one second of the run */
    int32_t peak_concurrent;
    struct bench_spread ttft, tpot, itl, e2e;
};

/* TTFT: start to first token. TPOT: (end - first token) / (tokens - 1), of requests with two or
 * more. ITL: each gap. STATUS_NO_MEMORY (logged). Local. */
enum status bench_figures_of(const struct bench_outcome *outcomes, int32_t count,
                             const struct bench_goals *goals, struct bench_figures *figures);

/* vLLM's "Serving Benchmark Result". Local. */
void bench_figures_print(FILE *out, const struct bench_figures *figures);

/* One JSON object; `setup` ([setup_count] pairs of name and value) is told with it. Local. */
void bench_figures_write_json(FILE *out, const struct bench_figures *figures,
                              const char *const (*setup)[2], int32_t setup_count);

#endif
