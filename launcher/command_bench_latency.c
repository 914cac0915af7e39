/* moebius bench latency: prefill (ppN) and decode (tgN), as tokens a second and as shares of what
 * this machine can do, measured in the same run: the multiply-add peak of the kernels for prefill,
 * read bandwidth over the bytes that a token must touch for decode. Many sequences share experts,
 * and ranks share machines: then there is no such limit, but the coordinator's time spent waiting
 * for other ranks is told. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/probe.h"
#include "launcher/bench_machine.h"
#include "launcher/commands.h"
#include "launcher/engine_flags.h"
#include "launcher/job.h"
#include "runtime/json_writer.h"

#define REPETITIONS_MAX 100

struct bench_flags {
    struct engine_flags engine;
    int32_t prompt, generated, batch, repetitions;
    bool json;
};

/* One row of the table. */
struct bench_row {
    char test[16]; /* "pp512", "tg64" */
    int32_t tokens;
    double seconds[REPETITIONS_MAX];
    double rate, rate_sd; /* tokens a second */
    double work;          /* a second: flop (prefill) or bytes (decode) */
    double limit;         /* of this machine, the same unit; 0: none is known */
    double waiting;       /* share of the time that the coordinator waited for other ranks */
};

/* One command on all ranks. */
struct bench_job {
    const struct bench_flags *flags;
    struct rank_group ranks;
    struct traffic *traffic;
    struct engine *engine;
    uint64_t random; /* of the prompts */
};

/* ---- runs ---- */

struct run_clock {
    int64_t last_ns;
    int64_t tokens;
};

static void count_token(void *context, const struct engine_token *token) {
    struct run_clock *run_clock = context;
    (void)token;
    run_clock->last_ns = clock_now_ns();
    run_clock->tokens++;
}

/* A prompt that none before has begun with: what is cached is not computed. */
static void draw_prompt(int32_t vocabulary, int32_t count, uint64_t *random, int32_t *tokens) {
    for (int32_t i = 0; i < count; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (int32_t)((*random >> 33) % (uint64_t)vocabulary);
    }
}

/* Prefills `prompt` tokens of each sequence and generates `generated`; tells the seconds up to the
 * last sequence's first token and from there to the last token. */
static enum status run_once(struct bench_job *job, int32_t prompt, int32_t generated,
                            double *prefill_seconds, double *decode_seconds) {
    struct engine *engine = job->engine;
    int32_t *tokens = malloc(sizeof *tokens * (size_t)prompt);
    if (tokens == NULL)
        return STATUS_NO_MEMORY;
    struct engine_request request = {.prompt = tokens,
                                     .prompt_count = prompt,
                                     .sampling = sampling_params_default(),
                                     .max_tokens = generated,
                                     .ignore_eos = true};
    enum status status = STATUS_OK;
    for (int32_t i = 0, handle; i < job->flags->batch && status == STATUS_OK; i++) {
        draw_prompt(engine_spec(engine)->vocabulary, prompt, &job->random, tokens);
        status = engine_submit(engine, &request, &handle);
    }
    free(tokens);
    RETURN_IF_ERROR(status);
    struct run_clock run_clock = {0};
    struct engine_listener listener = {.token = count_token, .context = &run_clock};
    int64_t start = clock_now_ns(), first = 0;
    while (engine_running(engine) > 0) {
        RETURN_IF_ERROR(engine_step(engine, &listener));
        if (first == 0 && run_clock.tokens >= job->flags->batch)
            first = run_clock.last_ns;
    }
    *prefill_seconds = (double)(first - start) * 1e-9;
    *decode_seconds = (double)(run_clock.last_ns - first) * 1e-9;
    return STATUS_OK;
}

/* Nanoseconds that the coordinator has waited so far. */
static int64_t waited_ns(const struct bench_job *job) {
    return job->traffic->wait_ns + job->traffic->transfer_ns;
}

/* Whether a limit of the machine means anything. */
static bool is_alone(const struct bench_job *job) {
    return job->ranks.size == 1 && job->flags->batch == 1;
}

