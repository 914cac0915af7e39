/* From outcomes to figures, text and JSON. The page with plots stands in bench_plot.c. */
#include "launcher/bench_figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/json_writer.h"

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* numpy's default percentile: linear between the nearest ranks. */
static double percentile(const double *sorted, int64_t count, double percent) {
    double place = percent / 100.0 * (double)(count - 1);
    int64_t low = (int64_t)place;
    if (low + 1 >= count)
        return sorted[count - 1];
    return sorted[low] + (place - (double)low) * (sorted[low + 1] - sorted[low]);
}

/* Sorts the values (seconds). */
static struct bench_spread spread_of(double *values, int64_t count) {
    struct bench_spread spread = {.count = count};
    if (count == 0)
        return spread;
    double sum = 0.0, squares = 0.0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i];
    spread.mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++)
        squares += (values[i] - spread.mean) * (values[i] - spread.mean);
    spread.sd = sqrt(squares / (double)count) * 1e3;
    spread.mean *= 1e3;
    qsort(values, (size_t)count, sizeof *values, compare);
    spread.median = percentile(values, count, 50.0) * 1e3;
    spread.p90 = percentile(values, count, 90.0) * 1e3;
    spread.p99 = percentile(values, count, 99.0) * 1e3;
    return spread;
}

static double tpot_of(const struct bench_outcome *outcome) {
    return (outcome->end_s - outcome->first_token_s) / (outcome->output_tokens - 1);
}

static bool is_good(const struct bench_outcome *outcome, const struct bench_goals *goals) {
    double tpot = outcome->output_tokens > 1 ? tpot_of(outcome) : 0.0;
    return (goals->ttft_ms <= 0.0 || outcome->first_token_s * 1e3 <= goals->ttft_ms) &&
           (goals->tpot_ms <= 0.0 || tpot * 1e3 <= goals->tpot_ms) &&
           (goals->e2e_ms <= 0.0 || outcome->end_s * 1e3 <= goals->e2e_ms);
}

static void add_up(const struct bench_outcome *outcomes, int32_t count,
                   const struct bench_goals *goals, struct bench_figures *figures) {
    for (int32_t i = 0; i < count; i++) {
        const struct bench_outcome *outcome = &outcomes[i];
        double end = outcome->start_s + outcome->end_s;
        figures->duration_s = end > figures->duration_s ? end : figures->duration_s;
        if (!outcome->succeeded) {
            if (outcome->was_told)
                figures->failed_by_code[outcome->code]++;
            else
                figures->lost++;
            continue;
        }
        figures->succeeded++;
        figures->prompt_tokens += outcome->prompt_tokens;
        figures->output_tokens += outcome->output_tokens;
        figures->cached_tokens += outcome->cached_tokens;
        figures->good += is_good(outcome, goals) ? 1 : 0;
    }
}

/* Fills values with one quantity; returns how many. */
static int64_t collect(const struct bench_outcome *outcomes, int32_t count, int quantity,
                       double *values) {
    int64_t used = 0;
    for (int32_t i = 0; i < count; i++) {
        const struct bench_outcome *outcome = &outcomes[i];
        if (!outcome->succeeded || outcome->output_tokens < 1)
            continue;
        if (quantity == 0)
            values[used++] = outcome->first_token_s;
        else if (quantity == 1 && outcome->output_tokens > 1)
            values[used++] = tpot_of(outcome);
        else if (quantity == 2)
            values[used++] = outcome->end_s;
        else if (quantity == 3)
            for (int32_t g = 0; g < outcome->gap_count; g++)
                values[used++] = outcome->gaps_s[g];
    }
    return used;
}

/* The most tokens in any one-second slot. scratch: [seconds of the run + 1]. */
static void find_peak_tokens(const struct bench_outcome *outcomes, int32_t count, double *scratch,
                             struct bench_figures *figures) {
    int64_t slots = (int64_t)figures->duration_s + 1;
    memset(scratch, 0, (size_t)slots * sizeof *scratch);
    for (int32_t i = 0; i < count; i++) {
        const struct bench_outcome *outcome = &outcomes[i];
        double at = outcome->start_s + outcome->first_token_s;
        double each = (double)outcome->output_tokens / (double)(outcome->gap_count + 1);
        for (int32_t g = -1; outcome->succeeded && g < outcome->gap_count; g++) {
            at += g >= 0 ? outcome->gaps_s[g] : 0.0;
            if (at < (double)slots)
                scratch[(int64_t)at] += each;
        }
    }
    for (int64_t i = 0; i < slots; i++)
        figures->peak_tokens_s = fmax(figures->peak_tokens_s, scratch[i]);
}

