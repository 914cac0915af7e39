/* The registry of the server's figures and its text form for Prometheus. Every figure is one atomic
 * number (or a row of them), written relaxed by one thread and read by whoever asks. */
#include "runtime/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

#define RANK_VALUES (sizeof(struct metrics_rank) / sizeof(int64_t))

struct histogram {
    _Atomic int64_t counts[METRICS_BOUNDS_MAX + 1];
    _Atomic double sum;
};

struct metrics {
    _Atomic int64_t counters[METRICS_COUNTER_COUNT];
    _Atomic double gauges[METRICS_GAUGE_COUNT];
    struct histogram histograms[METRICS_HISTOGRAM_COUNT];
    int32_t ranks;
    _Atomic int64_t *rank_values; /* [ranks][RANK_VALUES] */
};

/* ---- names ---- */

struct counter_name {
    enum metrics_counter counter;
    const char *name, *label, *help; /* label: NULL, or a further one */
};

/* Rows of one family stand together. */
static const struct counter_name counter_names[] = {
    {METRICS_PROMPT_TOKENS, "prompt_tokens_total", NULL,
     "Prompt tokens of choices that came to their first token, cached ones too."},
    {METRICS_GENERATION_TOKENS, "generation_tokens_total", NULL,
     "Tokens generated, also those behind a stop string or for a client that has gone."},
    {METRICS_PREFIX_CACHE_QUERIES, "prefix_cache_queries_total", NULL,
     "Prompt tokens looked up in the prefix cache."},
    {METRICS_PREFIX_CACHE_HITS, "prefix_cache_hits_total", NULL,
     "Prompt tokens found in the prefix cache."},
    {METRICS_PREEMPTIONS, "num_preemptions_total", NULL, "Sequences put back to wait."},
    {METRICS_STEPS, "steps_total", NULL, "Steps of the engine."},
    {METRICS_FINISHED_STOP, "request_success_total", "finished_reason=\"stop\"",
     "Choices that are over, by reason: answered (stop, length, time_limit), cancelled (abort), "
     "too late or failed (error)."},
    {METRICS_FINISHED_LENGTH, "request_success_total", "finished_reason=\"length\"", NULL},
    {METRICS_FINISHED_TIME_LIMIT, "request_success_total", "finished_reason=\"time_limit\"", NULL},
    {METRICS_FINISHED_ABORT, "request_success_total", "finished_reason=\"abort\"", NULL},
    {METRICS_FINISHED_ERROR, "request_success_total", "finished_reason=\"error\"", NULL},
    {METRICS_REJECTED, "requests_rejected_total", "reason=\"full\"",
     "Requests that a door refused, by reason; not those without a key."},
    {METRICS_DRAINING, "requests_rejected_total", "reason=\"draining\"", NULL},
    {METRICS_INVALID, "requests_rejected_total", "reason=\"invalid\"", NULL},
    {METRICS_ROUTED_PAIRS, "routed_pairs_total", NULL, "(token, expert) pairs, all ranks."},
    {METRICS_LOCAL_PAIRS, "local_pairs_total", NULL, "Pairs computed on the token's home."},
    {METRICS_ROUTED_TOKENS, "routed_tokens_total", NULL, "Tokens times MoE layers, all ranks."},
    {METRICS_COPIES, "token_copies_total", NULL, "Tokens sent to other ranks."},
};

static const char *const gauge_names[METRICS_GAUGE_COUNT][2] = {
    [METRICS_REQUESTS_RUNNING] = {"num_requests_running", "Sequences in the batch."},
    [METRICS_REQUESTS_WAITING] = {"num_requests_waiting", "Sequences that wait for a place."},
    [METRICS_KV_CACHE_USAGE] = {"kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1."},
    [METRICS_KV_BLOCKS_USED] = {"kv_blocks_used", "KV blocks in use."},
    [METRICS_KV_BLOCKS_TOTAL] = {"kv_blocks_total", "KV blocks there are."},
    [METRICS_STEP_AGE_SECONDS] =
        {"step_age_seconds",
         "How long the step in progress, or another wait for ranks, has lasted."},
};

