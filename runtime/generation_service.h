/* What every door (gRPC, HTTP) asks of the server, free of any transport: a request in the client's
 * words is checked, tokenized and handed to the engine thread; text comes back by callbacks.
 *
 * All functions belong to the network thread, and callbacks come only from inside
 * generation_service_poll. */
#ifndef MOEBIUS_RUNTIME_GENERATION_SERVICE_H
#define MOEBIUS_RUNTIME_GENERATION_SERVICE_H

#include "runtime/engine_loop.h"
#include "runtime/generation_request.h"
#include "runtime/metrics.h"
#include "runtime/text_worker.h"

#define GENERATION_LONG_BYTES 4096 /* a message that the network thread does not read itself */

struct generation_service;
struct generation_call; /* one open request; valid until done, error or cancel */

/* ---- answers ---- */

/* Before the first delta: what became of the request. */
struct generation_start {
    const char *request_id;
    const int32_t *prompt; /* [prompt_tokens], after templates and truncation */
    int32_t prompt_tokens, cached_tokens;
    const struct generation_logprob
        *prompt_logprobs; /* [prompt_tokens] or NULL; [0].logprob is NaN */
    size_t echo_bytes;    /* of the prompt's text, with which each choice's first delta begins */
};

/* News of one choice. Tokens are told at once; text is held back while it ends within a character
 * or may still become a stop string, so either may be empty. */
struct generation_delta {
    int32_t index;    /* which of n */
    const char *text; /* UTF-8, whole characters */
    size_t text_bytes;
    const int32_t *ids; /* [id_count] */
    int32_t id_count;
    const struct generation_logprob *logprobs; /* [id_count], NULL: not wanted */
};

/* One choice is complete. */
struct generation_end_of_choice {
    int32_t index;
    enum generation_finish finish; /* LENGTH, EOS, STOP_TEXT, STOP_TOKEN, TIME_LIMIT or ABORTED */
    const char *matched_stop;      /* of STOP_TEXT, else NULL */
    int32_t matched_id;            /* of STOP_TOKEN and EOS, else -1 */
    uint64_t seed;
    int32_t tokens; /* of this choice */
};

struct generation_usage {
    int32_t prompt_tokens, cached_tokens;
    int32_t completion_tokens; /* of all choices */
    int64_t queue_ns;          /* until the first step */
    int64_t prefill_ns;        /* from there to the first token, or to the end of prompt_only */
    int64_t first_token_ns;    /* the same, from submission */
    int64_t decode_ns;         /* from the first token to the last */
    int64_t total_ns;
};

/* Any of them may be NULL. The pointers that they get are valid during the call only. A callback
 * may call generation_service_cancel and _pause, on its own call and on others. */
struct generation_listener {
    void (*start)(void *context, const struct generation_start *start);
    void (*delta)(void *context, const struct generation_delta *delta);
    void (*end)(void *context, const struct generation_end_of_choice *end);
    /* All choices are complete. The call is gone afterwards. */
    void (*done)(void *context, const struct generation_usage *usage);
    /* Instead of done: deadline, a lost rank. The call is gone afterwards. */
    void (*error)(void *context, enum generation_error error, const char *message);
    void *context;
};

/* Counts a request that a door refuses, whoever found the error: once, where it answers. */
void generation_service_count_refusal(struct generation_service *service,
                                      enum generation_error error);

/* Checks, tokenizes, hands over. Any error is told here, not by the listener. */
enum generation_error generation_service_submit(struct generation_service *service,
                                                const struct generation_request *request,
                                                const struct generation_listener *listener,
                                                struct generation_call **call,
                                                struct generation_message *message);

/* Ends it for good: no callback comes any more, its memory and KV blocks are free within a step. */
void generation_service_cancel(struct generation_call *call);

/* A reader that does not keep up: while paused no callback comes; what is generated meanwhile waits
 * in buffers that exist anyway, and comes as one delta afterwards. Unpausing is followed by
 * callbacks at the next poll. */
void generation_service_pause(struct generation_call *call, bool paused);

const char *generation_service_request_id(const struct generation_call *call);

/* Ends requests by id, for clients that lost the stream: their listeners get what there is, with
 * GENERATION_ABORTED. NULL: all. Returns how many. */
int32_t generation_service_abort(struct generation_service *service, const char *request_id);

/* ---- text ---- */

/* Both: GENERATION_ERROR_NO_TEXT where the server has no tokenizer. All that takes a constant
 * service and is about text may be called by text workers, too. */
enum generation_error generation_service_tokenize(const struct generation_service *service,
                                                  const char *text, size_t bytes, bool add_special,
                                                  struct token_list *ids,
                                                  struct generation_message *message);
enum generation_error generation_service_detokenize(const struct generation_service *service,
                                                    const int32_t *ids, int32_t count,
                                                    bool keep_special, struct text_buffer *text,
                                                    struct generation_message *message);

/* Whether tokens are text here; if not, answers have ids and no text. */
bool generation_service_has_text(const struct generation_service *service);

/* Whether answers leave the token's text out unless special tokens are kept. */
bool generation_service_is_special(const struct generation_service *service, int32_t id);

/* The bytes of one token alone (borrowed; may be part of a character); none without a tokenizer. */
const char *generation_service_token_bytes(const struct generation_service *service, int32_t id,
                                           size_t *length);

/* Has a long message read by a text worker (text_worker.h), so that nobody else waits for it;
 * generation_service_poll brings the job back. GENERATION_ERROR_FULL (the job was not taken): too
 * much waits already. */
enum generation_error generation_service_defer(struct generation_service *service,
                                               struct text_job *job,
                                               struct generation_message *message);

/* ---- the server ---- */

struct generation_service_options {
    struct engine_loop *loop; /* borrowed, like all of these */
    struct metrics *metrics;
    struct generation_request_limits limits; /* model_names: the first is told */
    const char *dtype;                       /* "bfloat16", for those who ask */
    int64_t step_overdue_ns;                 /* a step that takes longer: STALLED */
};

/* STATUS_NO_MEMORY (logged). Local. */
enum status generation_service_create(const struct generation_service_options *options,
                                      struct generation_service **service);

/* After engine_loop_run has returned; what is still open is cancelled. NULL allowed. */
void generation_service_destroy(struct generation_service *service);

/* Readable when generation_service_poll has something to do. */
int generation_service_event_fd(const struct generation_service *service);

/* Brings all news to the listeners. Clears the event. */
void generation_service_poll(struct generation_service *service);

enum generation_state {
    GENERATION_STATE_SERVING,
    GENERATION_STATE_DRAINING, /* finishes what it has, takes nothing new */
    GENERATION_STATE_DRAINED,  /* nothing left */
    GENERATION_STATE_STALLED,  /* a step is overdue */
    GENERATION_STATE_FAILED,   /* the engine has ended */
};
enum generation_state generation_service_state(const struct generation_service *service);

/* New requests are refused from now on with GENERATION_ERROR_UNAVAILABLE; `for_good`: the server
 * ends with this, and nothing takes it back. */
void generation_service_drain(struct generation_service *service, bool for_good);

/* New requests are taken again. false: drained for good. */
bool generation_service_resume(struct generation_service *service);

/* Requests that are not done. */
int32_t generation_service_open(const struct generation_service *service);

/* Whether the engine is done with everything, what was cancelled too. */
bool generation_service_is_idle(const struct generation_service *service);

const struct generation_service_options *
generation_service_options(const struct generation_service *service);

#endif
