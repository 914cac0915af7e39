/* moebius complete: one prompt to a running server; the text streams to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "launcher/client_session.h"
#include "launcher/commands.h"
#include "launcher/generate_prompt.h"
#include "runtime/json_writer.h"

#define COMPLETE_ENTRIES 11

struct complete_flags {
    struct client_flags client;
    const char *prompt, *file, *token_ids, *request_id;
    int32_t n, logprobs, priority;
    bool echo, keep_special_tokens;
};

/* What has come of one choice, where it is not streamed. */
struct choice {
    struct text_buffer text, ids, logprobs; /* uint32_t, float */
    const char *finish;                     /* a constant */
    uint64_t seed;
    int32_t tokens;
};

struct completion {
    const struct complete_flags *flags;
    bool streams; /* one choice, straight to standard output */
    bool has_text;
    struct choice choices[GENERATION_CHOICES_MAX];
    char request_id[129];
    int32_t prompt_tokens, cached_tokens;
    int64_t first_token_us, total_us;
    enum status status;
};

/* ---- the answer ---- */

/* Ids that nobody asked for come from a server without a tokenizer: they are its answer. */
static void print_ids(const uint32_t *ids, size_t count, bool *has_text) {
    for (size_t i = 0; i < count; i++) {
        printf(*has_text ? " %u" : "%u", ids[i]);
        *has_text = true;
    }
}

static bool stream(struct completion *completion, const struct rpc_inference_client_chunk *chunk) {
    print_ids(chunk->ids, chunk->id_count, &completion->has_text);
    completion->has_text = completion->has_text || chunk->text_bytes > 0;
    fwrite(chunk->text, 1, chunk->text_bytes, stdout);
    return fflush(stdout) == 0;
}

static enum status collect(struct choice *choice, const struct rpc_inference_client_chunk *chunk) {
    if (chunk->text_bytes > 0)
        RETURN_IF_ERROR(text_buffer_append(&choice->text, chunk->text, chunk->text_bytes));
    if (chunk->id_count > 0)
        RETURN_IF_ERROR(text_buffer_append(&choice->ids, (const char *)chunk->ids,
                                           chunk->id_count * sizeof *chunk->ids));
    if (chunk->logprob_count > 0)
        RETURN_IF_ERROR(text_buffer_append(&choice->logprobs, (const char *)chunk->logprobs,
                                           chunk->logprob_count * sizeof *chunk->logprobs));
    return STATUS_OK;
}

static bool on_chunk(void *context, const struct rpc_inference_client_chunk *chunk) {
    struct completion *completion = context;
    if (chunk->index < 0 || chunk->index >= completion->flags->n)
        return true; /* not what was asked for */
    struct choice *choice = &completion->choices[chunk->index];
    if (chunk->request_id[0] != '\0')
        snprintf(completion->request_id, sizeof completion->request_id, "%s", chunk->request_id);
    if (chunk->finish != NULL) {
        choice->finish = chunk->finish;
        choice->seed = chunk->seed;
        choice->tokens = chunk->completion_tokens;
        completion->prompt_tokens = chunk->prompt_tokens;
        completion->cached_tokens = chunk->cached_tokens;
    }
    if (chunk->total_us > 0) {
        completion->first_token_us = chunk->first_token_us;
        completion->total_us = chunk->total_us;
    }
    if (completion->streams)
        return stream(completion, chunk);
    completion->status = collect(choice, chunk);
    return completion->status == STATUS_OK;
}

static void print_texts(const struct completion *completion) {
    for (int32_t i = 0; i < completion->flags->n; i++) {
        const struct choice *choice = &completion->choices[i];
        bool has_text = false;
        printf("[%d] ", i);
        print_ids((const uint32_t *)(const void *)choice->ids.data,
                  choice->ids.length / sizeof(uint32_t), &has_text);
        if (choice->text.length > 0)
            fwrite(choice->text.data, 1, choice->text.length, stdout);
        putchar('\n');
    }
}

static void print_choice(struct json_writer *json, const struct choice *choice, int32_t index,
                         bool has_logprobs) {
    json_writer_begin_object(json, NULL);
    json_writer_integer(json, "index", index);
    json_writer_string(json, "text", choice->text.length > 0 ? choice->text.data : "",
                       choice->text.length);
    json_writer_integers(json, "token_ids", (const int32_t *)(const void *)choice->ids.data,
                         (int64_t)(choice->ids.length / sizeof(int32_t)));
    if (has_logprobs) {
        json_writer_begin_array(json, "logprobs");
        for (size_t at = 0; at < choice->logprobs.length; at += sizeof(float)) {
            float logprob;
            memcpy(&logprob, choice->logprobs.data + at, sizeof logprob);
            json_writer_number(json, NULL, (double)logprob);
        }
        json_writer_end_array(json);
    }
    if (choice->finish != NULL)
        json_writer_text(json, "finish_reason", choice->finish);
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)choice->seed);
    json_writer_text(json, "seed", seed); /* 64 bits: more than JSON's numbers keep */
    json_writer_integer(json, "completion_tokens", choice->tokens);
    json_writer_end_object(json);
}

static void print_json(const struct completion *completion) {
    struct json_writer json = {.out = stdout};
    json_writer_begin_object(&json, NULL);
    json_writer_text(&json, "request_id", completion->request_id);
    json_writer_begin_array(&json, "choices");
    for (int32_t i = 0; i < completion->flags->n; i++)
        print_choice(&json, &completion->choices[i], i, completion->flags->logprobs >= 0);
    json_writer_end_array(&json);
    json_writer_integer(&json, "prompt_tokens", completion->prompt_tokens);
    json_writer_integer(&json, "cached_tokens", completion->cached_tokens);
    json_writer_number(&json, "first_token_seconds", (double)completion->first_token_us * 1e-6);
    json_writer_number(&json, "total_seconds", (double)completion->total_us * 1e-6);
    json_writer_end_object(&json);
    putchar('\n');
}