/* Mean and standard deviation of the rates of the repetitions. */
static void summarise(struct bench_row *row, int32_t repetitions, double work_per_run) {
    double sum = 0.0, square = 0.0, seconds = 0.0;
    for (int32_t i = 0; i < repetitions; i++) {
        double rate = row->tokens / row->seconds[i];
        sum += rate;
        square += rate * rate;
        seconds += row->seconds[i];
    }
    row->rate = sum / repetitions;
    double variance = square / repetitions - row->rate * row->rate;
    row->rate_sd = variance > 0.0 ? sqrt(variance) : 0.0;
    row->work = work_per_run * repetitions / seconds;
}

/* All repetitions of one row; the first run warms up. `prefill`: the first part of a run counts,
 * else the second. */
static enum status repeat(struct bench_job *job, bool prefill, struct bench_row *row) {
    const struct bench_flags *flags = job->flags;
    int64_t start_ns = 0, waited_before = 0;
    for (int32_t i = -1; i < flags->repetitions; i++) {
        double seconds[2];
        RETURN_IF_ERROR(prefill ? run_once(job, flags->prompt, 1, &seconds[0], &seconds[1])
                                : run_once(job, 1, flags->generated + 1, &seconds[0], &seconds[1]));
        row->seconds[i < 0 ? 0 : i] = seconds[prefill ? 0 : 1];
        if (i < 0) {
            start_ns = clock_now_ns();
            waited_before = waited_ns(job);
        }
    }
    row->waiting = (double)(waited_ns(job) - waited_before) / (double)(clock_now_ns() - start_ns);
    return STATUS_OK;
}

/* Multiplications and additions of a prefill of `tokens` positions with the logits of the last. */
static double prefill_flop(const struct engine *engine, double tokens) {
    return bench_machine_flop(engine, tokens, tokens * (tokens + 1.0) / 2.0, 1.0);
}

static enum status bench_prefill(struct bench_job *job, struct bench_row *row) {
    const struct bench_flags *flags = job->flags;
    const struct engine *engine = job->engine;
    *row = (struct bench_row){.tokens = flags->prompt * flags->batch};
    snprintf(row->test, sizeof row->test, "pp%d", flags->prompt);
    double before = 0.0, after = 0.0;
    if (is_alone(job))
        RETURN_IF_ERROR(
            probe_gemm_peak(engine_kernels(engine), engine_dtype_used(engine), &before));
    RETURN_IF_ERROR(repeat(job, true, row));
    if (is_alone(job))
        RETURN_IF_ERROR(probe_gemm_peak(engine_kernels(engine), engine_dtype_used(engine), &after));
    row->limit = before > after ? before : after;
    summarise(row, flags->repetitions, prefill_flop(engine, flags->prompt) * flags->batch);
    return STATUS_OK;
}

static enum status bench_decode(struct bench_job *job, struct bench_row *row) {
    const struct bench_flags *flags = job->flags;
    *row = (struct bench_row){.tokens = flags->generated * flags->batch};
    snprintf(row->test, sizeof row->test, "tg%d", flags->generated);
    double before = 0.0, after = 0.0;
    if (is_alone(job))
        RETURN_IF_ERROR(bench_machine_read_bandwidth(job->engine, &before));
    RETURN_IF_ERROR(repeat(job, false, row));
    if (is_alone(job))
        RETURN_IF_ERROR(bench_machine_read_bandwidth(job->engine, &after));
    row->limit = before > after ? before : after;
    double touched = bench_machine_step_bytes(job->engine, 1.0, flags->generated / 2.0);
    summarise(row, flags->repetitions, touched * flags->generated * flags->batch);
    return STATUS_OK;
}

/* ---- output ---- */

