/* From published tokens to a client's deltas, choice by choice. Runs on the network thread,
 * whenever the engine thread has said that something changed. */
#include "runtime/generation_call.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"

/* ---- making and freeing ---- */

static enum status copy_stops(const struct generation_request *request,
                              struct generation_call *call) {
    if (request->stop_count == 0)
        return STATUS_OK;
    call->stop = calloc((size_t)request->stop_count, sizeof *call->stop);
    if (call->stop == NULL)
        return STATUS_NO_MEMORY;
    call->stop_count = request->stop_count;
    for (int32_t i = 0; i < request->stop_count; i++) {
        size_t bytes = strlen(request->stop[i]) + 1;
        call->stop[i] = malloc(bytes);
        if (call->stop[i] == NULL)
            return STATUS_NO_MEMORY;
        memcpy(call->stop[i], request->stop[i], bytes);
    }
    return STATUS_OK;
}

/* A text is echoed as it came; ids and conversations as their tokens read. */
static enum status take_echo(const struct generation_request *request,
                             const struct tokenizer *tokenizer, struct generation_call *call) {
    struct text_buffer text = {0};
    enum status status;
    if (!request->echo || call->no_text)
        return STATUS_OK;
    if (request->text != NULL && request->truncate_prompt_tokens == 0)
        status = text_buffer_append(&text, request->text, request->text_bytes);
    else
        status =
            tokenizer_decode(tokenizer, call->generation->prompt, call->generation->prompt_count,
                             !request->keep_special_tokens, &text);
    call->prompt_text = text.data;
    call->prompt_text_bytes = text.length;
    return status;
}

static enum status init_texts(struct generation_call *call, const struct tokenizer *tokenizer,
                              int32_t min_tokens) {
    struct reply_text_options options = {.tokenizer = tokenizer,
                                         .stop = (const char *const *)call->stop,
                                         .stop_count = call->stop_count,
                                         .min_tokens = min_tokens,
                                         .include_stop = call->include_stop,
                                         .keep_special = call->keep_special,
                                         .follows_prompt = true};
    for (int32_t i = 0; i < call->generation->n; i++)
        RETURN_IF_ERROR(reply_text_init(&call->choices[i].text, &options));
    return STATUS_OK;
}

static enum status fill_call(const struct generation_request *request,
                             const struct tokenizer *tokenizer, struct generation_call *call) {
    call->no_text = request->no_text || tokenizer == NULL;
    call->include_stop = request->include_stop;
    call->keep_special = request->keep_special_tokens;
    call->stream_interval = request->stream_interval;
    call->choices = calloc((size_t)call->generation->n, sizeof *call->choices);
    if (call->choices == NULL)
        return STATUS_NO_MEMORY;
    RETURN_IF_ERROR(copy_stops(request, call));
    RETURN_IF_ERROR(take_echo(request, tokenizer, call));
    return init_texts(call, tokenizer, request->min_tokens);
}

enum status generation_call_create(const struct generation_request *request,
                                   const struct generation_listener *listener,
                                   const struct tokenizer *tokenizer, struct generation *generation,
                                   struct generation_call **out) {
    struct generation_call *call = calloc(1, sizeof *call);
    if (call == NULL)
        return STATUS_NO_MEMORY;
    call->listener = *listener;
    call->generation = generation;
    enum status status = fill_call(request, tokenizer, call);
    if (status != STATUS_OK) {
        call->generation = NULL; /* still the caller's */
        generation_call_destroy(call);
        return status;
    }
    generation->owner = call;
    *out = call;
    return STATUS_OK;
}

void generation_call_destroy(struct generation_call *call) {
    if (call == NULL)
        return;
    for (int32_t i = 0; call->generation != NULL && i < call->generation->n; i++)
        reply_text_deinit(&call->choices[i].text);
    for (int32_t i = 0; i < call->stop_count; i++)
        free(call->stop[i]);
    free((void *)call->stop);
    free(call->choices);
    free(call->prompt_text);
    generation_destroy(call->generation);
    free(call);
}

/* ---- ends ---- */

