/* An engine and what its requests said, for tests: tokens arrive in streams of the caller's, and
 * whatever an engine must never tell is counted. */
#ifndef MOEBIUS_TESTS_SUPPORT_ENGINE_SESSION_H
#define MOEBIUS_TESTS_SUPPORT_ENGINE_SESSION_H

#include "runtime/engine.h"

#define ENGINE_SESSION_REQUESTS_MAX 64
#define ENGINE_SESSION_TOKENS_MAX 256

/* What one request said. {0}, or with cancel_at, before it is submitted. */
struct engine_stream {
    int32_t ids[ENGINE_SESSION_TOKENS_MAX];
    double logprobs[ENGINE_SESSION_TOKENS_MAX]; /* of the chosen ids; 0 where not asked for */
    double top[ENGINE_SESSION_TOKENS_MAX];      /* sum of the likeliest ids' and their ids */
    int32_t count;
    int32_t prompt_count;
    double prompt_logprobs[ENGINE_SESSION_TOKENS_MAX]; /* of the prompt's tokens, by position */
    int32_t prompt_scored;                             /* positions heard, in order from 1 on */
    int32_t cached;                                    /* of the prompt, from the prefix cache */
    int32_t logit_rows;                                /* calls of listener.logits */
    int32_t logit_position;                            /* of the last one */
    enum engine_finish finish; /* ENGINE_RUNNING: not finished, or cancelled */
    int32_t cancel_at;         /* cancelled from inside the listener at this count; 0: never */
    bool ended;                /* finished or cancelled */
};

struct engine_session {
    struct engine *engine;
    struct engine_listener listener;
    struct engine_stream *streams[ENGINE_SESSION_REQUESTS_MAX]; /* by handle; NULL: not running */
    int32_t violations; /* tokens of requests that do not run, wrong positions, ids out of range */
};

/* Prints why and exits with 1 when the engine cannot be created. */
void engine_session_open(struct engine_session *session, const struct engine_options *options);
void engine_session_close(struct engine_session *session);

/* engine_submit; on success the stream (borrowed until it has ended) takes what the request says.
 */
enum status engine_session_submit(struct engine_session *session,
                                  const struct engine_request *request,
                                  struct engine_stream *stream, int32_t *handle);
void engine_session_cancel(struct engine_session *session, int32_t handle);
enum status engine_session_step(struct engine_session *session);

/* Submits one request and steps until nothing runs; exits with 1 on any failure. */
void engine_session_run(struct engine_session *session, const struct engine_request *request,
                        struct engine_stream *stream);

#endif
