/* One POST: for each of its prompts a call of the generation service; what they say is written as
 * it comes (stream) or kept until all are done. Called by http_openai.c; the JSON stands in
 * http_body.c and http_answer.c. */
#include "runtime/http_completion.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/base/log.h"
#include "runtime/http_answer.h"
#include "runtime/http_kept.h"
#include "runtime/http_text.h"

/* One prompt's call. */
struct prompt_call {
    struct completion *completion;
    int32_t number;
    struct generation_call *call; /* NULL: done, or never begun */
    struct http_kept_prompt prompt;
};

struct completion {
    struct generation_service *service;
    struct http_exchange *exchange;
    struct http_answer answer;
    char id[129]; /* 128 characters at most: generation_request.c */
    bool include_usage, continuous_usage, has_begun, is_paused;
    int32_t n;
    int32_t kept_tops;           /* of prompt_logprobs; those that are told may be fewer */
    bool tells_prompt_logprobs;  /* by that name */
    bool echoes_prompt_logprobs; /* before the choice's own */
    int32_t prompt_count, open_count;
    struct prompt_call *calls;        /* [prompt_count] */
    struct http_kept_choice *choices; /* [prompt_count * n] */
    struct generation_usage usage;    /* of all calls that are done, prompts of those that run */
    struct generation_usage so_far;   /* streamed: with the tokens that have been told */
};

/* ---- a completion's life ---- */

static void destroy_completion(struct completion *completion) {
    if (completion == NULL)
        return;
    for (int32_t i = 0; completion->choices != NULL && i < completion->prompt_count * completion->n;
         i++)
        http_kept_choice_deinit(&completion->choices[i]);
    for (int32_t i = 0; completion->calls != NULL && i < completion->prompt_count; i++)
        http_kept_prompt_deinit(&completion->calls[i].prompt);
    free(completion->choices);
    free(completion->calls);
    free(completion);
}

static void cancel_calls(struct completion *completion) {
    for (int32_t i = 0; i < completion->prompt_count; i++)
        if (completion->calls[i].call != NULL)
            generation_service_cancel(completion->calls[i].call);
}

static void pause_calls(struct completion *completion, bool paused) {
    completion->is_paused = paused;
    for (int32_t i = 0; i < completion->prompt_count; i++)
        if (completion->calls[i].call != NULL)
            generation_service_pause(completion->calls[i].call, paused);
}

/* Ends the answer with an error; what still runs is cancelled. */
static void fail_completion(struct completion *completion, enum generation_error error,
                            const struct generation_message *message) {
    struct http_text text;
    cancel_calls(completion);
    if (!completion->has_begun) {
        http_text_reply_error(completion->exchange, error, message);
    } else {
        if (http_text_open(&text)) {
            fputs("data: ", text.file);
            http_answer_error(text.file, error, message->text);
            fputs("\ndata: [DONE]\n\n", text.file);
            if (http_text_close(&text))
                (void)http_exchange_write(completion->exchange, text.bytes, text.length);
            free(text.bytes);
        }
        http_exchange_finish(completion->exchange);
    }
    destroy_completion(completion);
}

/* ---- streamed ---- */

/* One event; choice NULL: usage alone. False: no memory. */
static bool write_event(struct completion *completion, struct http_choice *choice) {
    struct http_text text;
    const struct generation_usage *usage = choice == NULL ? &completion->usage : NULL;
    if (choice != NULL && completion->continuous_usage)
        usage = &completion->so_far;
    if (!http_text_open(&text))
        return false;
    fputs("data: ", text.file);
    http_answer_write(text.file, &completion->answer, choice, choice != NULL ? 1 : 0, usage);
    fputs("\n\n", text.file);
    bool written = http_text_close(&text) &&
                   http_exchange_write(completion->exchange, text.bytes, text.length) == STATUS_OK;
    free(text.bytes);
    if (!completion->is_paused && http_exchange_is_full(completion->exchange))
        pause_calls(completion, true);
    return written;
}

static void fail_for_memory(struct completion *completion) {
    const struct generation_message message = {.text = "the server is out of memory"};
    LOG_ERROR("http: cannot take memory for an answer");
    fail_completion(completion, GENERATION_ERROR_INTERNAL, &message);
}

static void finish_stream(struct completion *completion) {
    bool written = !completion->include_usage || write_event(completion, NULL);
    if (written) /* a stream without [DONE] is not whole, and clients know */
        (void)http_exchange_write(completion->exchange, "data: [DONE]\n\n", 14);
    http_exchange_finish(completion->exchange);
}

/* ---- whole ---- */

/* The prompt's ids go with the first that is said of a choice. */
static void tell_prompt(const struct prompt_call *call, struct http_kept_choice *kept,
                        struct http_choice *choice) {
    if (call->completion->answer.has_ids && !kept->has_prompt)
        choice->prompt_ids = &call->prompt.ids;
    kept->has_prompt = true;
}