/* The most requests open at once. scratch: [2 * count]. */
static void find_peak_open(const struct bench_outcome *outcomes, int32_t count, double *scratch,
                           struct bench_figures *figures) {
    double *starts = scratch, *ends = scratch + count;
    for (int32_t i = 0; i < count; i++) {
        starts[i] = outcomes[i].start_s;
        ends[i] = outcomes[i].start_s + outcomes[i].end_s;
    }
    qsort(starts, (size_t)count, sizeof *starts, compare);
    qsort(ends, (size_t)count, sizeof *ends, compare);
    int32_t ended = 0;
    for (int32_t i = 0; i < count; i++) {
        while (ended < i && ends[ended] <= starts[i])
            ended++;
        if (i + 1 - ended > figures->peak_concurrent)
            figures->peak_concurrent = i + 1 - ended;
    }
}

/* How many numbers any part of the work needs room for. */
static int64_t scratch_count(const struct bench_outcome *outcomes, int32_t count,
                             const struct bench_figures *figures) {
    int64_t gaps = 0, slots = (int64_t)figures->duration_s + 1;
    for (int32_t i = 0; i < count; i++)
        gaps += outcomes[i].gap_count;
    int64_t most = gaps > 2 * (int64_t)count ? gaps : 2 * (int64_t)count;
    return most > slots ? most : slots;
}

enum status bench_figures_of(const struct bench_outcome *outcomes, int32_t count,
                             const struct bench_goals *goals, struct bench_figures *figures) {
    *figures = (struct bench_figures){.requests = count};
    figures->has_goals = goals->ttft_ms > 0.0 || goals->tpot_ms > 0.0 || goals->e2e_ms > 0.0;
    add_up(outcomes, count, goals, figures);
    int64_t most = scratch_count(outcomes, count, figures);
    double *values = malloc((size_t)(most + 1) * sizeof *values);
    if (values == NULL) {
        LOG_ERROR("bench: cannot take memory for %lld times", (long long)most);
        return STATUS_NO_MEMORY;
    }
    figures->ttft = spread_of(values, collect(outcomes, count, 0, values));
    figures->tpot = spread_of(values, collect(outcomes, count, 1, values));
    figures->e2e = spread_of(values, collect(outcomes, count, 2, values));
    figures->itl = spread_of(values, collect(outcomes, count, 3, values));
    find_peak_tokens(outcomes, count, values, figures);
    find_peak_open(outcomes, count, values, figures);
    free(values);
    return STATUS_OK;
}

static void print_integer(FILE *out, const char *name, int64_t value) {
    fprintf(out, "%-40s %-10lld\n", name, (long long)value);
}

static void print_number(FILE *out, const char *name, double value) {
    fprintf(out, "%-40s %-10.2f\n", name, value);
}

static void print_centred(FILE *out, const char *text, char fill) {
    int left = (50 - (int)strlen(text)) / 2, right = 50 - (int)strlen(text) - left;
    for (int i = 0; i < left; i++)
        fputc(fill, out);
    fputs(text, out);
    for (int i = 0; i < right; i++)
        fputc(fill, out);
    fputc('\n', out);
}

static void print_spread(FILE *out, const char *title, const char *name,
                         const struct bench_spread *spread) {
    const struct {
        const char *of;
        double value;
    } lines[] = {{"Mean", spread->mean},
                 {"Median", spread->median},
                 {"P90", spread->p90},
                 {"P99", spread->p99}};
    print_centred(out, title, '-');
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char label[64];
        snprintf(label, sizeof label, "%s %s (ms):", lines[i].of, name);
        print_number(out, label, lines[i].value);
    }
}

static void print_failures(FILE *out, const struct bench_figures *figures) {
    for (int32_t code = 0; code < RPC_CODE_COUNT; code++) {
        char label[64];
        snprintf(label, sizeof label, "  %s:", rpc_code_name((enum rpc_code)code));
        if (figures->failed_by_code[code] > 0)
            print_integer(out, label, figures->failed_by_code[code]);
    }
    if (figures->lost > 0)
        print_integer(out, "  without a status:", figures->lost);
}

