/* The server without doors that the serving tests share. */
#include "tests/support/service_session.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_MS 30000

static void need(bool fine, const char *what) {
    if (fine)
        return;
    printf("FAILED: service session: %s\n", what);
    exit(1);
}

static void *run_loop(void *context) {
    struct service_session *session = context;
    session->ended = engine_loop_run(session->loop);
    return NULL;
}

void service_session_open(struct service_session *session,
                          const struct service_session_options *options) {
    static const char *const names[] = {"test-model", "alias"};
    char path[512];
    memset(session, 0, sizeof *session);
    struct engine_options engine = {.model_folder = options->folder,
                                    .isa = cpu_isa_best(),
                                    .threads = 1,
                                    .positions = options->positions,
                                    .requests = options->places,
                                    .waiting = options->waiting,
                                    .rows = options->rows,
                                    .kv_tokens = options->kv_tokens,
                                    .no_prefix_cache = options->no_prefix_cache};
    need(engine_create(&engine, &session->engine) == STATUS_OK, "engine");
    snprintf(path, sizeof path, "%s/tokenizer.json", options->folder);
    need(tokenizer_load(path, &session->tokenizer) == STATUS_OK, "tokenizer");
    need(chat_template_load(options->folder, &session->chat) == STATUS_OK, "chat template");
    need(metrics_create(1, &session->metrics) == STATUS_OK, "metrics");
    struct engine_loop_options loop = {.engine = session->engine,
                                       .metrics = session->metrics,
                                       .sequences = options->places + options->waiting};
    need(engine_loop_create(&loop, &session->loop) == STATUS_OK, "engine loop");
    struct generation_service_options service = {
        .loop = session->loop,
        .metrics = session->metrics,
        .limits = {.spec = engine_spec(session->engine),
                   .tokenizer = session->tokenizer,
                   .chat = session->chat,
                   .model_names = names,
                   .model_name_count = 2,
                   .positions = options->positions,
                   .sequences = options->places + options->waiting},
        .dtype = "float32",
        .step_overdue_ns = INT64_C(60000000000)};
    need(generation_service_create(&service, &session->service) == STATUS_OK, "service");
    need(pthread_create(&session->thread, NULL, run_loop, session) == 0, "thread");
}

void service_session_stop(struct service_session *session) {
    if (session->joined)
        return;
    engine_loop_stop(session->loop);
    need(pthread_join(session->thread, NULL) == 0, "join");
    session->joined = true;
}

void service_session_close(struct service_session *session) {
    service_session_stop(session);
    generation_service_destroy(session->service);
    engine_loop_destroy(session->loop);
    metrics_destroy(session->metrics);
    chat_template_destroy(session->chat);
    tokenizer_destroy(session->tokenizer);
    engine_destroy(session->engine);
}

void service_session_turn(struct service_session *session) {
    struct pollfd event = {.fd = generation_service_event_fd(session->service), .events = POLLIN};
    need(poll(&event, 1, TURN_MS) == 1, "no news for 30 s");
    generation_service_poll(session->service);
}

/* ---- what calls are told ---- */

static bool is_over(const struct service_answer *answer) {
    return answer->done || answer->call == NULL;
}

static void on_start(void *context, const struct generation_start *start) {
    struct service_answer *answer = context;
    answer->violations += is_over(answer) || answer->deltas > 0;
    answer->starts++;
    answer->prompt_tokens = start->prompt_tokens;
    answer->cached_tokens = start->cached_tokens;
    for (int32_t i = 0; i < start->prompt_tokens; i++) {
        need(token_list_append(&answer->prompt, start->prompt[i]) == STATUS_OK, "memory");
        if (start->prompt_logprobs != NULL && i > 0)
            answer->prompt_logprob_sum += (double)start->prompt_logprobs[i].logprob;
    }
    if (start->prompt_logprobs != NULL)
        answer->violations += !isnan(start->prompt_logprobs[0].logprob);
}