/* Counted in ns, told in seconds. */
static const struct counter_name time_names[] = {
    {METRICS_SCHEDULE_NS, "schedule_seconds_total", NULL,
     "Time spent in choosing who runs in a step."},
    {METRICS_NETWORK_CPU_NS, "network_thread_cpu_seconds_total", NULL,
     "CPU time of the thread that talks to clients."},
};

/* vLLM's bounds, and finer ones for steps. 0 ends a list. */
static const double first_token_bounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                            0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                            20,    40,    80,   160,  640,  2560, 0};
static const double gap_bounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                    0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80,  0};
static const double request_bounds[] = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,   20,
                                        30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680, 0};
static const double token_bounds[] = {1,    2,    5,   10,  20,  50,  100, 200, 500, 1000,
                                      2000, 5000, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 0};
static const double choice_bounds[] = {1, 2, 5, 10, 20, 0};
static const double row_bounds[] = {1,   8,    16,   32,   64,   128,   256,
                                    512, 1024, 2048, 4096, 8192, 16384, 0};
static const double step_bounds[] = {0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
                                     0.1,    0.2,    0.5,   1,     2,     5,    10,   0};

struct histogram_name {
    enum metrics_histogram histogram;
    const char *name, *help;
    const double *bounds;
};

/* One histogram has two names: vLLM renamed it, and dashboards know both. */
static const struct histogram_name histogram_names[] = {
    {METRICS_TIME_TO_FIRST_TOKEN, "time_to_first_token_seconds", "From arrival to the first token.",
     first_token_bounds},
    {METRICS_INTER_TOKEN_LATENCY, "inter_token_latency_seconds", "Between two tokens of a choice.",
     gap_bounds},
    {METRICS_INTER_TOKEN_LATENCY, "time_per_output_token_seconds",
     "The older name of inter_token_latency_seconds.", gap_bounds},
    {METRICS_REQUEST_TIME_PER_OUTPUT_TOKEN, "request_time_per_output_token_seconds",
     "Mean time between tokens, once a choice.", gap_bounds},
    {METRICS_E2E_REQUEST_LATENCY, "e2e_request_latency_seconds", "From arrival to the last token.",
     request_bounds},
    {METRICS_REQUEST_QUEUE_TIME, "request_queue_time_seconds", "From arrival to the first step.",
     request_bounds},
    {METRICS_REQUEST_PREFILL_TIME, "request_prefill_time_seconds",
     "From the first step to the first token.", request_bounds},
    {METRICS_REQUEST_DECODE_TIME, "request_decode_time_seconds",
     "From the first token to the last.", request_bounds},
    {METRICS_REQUEST_INFERENCE_TIME, "request_inference_time_seconds",
     "From the first step to the last token.", request_bounds},
    {METRICS_REQUEST_PROMPT_TOKENS, "request_prompt_tokens", "Prompt tokens, once a choice.",
     token_bounds},
    {METRICS_REQUEST_GENERATION_TOKENS, "request_generation_tokens",
     "Tokens that the client was given, once a choice.", token_bounds},
    {METRICS_REQUEST_PARAMS_MAX_TOKENS, "request_params_max_tokens", "max_tokens, once a choice.",
     token_bounds},
    {METRICS_REQUEST_PARAMS_N, "request_params_n", "n of a request.", choice_bounds},
    {METRICS_REQUEST_MAX_GENERATION_TOKENS, "request_max_num_generation_tokens",
     "Tokens of a request's longest choice.", token_bounds},
    {METRICS_ITERATION_TOKENS, "iteration_tokens_total", "Rows of a step.", row_bounds},
    {METRICS_STEP_SECONDS, "step_seconds", "Time of a step.", step_bounds},
};

static const double *bounds_of(enum metrics_histogram histogram) {
    size_t i = 0;
    while (histogram_names[i].histogram != histogram)
        i++;
    return histogram_names[i].bounds;
}

/* ---- values ---- */

