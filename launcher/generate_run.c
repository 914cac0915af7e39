/* moebius generate: prompt in, engine steps, text out as it comes. Ties tokenizer, engine,
 * detokenizer and stop strings together for a single request. */
#include "launcher/generate_run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/collective.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "launcher/generate_dump.h"
#include "launcher/generate_prompt.h"
#include "launcher/job.h"
#include "launcher/traffic_report.h"
#include "runtime/detokenizer.h"
#include "runtime/json_writer.h"
#include "runtime/safetensors_writer.h"
#include "runtime/stop_matcher.h"
#include "runtime/tokenizer.h"

#define PROMPT_TIMEOUT_MS (60 * 60 * 1000)

struct run_logprob {
    int32_t id, rank, top_count;
    double logprob;
    struct sampler_logprob top[SAMPLING_LOGPROBS_MAX];
};

/* Everything that one run holds; torn down in one place. */
struct run {
    const struct generate_flags *flags;
    struct rank_group ranks;
    struct traffic *traffic;
    struct engine *engine;
    struct tokenizer *tokenizer; /* NULL: --token-ids with a folder that has none; other ranks */
    struct token_list prompt, output;
    struct detokenizer detokenizer;
    struct stop_matcher stop;
    char *delta;                  /* of one push */
    struct text_buffer released;  /* text of one push, after stop strings */
    struct text_buffer text;      /* all of it */
    struct run_logprob *logprobs; /* [max_tokens] */
    struct generate_dump dump;
    int32_t handle;
    enum engine_finish finish;
    enum status status; /* of the callbacks */
    int64_t start_ns, loaded_ns, first_token_ns, last_token_ns;
};

/* ---- output ---- */

static const char *finish_name(const struct run *run) {
    if (run->stop.matched >= 0)
        return "stop";
    return run->finish == ENGINE_EOS ? "eos" : "length";
}

/* Text goes out at once: whole UTF-8 sequences, nothing of a stop string. */
static enum status release_text(struct run *run, size_t delta_length, bool last) {
    run->released.length = 0;
    RETURN_IF_ERROR(stop_matcher_push(&run->stop, run->delta, delta_length, last, &run->released));
    RETURN_IF_ERROR(text_buffer_append(&run->text, run->released.data, run->released.length));
    if (run->flags->json || run->released.length == 0)
        return STATUS_OK;
    if (fwrite(run->released.data, 1, run->released.length, stdout) != run->released.length ||
        fflush(stdout) != 0) {
        LOG_ERROR("standard output: cannot write: %s", strerror(errno));
        return STATUS_IO;
    }
    return STATUS_OK;
}

static void keep_logprobs(struct run *run, const struct engine_token *token) {
    if (token->logprobs == NULL)
        return;
    struct run_logprob *kept = &run->logprobs[run->output.count - 1];
    *kept = (struct run_logprob){.id = token->id,
                                 .rank = token->logprobs->rank,
                                 .top_count = token->logprobs->top_count,
                                 .logprob = token->logprobs->chosen.logprob};
    memcpy(kept->top, token->logprobs->top, sizeof kept->top);
}

static enum status take_token(struct run *run, const struct engine_token *token) {
    if (token->finish == ENGINE_FAILED)
        return STATUS_INTERNAL; /* logged where it was seen */
    RETURN_IF_ERROR(token_list_append(&run->output, token->id));
    keep_logprobs(run, token);
    if (run->tokenizer == NULL)
        return STATUS_OK;
    size_t length = detokenizer_push(&run->detokenizer, token->id, run->delta);
    RETURN_IF_ERROR(release_text(run, length, false));
    if (run->stop.matched >= 0)
        engine_cancel(run->engine, token->request);
    return STATUS_OK;
}

static void on_token(void *context, const struct engine_token *token) {
    struct run *run = context;
    run->last_token_ns = clock_now_ns();
    if (run->first_token_ns == 0)
        run->first_token_ns = run->last_token_ns;
    run->finish = token->finish;
    run->status = take_token(run, token);
    if (run->status != STATUS_OK)
        engine_cancel(run->engine, token->request);
}

static void on_logits(void *context, int32_t request, int32_t position, const float *logits) {
    struct run *run = context;
    (void)request;
    (void)position;
    generate_dump_add_logits(&run->dump, logits);
}