void generation_call_cancel_choices(struct generation_call *call, struct engine_loop *loop) {
    for (int32_t i = 0; i < call->generation->n; i++)
        engine_loop_cancel(loop, call->generation, i);
}

static enum metrics_counter reason_counter(enum generation_finish finish) {
    switch (finish) {
    case GENERATION_EOS:
    case GENERATION_STOP_TEXT:
    case GENERATION_STOP_TOKEN:
        return METRICS_FINISHED_STOP;
    case GENERATION_LENGTH:
        return METRICS_FINISHED_LENGTH;
    case GENERATION_TIME_LIMIT:
        return METRICS_FINISHED_TIME_LIMIT;
    case GENERATION_ABORTED:
        return METRICS_FINISHED_ABORT;
    case GENERATION_RUNNING:
    case GENERATION_DEADLINE:
    case GENERATION_FAILED:
        break;
    }
    return METRICS_FINISHED_ERROR;
}

void generation_call_fail(struct generation_call *call, enum generation_error error,
                          const char *message, const struct generation_call_tools *tools) {
    int32_t open = call->generation->n - call->ended_count;
    metrics_add(tools->metrics, METRICS_FINISHED_ERROR, open);
    generation_call_cancel_choices(call, tools->loop);
    call->detached = true;
    if (call->listener.error != NULL)
        call->listener.error(call->listener.context, error, message);
}

static void fail_with_status(struct generation_call *call,
                             const struct generation_call_tools *tools) {
    enum status failure = call->generation->failure;
    if (failure == STATUS_OK)
        generation_call_fail(call, GENERATION_ERROR_UNAVAILABLE, "the server is ending", tools);
    else if (failure == STATUS_PEER)
        generation_call_fail(call, GENERATION_ERROR_UNAVAILABLE, "a rank of the server was lost",
                             tools);
    else if (failure == STATUS_INTERNAL)
        generation_call_fail(call, GENERATION_ERROR_INTERNAL,
                             "the model gave no finite logits for this request", tools);
    else
        generation_call_fail(call, GENERATION_ERROR_INTERNAL, status_name(failure), tools);
}

static double seconds(int64_t from_ns, int64_t to_ns) {
    return to_ns > from_ns ? (double)(to_ns - from_ns) * 1e-9 : 0.0;
}

static int64_t begin_of(const struct generation_choice *choice) {
    return choice->admitted_ns > 0 ? choice->admitted_ns : choice->first_token_ns;
}

/* Each choice counts as a request, as in vLLM. */
static void observe_choice(const struct generation_call *call, int32_t index,
                           struct metrics *metrics) {
    const struct generation *generation = call->generation;
    const struct generation_choice *choice = &generation->choices[index];
    int64_t first_ns = choice->first_token_ns, end_ns = call->choices[index].end_ns;
    int32_t told = call->choices[index].told;
    if (first_ns == 0)
        return;
    double decode = seconds(first_ns, end_ns);
    metrics_observe(metrics, METRICS_E2E_REQUEST_LATENCY,
                    seconds(generation->submitted_ns, end_ns));
    metrics_observe(metrics, METRICS_REQUEST_QUEUE_TIME,
                    seconds(generation->submitted_ns, begin_of(choice)));
    metrics_observe(metrics, METRICS_REQUEST_PREFILL_TIME, seconds(begin_of(choice), first_ns));
    metrics_observe(metrics, METRICS_REQUEST_DECODE_TIME, decode);
    metrics_observe(metrics, METRICS_REQUEST_INFERENCE_TIME, seconds(begin_of(choice), end_ns));
    metrics_observe(metrics, METRICS_REQUEST_PROMPT_TOKENS, generation->prompt_count);
    metrics_observe(metrics, METRICS_REQUEST_GENERATION_TOKENS, told);
    metrics_observe(metrics, METRICS_REQUEST_PARAMS_MAX_TOKENS,
                    generation->prompt_only ? 0 : generation->max_tokens);
    if (told > 1)
        metrics_observe(metrics, METRICS_REQUEST_TIME_PER_OUTPUT_TOKEN, decode / (told - 1));
}