/* So do the log-probabilities of what is echoed. */
static void tell_echo(struct prompt_call *call, struct http_kept_choice *kept,
                      struct http_choice *choice) {
    if (!call->completion->echoes_prompt_logprobs || kept->has_echo)
        return;
    choice->echoed = http_logprobs_read(&call->prompt.logprobs, call->completion->kept_tops);
    choice->echoed_count = call->prompt.logprobs.count;
    choice->echo_bytes = call->prompt.echo_bytes;
    kept->has_echo = true;
}

static void reply_whole(struct completion *completion) {
    int32_t count = completion->prompt_count * completion->n;
    struct http_choice *choices = calloc((size_t)count, sizeof *choices);
    struct http_text text;
    if (choices == NULL || !http_text_open(&text)) {
        free(choices);
        http_text_reply_no_memory(completion->exchange);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        struct http_kept_choice *kept = &completion->choices[i];
        struct prompt_call *call = &completion->calls[i / completion->n];
        choices[i] = (struct http_choice){
            .index = i,
            .text = kept->text.length > 0 ? kept->text.data : "",
            .text_bytes = kept->text.length,
            .ids = kept->ids.ids,
            .id_count = kept->ids.count,
            .logprobs = http_logprobs_read(&kept->logprobs, completion->answer.tops),
            .logprob_count = kept->logprobs.count,
            .end = &kept->end,
            .prompt_count = call->prompt.logprobs.count};
        if (completion->tells_prompt_logprobs)
            choices[i].prompt_logprobs =
                http_logprobs_read(&call->prompt.logprobs, completion->kept_tops);
        tell_prompt(call, kept, &choices[i]);
        tell_echo(call, kept, &choices[i]);
    }
    http_answer_write(text.file, &completion->answer, choices, count, &completion->usage);
    fputc('\n', text.file);
    http_text_reply(&text, completion->exchange, 200, "application/json");
    free(choices);
}

/* ---- what the service tells ---- */

static struct http_kept_choice *choice_of(struct prompt_call *call, int32_t index,
                                          int32_t *number) {
    *number = call->number * call->completion->n + index;
    return &call->completion->choices[*number];
}

static void see_start(void *context, const struct generation_start *start) {
    struct prompt_call *call = context;
    struct completion *completion = call->completion;
    completion->usage.prompt_tokens += start->prompt_tokens;
    completion->usage.cached_tokens += start->cached_tokens;
    completion->so_far.prompt_tokens += start->prompt_tokens;
    completion->so_far.cached_tokens += start->cached_tokens;
    bool has_logprobs = !completion->answer.is_stream || completion->echoes_prompt_logprobs;
    if (!http_kept_prompt_set(&call->prompt, start, completion->answer.has_ids, has_logprobs,
                              completion->kept_tops)) {
        fail_for_memory(completion);
        return;
    }
    if (!completion->answer.is_stream)
        return;
    if (!completion->has_begun) {
        http_exchange_begin(completion->exchange, "text/event-stream");
        completion->has_begun = true;
    }
    if (!completion->answer.is_chat && !completion->tells_prompt_logprobs)
        return;
    bool written = true;
    for (int32_t i = 0; i < completion->n && written;
         i++) { /* a chat's first event tells the role */
        struct http_choice first = {.is_first = true,
                                    .text = "",
                                    .prompt_logprobs = start->prompt_logprobs,
                                    .prompt_count = start->prompt_tokens};
        tell_prompt(call, choice_of(call, i, &first.index), &first);
        written = write_event(completion, &first);
    }
    if (!written)
        fail_for_memory(completion);
}

static void see_delta(void *context, const struct generation_delta *delta) {
    struct prompt_call *call = context;
    struct completion *completion = call->completion;
    int32_t number;
    struct http_kept_choice *kept = choice_of(call, delta->index, &number);
    if (!completion->answer.is_stream) {
        if (!http_kept_choice_add(kept, delta, completion->answer.has_ids, completion->answer.tops))
            fail_for_memory(completion);
        return;
    }
    completion->so_far.completion_tokens += delta->id_count;
    bool has_ids = completion->answer.has_ids && delta->id_count > 0;
    if (delta->text_bytes == 0 && delta->logprobs == NULL && !has_ids)
        return;
    struct http_choice news = {.index = number,
                               .text = delta->text,
                               .text_bytes = delta->text_bytes,
                               .ids = delta->ids,
                               .id_count = delta->id_count,
                               .logprobs = delta->logprobs,
                               .logprob_count = delta->logprobs != NULL ? delta->id_count : 0,
                               .text_offset = kept->text_offset};
    tell_prompt(call, kept, &news);
    tell_echo(call, kept, &news);
    bool written = write_event(completion, &news);
    kept->text_offset = news.text_offset;
    if (!written)
        fail_for_memory(completion);
}

static void see_end(void *context, const struct generation_end_of_choice *end) {
    struct prompt_call *call = context;
    int32_t number;
    struct http_kept_choice *kept = choice_of(call, end->index, &number);
    if (call->completion->answer.is_stream) {
        struct http_choice last = {.index = number, .text = "", .end = end};
        tell_prompt(call, kept, &last);
        tell_echo(call, kept, &last); /* where there was nothing else to tell */
        if (!write_event(call->completion, &last))
            fail_for_memory(call->completion);
        return;
    }
    if (!http_kept_choice_end(kept, end))
        fail_for_memory(call->completion);
}

