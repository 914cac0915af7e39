/* moebius bench throughput: the engine alone, with so many sequences at once, and so many: tokens a
 * second, what the crowd gains over one sequence, and shares of what this machine can do (on one
 * rank; ranks share machines). A sequence that ends is followed by the next at once. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/probe.h"
#include "launcher/bench_dataset.h"
#include "launcher/bench_levels.h"
#include "launcher/bench_machine.h"
#include "launcher/commands.h"
#include "launcher/engine_flags.h"
#include "launcher/job.h"
#include "runtime/tokenizer.h"

#define OWN_ENTRIES 9
#define LEVELS_MAX 16
#define CONCURRENCY_MAX 4096
#define ROUNDS 4 /* requests of a level, times its concurrency, unless --num-prompts says */
#define REQUESTS_MIN 8

struct throughput_flags {
    struct engine_flags engine;
    struct bench_dataset_flags dataset;
    const char *concurrency; /* "1,4,16" */
    float temperature, top_p, repetition_penalty;
    int32_t top_k, logprobs;
    bool json;
};

struct throughput {
    const struct throughput_flags *flags;
    struct sampling_params sampling; /* of every request, but for its seed */
    struct bench_dataset dataset;
    struct bench_level levels[LEVELS_MAX];
    int32_t level_count, request_max; /* most requests of a level */
    struct token_list *texts;         /* [request_max], tokenized; NULL: the dataset has ids */
    int32_t longest;                  /* prompt and output */
    struct rank_group ranks;
    struct traffic *traffic;
    struct engine *engine;
    double peak, bandwidth; /* of this machine, the best seen in the run; 0: unknown */
    /* Of the level in progress. */
    struct bench_level *level;
    double step_positions;
};

/* ---- what to run ---- */

static enum status parse_levels(struct throughput *run) {
    const char *text = run->flags->concurrency;
    for (const char *at = text; run->level_count < LEVELS_MAX;) {
        char *end;
        long value = strtol(at, &end, 10);
        if (end == at || value < 1 || value > CONCURRENCY_MAX || (*end != ',' && *end != '\0'))
            break;
        int32_t wanted = ROUNDS * (int32_t)value;
        int32_t requests = run->flags->dataset.prompts > 0 ? run->flags->dataset.prompts
                           : wanted > REQUESTS_MIN         ? wanted
                                                           : REQUESTS_MIN;
        run->levels[run->level_count++] =
            (struct bench_level){.concurrency = (int32_t)value, .requests = requests};
        if (requests > run->request_max)
            run->request_max = requests;
        if (*end == '\0')
            return STATUS_OK;
        at = end + 1;
    }
    LOG_ERROR("--concurrency: expected at most %d numbers from 1 to %d with commas between, got "
              "'%s'",
              LEVELS_MAX, CONCURRENCY_MAX, text);
    return STATUS_USAGE;
}

static int32_t widest(const struct throughput *run) {
    int32_t most = 1;
    for (int32_t i = 0; i < run->level_count; i++)
        if (run->levels[i].concurrency > most)
            most = run->levels[i].concurrency;
    return most;
}

static enum status encode(struct throughput *run, const struct tokenizer *tokenizer, int32_t number,
                          const struct bench_prompt *prompt) {
    struct token_list *ids = &run->texts[number];
    RETURN_IF_ERROR(tokenizer_encode(tokenizer, prompt->text, strlen(prompt->text),
                                     TOKENIZER_ADD_SPECIAL, ids));
    if (prompt->truncate > 0 && ids->count > prompt->truncate)
        ids->count = prompt->truncate;
    if (ids->count > 0)
        return STATUS_OK;
    LOG_ERROR("%s: request %d: expected a prompt with tokens, got none", run->flags->dataset.path,
              number + 1);
    return STATUS_BAD_REQUEST;
}