/* ---- the request ---- */

static enum status send(struct completion *completion, const struct generation_request *request) {
    const struct complete_flags *flags = completion->flags;
    struct client_session *session;
    struct rpc_inference_client_wishes wishes = {.token_ids = flags->client.json};
    RETURN_IF_ERROR(client_session_create(&flags->client, &session));
    enum status status = client_session_run(session, request, &wishes, on_chunk, completion);
    client_session_destroy(session);
    if (status == STATUS_OK)
        status = completion->status;
    if (completion->streams && (status == STATUS_OK || completion->has_text))
        putchar('\n');
    else if (status == STATUS_OK && flags->client.json)
        print_json(completion);
    else if (status == STATUS_OK)
        print_texts(completion);
    return status;
}

/* With text and ids in memory as long as the request runs. */
static enum status build_and_send(struct completion *completion) {
    const struct complete_flags *flags = completion->flags;
    struct generation_request request;
    struct text_buffer text = {0};
    struct token_list ids = {0};
    RETURN_IF_ERROR(client_flags_request(&flags->client, &request));
    request.request_id = flags->request_id;
    request.n = flags->n;
    request.priority = flags->priority;
    request.echo = flags->echo;
    request.keep_special_tokens = flags->keep_special_tokens;
    request.sampling.logprobs = flags->logprobs;
    enum status status = STATUS_OK;
    if (flags->token_ids != NULL)
        status = generate_prompt_parse_ids("--token-ids", flags->token_ids, &ids);
    else if (flags->file != NULL)
        status = generate_prompt_read_file(flags->file, &text);
    request.ids = ids.ids;
    request.id_count = (int32_t)ids.count;
    request.text = flags->prompt != NULL ? flags->prompt : text.length > 0 ? text.data : "";
    request.text_bytes = flags->prompt != NULL ? strlen(flags->prompt) : text.length;
    if (status == STATUS_OK)
        status = send(completion, &request);
    text_buffer_deinit(&text);
    token_list_deinit(&ids);
    return status;
}

static enum status complete(struct complete_flags *flags, int argc, char **argv) {
    int operand = flags->client.settings.first_operand;
    int given = (flags->prompt != NULL) + (flags->file != NULL) + (flags->token_ids != NULL) +
                (argc - operand);
    if (given != 1) {
        LOG_ERROR("complete: expected one prompt (an operand, --prompt, --file or --token-ids), "
                  "got %d",
                  given);
        return STATUS_USAGE;
    }
    if (flags->logprobs >= 0 && !flags->client.json) {
        LOG_ERROR("--logprobs: expected together with --json, got it alone");
        return STATUS_USAGE;
    }
    if (operand < argc)
        flags->prompt = argv[operand];
    struct completion *completion = calloc(1, sizeof *completion);
    if (completion == NULL) {
        LOG_ERROR("complete: cannot take memory for the answer");
        return STATUS_NO_MEMORY;
    }
    completion->flags = flags;
    completion->streams = flags->n == 1 && !flags->client.json;
    enum status status = build_and_send(completion);
    for (int32_t i = 0; i < flags->n; i++) {
        text_buffer_deinit(&completion->choices[i].text);
        text_buffer_deinit(&completion->choices[i].ids);
        text_buffer_deinit(&completion->choices[i].logprobs);
    }
    free(completion);
    return status;
}

enum status command_complete(int argc, char **argv) {
    struct complete_flags flags = {.client = client_flags_default(64), .n = 1, .logprobs = -1};
    struct option_entry entries[COMPLETE_ENTRIES + CLIENT_FLAGS_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Prompt (one of them)"},
        {OPTION_STRING, "prompt", &flags.prompt, "TEXT", "the same as the operand", 0, 0},
        {OPTION_STRING, "file", &flags.file, "PATH", "the text of a file; - is standard input", 0,
         0},
        {OPTION_STRING, "token-ids", &flags.token_ids, "\"1 2 3\"", "ids as they are", 0, 0},
        {.kind = OPTION_HEADING, .name = "Request"},
        {OPTION_INT, "n", &flags.n, "N", "answers to the same prompt; default 1", 1,
         GENERATION_CHOICES_MAX},
        {OPTION_STRING, "request-id", &flags.request_id, "NAME",
         "names the request; default: the server makes one", 0, 0},
        {OPTION_INT, "priority", &flags.priority, "N", "lower is sooner; default 0", INT32_MIN,
         INT32_MAX},
        {OPTION_FLAG, "echo", &flags.echo, NULL, "the prompt stands before the answer", 0, 0},
        {OPTION_FLAG, "keep-special-tokens", &flags.keep_special_tokens, NULL,
         "special tokens show in the text", 0, 0},
        {OPTION_INT, "logprobs", &flags.logprobs, "N",
         "log-probabilities in --json, the N likeliest computed too", 0, SAMPLING_LOGPROBS_MAX},
    };
    struct option_command command = {
        .name = "complete",
        .usage = "[options] [PROMPT]",
        .summary = "Sends a prompt to a running server (moebius serve) and streams its answer. "
                   "Ctrl-C gives the\nrequest up; the server then drops it.",
        .entries = entries};
    command.count = client_flags_entries(&flags.client, entries, COMPLETE_ENTRIES);
    struct settings *settings = &flags.client.settings;
    enum status status = settings_parse(&command, argc, argv, settings);
    if (status == STATUS_OK && !settings->answered)
        status = complete(&flags, argc, argv);
    settings_deinit(settings);
    return status;
}
