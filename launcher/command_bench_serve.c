/* moebius bench serve: load on a running server, and what its users would have seen of it. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/log.h"
#include "launcher/bench_arrivals.h"
#include "launcher/bench_dataset.h"
#include "launcher/bench_load.h"
#include "launcher/bench_plot.h"
#include "launcher/commands.h"
#include "runtime/rpc_inference_client.h"
#include "runtime/safetensors_writer.h"

#define OWN_ENTRIES 14
#define CONNECTIONS_MAX 4096
#define SETUP_MAX 20

struct bench_serve_flags {
    struct client_flags client;
    struct bench_dataset_flags dataset;
    const char *request_rate; /* "inf" or a number */
    float burstiness, speed, temperature;
    int32_t max_concurrency, connections, warmup;
    bool ignore_eos, trace;
    struct option_list goodput;
    const char *save_result, *html;
};

struct run {
    const struct bench_serve_flags *flags;
    double rate;
    struct bench_goals goals;
    struct bench_dataset dataset;
    struct bench_load *load;
    struct rpc_model_client model;
    int32_t first; /* of the dataset, for the plan in progress */
    double *due_s;
    struct bench_outcome *outcomes;
    /* What a reader of the results must know. */
    char values[SETUP_MAX][256];
    const char *setup[SETUP_MAX][2];
    int32_t setup_count;
};

/* ---- flags ---- */

static enum status parse_rate(const char *text, double *rate) {
    char *end;
    *rate = strtod(text, &end);
    if (end != text && *end == '\0' && *rate > 0.0)
        return STATUS_OK;
    LOG_ERROR("--request-rate: expected requests a second above 0, or inf, got '%s'", text);
    return STATUS_USAGE;
}

static enum status parse_goal(const char *text, size_t length, struct bench_goals *goals) {
    const struct {
        const char *name;
        double *target;
    } names[] = {{"ttft:", &goals->ttft_ms}, {"tpot:", &goals->tpot_ms}, {"e2el:", &goals->e2e_ms}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(text, names[i].name, 5) != 0)
            continue;
        char *end;
        *names[i].target = strtod(text + 5, &end);
        if (end == text + length && end > text + 5 && *names[i].target > 0.0)
            return STATUS_OK;
    }
    LOG_ERROR("--goodput: expected ttft:MS, tpot:MS or e2el:MS, got '%.*s'", (int)length, text);
    return STATUS_USAGE;
}

/* "ttft:200 tpot:50", or the flag again and again. */
static enum status parse_goals(const struct option_list *list, struct bench_goals *goals) {
    for (int32_t i = 0; i < list->count; i++)
        for (const char *at = list->values[i]; *at != '\0';) {
            size_t length = strcspn(at, " ,");
            if (length > 0)
                RETURN_IF_ERROR(parse_goal(at, length, goals));
            at += length + (at[length] != '\0');
        }
    return STATUS_OK;
}

static enum status check_flags(struct run *run) {
    const struct bench_serve_flags *flags = run->flags;
    RETURN_IF_ERROR(parse_rate(flags->request_rate, &run->rate));
    RETURN_IF_ERROR(parse_goals(&flags->goodput, &run->goals));
    if (flags->trace && !isinf(run->rate)) {
        LOG_ERROR("--trace: expected without --request-rate, got %s", flags->request_rate);
        return STATUS_USAGE;
    }
    if (flags->save_result != NULL)
        RETURN_IF_ERROR(safetensors_writer_check(flags->save_result));
    return flags->html != NULL ? safetensors_writer_check(flags->html) : STATUS_OK;
}

/* ---- requests ---- */