static void write_logprobs(const struct run *run, struct json_writer *json) {
    json_writer_begin_array(json, "logprobs");
    for (int64_t i = 0; i < run->output.count; i++) {
        const struct run_logprob *logprob = &run->logprobs[i];
        json_writer_begin_object(json, NULL);
        json_writer_integer(json, "id", logprob->id);
        json_writer_number(json, "logprob", logprob->logprob);
        json_writer_integer(json, "rank", logprob->rank);
        json_writer_begin_array(json, "top");
        for (int32_t t = 0; t < logprob->top_count; t++) {
            json_writer_begin_object(json, NULL);
            json_writer_integer(json, "id", logprob->top[t].id);
            json_writer_number(json, "logprob", logprob->top[t].logprob);
            json_writer_end_object(json);
        }
        json_writer_end_array(json);
        json_writer_end_object(json);
    }
    json_writer_end_array(json);
}

static double seconds_between(int64_t from_ns, int64_t to_ns) {
    return to_ns > from_ns ? (double)(to_ns - from_ns) * 1e-9 : 0.0;
}

static void print_json(const struct run *run) {
    struct json_writer json = {.out = stdout};
    double decode = seconds_between(run->first_token_ns, run->last_token_ns);
    json_writer_begin_object(&json, NULL);
    json_writer_integers(&json, "prompt_ids", run->prompt.ids, run->prompt.count);
    json_writer_integers(&json, "output_ids", run->output.ids, run->output.count);
    json_writer_string(&json, "text", run->text.data, run->text.length);
    json_writer_text(&json, "finish_reason", finish_name(run));
    if (run->flags->logprobs >= 0)
        write_logprobs(run, &json);
    json_writer_begin_object(&json, "timings");
    json_writer_number(&json, "load_seconds", seconds_between(run->start_ns, run->loaded_ns));
    json_writer_number(&json, "first_token_seconds",
                       seconds_between(run->loaded_ns, run->first_token_ns));
    json_writer_number(&json, "decode_seconds", decode);
    json_writer_number(&json, "decode_tokens_per_second",
                       decode > 0.0 ? (double)(run->output.count - 1) / decode : 0.0);
    json_writer_end_object(&json);
    json_writer_end_object(&json);
    printf("\n");
}

/* ---- the run ---- */

/* Ids in, ids out; no text to search. */
static enum status check_without_tokenizer(const struct generate_flags *flags, const char *path) {
    if (flags->stop.count == 0)
        return STATUS_OK;
    LOG_ERROR("--stop: expected a folder with a tokenizer, got none at %s", path);
    return STATUS_BAD_REQUEST;
}