static void finish_call(struct generation_call *call, const struct generation_call_tools *tools) {
    const struct generation *generation = call->generation;
    int64_t begun_ns = 0, first_ns = 0, last_ns = 0;
    int32_t longest = 0;
    struct generation_usage usage = {.prompt_tokens = generation->prompt_count,
                                     .cached_tokens = generation->cached_tokens,
                                     .total_ns = clock_now_ns() - generation->submitted_ns};
    for (int32_t i = 0; i < generation->n; i++) {
        const struct generation_choice *choice = &generation->choices[i];
        int32_t told = call->choices[i].told;
        usage.completion_tokens += told;
        longest = told > longest ? told : longest;
        if (choice->first_token_ns == 0)
            continue;
        if (begun_ns == 0 || begin_of(choice) < begun_ns)
            begun_ns = begin_of(choice);
        if (first_ns == 0 || choice->first_token_ns < first_ns)
            first_ns = choice->first_token_ns;
        last_ns = call->choices[i].end_ns > last_ns ? call->choices[i].end_ns : last_ns;
    }
    if (first_ns > 0) {
        usage.queue_ns = begun_ns - generation->submitted_ns;
        usage.prefill_ns = first_ns - begun_ns;
        usage.first_token_ns = first_ns - generation->submitted_ns;
        usage.decode_ns = (int64_t)(seconds(first_ns, last_ns) * 1e9);
        metrics_observe(tools->metrics, METRICS_REQUEST_PARAMS_N, generation->n);
        metrics_observe(tools->metrics, METRICS_REQUEST_MAX_GENERATION_TOKENS, longest);
    }
    call->detached = true;
    if (call->listener.done != NULL)
        call->listener.done(call->listener.context, &usage);
}

/* ---- deltas ---- */

static void tell_start(struct generation_call *call) {
    const struct generation *generation = call->generation;
    call->started = true;
    if (call->listener.start == NULL)
        return;
    struct generation_start start = {.request_id = call->request_id,
                                     .prompt = generation->prompt,
                                     .prompt_tokens = generation->prompt_count,
                                     .cached_tokens = generation->cached_tokens,
                                     .prompt_logprobs = generation->prompt_logprob,
                                     .echo_bytes = call->prompt_text_bytes};
    call->listener.start(call->listener.context, &start);
}

/* Makes text of tokens told .. tokens - 1, up to a stop string; sets told. */
static enum status make_text(struct generation_call *call, int32_t index,
                             const struct generation_progress *progress,
                             const struct generation_call_tools *tools) {
    struct call_choice *choice = &call->choices[index];
    const struct generation_choice *from = &call->generation->choices[index];
    bool stops = progress->finish == GENERATION_EOS || progress->finish == GENERATION_STOP_TOKEN;
    if (call->no_text && call->stop_count == 0) {
        choice->told = progress->tokens;
        return STATUS_OK;
    }
    while (choice->told < progress->tokens) {
        int32_t place = choice->told++;
        bool is_stop = stops && place == progress->tokens - 1;
        if (is_stop && !call->include_stop)
            continue;
        RETURN_IF_ERROR(
            reply_text_push(&choice->text, from->ids[place], tools->scratch, tools->text));
        if (choice->text.stop.matched >= 0)
            return STATUS_OK; /* what was generated beyond it was never said */
    }
    if (progress->finish == GENERATION_RUNNING)
        return STATUS_OK;
    return reply_text_finish(&choice->text, tools->scratch, tools->text);
}

