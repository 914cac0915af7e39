/* The requests of a benchmark: of a file in one of the formats of workload.h, or made up. */
#ifndef MOEBIUS_LAUNCHER_BENCH_DATASET_H
#define MOEBIUS_LAUNCHER_BENCH_DATASET_H

#include <stdbool.h>

#include "launcher/options.h"
#include "runtime/workload.h"

/* Under vLLM's names. */
struct bench_dataset_flags {
    const char *path, *name; /* a file, or "random" */
    int32_t prompts;         /* 0: all of the file; 1000 made-up ones */
    int32_t random_input_len, random_output_len;
    int32_t output_len;                     /* where the file does not say */
    int32_t max_prompt_len, max_output_len; /* 0: as the file says */
    uint64_t seed;
};

struct bench_dataset_flags bench_dataset_flags_default(void);

/* Appends the entries (a heading included) and returns the new count. */
#define BENCH_DATASET_ENTRIES 10
int32_t bench_dataset_entries(struct bench_dataset_flags *flags, struct option_entry *entries,
                              int32_t count);

struct bench_dataset {
    const struct bench_dataset_flags *flags;
    struct workload workload; /* empty: made up */
    int32_t count;            /* requests of a run */
    int32_t *ids;             /* of the prompt asked for last */
    int32_t capacity;
};

/* One request's prompt: text, or ids. Valid until the next one is asked for. */
struct bench_prompt {
    const char *text;   /* NULL: ids */
    const int32_t *ids; /* [id_count] */
    int32_t id_count;
    int32_t truncate; /* of text: tokens that are kept at most; 0: all */
    int32_t output_tokens;
};

/* Reads the file. A trace (arrivals as the file says) needs times in it and has no more requests
 * than the file. `flags` is kept. STATUS_USAGE, STATUS_IO, STATUS_BAD_REQUEST, STATUS_NO_MEMORY
 * (logged). Free with bench_dataset_deinit, also after an error. Local. */
enum status bench_dataset_open(const struct bench_dataset_flags *flags, bool is_trace,
                               struct bench_dataset *dataset);
void bench_dataset_deinit(struct bench_dataset *dataset);

/* Request `number` >= 0 for a model with `vocabulary` ids; a file with fewer requests begins anew.
 * STATUS_NO_MEMORY (logged). Local. */
enum status bench_dataset_prompt(struct bench_dataset *dataset, int32_t number, int32_t vocabulary,
                                 struct bench_prompt *prompt);

/* When a trace's request came, seconds from the first. Local. */
double bench_dataset_arrival_s(const struct bench_dataset *dataset, int32_t number);

#endif