static enum status make_request(void *context, int32_t number, struct generation_request *request) {
    struct run *run = context;
    const struct bench_serve_flags *flags = run->flags;
    struct bench_prompt prompt;
    RETURN_IF_ERROR(
        bench_dataset_prompt(&run->dataset, run->first + number, run->model.vocabulary, &prompt));
    *request = generation_request_default();
    request->model = flags->client.model;
    request->text = prompt.text;
    request->text_bytes = prompt.text != NULL ? strlen(prompt.text) : 0;
    request->ids = prompt.text == NULL ? prompt.ids : NULL;
    request->id_count = prompt.id_count;
    request->truncate_prompt_tokens = prompt.text != NULL ? prompt.truncate : 0;
    request->max_tokens = prompt.output_tokens;
    request->ignore_eos = flags->ignore_eos;
    request->given = GENERATION_GIVEN_TEMPERATURE | GENERATION_GIVEN_SEED;
    request->sampling.temperature = flags->temperature;
    request->sampling.seed = flags->dataset.seed + (uint64_t)number;
    return STATUS_OK;
}

/* When each is sent. */
static void plan_arrivals(struct run *run) {
    const struct bench_serve_flags *flags = run->flags;
    struct bench_arrivals arrivals = {
        .rate = run->rate, .burstiness = (double)flags->burstiness, .state = flags->dataset.seed};
    double at = 0.0;
    for (int32_t i = 0; i < run->dataset.count; i++) {
        if (flags->trace) {
            run->due_s[i] = bench_dataset_arrival_s(&run->dataset, i) / (double)flags->speed;
            continue;
        }
        run->due_s[i] = at;
        at += bench_arrivals_gap_s(&arrivals);
    }
}

static void free_gaps(struct bench_outcome *outcomes, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        free(outcomes[i].gaps_s);
}

/* Requests that are not measured, with prompts that the measured ones do not have where the dataset
 * has others. */
static enum status warm_up(struct run *run) {
    int32_t count = run->flags->warmup;
    if (count == 0)
        return STATUS_OK;
    double *due_s = calloc((size_t)count, sizeof *due_s);
    struct bench_outcome *outcomes = calloc((size_t)count, sizeof *outcomes);
    enum status status = STATUS_NO_MEMORY;
    if (due_s != NULL && outcomes != NULL) {
        struct bench_load_plan plan = {.count = count,
                                       .due_s = due_s,
                                       .max_concurrency = run->flags->max_concurrency,
                                       .make = make_request,
                                       .context = run,
                                       .outcomes = outcomes};
        run->first = run->dataset.count;
        status = bench_load_run(run->load, &plan);
        run->first = 0;
        for (int32_t i = 0; i < plan.sent && status == STATUS_OK; i++)
            if (!outcomes[i].succeeded)
                LOG_WARN("warm-up: request %d failed: %s: %s", i, rpc_code_name(outcomes[i].code),
                         outcomes[i].failure);
        free_gaps(outcomes, count);
    } else {
        LOG_ERROR("--warmup: cannot take memory for %d requests", count);
    }
    free(due_s);
    free(outcomes);
    return status;
}

/* ---- results ---- */

static __attribute__((format(printf, 3, 4))) void add_setup(struct run *run, const char *name,
                                                            const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(run->values[run->setup_count], sizeof run->values[0], format, arguments);
    va_end(arguments);
    run->setup[run->setup_count][0] = name;
    run->setup[run->setup_count][1] = run->values[run->setup_count];
    run->setup_count++;
}

static void describe(struct run *run) {
    const struct bench_serve_flags *flags = run->flags;
    const struct bench_dataset_flags *dataset = &flags->dataset;
    add_setup(run, "server", "%s", flags->client.server);
    add_setup(run, "model_id", "%s (%s, %s)", run->model.model, run->model.architecture,
              run->model.dtype);
    if (dataset->path != NULL)
        add_setup(run, "dataset", "%s", dataset->path);
    else
        add_setup(run, "dataset", "random, %d tokens in, %d out", dataset->random_input_len,
                  dataset->random_output_len);
    if (flags->trace)
        add_setup(run, "arrivals", "the trace's, its clock %g times as fast", (double)flags->speed);
    else
        add_setup(run, "arrivals", "%s a second, burstiness %g", flags->request_rate,
                  (double)flags->burstiness);
    add_setup(run, "connections", "%d", flags->connections);
    add_setup(run, "sampling", "temperature %g, end tokens %s, seed %llu",
              (double)flags->temperature, flags->ignore_eos ? "ignored" : "end",
              (unsigned long long)dataset->seed);
}

