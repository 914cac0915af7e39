/* The listener that engine tests share. */
#include "tests/support/engine_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void violation(struct engine_session *session, const char *what, int32_t handle) {
    session->violations++;
    printf("VIOLATION: request %d: %s\n", handle, what);
}

static void end_stream(struct engine_session *session, int32_t handle) {
    session->streams[handle]->ended = true;
    session->streams[handle] = NULL;
}

static void take_token(void *context, const struct engine_token *token) {
    struct engine_session *session = context;
    struct engine_stream *stream = session->streams[token->request];
    if (stream == NULL) {
        violation(session, "a token, but it does not run", token->request);
        return;
    }
    if (token->id < 0) {
        stream->finish = token->finish;
        end_stream(session, token->request);
        return;
    }
    if (token->position != stream->prompt_count + stream->count)
        violation(session, "a wrong position", token->request);
    if (token->id < 0 || token->id >= engine_spec(session->engine)->vocabulary)
        violation(session, "an id out of range", token->request);
    if (stream->count == ENGINE_SESSION_TOKENS_MAX) {
        violation(session, "too many tokens", token->request);
        return;
    }
    stream->logprobs[stream->count] =
        token->logprobs != NULL ? token->logprobs->chosen.logprob : 0.0;
    for (int32_t i = 0; token->logprobs != NULL && i < token->logprobs->top_count; i++)
        stream->top[stream->count] += token->logprobs->top[i].logprob + token->logprobs->top[i].id;
    stream->cached = token->cached;
    stream->ids[stream->count++] = token->id;
    stream->finish = token->finish;
    if (stream->finish == ENGINE_RUNNING && stream->count == stream->cancel_at)
        engine_session_cancel(session, token->request);
    else if (stream->finish != ENGINE_RUNNING)
        end_stream(session, token->request);
}

static void take_logits(void *context, int32_t request, int32_t position, const float *logits) {
    struct engine_session *session = context;
    struct engine_stream *stream = session->streams[request];
    (void)logits;
    if (stream == NULL)
        return; /* of a request that was cancelled earlier in this step */
    stream->logit_rows++;
    stream->logit_position = position;
}

static void take_prompt_logprobs(void *context, int32_t request, int32_t position,
                                 const struct sampler_logprobs *logprobs) {
    struct engine_session *session = context;
    struct engine_stream *stream = session->streams[request];
    if (position != ++stream->prompt_scored || stream->count > 0 ||
        position >= ENGINE_SESSION_TOKENS_MAX)
        violation(session, "a prompt position out of order", request);
    else
        stream->prompt_logprobs[position] = logprobs->chosen.logprob + logprobs->rank +
                                            (logprobs->top_count > 0 ? logprobs->top[0].id : 0);
}

void engine_session_open(struct engine_session *session, const struct engine_options *options) {
    memset(session, 0, sizeof *session);
    enum status status = options->requests > ENGINE_SESSION_REQUESTS_MAX
                             ? STATUS_LIMIT
                             : engine_create(options, &session->engine);
    if (status != STATUS_OK) {
        printf("FAILED: engine of %s: %s\n", options->model_folder, status_name(status));
        exit(1);
    }
    session->listener = (struct engine_listener){.token = take_token,
                                                 .prompt_logprobs = take_prompt_logprobs,
                                                 .logits = take_logits,
                                                 .context = session};
}

void engine_session_close(struct engine_session *session) {
    engine_destroy(session->engine);
    session->engine = NULL;
}

enum status engine_session_submit(struct engine_session *session,
                                  const struct engine_request *request,
                                  struct engine_stream *stream, int32_t *handle) {
    RETURN_IF_ERROR(engine_submit(session->engine, request, handle));
    if (session->streams[*handle] != NULL)
        violation(session, "its handle is in use", *handle);
    session->streams[*handle] = stream;
    stream->prompt_count = request->prompt_count;
    return STATUS_OK;
}

void engine_session_cancel(struct engine_session *session, int32_t handle) {
    engine_cancel(session->engine, handle);
    end_stream(session, handle);
}

enum status engine_session_step(struct engine_session *session) {
    return engine_step(session->engine, &session->listener);
}

void engine_session_run(struct engine_session *session, const struct engine_request *request,
                        struct engine_stream *stream) {
    int32_t handle;
    enum status status = engine_session_submit(session, request, stream, &handle);
    while (status == STATUS_OK && engine_running(session->engine) > 0)
        status = engine_session_step(session);
    if (status == STATUS_OK)
        return;
    printf("FAILED: a request alone: %s\n", status_name(status));
    exit(1);
}