/* Tokenizes texts and finds the longest sequence. */
static enum status prepare_all(struct throughput *run, struct tokenizer **tokenizer,
                               const char *folder) {
    for (int32_t i = 0; i < run->request_max; i++) {
        struct bench_prompt prompt;
        RETURN_IF_ERROR(bench_dataset_prompt(&run->dataset, i, 1, &prompt));
        int64_t length = prompt.id_count;
        if (prompt.text != NULL && *tokenizer == NULL) {
            char path[FLAGS_PATH_MAX + 32];
            snprintf(path, sizeof path, "%s/tokenizer.json", folder);
            RETURN_IF_ERROR(tokenizer_load(path, tokenizer));
            run->texts = calloc((size_t)run->request_max, sizeof *run->texts);
        }
        if (prompt.text != NULL && run->texts == NULL) {
            LOG_ERROR("bench: cannot take memory for %d prompts", run->request_max);
            return STATUS_NO_MEMORY;
        }
        if (prompt.text != NULL) {
            RETURN_IF_ERROR(encode(run, *tokenizer, i, &prompt));
            length = run->texts[i].count;
        }
        length += prompt.output_tokens;
        if (length > run->longest)
            run->longest = length < INT32_MAX ? (int32_t)length : INT32_MAX;
    }
    return STATUS_OK;
}

static enum status prepare(struct throughput *run, const char *folder) {
    struct tokenizer *tokenizer = NULL;
    enum status status = prepare_all(run, &tokenizer, folder);
    tokenizer_destroy(tokenizer);
    return status;
}

/* ---- a level ---- */

static void on_token(void *context, const struct engine_token *token) {
    struct throughput *run = context;
    if (token->id < 0)
        return;
    run->level->output_tokens++;
    run->step_positions += token->position;
}

static enum status submit(struct throughput *run, int32_t number) {
    struct bench_prompt prompt;
    RETURN_IF_ERROR(
        bench_dataset_prompt(&run->dataset, number, engine_spec(run->engine)->vocabulary, &prompt));
    if (prompt.text != NULL) {
        prompt.ids = run->texts[number].ids;
        prompt.id_count = (int32_t)run->texts[number].count;
    }
    struct engine_request request = {.prompt = prompt.ids,
                                     .prompt_count = prompt.id_count,
                                     .sampling = run->sampling,
                                     .max_tokens = prompt.output_tokens,
                                     .ignore_eos = true};
    request.sampling.seed = run->flags->dataset.seed + (uint64_t)number;
    int32_t handle;
    double computed = (double)prompt.id_count + prompt.output_tokens - 1.0;
    run->level->prompt_tokens += prompt.id_count;
    run->level->flop += bench_machine_flop(run->engine, computed, computed * (computed + 1.0) / 2.0,
                                           prompt.output_tokens);
    return engine_submit(run->engine, &request, &handle);
}

static enum status run_steps(struct throughput *run, int32_t requests) {
    struct bench_level *level = run->level;
    struct engine_listener listener = {.token = on_token, .context = run};
    struct engine_stats before, after;
    engine_stats(run->engine, &before);
    for (int32_t next = 0; next < requests || engine_running(run->engine) > 0;) {
        while (next < requests && engine_running(run->engine) < level->concurrency)
            RETURN_IF_ERROR(submit(run, next++));
        run->step_positions = 0.0;
        RETURN_IF_ERROR(engine_step(run->engine, &listener));
        engine_stats(run->engine, &after);
        level->bytes += bench_machine_step_bytes(run->engine, (double)(after.rows - before.rows),
                                                 run->step_positions);
        level->steps += after.steps - before.steps;
        level->step_ns += after.step_ns - before.step_ns;
        level->forward_ns += after.forward_ns - before.forward_ns;
        level->sample_ns += after.sample_ns - before.sample_ns;
        before = after;
    }
    return STATUS_OK;
}

static enum status probe(struct throughput *run) {
    double peak, bandwidth;
    if (run->ranks.size > 1)
        return STATUS_OK;
    RETURN_IF_ERROR(
        probe_gemm_peak(engine_kernels(run->engine), engine_dtype_used(run->engine), &peak));
    RETURN_IF_ERROR(bench_machine_read_bandwidth(run->engine, &bandwidth));
    run->peak = peak > run->peak ? peak : run->peak;
    run->bandwidth = bandwidth > run->bandwidth ? bandwidth : run->bandwidth;
    return STATUS_OK;
}