void bench_figures_print(FILE *out, const struct bench_figures *figures) {
    double duration = figures->duration_s > 0.0 ? figures->duration_s : 1.0;
    print_centred(out, " Serving Benchmark Result ", '=');
    print_integer(out, "Successful requests:", figures->succeeded);
    print_integer(out, "Failed requests:", figures->requests - figures->succeeded);
    print_failures(out, figures);
    if (figures->pace.max_concurrency > 0)
        print_integer(out, "Maximum request concurrency:", figures->pace.max_concurrency);
    if (isfinite(figures->pace.request_rate))
        print_number(out, "Request rate configured (RPS):", figures->pace.request_rate);
    print_number(out, "Benchmark duration (s):", figures->duration_s);
    print_integer(out, "Total input tokens:", figures->prompt_tokens);
    print_integer(out, "Total cached input tokens:", figures->cached_tokens);
    print_integer(out, "Total generated tokens:", figures->output_tokens);
    print_number(out, "Request throughput (req/s):", figures->succeeded / duration);
    if (figures->has_goals)
        print_number(out, "Request goodput (req/s):", figures->good / duration);
    print_number(out,
                 "Output token throughput (tok/s):", (double)figures->output_tokens / duration);
    print_number(out, "Peak output token throughput (tok/s):", figures->peak_tokens_s);
    print_integer(out, "Peak concurrent requests:", figures->peak_concurrent);
    print_number(out, "Total token throughput (tok/s):",
                 (double)(figures->prompt_tokens + figures->output_tokens) / duration);
    print_spread(out, "Time to First Token", "TTFT", &figures->ttft);
    print_spread(out, "Time per Output Token (excl. 1st token)", "TPOT", &figures->tpot);
    print_spread(out, "Inter-token Latency", "ITL", &figures->itl);
    print_spread(out, "End-to-end Latency", "E2EL", &figures->e2e);
    print_centred(out, "", '=');
}

static void write_spread(struct json_writer *json, const char *name,
                         const struct bench_spread *spread) {
    json_writer_begin_object(json, name);
    json_writer_number(json, "mean", spread->mean);
    json_writer_number(json, "median", spread->median);
    json_writer_number(json, "std", spread->sd);
    json_writer_number(json, "p90", spread->p90);
    json_writer_number(json, "p99", spread->p99);
    json_writer_integer(json, "count", spread->count);
    json_writer_end_object(json);
}

/* As vLLM has them. */
static void write_pace(struct json_writer *json, const struct bench_pace *pace) {
    json_writer_integer(json, "num_prompts", pace->num_prompts);
    if (isfinite(pace->request_rate))
        json_writer_number(json, "request_rate", pace->request_rate);
    else
        json_writer_text(json, "request_rate", "inf");
    json_writer_number(json, "burstiness", pace->burstiness);
    if (pace->max_concurrency > 0)
        json_writer_integer(json, "max_concurrency", pace->max_concurrency);
    else
        json_writer_null(json, "max_concurrency");
}

void bench_figures_write_json(FILE *out, const struct bench_figures *figures,
                              const char *const (*setup)[2], int32_t setup_count) {
    struct json_writer json = {.out = out};
    double duration = figures->duration_s > 0.0 ? figures->duration_s : 1.0;
    json_writer_begin_object(&json, NULL);
    for (int32_t i = 0; i < setup_count; i++)
        json_writer_text(&json, setup[i][0], setup[i][1]);
    write_pace(&json, &figures->pace);
    json_writer_integer(&json, "requests", figures->requests);
    json_writer_integer(&json, "completed", figures->succeeded);
    json_writer_integer(&json, "failed", figures->requests - figures->succeeded);
    json_writer_begin_object(&json, "failed_by_status");
    for (int32_t code = 0; code < RPC_CODE_COUNT; code++)
        if (figures->failed_by_code[code] > 0)
            json_writer_integer(&json, rpc_code_name((enum rpc_code)code),
                                figures->failed_by_code[code]);
    json_writer_end_object(&json);
    json_writer_integer(&json, "failed_without_status", figures->lost);
    json_writer_number(&json, "duration", figures->duration_s);
    json_writer_integer(&json, "total_input_tokens", figures->prompt_tokens);
    json_writer_integer(&json, "total_cached_tokens", figures->cached_tokens);
    json_writer_integer(&json, "total_output_tokens", figures->output_tokens);
    json_writer_number(&json, "request_throughput", figures->succeeded / duration);
    if (figures->has_goals)
        json_writer_number(&json, "request_goodput", figures->good / duration);
    json_writer_number(&json, "output_throughput", (double)figures->output_tokens / duration);
    json_writer_number(&json, "peak_output_throughput", figures->peak_tokens_s);
    json_writer_integer(&json, "peak_concurrent_requests", figures->peak_concurrent);
    write_spread(&json, "ttft_ms", &figures->ttft);
    write_spread(&json, "tpot_ms", &figures->tpot);
    write_spread(&json, "itl_ms", &figures->itl);
    write_spread(&json, "e2el_ms", &figures->e2e);
    json_writer_end_object(&json);
    fputc('\n', out);
}