static void tell_end(struct generation_call *call, int32_t index,
                     const struct generation_progress *progress,
                     const struct generation_call_tools *tools) {
    struct call_choice *choice = &call->choices[index];
    const struct generation_choice *from = &call->generation->choices[index];
    int32_t matched = choice->text.stop.matched;
    choice->finish = matched >= 0 ? GENERATION_STOP_TEXT : progress->finish;
    choice->ended = true;
    /* A choice that a stop string ended may still run over there. */
    choice->end_ns = progress->finish != GENERATION_RUNNING ? from->last_token_ns : clock_now_ns();
    call->ended_count++;
    metrics_add(tools->metrics, reason_counter(choice->finish), 1);
    observe_choice(call, index, tools->metrics);
    if (progress->finish == GENERATION_RUNNING)
        engine_loop_cancel(tools->loop, call->generation, index);
    bool by_id = choice->finish == GENERATION_EOS || choice->finish == GENERATION_STOP_TOKEN;
    struct generation_end_of_choice end = {.index = index,
                                           .finish = choice->finish,
                                           .matched_stop =
                                               matched >= 0 ? call->stop[matched] : NULL,
                                           .matched_id = by_id ? from->ids[choice->told - 1] : -1,
                                           .seed = from->seed,
                                           .tokens = choice->told};
    if (call->listener.end != NULL)
        call->listener.end(call->listener.context, &end);
}

static void tell_delta(struct generation_call *call, int32_t index, int32_t first,
                       const struct generation_call_tools *tools) {
    const struct generation_choice *from = &call->generation->choices[index];
    int32_t count = call->choices[index].told - first;
    struct generation_delta delta = {.index = index,
                                     .text = tools->text->data,
                                     .text_bytes = call->no_text ? 0 : tools->text->length,
                                     .ids = from->ids + first,
                                     .id_count = count,
                                     .logprobs =
                                         from->logprobs != NULL ? from->logprobs + first : NULL};
    if ((count > 0 || delta.text_bytes > 0) && call->listener.delta != NULL)
        call->listener.delta(call->listener.context, &delta);
}

/* The prompt's log-probabilities come first, and choice 0 brings them. */
static bool waits_for_prompt(const struct generation *generation) {
    struct generation_progress first = generation_read(&generation->choices[0]);
    return generation->prompt_logprob != NULL && first.tokens == 0 &&
           first.finish == GENERATION_RUNNING;
}

/* Whether the reader wants to hear of a choice already. */
static bool is_due(const struct generation_call *call, const struct call_choice *choice,
                   const struct generation_progress *progress) {
    if (!call->started && waits_for_prompt(call->generation))
        return false;
    if (progress->finish != GENERATION_RUNNING)
        return true;
    int32_t fresh = progress->tokens - choice->told;
    return fresh > 0 && (choice->told == 0 || fresh >= call->stream_interval);
}

static void deliver_choice(struct generation_call *call, int32_t index,
                           const struct generation_call_tools *tools) {
    struct call_choice *choice = &call->choices[index];
    struct generation_progress progress = generation_read(&call->generation->choices[index]);
    if (choice->ended || !is_due(call, choice, &progress))
        return;
    if (progress.finish == GENERATION_DEADLINE) {
        generation_call_fail(call, GENERATION_ERROR_DEADLINE, "the deadline has passed", tools);
        return;
    }
    if (progress.finish == GENERATION_FAILED) {
        fail_with_status(call, tools);
        return;
    }
    if (!call->started)
        tell_start(call);
    if (call->detached)
        return; /* cancelled by the listener, whose context may be gone */
    int32_t first = choice->told;
    tools->text->length = 0;
    enum status status = STATUS_OK;
    if (first == 0 && call->prompt_text != NULL)
        status = text_buffer_append(tools->text, call->prompt_text, call->prompt_text_bytes);
    if (status == STATUS_OK)
        status = make_text(call, index, &progress, tools);
    if (status != STATUS_OK) {
        generation_call_fail(call, GENERATION_ERROR_FULL, "no memory for this request's text",
                             tools);
        return;
    }
    tell_delta(call, index, first, tools);
    if (!call->detached &&
        (choice->text.stop.matched >= 0 || progress.finish != GENERATION_RUNNING))
        tell_end(call, index, &progress, tools);
}

void generation_call_deliver(struct generation_call *call,
                             const struct generation_call_tools *tools) {
    for (int32_t i = 0; i < call->generation->n && !call->detached && !call->paused; i++)
        deliver_choice(call, i, tools);
    if (!call->detached && !call->paused && call->ended_count == call->generation->n)
        finish_call(call, tools);
}