enum status metrics_create(int32_t ranks, struct metrics **out) {
    ASSERT(ranks >= 1);
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics != NULL)
        metrics->rank_values = calloc((size_t)ranks * RANK_VALUES, sizeof *metrics->rank_values);
    if (metrics == NULL || metrics->rank_values == NULL) {
        LOG_ERROR("metrics: cannot take memory for %d ranks", ranks);
        metrics_destroy(metrics);
        return STATUS_NO_MEMORY;
    }
    metrics->ranks = ranks;
    *out = metrics;
    return STATUS_OK;
}

void metrics_destroy(struct metrics *metrics) {
    if (metrics == NULL)
        return;
    free(metrics->rank_values);
    free(metrics);
}

void metrics_add(struct metrics *metrics, enum metrics_counter counter, int64_t amount) {
    atomic_fetch_add_explicit(&metrics->counters[counter], amount, memory_order_relaxed);
}

void metrics_set(struct metrics *metrics, enum metrics_gauge gauge, double value) {
    atomic_store_explicit(&metrics->gauges[gauge], value, memory_order_relaxed);
}

void metrics_observe(struct metrics *metrics, enum metrics_histogram histogram, double value) {
    struct histogram *into = &metrics->histograms[histogram];
    const double *bounds = bounds_of(histogram);
    int32_t place = 0;
    while (bounds[place] > 0.0 && value > bounds[place])
        place++;
    atomic_fetch_add_explicit(&into->counts[place], 1, memory_order_relaxed);
    double sum = atomic_load_explicit(&into->sum, memory_order_relaxed);
    atomic_store_explicit(&into->sum, sum + value, memory_order_relaxed);
}

int64_t metrics_count(const struct metrics *metrics, enum metrics_counter counter) {
    return atomic_load_explicit(&metrics->counters[counter], memory_order_relaxed);
}

double metrics_value(const struct metrics *metrics, enum metrics_gauge gauge) {
    return atomic_load_explicit(&metrics->gauges[gauge], memory_order_relaxed);
}

void metrics_read(const struct metrics *metrics, enum metrics_histogram histogram,
                  struct metrics_snapshot *snapshot) {
    const struct histogram *from = &metrics->histograms[histogram];
    snapshot->bounds = bounds_of(histogram);
    snapshot->bound_count = 0;
    while (snapshot->bounds[snapshot->bound_count] > 0.0)
        snapshot->bound_count++;
    for (int32_t i = 0; i <= snapshot->bound_count; i++)
        snapshot->counts[i] = atomic_load_explicit(&from->counts[i], memory_order_relaxed);
    snapshot->sum = atomic_load_explicit(&from->sum, memory_order_relaxed);
}

void metrics_set_rank(struct metrics *metrics, int32_t rank, const struct metrics_rank *accounts) {
    ASSERT(rank >= 0 && rank < metrics->ranks);
    int64_t values[RANK_VALUES];
    memcpy(values, accounts, sizeof values);
    _Atomic int64_t *into = metrics->rank_values + (size_t)rank * RANK_VALUES;
    for (size_t i = 0; i < RANK_VALUES; i++)
        atomic_store_explicit(&into[i], values[i], memory_order_relaxed);
}

