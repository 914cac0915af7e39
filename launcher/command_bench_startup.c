/* moebius bench startup: from the start of a server's process to its ready line, and to the first
 * token of a request that waits for nothing but that; with the model's files out of the page cache,
 * and in it. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "launcher/bench_child.h"
#include "launcher/bench_load.h"
#include "launcher/bench_page_cache.h"
#include "launcher/commands.h"
#include "launcher/engine_flags.h"
#include "launcher/model_folder.h"
#include "runtime/json_writer.h"
#include "runtime/rpc_inference_client.h"

#define OWN_ENTRIES 5
#define REPETITIONS_MAX 100
#define ARGUMENTS_MAX 128
#define PROMPT_TOKENS 8

struct startup_flags {
    struct settings settings;
    const char *model;
    int32_t repetitions, timeout_s;
    bool json;
};

/* The starts with files that were read from disk, or from memory. */
struct starts {
    const char *cache; /* "cold", "warm" */
    double resident[REPETITIONS_MAX], ready_s[REPETITIONS_MAX], token_s[REPETITIONS_MAX];
};

struct startup {
    const struct startup_flags *flags;
    char folder[FLAGS_PATH_MAX];
    char *arguments[ARGUMENTS_MAX];
    double bytes;
    struct starts cold, warm;
};

static double mean_of(const double *values, int32_t count) {
    double sum = 0.0;
    for (int32_t i = 0; i < count; i++)
        sum += values[i];
    return sum / count;
}

static double deviation_of(const double *values, int32_t count) {
    double mean = mean_of(values, count), square = 0.0;
    for (int32_t i = 0; i < count; i++)
        square += (values[i] - mean) * (values[i] - mean);
    return sqrt(square / count);
}

/* ---- one start ---- */

static enum status make_request(void *context, int32_t number, struct generation_request *request) {
    static const int32_t ids[PROMPT_TOKENS] = {1, 2, 3, 4, 5, 6, 7, 8};
    (void)context;
    (void)number;
    *request = generation_request_default();
    request->ids = ids;
    request->id_count = PROMPT_TOKENS;
    request->max_tokens = 1;
    request->ignore_eos = true;
    return STATUS_OK;
}

/* Sends one request of one token; *now_ns is when that token was here. */
static enum status ask(const struct bench_child *child, int32_t timeout_s, int64_t *now_ns) {
    struct client_flags client = client_flags_default(1);
    struct bench_load *load;
    const double due_s = 0.0;
    struct bench_outcome outcome = {0};
    struct bench_load_plan plan = {
        .count = 1, .due_s = &due_s, .make = make_request, .outcomes = &outcome};
    client.server = child->address;
    client.timeout_s = timeout_s;
    RETURN_IF_ERROR(bench_load_create(&client, 1, &load));
    int64_t start_ns = clock_now_ns();
    enum status status = bench_load_run(load, &plan);
    bench_load_destroy(load);
    free(outcome.gaps_s);
    RETURN_IF_ERROR(status);
    *now_ns = start_ns + llrint((outcome.start_s + outcome.first_token_s) * 1e9);
    if (outcome.succeeded)
        return STATUS_OK;
    LOG_ERROR("%s: %s: %s", child->address, rpc_code_name(outcome.code), outcome.failure);
    return outcome.code == RPC_OK ? STATUS_INTERNAL : rpc_inference_client_status(outcome.code);
}

static enum status run_child(struct startup *run, struct bench_child *child, double *ready_s,
                             double *token_s) {
    int32_t timeout_s = run->flags->timeout_s;
    int64_t token_ns = 0;
    RETURN_IF_ERROR(bench_child_start(run->arguments, child));
    RETURN_IF_ERROR(
        bench_child_await(child, child->start_ns + (int64_t)timeout_s * INT64_C(1000000000)));
    *ready_s = (double)(clock_now_ns() - child->start_ns) * 1e-9;
    RETURN_IF_ERROR(ask(child, timeout_s, &token_ns));
    *token_s = (double)(token_ns - child->start_ns) * 1e-9;
    return STATUS_OK;
}

static enum status measure(struct startup *run, struct starts *starts, int32_t index, bool drops) {
    struct bench_child child = {0};
    RETURN_IF_ERROR(
        bench_page_cache_look(run->folder, drops, &starts->resident[index], &run->bytes));
    enum status status = run_child(run, &child, &starts->ready_s[index], &starts->token_s[index]);
    enum status ended = bench_child_stop(&child);
    return status != STATUS_OK ? status : ended;
}

/* ---- output ---- */

static void print_table(const struct startup *run) {
    const struct starts *both[] = {&run->cold, &run->warm};
    int32_t count = run->flags->repetitions;
    printf(
        "%s, files of %.1f MB\n\n| page cache | of the files in memory | ready, s | first token, s "
        "|\n|---|---|---|---|\n",
        run->folder, run->bytes * 1e-6);
    for (int i = 0; i < 2; i++)
        printf("| %s | %.0f %% | %.3f ± %.3f | %.3f ± %.3f |\n", both[i]->cache,
               100.0 * mean_of(both[i]->resident, count), mean_of(both[i]->ready_s, count),
               deviation_of(both[i]->ready_s, count), mean_of(both[i]->token_s, count),
               deviation_of(both[i]->token_s, count));
}