static enum status write_file(struct run *run, const char *path, bool is_html,
                              const struct bench_figures *figures) {
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    if (path == NULL)
        return STATUS_OK;
    const char *const(*setup)[2] = (const char *const(*)[2])run->setup;
    if (file != NULL && is_html)
        bench_plot_write(file, figures, run->outcomes, figures->requests, setup, run->setup_count);
    else if (file != NULL)
        bench_figures_write_json(file, figures, setup, run->setup_count);
    bool is_written = file != NULL && ferror(file) == 0;
    if (file != NULL && fclose(file) == 0 && is_written)
        return STATUS_OK;
    LOG_ERROR("%s: cannot write: %s", path, strerror(errno));
    return STATUS_IO;
}

/* Refusals with a status are an answer, as long as some request was served; what got no status is
 * not. */
static enum status verdict(const struct run *run, const struct bench_figures *figures) {
    const struct bench_outcome *first = NULL;
    for (int32_t i = 0; i < figures->requests && first == NULL; i++)
        if (!run->outcomes[i].succeeded && (figures->lost == 0 || !run->outcomes[i].was_told))
            first = &run->outcomes[i];
    if (first == NULL || (figures->lost == 0 && figures->succeeded > 0))
        return STATUS_OK;
    LOG_ERROR("%d of %d requests failed, %d without a status of the server's; the first: %s: %s",
              figures->requests - figures->succeeded, figures->requests, figures->lost,
              rpc_code_name(first->code), first->failure);
    return first->code == RPC_OK ? STATUS_INTERNAL : rpc_inference_client_status(first->code);
}

static enum status report(struct run *run, int32_t sent) {
    struct bench_figures figures;
    RETURN_IF_ERROR(bench_figures_of(run->outcomes, sent, &run->goals, &figures));
    figures.pace = (struct bench_pace){.num_prompts = run->dataset.count,
                                       .max_concurrency = run->flags->max_concurrency,
                                       .request_rate = run->rate,
                                       .burstiness = (double)run->flags->burstiness};
    describe(run);
    bench_figures_print(stdout, &figures);
    RETURN_IF_ERROR(write_file(run, run->flags->save_result, false, &figures));
    RETURN_IF_ERROR(write_file(run, run->flags->html, true, &figures));
    return verdict(run, &figures);
}

/* ---- the run ---- */

static enum status measure(struct run *run) {
    int32_t count = run->dataset.count;
    run->due_s = calloc((size_t)count, sizeof *run->due_s);
    run->outcomes = calloc((size_t)count, sizeof *run->outcomes);
    if (run->due_s == NULL || run->outcomes == NULL) {
        LOG_ERROR("--num-prompts: cannot take memory for %d requests", count);
        return STATUS_NO_MEMORY;
    }
    plan_arrivals(run);
    struct bench_load_plan plan = {.count = count,
                                   .due_s = run->due_s,
                                   .max_concurrency = run->flags->max_concurrency,
                                   .make = make_request,
                                   .context = run,
                                   .shows_progress = isatty(STDERR_FILENO) == 1,
                                   .outcomes = run->outcomes};
    enum status status = bench_load_run(run->load, &plan);
    if (status != STATUS_OK && status != STATUS_INTERRUPTED)
        return status;
    enum status reported = plan.sent > 0 ? report(run, plan.sent) : STATUS_OK;
    return status != STATUS_OK ? status : reported;
}

static enum status run_all(struct run *run) {
    const struct bench_serve_flags *flags = run->flags;
    RETURN_IF_ERROR(check_flags(run));
    RETURN_IF_ERROR(bench_dataset_open(&flags->dataset, flags->trace, &run->dataset));
    RETURN_IF_ERROR(bench_load_create(&flags->client, flags->connections, &run->load));
    RETURN_IF_ERROR(bench_load_ask_model(run->load, &run->model));
    RETURN_IF_ERROR(warm_up(run));
    return measure(run);
}