void metrics_get_rank(const struct metrics *metrics, int32_t rank, struct metrics_rank *accounts) {
    ASSERT(rank >= 0 && rank < metrics->ranks);
    int64_t values[RANK_VALUES];
    const _Atomic int64_t *from = metrics->rank_values + (size_t)rank * RANK_VALUES;
    for (size_t i = 0; i < RANK_VALUES; i++)
        values[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
    memcpy(accounts, values, sizeof values);
}

int32_t metrics_ranks(const struct metrics *metrics) {
    return metrics->ranks;
}

/* ---- text ---- */

struct writer {
    struct text_buffer *out;
    char model[256]; /* model_name="..." */
    enum status status;
};

static void put(struct writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put(struct writer *writer, const char *format, ...) {
    char line[768];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    ASSERT(length >= 0 && length < (int)sizeof line);
    if (writer->status == STATUS_OK)
        writer->status = text_buffer_append(writer->out, line, (size_t)length);
}

static void put_head(struct writer *writer, const char *name, const char *type, const char *help) {
    put(writer, "# HELP moebius_%s %s\n# TYPE moebius_%s %s\n", name, help, name, type);
}

static void put_counters(struct writer *writer, const struct metrics *metrics) {
    for (size_t i = 0; i < sizeof counter_names / sizeof counter_names[0]; i++) {
        const struct counter_name *counter = &counter_names[i];
        if (counter->help != NULL)
            put_head(writer, counter->name, "counter", counter->help);
        put(writer, "moebius_%s{%s%s%s} %" PRId64 "\n", counter->name, writer->model,
            counter->label != NULL ? "," : "", counter->label != NULL ? counter->label : "",
            metrics_count(metrics, counter->counter));
    }
}

static void put_flows(struct writer *writer, const struct metrics *metrics) {
    put_head(writer, "moe_flow_steps_total", "counter",
             "Steps whose tokens went to experts on other ranks by this flow.");
    for (int flow = 0; flow < EXPERT_FLOW_COUNT; flow++)
        put(writer, "moebius_moe_flow_steps_total{%s,flow=\"%s\"} %" PRId64 "\n", writer->model,
            expert_flow_name((enum expert_flow)flow),
            metrics_count(metrics, (enum metrics_counter)(METRICS_FLOW_STEPS + flow)));
}

static void put_times(struct writer *writer, const struct metrics *metrics) {
    for (size_t i = 0; i < sizeof time_names / sizeof time_names[0]; i++) {
        put_head(writer, time_names[i].name, "counter", time_names[i].help);
        put(writer, "moebius_%s{%s} %.9f\n", time_names[i].name, writer->model,
            (double)metrics_count(metrics, time_names[i].counter) * 1e-9);
    }
}

static void put_gauge(struct writer *writer, const char *name, const char *help, double value) {
    put_head(writer, name, "gauge", help);
    put(writer, "moebius_%s{%s} %.17g\n", name, writer->model, value);
}

static double share(double part, double whole, double otherwise) {
    return whole > 0.0 ? part / whole : otherwise;
}

/* What follows from the counters, for those who read rather than scrape: since the start. */
static void put_locality(struct writer *writer, const struct metrics *metrics) {
    double pairs = (double)metrics_count(metrics, METRICS_ROUTED_PAIRS), most = 0.0, sum = 0.0;
    for (int32_t rank = 0; rank < metrics->ranks; rank++) {
        struct metrics_rank accounts;
        metrics_get_rank(metrics, rank, &accounts);
        double computed = (double)accounts.computed_pairs;
        most = computed > most ? computed : most;
        sum += computed;
    }
    put_gauge(writer, "local_activation_rate",
              "Share of pairs whose expert is on the token's home.",
              share((double)metrics_count(metrics, METRICS_LOCAL_PAIRS), pairs, 1.0));
    put_gauge(writer, "fan_out", "Rows sent to other ranks for a token in a layer.",
              share((double)metrics_count(metrics, METRICS_COPIES),
                    (double)metrics_count(metrics, METRICS_ROUTED_TOKENS), 0.0));
    put_gauge(writer, "expert_load_max_over_mean", "Pairs of the busiest rank over the mean.",
              share(most * metrics->ranks, sum, 1.0));
}

static void put_histogram(struct writer *writer, const struct metrics *metrics,
                          const struct histogram_name *name) {
    struct metrics_snapshot snapshot;
    metrics_read(metrics, name->histogram, &snapshot);
    put_head(writer, name->name, "histogram", name->help);
    int64_t below = 0;
    for (int32_t i = 0; i < snapshot.bound_count; i++) {
        below += snapshot.counts[i];
        put(writer, "moebius_%s_bucket{%s,le=\"%g\"} %" PRId64 "\n", name->name, writer->model,
            snapshot.bounds[i], below);
    }
    below += snapshot.counts[snapshot.bound_count];
    put(writer, "moebius_%s_bucket{%s,le=\"+Inf\"} %" PRId64 "\n", name->name, writer->model,
        below);
    put(writer, "moebius_%s_sum{%s} %.17g\n", name->name, writer->model, snapshot.sum);
    put(writer, "moebius_%s_count{%s} %" PRId64 "\n", name->name, writer->model, below);
}

static void put_sent(struct writer *writer, const struct metrics *metrics, bool bytes) {
    static const char *const distances[TRAFFIC_DISTANCE_COUNT] = {"self", "node", "remote"};
    const char *name = bytes ? "sent_bytes_total" : "sent_messages_total";
    put_head(writer, name, "counter", bytes ? "Bytes sent to other ranks." : "Messages sent.");
    for (int32_t rank = 0; rank < metrics->ranks; rank++) {
        struct metrics_rank accounts;
        metrics_get_rank(metrics, rank, &accounts);
        for (int kind = 0; kind < TRAFFIC_KIND_COUNT; kind++)
            for (int distance = TRAFFIC_NODE; distance < TRAFFIC_DISTANCE_COUNT; distance++) {
                const struct traffic_cell *cell = &accounts.sent[kind][distance];
                put(writer, "moebius_%s{%s,rank=\"%d\",kind=\"%s\",distance=\"%s\"} %" PRId64 "\n",
                    name, writer->model, rank, traffic_kind_name((enum traffic_kind)kind),
                    distances[distance], bytes ? cell->bytes : cell->messages);
            }
    }
}

static void put_ranks(struct writer *writer, const struct metrics *metrics) {
    static const char *const names[3][2] = {
        {"rank_wait_seconds_total", "Time that a rank waited for others."},
        {"rank_transfer_seconds_total", "Time that a rank spent in transfers."},
        {"rank_expert_pairs_total", "(token, expert) pairs that a rank computed."}};
    for (int family = 0; family < 3; family++) {
        put_head(writer, names[family][0], "counter", names[family][1]);
        for (int32_t rank = 0; rank < metrics->ranks; rank++) {
            struct metrics_rank accounts;
            metrics_get_rank(metrics, rank, &accounts);
            double value = family == 0   ? (double)accounts.wait_ns * 1e-9
                           : family == 1 ? (double)accounts.transfer_ns * 1e-9
                                         : (double)accounts.computed_pairs;
            put(writer, "moebius_%s{%s,rank=\"%d\"} %.17g\n", names[family][0], writer->model, rank,
                value);
        }
    }
    put_sent(writer, metrics, true);
    put_sent(writer, metrics, false);
}

/* A label's value: backslash, quote and newline escaped. */
static void set_model(struct writer *writer, const char *name) {
    size_t at = (size_t)snprintf(writer->model, sizeof writer->model, "model_name=\"");
    for (; *name != '\0' && at + 4 < sizeof writer->model; name++) {
        if (*name == '\\' || *name == '"' || *name == '\n')
            writer->model[at++] = '\\';
        writer->model[at++] = *name;
        if (*name == '\n')
            writer->model[at - 1] = 'n';
    }
    memcpy(writer->model + at, "\"", 2);
}

enum status metrics_write(const struct metrics *metrics, const char *model_name,
                          struct text_buffer *out) {
    struct writer writer = {.out = out};
    set_model(&writer, model_name);
    put_counters(&writer, metrics);
    put_flows(&writer, metrics);
    put_times(&writer, metrics);
    for (int gauge = 0; gauge < METRICS_GAUGE_COUNT; gauge++)
        put_gauge(&writer, gauge_names[gauge][0], gauge_names[gauge][1],
                  metrics_value(metrics, (enum metrics_gauge)gauge));
    put_locality(&writer, metrics);
    for (size_t i = 0; i < sizeof histogram_names / sizeof histogram_names[0]; i++)
        put_histogram(&writer, metrics, &histogram_names[i]);
    put_ranks(&writer, metrics);
    return writer.status;
}