static enum status open_tokenizer(struct run *run, const char *folder) {
    char path[FLAGS_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    if (run->flags->token_ids != NULL && access(path, F_OK) != 0)
        return check_without_tokenizer(run->flags, path);
    RETURN_IF_ERROR(tokenizer_load(path, &run->tokenizer));
    detokenizer_init(&run->detokenizer, run->tokenizer, !run->flags->keep_special_tokens);
    run->delta = malloc(detokenizer_delta_bytes_max(run->tokenizer));
    if (run->delta != NULL)
        return STATUS_OK;
    LOG_ERROR("generate: cannot take memory for the text of a token");
    return STATUS_NO_MEMORY;
}

/* What can be refused before a large model is read. */
static enum status check_flags(const struct generate_flags *flags) {
    struct sampling_params sampling;
    RETURN_IF_ERROR(generate_prompt_sampling(flags, &sampling));
    if (flags->min_tokens > flags->max_tokens) {
        LOG_ERROR("--min-tokens: expected at most --max-tokens (%d), got %d", flags->max_tokens,
                  flags->min_tokens);
        return STATUS_BAD_REQUEST;
    }
    if (flags->traffic_json != NULL)
        RETURN_IF_ERROR(safetensors_writer_check(flags->traffic_json));
    return generate_dump_check_paths(flags->dump_logits, flags->dump_routing);
}

/* The longest sequence: --max-model-len, or just what this request needs, which the engine holds
 * against the model's own limit. */
static enum status choose_positions(const struct run *run, struct engine_options *options) {
    const struct generate_flags *flags = run->flags;
    int64_t needed = run->prompt.count + flags->max_tokens;
    if (options->positions == 0) {
        options->positions = needed < INT32_MAX ? (int32_t)needed : INT32_MAX;
        options->positions_of_request = true;
    }
    if (needed <= options->positions)
        return STATUS_OK;
    LOG_ERROR("prompt and new tokens: expected at most %d together (--max-model-len), got "
              "%lld and %d",
              options->positions, (long long)run->prompt.count, flags->max_tokens);
    return STATUS_BAD_REQUEST;
}

static enum status read_prompt(struct run *run, const char *folder,
                               struct engine_options *options) {
    RETURN_IF_ERROR(open_tokenizer(run, folder));
    RETURN_IF_ERROR(generate_prompt_build(run->flags, folder, run->tokenizer, &run->prompt));
    return choose_positions(run, options);
}

/* What the coordinator tells of its prompt. */
struct prompt_word {
    int64_t status, positions, of_request;
};

/* Requests are the coordinator's business: it alone has standard input. The others hear how long a
 * sequence is to be, or that there is none; it may wait for somebody who types. */
static enum status share_prompt(struct run *run, const char *folder,
                                struct engine_options *options) {
    struct prompt_word word = {.status = STATUS_OK};
    if (run->ranks.rank == 0)
        word.status = read_prompt(run, folder, options);
    if (run->ranks.size == 1)
        return (enum status)word.status;
    word.positions = options->positions;
    word.of_request = options->positions_of_request;
    int32_t members[TRANSPORT_RANKS_MAX], timeout_ms = run->ranks.transport->timeout_ms;
    for (int32_t i = 0; i < run->ranks.size; i++)
        members[i] = i;
    struct collective_group world = {.transport = run->ranks.transport,
                                     .members = members,
                                     .count = run->ranks.size,
                                     .self = run->ranks.rank};
    struct transport_scope scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};
    int64_t bytes = sizeof word;
    run->ranks.transport->timeout_ms = PROMPT_TIMEOUT_MS;
    enum status status = collective_broadcast(&world, &scope, false, &word, sizeof word, &bytes);
    run->ranks.transport->timeout_ms = timeout_ms;
    RETURN_IF_ERROR(status);
    options->positions = (int32_t)word.positions;
    options->positions_of_request = word.of_request != 0;
    return (enum status)word.status;
}

static enum status start_engine(struct run *run, struct engine_options *options) {
    const struct generate_flags *flags = run->flags;
    options->all_logits = flags->dump_logits != NULL;
    options->all_routing = flags->dump_routing != NULL;
    RETURN_IF_ERROR(engine_create(options, &run->engine));
    if (flags->logprobs >= 0) {
        run->logprobs = calloc((size_t)flags->max_tokens, sizeof *run->logprobs);
        if (run->logprobs == NULL) {
            LOG_ERROR("--logprobs: cannot take memory for %d tokens", flags->max_tokens);
            return STATUS_NO_MEMORY;
        }
    }
    return generate_dump_init(&run->dump, run->engine, flags->dump_logits != NULL,
                              flags->dump_routing != NULL, engine_positions(run->engine));
}

static enum status submit(struct run *run) {
    const struct generate_flags *flags = run->flags;
    struct engine_request request = {.prompt = run->prompt.ids,
                                     .prompt_count = (int32_t)run->prompt.count,
                                     .max_tokens = flags->max_tokens,
                                     .min_tokens = flags->min_tokens,
                                     .ignore_eos = flags->ignore_eos,
                                     .all_logits = flags->dump_logits != NULL};
    RETURN_IF_ERROR(generate_prompt_sampling(flags, &request.sampling));
    return engine_submit(run->engine, &request, &run->handle);
}

static enum status run_steps(struct run *run) {
    struct engine_listener listener = {
        .token = on_token,
        .logits = run->flags->dump_logits != NULL ? on_logits : NULL,
        .observer = run->flags->dump_routing != NULL ? &run->dump.observer : NULL,
        .context = run};
    while (engine_running(run->engine) > 0) {
        RETURN_IF_ERROR(engine_step(run->engine, &listener));
        RETURN_IF_ERROR(run->status);
    }
    if (run->tokenizer == NULL)
        return STATUS_OK;
    return release_text(run, detokenizer_finish(&run->detokenizer, run->delta), true);
}