static enum status run_level(struct throughput *run, struct bench_level *level) {
    struct bench_level empty = *level;
    run->level = level;
    /* the first requests once, to warm up */
    RETURN_IF_ERROR(run_steps(run, level->concurrency < level->requests ? level->concurrency
                                                                        : level->requests));
    *level = empty;
    RETURN_IF_ERROR(probe(run));
    int64_t waited = run->traffic->wait_ns + run->traffic->transfer_ns, start = clock_now_ns();
    clock_t cpu = clock();
    RETURN_IF_ERROR(run_steps(run, level->requests));
    level->cpu_seconds = (double)(clock() - cpu) / CLOCKS_PER_SEC;
    int64_t elapsed = clock_now_ns() - start;
    level->seconds = (double)elapsed * 1e-9;
    level->waiting =
        (double)(run->traffic->wait_ns + run->traffic->transfer_ns - waited) / (double)elapsed;
    return probe(run);
}

/* ---- the run ---- */

static enum status measure(struct throughput *run) {
    for (int32_t i = 0; i < run->level_count; i++)
        RETURN_IF_ERROR(run_level(run, &run->levels[i]));
    const struct kernels *kernels = engine_kernels(run->engine);
    struct bench_levels levels = {.family = engine_spec(run->engine)->family,
                                  .dtype = dtype_name(engine_dtype_used(run->engine)),
                                  .isa = cpu_isa_name(kernels->isa),
                                  .ranks = run->ranks.size,
                                  .threads = thread_pool_threads(kernels->pool),
                                  .peak = run->peak,
                                  .bandwidth = run->bandwidth,
                                  .level = run->levels,
                                  .count = run->level_count};
    if (run->flags->json)
        bench_levels_json(&levels);
    else
        bench_levels_table(&levels);
    return engine_stop(run->engine);
}

/* The longest sequence unless --max-model-len says; every sequence at once. */
static enum status choose_options(const struct throughput *run, struct engine_options *options) {
    if (options->positions == 0) {
        options->positions = run->longest;
        options->positions_of_request = true;
    }
    options->requests = widest(run);
    options->no_prefix_cache = true; /* a level must not find what another has computed */
    if (options->positions >= run->longest && options->rows >= options->requests)
        return STATUS_OK;
    if (options->positions < run->longest)
        LOG_ERROR("--max-model-len: expected at least %d for the longest request, got %d; see "
                  "--max-prompt-len",
                  run->longest, options->positions);
    else
        LOG_ERROR("--concurrency: expected at most --max-num-batched-tokens (%d), got %d",
                  options->rows, options->requests);
    return STATUS_USAGE;
}

static enum status choose_sampling(const struct throughput_flags *flags,
                                   struct sampling_params *sampling) {
    *sampling = sampling_params_default();
    sampling->temperature = flags->temperature;
    sampling->top_k = flags->top_k > 0 ? flags->top_k : 0;
    sampling->top_p = flags->top_p;
    sampling->repetition_penalty = flags->repetition_penalty;
    sampling->logprobs = flags->logprobs;
    return sampling_params_check(sampling, INT32_MAX);
}

static enum status run_all(struct throughput *run) {
    const struct throughput_flags *flags = run->flags;
    struct engine_options options;
    char folder[FLAGS_PATH_MAX];
    RETURN_IF_ERROR(parse_levels(run));
    RETURN_IF_ERROR(choose_sampling(flags, &run->sampling));
    RETURN_IF_ERROR(engine_flags_resolve(&flags->engine, &options, folder));
    RETURN_IF_ERROR(bench_dataset_open(&flags->dataset, false, &run->dataset));
    RETURN_IF_ERROR(prepare(run, folder));
    RETURN_IF_ERROR(choose_options(run, &options));
    RETURN_IF_ERROR(engine_flags_join(&flags->engine, &options, &run->ranks));
    RETURN_IF_ERROR(engine_create(&options, &run->engine));
    RETURN_IF_ERROR(traffic_create(engine_spec(run->engine)->layers, &run->traffic));
    run->ranks.transport->traffic = run->traffic;
    return run->ranks.rank > 0 ? engine_serve(run->engine, NULL) : measure(run);
}