static void write_numbers(struct json_writer *json, const char *name, const double *values,
                          int32_t count) {
    json_writer_begin_array(json, name);
    for (int32_t i = 0; i < count; i++)
        json_writer_number(json, NULL, values[i]);
    json_writer_end_array(json);
}

static void print_json(const struct startup *run) {
    const struct starts *both[] = {&run->cold, &run->warm};
    struct json_writer json = {.out = stdout};
    json_writer_begin_object(&json, NULL);
    json_writer_text(&json, "model", run->folder);
    json_writer_number(&json, "bytes", run->bytes);
    for (int i = 0; i < 2; i++) {
        json_writer_begin_object(&json, both[i]->cache);
        write_numbers(&json, "resident", both[i]->resident, run->flags->repetitions);
        write_numbers(&json, "ready_seconds", both[i]->ready_s, run->flags->repetitions);
        write_numbers(&json, "first_token_seconds", both[i]->token_s, run->flags->repetitions);
        json_writer_end_object(&json);
    }
    json_writer_end_object(&json);
    printf("\n");
}

/* ---- the run ---- */

/* What the server is started with: ours first, so that the user's go before them. */
static enum status build_arguments(struct startup *run, int argc, char **argv) {
    static char program[] = "moebius", serve[] = "serve", model[] = "--model", port[] = "--port=0",
                no_http[] = "--no-http", level[] = "--log-level=warn";
    char *const own[] = {program, serve, port, no_http, level, model, run->folder};
    const int own_count = (int)(sizeof own / sizeof own[0]);
    int first = run->flags->settings.first_operand;
    if (argc - first + own_count + 1 > ARGUMENTS_MAX) {
        LOG_ERROR("bench startup: expected at most %d flags for the server, got %d",
                  ARGUMENTS_MAX - own_count - 1, argc - first);
        return STATUS_USAGE;
    }
    for (int i = 0; i < own_count; i++)
        run->arguments[i] = own[i];
    for (int i = first; i < argc; i++)
        run->arguments[own_count + i - first] = argv[i];
    return STATUS_OK;
}

static enum status run_all(struct startup *run, int argc, char **argv) {
    const struct startup_flags *flags = run->flags;
    RETURN_IF_ERROR(model_folder_resolve(flags->model, run->folder, sizeof run->folder));
    RETURN_IF_ERROR(build_arguments(run, argc, argv));
    for (int32_t i = 0; i < flags->repetitions; i++) {
        RETURN_IF_ERROR(measure(run, &run->cold, i, true));
        RETURN_IF_ERROR(measure(run, &run->warm, i, false));
    }
    if (flags->json)
        print_json(run);
    else
        print_table(run);
    return STATUS_OK;
}

static enum status bench_startup(const struct startup_flags *flags, int argc, char **argv) {
    struct startup *run = calloc(1, sizeof *run);
    if (run == NULL) {
        LOG_ERROR("bench: cannot take memory for its state");
        return STATUS_NO_MEMORY;
    }
    run->flags = flags;
    run->cold.cache = "cold";
    run->warm.cache = "warm";
    enum status status = run_all(run, argc, argv);
    free(run);
    return status;
}

enum status command_bench_startup(int argc, char **argv) {
    struct startup_flags flags = {.repetitions = 3, .timeout_s = 600};
    struct option_entry entries[OWN_ENTRIES + SETTINGS_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Measurement"},
        {OPTION_STRING, "model", &flags.model, "FOLDER", "default: the demo model", 0, 0},
        {OPTION_INT, "repetitions", &flags.repetitions, "N", "of each kind; default 3", 1,
         REPETITIONS_MAX},
        {OPTION_INT, "timeout", &flags.timeout_s, "SECONDS", "for one start; default 600", 1,
         86400},
        {OPTION_FLAG, "json", &flags.json, NULL, "one JSON object instead of the table", 0, 0},
    };
    struct option_command command = {
        .name = "bench startup",
        .usage = "[options] [-- FLAGS OF serve]",
        .summary =
            "Starts moebius serve again and again, and prints the time from the start of its "
            "process to the ready\nline, and to the first token of a request: cold, with "
            "the model's files dropped from the page cache\n(as far as nobody else maps "
            "them: the share that is in memory is told), and warm.",
        .entries = entries,
        .count = settings_entries(&flags.settings, entries, OWN_ENTRIES)};
    enum status status = settings_parse(&command, argc, argv, &flags.settings);
    if (status == STATUS_OK && !flags.settings.answered)
        status = bench_startup(&flags, argc, argv);
    settings_deinit(&flags.settings);
    return status;
}