/* The last column: how far from the limit, or what ranks cost. */
static void print_share(const struct bench_job *job, const struct bench_row *row) {
    if (row->limit > 0.0)
        printf("%.0f %% of %.1f %s |\n", 100.0 * row->work / row->limit, row->limit * 1e-9,
               row->test[0] == 'p' ? "GFLOP/s multiply-add peak" : "GB/s read bandwidth");
    else if (job->ranks.size > 1)
        printf("%.0f %% waiting for other ranks |\n", 100.0 * row->waiting);
    else
        printf("- |\n");
}

static void print_table(const struct bench_job *job, const struct bench_row *rows, int32_t count) {
    const struct engine *engine = job->engine;
    const struct kernels *kernels = engine_kernels(engine);
    printf("| model | type | isa | ranks | threads | sequences | test | tokens/s | of this machine "
           "|\n|---|---|---|---|---|---|---|---|---|\n");
    for (int32_t i = 0; i < count; i++) {
        printf("| %s | %s | %s | %d | %d | %d | %s | %.2f ± %.2f | ", engine_spec(engine)->family,
               dtype_name(engine_dtype_used(engine)), cpu_isa_name(kernels->isa), job->ranks.size,
               thread_pool_threads(kernels->pool), job->flags->batch, rows[i].test, rows[i].rate,
               rows[i].rate_sd);
        print_share(job, &rows[i]);
    }
}

static void print_json(const struct bench_job *job, const struct bench_row *rows, int32_t count) {
    const struct engine *engine = job->engine;
    struct json_writer json = {.out = stdout};
    json_writer_begin_object(&json, NULL);
    json_writer_text(&json, "family", engine_spec(engine)->family);
    json_writer_text(&json, "dtype", dtype_name(engine_dtype_used(engine)));
    json_writer_text(&json, "isa", cpu_isa_name(engine_kernels(engine)->isa));
    json_writer_integer(&json, "threads", thread_pool_threads(engine_kernels(engine)->pool));
    json_writer_integer(&json, "ranks", job->ranks.size);
    json_writer_integer(&json, "sequences", job->flags->batch);
    json_writer_integer(&json, "weight_bytes", engine_model(engine)->weights.bytes.total);
    json_writer_begin_array(&json, "rows");
    for (int32_t i = 0; i < count; i++) {
        json_writer_begin_object(&json, NULL);
        json_writer_text(&json, "test", rows[i].test);
        json_writer_integer(&json, "tokens", rows[i].tokens);
        json_writer_number(&json, "tokens_per_second", rows[i].rate);
        json_writer_number(&json, "tokens_per_second_sd", rows[i].rate_sd);
        json_writer_text(&json, "unit", rows[i].test[0] == 'p' ? "flop/s" : "bytes/s");
        json_writer_number(&json, "reached", rows[i].work);
        if (rows[i].limit > 0.0) {
            json_writer_number(&json, "machine", rows[i].limit);
            json_writer_number(&json, "share", rows[i].work / rows[i].limit);
        }
        json_writer_number(&json, "waiting", rows[i].waiting);
        json_writer_begin_array(&json, "seconds");
        for (int32_t r = 0; r < job->flags->repetitions; r++)
            json_writer_number(&json, NULL, rows[i].seconds[r]);
        json_writer_end_array(&json);
        json_writer_end_object(&json);
    }
    json_writer_end_array(&json);
    json_writer_end_object(&json);
    printf("\n");
}

static enum status measure(struct bench_job *job) {
    const struct bench_flags *flags = job->flags;
    struct bench_row rows[2];
    int32_t count = 0;
    if (flags->prompt > 0)
        RETURN_IF_ERROR(bench_prefill(job, &rows[count++]));
    if (flags->generated > 0)
        RETURN_IF_ERROR(bench_decode(job, &rows[count++]));
    if (flags->json)
        print_json(job, rows, count);
    else
        print_table(job, rows, count);
    return engine_stop(job->engine);
}

static enum status bench_ranks(struct bench_job *job, struct engine_options *options) {
    RETURN_IF_ERROR(engine_flags_join(&job->flags->engine, options, &job->ranks));
    RETURN_IF_ERROR(engine_create(options, &job->engine));
    RETURN_IF_ERROR(traffic_create(engine_spec(job->engine)->layers, &job->traffic));
    job->ranks.transport->traffic = job->traffic;
    return job->ranks.rank > 0 ? engine_serve(job->engine, NULL) : measure(job);
}