static enum status bench_throughput(const struct throughput_flags *flags, int argc, char **argv) {
    int operand = flags->engine.settings.first_operand;
    if (operand < argc) {
        LOG_ERROR("bench throughput: expected no operand, got '%s'", argv[operand]);
        return STATUS_USAGE;
    }
    struct throughput run = {.flags = flags};
    enum status status = run_all(&run);
    if (run.ranks.transport != NULL)
        run.ranks.transport->traffic = NULL;
    traffic_destroy(run.traffic);
    engine_destroy(run.engine);
    for (int32_t i = 0; run.texts != NULL && i < run.request_max; i++)
        token_list_deinit(&run.texts[i]);
    free(run.texts);
    bench_dataset_deinit(&run.dataset);
    job_end(&run.ranks, status);
    return status;
}

static int32_t fill_entries(struct throughput_flags *flags, struct option_entry *entries) {
    const struct option_entry own[OWN_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Measurement"},
        {OPTION_STRING, "concurrency", &flags->concurrency, "LIST",
         "sequences at once, one measurement each; default 1,4,16,64", 0, 0},
        {OPTION_FLAG, "json", &flags->json, NULL, "one JSON object instead of the table", 0, 0},
        {.kind = OPTION_HEADING, .name = "Sampling"},
        {OPTION_FLOAT, "temperature", &flags->temperature, "T", "0 is greedy, the default", 0,
         1000},
        {OPTION_INT, "top-k", &flags->top_k, "N", "0 or -1: off", -1, INT32_MAX / 2},
        {OPTION_FLOAT, "top-p", &flags->top_p, "P", "1: off", 0, 1},
        {OPTION_FLOAT, "repetition-penalty", &flags->repetition_penalty, "X", "1: off", 0.01, 100},
        {OPTION_INT, "logprobs", &flags->logprobs, "N",
         "log-probabilities of each token and of the N likeliest; default: none", 0,
         SAMPLING_LOGPROBS_MAX},
    };
    memcpy(entries, own, sizeof own);
    int32_t count = bench_dataset_entries(&flags->dataset, entries, OWN_ENTRIES);
    count = engine_flags_entries(&flags->engine, entries, count);
    return engine_flags_rank_entries(&flags->engine, entries, count);
}

enum status command_bench_throughput(int argc, char **argv) {
    struct throughput_flags flags = {.engine = engine_flags_default(),
                                     .dataset = bench_dataset_flags_default(),
                                     .concurrency = "1,4,16,64",
                                     .top_p = 1.0f,
                                     .repetition_penalty = 1.0f,
                                     .logprobs = -1};
    struct option_entry entries[OWN_ENTRIES + BENCH_DATASET_ENTRIES + ENGINE_FLAGS_ENTRIES +
                                ENGINE_FLAGS_RANK_ENTRIES];
    struct option_command command = {
        .name = "bench throughput",
        .usage = "[options]",
        .summary = "Runs many requests through the engine, so many sequences at once, and prints "
                   "tokens/s, how much more\nthat is than one sequence gives, and on one rank the "
                   "shares of this machine's multiply-add peak and\nread bandwidth, measured in "
                   "the same run; and what of the engine's steps "
                   "is the forward, what the\nchoice of tokens, what the rest. End tokens do not "
                   "end; the prefix cache is off. Each level\n"
                   "takes 4 requests a sequence (8 at least), unless --num-prompts says how many.",
        .entries = entries,
        .count = fill_entries(&flags, entries)};
    struct settings *settings = &flags.engine.settings;
    enum status status = settings_parse(&command, argc, argv, settings);
    if (status == STATUS_OK && !settings->answered)
        status = bench_throughput(&flags, argc, argv);
    settings_deinit(settings);
    return status;
}