static void see_done(void *context, const struct generation_usage *usage) {
    struct prompt_call *call = context;
    struct completion *completion = call->completion;
    call->call = NULL;
    completion->usage.completion_tokens += usage->completion_tokens;
    if (--completion->open_count > 0)
        return;
    if (completion->answer.is_stream)
        finish_stream(completion);
    else
        reply_whole(completion);
    destroy_completion(completion);
}

static void see_error(void *context, enum generation_error error, const char *text) {
    struct prompt_call *call = context;
    struct generation_message message = {.retry_after_ms = 1000};
    call->call = NULL;
    snprintf(message.text, sizeof message.text, "%s", text);
    fail_completion(call->completion, error, &message);
}

static struct completion *create_completion(struct generation_service *service,
                                            struct http_exchange *exchange,
                                            const struct http_body *body) {
    struct completion *completion = calloc(1, sizeof *completion);
    if (completion == NULL)
        return NULL;
    completion->service = service;
    completion->exchange = exchange;
    completion->include_usage = body->include_usage;
    completion->continuous_usage = body->include_usage && body->continuous_usage; /* as vLLM */
    completion->n = body->request.n;
    completion->kept_tops = body->request.prompt_logprobs;
    completion->tells_prompt_logprobs = body->prompt_logprobs >= 0;
    completion->echoes_prompt_logprobs =
        !body->is_chat && body->request.echo && body->request.sampling.logprobs >= 0;
    completion->prompt_count = body->prompt_count;
    completion->calls = calloc((size_t)body->prompt_count, sizeof *completion->calls);
    completion->choices =
        calloc((size_t)body->prompt_count * (size_t)completion->n, sizeof *completion->choices);
    if (completion->calls == NULL || completion->choices == NULL) {
        destroy_completion(completion);
        return NULL;
    }
    const struct generation_service_options *options = generation_service_options(service);
    bool has_text = generation_service_has_text(service); /* ids are all that there is, if not */
    completion->answer = (struct http_answer){.service = service,
                                              .is_chat = body->is_chat,
                                              .is_stream = body->stream,
                                              .has_ids = body->return_token_ids || !has_text,
                                              .tokens_as_ids = body->tokens_as_ids || !has_text,
                                              .keep_special = body->request.keep_special_tokens,
                                              .tops = body->request.sampling.logprobs,
                                              .prompt_tops = body->prompt_logprobs,
                                              .id = completion->id,
                                              .model = options->limits.model_names[0],
                                              .created_s = (int64_t)time(NULL)};
    return completion;
}

/* Hands in one call a prompt; all or none. */
static enum generation_error submit_prompts(struct completion *completion, struct http_body *body,
                                            struct generation_message *message) {
    for (int32_t i = 0; i < body->prompt_count; i++) {
        struct prompt_call *call = &completion->calls[i];
        *call = (struct prompt_call){.completion = completion, .number = i};
        struct generation_listener listener = {.start = see_start,
                                               .delta = see_delta,
                                               .end = see_end,
                                               .done = see_done,
                                               .error = see_error,
                                               .context = call};
        http_body_choose(body, i);
        body->request.together = i == 0 ? body->request.n * body->prompt_count : 0;
        if (i > 0)
            body->request.request_id = NULL;
        enum generation_error error = generation_service_submit(completion->service, &body->request,
                                                                &listener, &call->call, message);
        if (error != GENERATION_ERROR_NONE)
            return error;
        completion->open_count++;
    }
    snprintf(completion->id, sizeof completion->id, "%s",
             generation_service_request_id(completion->calls[0].call));
    return GENERATION_ERROR_NONE;
}

void http_completion_begin(struct generation_service *service, struct http_exchange *exchange,
                           struct http_body *body) {
    struct generation_message message = {.text = "the server is out of memory"};
    struct completion *completion = create_completion(service, exchange, body);
    if (completion == NULL) {
        generation_service_count_refusal(service, GENERATION_ERROR_INTERNAL);
        http_text_reply_error(exchange, GENERATION_ERROR_INTERNAL, &message);
        return;
    }
    http_exchange_set_data(exchange, completion);
    enum generation_error error = submit_prompts(completion, body, &message);
    if (error != GENERATION_ERROR_NONE) {
        generation_service_count_refusal(service, error);
        fail_completion(completion, error, &message);
    } else { /* OpenAI's clients tell it when asked what went wrong */
        http_exchange_add_header(exchange, "x-request-id", completion->id);
    }
}

void http_completion_forget(struct http_exchange *exchange) {
    struct completion *completion = http_exchange_data(exchange);
    cancel_calls(completion);
    destroy_completion(completion);
}

void http_completion_go_on(struct http_exchange *exchange) {
    pause_calls(http_exchange_data(exchange), false);
}