static enum status report(struct run *run) {
    const struct generate_flags *flags = run->flags;
    if (flags->json)
        print_json(run);
    else if (run->tokenizer != NULL)
        printf("\n");
    else
        for (int64_t i = 0; i < run->output.count; i++)
            printf("%d%c", run->output.ids[i], i + 1 < run->output.count ? ' ' : '\n');
    double decode = seconds_between(run->first_token_ns, run->last_token_ns);
    LOG_INFO("%lld tokens in, %lld out (%s); first token after %.3f s, then %.1f tokens/s",
             (long long)run->prompt.count, (long long)run->output.count, finish_name(run),
             seconds_between(run->loaded_ns, run->first_token_ns),
             decode > 0.0 ? (double)(run->output.count - 1) / decode : 0.0);
    if (flags->dump_logits != NULL)
        RETURN_IF_ERROR(generate_dump_write_logits(&run->dump, flags->dump_logits));
    if (flags->dump_routing != NULL)
        RETURN_IF_ERROR(generate_dump_write_routing(&run->dump, flags->dump_routing));
    return STATUS_OK;
}

/* The accounts of all ranks, printed by the coordinator when they are wanted. */
static enum status report_traffic(struct run *run) {
    const struct generate_flags *flags = run->flags;
    if (!flags->traffic && flags->traffic_json == NULL)
        return STATUS_OK;
    struct job_load load;
    const struct expert_exchange *exchange = &engine_model(run->engine)->workspace.moe.exchange;
    RETURN_IF_ERROR(job_gather_traffic(&run->ranks, run->traffic, &load));
    if (run->ranks.rank > 0)
        return STATUS_OK;
    struct traffic_facts facts = {.traffic = run->traffic,
                                  .load = &load,
                                  .ranks = run->ranks.size,
                                  .exchange = exchange->ranks != NULL ? exchange : NULL};
    if (flags->traffic)
        traffic_report_print(flags->json ? stderr : stdout, &facts);
    if (flags->traffic_json != NULL)
        return traffic_report_write(flags->traffic_json, &facts);
    return STATUS_OK;
}

static enum status run_all(struct run *run) {
    const struct generate_flags *flags = run->flags;
    struct engine_options options;
    char folder[FLAGS_PATH_MAX];
    run->start_ns = clock_now_ns();
    RETURN_IF_ERROR(stop_matcher_init(&run->stop, flags->stop.values, flags->stop.count));
    RETURN_IF_ERROR(engine_flags_resolve(&flags->engine, &options, folder));
    RETURN_IF_ERROR(check_flags(flags));
    RETURN_IF_ERROR(engine_flags_join(&flags->engine, &options, &run->ranks));
    RETURN_IF_ERROR(share_prompt(run, folder, &options));
    RETURN_IF_ERROR(start_engine(run, &options));
    RETURN_IF_ERROR(traffic_create(engine_spec(run->engine)->layers, &run->traffic));
    run->ranks.transport->traffic = run->traffic;
    if (run->ranks.rank > 0) {
        RETURN_IF_ERROR(engine_serve(run->engine, NULL));
        return report_traffic(run);
    }
    RETURN_IF_ERROR(submit(run));
    run->loaded_ns = clock_now_ns();
    LOG_INFO("ready in %.3f s", seconds_between(run->start_ns, run->loaded_ns));
    if (flags->echo_prompt)
        fputs(flags->prompt, stdout);
    RETURN_IF_ERROR(run_steps(run));
    RETURN_IF_ERROR(engine_stop(run->engine));
    RETURN_IF_ERROR(report(run));
    return report_traffic(run);
}

enum status generate_run(const struct generate_flags *flags) {
    struct run run = {.flags = flags};
    enum status status = run_all(&run);
    if (run.ranks.transport != NULL)
        run.ranks.transport->traffic = NULL;
    traffic_destroy(run.traffic);
    generate_dump_deinit(&run.dump);
    engine_destroy(run.engine);
    tokenizer_destroy(run.tokenizer);
    stop_matcher_deinit(&run.stop);
    token_list_deinit(&run.prompt);
    token_list_deinit(&run.output);
    text_buffer_deinit(&run.released);
    text_buffer_deinit(&run.text);
    free(run.delta);
    free(run.logprobs);
    job_end(&run.ranks, status);
    return status;
}
