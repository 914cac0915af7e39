/* The figures of a running server, under vLLM's names with the prefix moebius_. Each has one
 * writing thread and any number of readers; nobody waits. */
#ifndef MOEBIUS_RUNTIME_METRICS_H
#define MOEBIUS_RUNTIME_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "comm/traffic.h"
#include "kernels/base/status.h"
#include "moe/expert_exchange.h"
#include "runtime/text_buffer.h"

/* Only ever grow. */
enum metrics_counter {
    METRICS_PROMPT_TOKENS,
    METRICS_GENERATION_TOKENS,
    METRICS_PREFIX_CACHE_QUERIES, /* prompt tokens looked up */
    METRICS_PREFIX_CACHE_HITS,    /* of them found */
    METRICS_PREEMPTIONS,
    METRICS_STEPS,
    METRICS_FINISHED_STOP, /* choices, by reason */
    METRICS_FINISHED_LENGTH,
    METRICS_FINISHED_TIME_LIMIT,
    METRICS_FINISHED_ABORT,
    METRICS_FINISHED_ERROR,
    METRICS_REJECTED,      /* requests refused before they were taken: queue full */
    METRICS_DRAINING,      /* refused: the server is draining or ending */
    METRICS_INVALID,       /* refused: the request itself */
    METRICS_ROUTED_PAIRS,  /* (token, expert) pairs of home tokens, all ranks */
    METRICS_LOCAL_PAIRS,   /* of them computed at home */
    METRICS_ROUTED_TOKENS, /* tokens times MoE layers, all ranks */
    METRICS_COPIES,        /* tokens sent to other ranks */
    METRICS_FLOW_STEPS,    /* steps whose tokens went to experts by each flow */
    METRICS_FLOW_STEPS_LAST = METRICS_FLOW_STEPS + EXPERT_FLOW_COUNT - 1,
    METRICS_SCHEDULE_NS,    /* spent in choosing who runs */
    METRICS_NETWORK_CPU_NS, /* of the network thread */
    METRICS_COUNTER_COUNT
};

enum metrics_gauge {
    METRICS_REQUESTS_RUNNING,
    METRICS_REQUESTS_WAITING,
    METRICS_KV_CACHE_USAGE, /* 0 .. 1 */
    METRICS_KV_BLOCKS_USED,
    METRICS_KV_BLOCKS_TOTAL,
    METRICS_STEP_AGE_SECONDS,
    METRICS_GAUGE_COUNT
};

enum metrics_histogram {
    METRICS_TIME_TO_FIRST_TOKEN,
    METRICS_INTER_TOKEN_LATENCY,           /* between two tokens of a choice */
    METRICS_REQUEST_TIME_PER_OUTPUT_TOKEN, /* the mean of it, once a choice, as those below */
    METRICS_E2E_REQUEST_LATENCY,
    METRICS_REQUEST_QUEUE_TIME,
    METRICS_REQUEST_PREFILL_TIME,
    METRICS_REQUEST_DECODE_TIME,
    METRICS_REQUEST_INFERENCE_TIME, /* prefill and decode */
    METRICS_REQUEST_PROMPT_TOKENS,
    METRICS_REQUEST_GENERATION_TOKENS,
    METRICS_REQUEST_PARAMS_MAX_TOKENS,
    METRICS_REQUEST_PARAMS_N, /* once a request, as the next */
    METRICS_REQUEST_MAX_GENERATION_TOKENS,
    METRICS_ITERATION_TOKENS, /* rows of a step */
    METRICS_STEP_SECONDS,
    METRICS_HISTOGRAM_COUNT
};

struct metrics;

/* For `ranks` ranks. STATUS_NO_MEMORY (logged). Local. */
enum status metrics_create(int32_t ranks, struct metrics **metrics);
void metrics_destroy(struct metrics *metrics); /* NULL allowed */

void metrics_add(struct metrics *metrics, enum metrics_counter counter, int64_t amount);
void metrics_set(struct metrics *metrics, enum metrics_gauge gauge, double value);
void metrics_observe(struct metrics *metrics, enum metrics_histogram histogram, double value);

int64_t metrics_count(const struct metrics *metrics, enum metrics_counter counter);
double metrics_value(const struct metrics *metrics, enum metrics_gauge gauge);

/* A histogram as it stands: counts[bound_count + 1], not cumulative, the last one above all bounds.
 */
#define METRICS_BOUNDS_MAX 32
struct metrics_snapshot {
    const double *bounds; /* [bound_count] */
    int32_t bound_count;
    int64_t counts[METRICS_BOUNDS_MAX + 1];
    double sum;
};
void metrics_read(const struct metrics *metrics, enum metrics_histogram histogram,
                  struct metrics_snapshot *snapshot);

/* One rank's accounts since its start. */
struct metrics_rank {
    int64_t wait_ns, transfer_ns, computed_pairs;
    struct traffic_cell sent[TRAFFIC_KIND_COUNT][TRAFFIC_DISTANCE_COUNT];
};
void metrics_set_rank(struct metrics *metrics, int32_t rank, const struct metrics_rank *accounts);
void metrics_get_rank(const struct metrics *metrics, int32_t rank, struct metrics_rank *accounts);
int32_t metrics_ranks(const struct metrics *metrics);

/* Appends everything in Prometheus' text format (version 0.0.4), each line with the label
 * model_name as vLLM's have it. STATUS_NO_MEMORY. */
enum status metrics_write(const struct metrics *metrics, const char *model_name,
                          struct text_buffer *out);

#endif
