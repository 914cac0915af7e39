/* One open request on the network thread: what of its choices has been told to its listener, and
 * how tokens become text on the way. */
#ifndef MOEBIUS_RUNTIME_GENERATION_CALL_H
#define MOEBIUS_RUNTIME_GENERATION_CALL_H

#include "runtime/generation_service.h"
#include "runtime/reply_text.h"

/* How far one choice has come. */
struct call_choice {
    struct reply_text text;
    int32_t told; /* tokens that the listener has */
    bool ended;   /* its end was told */
    int64_t end_ns;
    enum generation_finish finish;
};

struct generation_call {
    struct generation_service *service;
    struct generation *generation;
    struct generation_listener listener;
    char request_id[129];
    bool detached;   /* cancelled, done or failed: no callback any more */
    bool delivering; /* a callback may be on the stack */
    bool paused, started, engine_done;
    bool no_text, include_stop, keep_special;
    int32_t stream_interval;
    char **stop; /* [stop_count], owned */
    int32_t stop_count, ended_count;
    struct call_choice *choices; /* [n] */
    char *prompt_text;           /* for echo; NULL: not wanted */
    size_t prompt_text_bytes;
    bool waits; /* on the service's list of unpaused ones */
    struct generation_call *next_waiting;
    struct generation_call *next, *previous; /* all calls of the service that are not detached */
};

/* What deliveries share. */
struct generation_call_tools {
    const struct tokenizer *tokenizer; /* NULL: no text */
    struct engine_loop *loop;
    struct metrics *metrics;
    char *scratch;            /* reply_text_scratch_bytes */
    struct text_buffer *text; /* of one delta */
};

/* A call for a generation that was prepared from this request; takes the generation over on
 * success. tokenizer NULL: no text comes of it, and the request has no stop strings.
 * STATUS_NO_MEMORY, STATUS_BAD_REQUEST (logged). Local. */
enum status generation_call_create(const struct generation_request *request,
                                   const struct generation_listener *listener,
                                   const struct tokenizer *tokenizer, struct generation *generation,
                                   struct generation_call **call);
void generation_call_destroy(struct generation_call *call); /* its generation too; NULL allowed */

/* Tells the listener everything that is new, up to done or error. Sets detached then. Local. */
void generation_call_deliver(struct generation_call *call,
                             const struct generation_call_tools *tools);

/* Ends it with an error. Local. */
void generation_call_fail(struct generation_call *call, enum generation_error error,
                          const char *message, const struct generation_call_tools *tools);

/* Asks the engine to end all choices that run. Local. */
void generation_call_cancel_choices(struct generation_call *call, struct engine_loop *loop);

#endif