static void on_delta(void *context, const struct generation_delta *delta) {
    struct service_answer *answer = context;
    struct service_choice *choice = &answer->choices[delta->index];
    answer->violations += is_over(answer) || choice->ended || answer->starts != 1;
    answer->deltas++;
    if (delta->text_bytes > 0)
        need(text_buffer_append(&choice->text, delta->text, delta->text_bytes) == STATUS_OK,
             "memory");
    for (int32_t i = 0; i < delta->id_count; i++) {
        need(token_list_append(&choice->ids, delta->ids[i]) == STATUS_OK, "memory");
        if (delta->logprobs == NULL)
            continue;
        answer->violations += delta->logprobs[i].id != delta->ids[i];
        choice->logprob_sum += (double)delta->logprobs[i].logprob;
    }
    if (answer->cancel_after > 0 && answer->choices[0].ids.count >= answer->cancel_after) {
        generation_service_cancel(answer->call);
        answer->call = NULL;
    }
}

static void on_end(void *context, const struct generation_end_of_choice *end) {
    struct service_answer *answer = context;
    struct service_choice *choice = &answer->choices[end->index];
    answer->violations += is_over(answer) || choice->ended || end->tokens != choice->ids.count;
    choice->ended = true;
    choice->end = *end;
}

static void on_done(void *context, const struct generation_usage *usage) {
    struct service_answer *answer = context;
    answer->violations += is_over(answer);
    answer->usage = *usage;
    answer->done = true;
    answer->call = NULL;
}

static void on_error(void *context, enum generation_error error, const char *message) {
    struct service_answer *answer = context;
    answer->violations += is_over(answer);
    answer->error = error;
    snprintf(answer->message.text, sizeof answer->message.text, "%s", message);
    answer->call = NULL;
}

enum generation_error service_session_submit(struct service_session *session,
                                             const struct generation_request *request,
                                             struct service_answer *answer) {
    struct generation_listener listener = {.start = on_start,
                                           .delta = on_delta,
                                           .end = on_end,
                                           .done = on_done,
                                           .error = on_error,
                                           .context = answer};
    answer->error = generation_service_submit(session->service, request, &listener, &answer->call,
                                              &answer->message);
    if (answer->error != GENERATION_ERROR_NONE) /* as a door does */
        generation_service_count_refusal(session->service, answer->error);
    return answer->error;
}

void service_session_finish(struct service_session *session, struct service_answer *answer) {
    while (answer->call != NULL)
        service_session_turn(session);
}

static bool same_choice(const struct service_choice *a, const struct service_choice *b) {
    return a->ended == b->ended && a->end.finish == b->end.finish && a->ids.count == b->ids.count &&
           a->end.seed == b->end.seed && a->text.length == b->text.length &&
           a->logprob_sum == b->logprob_sum &&
           (a->ids.count == 0 ||
            memcmp(a->ids.ids, b->ids.ids, sizeof *a->ids.ids * (size_t)a->ids.count) == 0) &&
           (a->text.length == 0 || memcmp(a->text.data, b->text.data, a->text.length) == 0);
}

bool service_answer_equal(const struct service_answer *a, const struct service_answer *b) {
    for (int32_t i = 0; i < SERVICE_CHOICES_MAX; i++)
        if (!same_choice(&a->choices[i], &b->choices[i]))
            return false;
    return a->done == b->done && a->error == b->error &&
           a->usage.completion_tokens == b->usage.completion_tokens &&
           a->prompt_logprob_sum == b->prompt_logprob_sum;
}

void service_answer_deinit(struct service_answer *answer) {
    for (int32_t i = 0; i < SERVICE_CHOICES_MAX; i++) {
        text_buffer_deinit(&answer->choices[i].text);
        token_list_deinit(&answer->choices[i].ids);
    }
    token_list_deinit(&answer->prompt);
}
