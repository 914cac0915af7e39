/* A whole server but its doors, in one process: an engine on its own thread, the service on the
 * test's, and what its calls were told. */
#ifndef MOEBIUS_TESTS_SUPPORT_SERVICE_SESSION_H
#define MOEBIUS_TESTS_SUPPORT_SERVICE_SESSION_H

#include <pthread.h>

#include "runtime/generation_service.h"

struct service_session_options {
    const char *folder;
    int32_t places, waiting; /* choices that run and that wait at once */
    int32_t rows, positions;
    int64_t kv_tokens; /* 0: enough for all places */
    bool no_prefix_cache;
};

struct service_session {
    struct engine *engine;
    struct engine_loop *loop;
    struct metrics *metrics;
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct generation_service *service;
    pthread_t thread;
    enum status ended; /* of engine_loop_run */
    bool joined;
};

/* Prints why and exits with 1 when something cannot be opened. */
void service_session_open(struct service_session *session,
                          const struct service_session_options *options);
void service_session_close(struct service_session *session);

/* Waits at most 30 s for news and brings them to the listeners; exits with 1 when none come. */
void service_session_turn(struct service_session *session);

/* Ends the engine's thread, as a signal or a lost rank would. */
void service_session_stop(struct service_session *session);

/* What one choice was told. */
struct service_choice {
    struct text_buffer text;
    struct token_list ids;
    double logprob_sum;
    struct generation_end_of_choice end;
    bool ended;
};

#define SERVICE_CHOICES_MAX 8

/* What one call was told. */
struct service_answer {
    struct generation_call *call; /* NULL: over */
    struct service_choice choices[SERVICE_CHOICES_MAX];
    struct generation_usage usage;
    int32_t starts, deltas, violations; /* violations: callbacks after the end and the like */
    int32_t cancel_after; /* cancels itself at this many tokens of choice 0; 0: never */
    bool done;
    enum generation_error error;
    struct generation_message message;
    int32_t prompt_tokens, cached_tokens;
    struct token_list prompt;
    double prompt_logprob_sum;
};

/* Submits; the answer ({0}, or with cancel_after) takes what comes. Returns what submit said, which
 * is in answer->error and message, too. */
enum generation_error service_session_submit(struct service_session *session,
                                             const struct generation_request *request,
                                             struct service_answer *answer);

/* Turns until the answer is over. */
void service_session_finish(struct service_session *session, struct service_answer *answer);

/* Whether two answers are the same, ids, text, logprobs and ends. */
bool service_answer_equal(const struct service_answer *a, const struct service_answer *b);
void service_answer_deinit(struct service_answer *answer);

#endif