static enum status bench_latency(const struct bench_flags *flags, struct engine_options *options) {
    struct bench_job job = {.flags = flags};
    enum status status = bench_ranks(&job, options);
    if (job.ranks.transport != NULL)
        job.ranks.transport->traffic = NULL;
    traffic_destroy(job.traffic);
    engine_destroy(job.engine);
    job_end(&job.ranks, status);
    return status;
}

#define BENCH_ENTRIES 6

static enum status bench(struct bench_flags *flags, int argc, char **argv) {
    int operand = flags->engine.settings.first_operand;
    if (operand < argc) {
        LOG_ERROR("bench latency: expected no operand, got '%s'", argv[operand]);
        return STATUS_USAGE;
    }
    if (flags->prompt == 0 && flags->generated == 0) {
        LOG_ERROR("bench latency: expected --prompt or --generate above 0, got 0 for both");
        return STATUS_USAGE;
    }
    struct engine_options options;
    char folder[FLAGS_PATH_MAX];
    RETURN_IF_ERROR(engine_flags_resolve(&flags->engine, &options, folder));
    int32_t longest = flags->prompt > flags->generated ? flags->prompt : flags->generated;
    if (options.positions == 0) {
        options.positions = longest + 3;
        options.positions_of_request = true;
    }
    if (options.positions < longest + 2) {
        LOG_ERROR("--max-model-len: expected at least %d for --prompt and --generate, got %d",
                  longest + 2, options.positions);
        return STATUS_USAGE;
    }
    if (flags->batch > options.rows) {
        LOG_ERROR("--batch-size: expected at most --max-num-batched-tokens (%d), got %d",
                  options.rows, flags->batch);
        return STATUS_USAGE;
    }
    options.requests = flags->batch;
    return bench_latency(flags, &options);
}

enum status command_bench_latency(int argc, char **argv) {
    struct bench_flags flags = {.engine = engine_flags_default(),
                                .prompt = 512,
                                .generated = 64,
                                .batch = 1,
                                .repetitions = 3};
    struct option_entry entries[BENCH_ENTRIES + ENGINE_FLAGS_ENTRIES + ENGINE_FLAGS_RANK_ENTRIES] =
        {
            {.kind = OPTION_HEADING, .name = "Measurement"},
            {OPTION_INT, "prompt", &flags.prompt, "N",
             "tokens of prefill (ppN); 0: none; default 512", 0, 65536},
            {OPTION_INT, "generate", &flags.generated, "N",
             "tokens of decode (tgN); 0: none; default 64", 0, 65536},
            {OPTION_INT, "batch-size", &flags.batch, "N", "sequences at once; default 1", 1, 512},
            {OPTION_INT, "repetitions", &flags.repetitions, "N", "default 3", 1, REPETITIONS_MAX},
            {OPTION_FLAG, "json", &flags.json, NULL, "one JSON object instead of the table", 0, 0},
        };
    struct option_command command = {
        .name = "bench latency",
        .usage = "[options]",
        .summary =
            "Measures prefill and decode and prints tokens/s; of one sequence on one rank with "
            "the share of this\nmachine's multiply-add peak (prefill) and read bandwidth "
            "(decode), both measured in the same run;\nunder mpirun with the share of time "
            "that the coordinator waited for other ranks.",
        .entries = entries};
    int32_t count = engine_flags_entries(&flags.engine, entries, BENCH_ENTRIES);
    command.count = engine_flags_rank_entries(&flags.engine, entries, count);
    struct settings *settings = &flags.engine.settings;
    enum status status = settings_parse(&command, argc, argv, settings);
    if (status == STATUS_OK && !settings->answered)
        status = bench(&flags, argc, argv);
    settings_deinit(settings);
    return status;
}