static enum status bench_serve(const struct bench_serve_flags *flags, int argc, char **argv) {
    int operand = flags->client.settings.first_operand;
    if (operand < argc) {
        LOG_ERROR("bench serve: expected no operand, got '%s'", argv[operand]);
        return STATUS_USAGE;
    }
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL) {
        LOG_ERROR("bench: cannot take memory for its state");
        return STATUS_NO_MEMORY;
    }
    run->flags = flags;
    enum status status = run_all(run);
    bench_load_destroy(run->load);
    if (run->outcomes != NULL)
        free_gaps(run->outcomes, run->dataset.count);
    free(run->outcomes);
    free(run->due_s);
    bench_dataset_deinit(&run->dataset);
    free(run);
    return status;
}

static int32_t fill_entries(struct bench_serve_flags *flags, struct option_entry *entries) {
    const struct option_entry own[OWN_ENTRIES] = {
        {OPTION_FLAG, "ignore-eos", &flags->ignore_eos, NULL, "end tokens do not end", 0, 0},
        {OPTION_FLOAT, "temperature", &flags->temperature, "T", "default 0: greedy", 0, 1000},
        {.kind = OPTION_HEADING, .name = "Load"},
        {OPTION_STRING, "request-rate", &flags->request_rate, "R",
         "requests a second; default inf: all at once", 0, 0},
        {OPTION_FLOAT, "burstiness", &flags->burstiness, "B",
         "gaps are gamma distributed; default 1, Poisson; less is burstier", 1e-3, 1e6},
        {OPTION_FLAG, "trace", &flags->trace, NULL, "requests come when the file says", 0, 0},
        {OPTION_FLOAT, "speed", &flags->speed, "FACTOR", "of the trace's clock; default 1", 1e-6,
         1e6},
        {OPTION_INT, "max-concurrency", &flags->max_concurrency, "N",
         "open requests at most, a waiting one's clock has not begun; default: no bound", 1,
         1 << 20},
        {OPTION_INT, "connections", &flags->connections, "N",
         "that requests take in turn; default 4", 1, CONNECTIONS_MAX},
        {OPTION_INT, "warmup", &flags->warmup, "N", "requests before, not measured; default 1", 0,
         1 << 20},
        {.kind = OPTION_HEADING, .name = "Results"},
        {OPTION_LIST, "goodput", &flags->goodput, "GOALS",
         "count good requests: \"ttft:MS tpot:MS e2el:MS\", any of them", 0, 0},
        {OPTION_STRING, "save-result", &flags->save_result, "FILE", "the figures as JSON", 0, 0},
        {OPTION_STRING, "html", &flags->html, "FILE", "figures and plots as a page", 0, 0},
    };
    int32_t count = client_flags_server_entries(&flags->client, entries, 0);
    count = bench_dataset_entries(&flags->dataset, entries, count);
    memcpy(entries + count, own, sizeof own);
    count += OWN_ENTRIES;
    return settings_entries(&flags->client.settings, entries, count);
}

enum status command_bench_serve(int argc, char **argv) {
    struct bench_serve_flags flags = {.client = client_flags_default(0),
                                      .dataset = bench_dataset_flags_default(),
                                      .request_rate = "inf",
                                      .burstiness = 1.0f,
                                      .speed = 1.0f,
                                      .connections = 4,
                                      .warmup = 1};
    struct option_entry entries[CLIENT_FLAGS_SERVER_ENTRIES + BENCH_DATASET_ENTRIES + OWN_ENTRIES +
                                SETTINGS_ENTRIES];
    struct option_command command = {
        .name = "bench serve",
        .usage = "[options]",
        .summary = "Sends requests to a running server (moebius serve) and prints what came of "
                   "them: throughput, time to\nfirst token (TTFT), time per output token (TPOT), "
                   "inter-token and end-to-end latency. Ctrl-C ends it\nwith the figures so far. "
                   "Exit code 0 when each request was answered, or refused with a status.",
        .entries = entries,
        .count = fill_entries(&flags, entries)};
    struct settings *settings = &flags.client.settings;
    enum status status = settings_parse(&command, argc, argv, settings);
    if (status == STATUS_OK && !settings->answered)
        status = bench_serve(&flags, argc, argv);
    settings_deinit(settings);
    return status;
}
