/* What every door (gRPC, HTTP) asks of the server, free of any transport: a request in the client's
 * words is checked, tokenized and handed to the engine thread; text comes back by callbacks.
 *
 * All functions belong to the network thread, and callbacks come only from inside
 * generation_service_poll. */
#ifndef MOEBIUS_RUNTIME_GENERATION_SERVICE_H
#define MOEBIUS_RUNTIME_GENERATION_SERVICE_H

#include "runtime/chat_template.h"
#include "runtime/engine_loop.h"
#include "runtime/generation.h"
#include "runtime/metrics.h"
#include "runtime/tokenizer.h"

struct generation_service;
struct generation_call; /* one open request; valid until done, error or cancel */

/* Why a request is not answered, by what a client can do about it. */
enum generation_error {
    GENERATION_ERROR_NONE,
    GENERATION_ERROR_INVALID,     /* gRPC INVALID_ARGUMENT,   HTTP 400: change the request */
    GENERATION_ERROR_NOT_FOUND,   /* gRPC NOT_FOUND,          HTTP 404: another model's name */
    GENERATION_ERROR_UNSUPPORTED, /* gRPC UNIMPLEMENTED,      HTTP 501 */
    GENERATION_ERROR_FULL,        /* gRPC RESOURCE_EXHAUSTED, HTTP 429: later; see retry_after_ms */
    GENERATION_ERROR_UNAVAILABLE, /* gRPC UNAVAILABLE,        HTTP 503: draining, a rank is lost */
    GENERATION_ERROR_DEADLINE,    /* gRPC DEADLINE_EXCEEDED,  HTTP 504 */
    GENERATION_ERROR_INTERNAL,    /* gRPC INTERNAL,           HTTP 500 */
};

/* One line, for the client: field, expected, got. */
struct generation_message {
    char text[512];
    int32_t retry_after_ms; /* of GENERATION_ERROR_FULL */
};

/* ---- requests ---- */

/* Which sampling fields the client gave; the others are the model's own defaults
 * (generation_config.json), or off. */
enum generation_given {
    GENERATION_GIVEN_TEMPERATURE = 1,
    GENERATION_GIVEN_TOP_K = 2,
    GENERATION_GIVEN_TOP_P = 4,
    GENERATION_GIVEN_MIN_P = 8,
    GENERATION_GIVEN_REPETITION_PENALTY = 16,
    GENERATION_GIVEN_SEED = 32, /* else one is drawn, and told */
};

/* Start from generation_request_default. Everything is copied by generation_service_submit. */
struct generation_request {
    const char *request_id; /* NULL or empty: one is made */
    const char *model;      /* NULL or empty: the only one */
    /* The prompt: exactly one of text, ids, chat. */
    const char *text; /* UTF-8 */
    size_t text_bytes;
    const int32_t *ids;
    int32_t id_count;
    const struct chat_input *chat;
    bool plain_prompt;              /* text: add no special tokens (BOS) */
    int32_t truncate_prompt_tokens; /* keeps the last N; 0: off */
    /* Sampling. sampling.logprobs: likeliest ids wanted beside each token; -1: none at all. */
    uint32_t given; /* sum of enum generation_given */
    struct sampling_params sampling;
    int32_t n;
    /* Ends. */
    int32_t max_tokens; /* 0: as many as fit */
    int32_t min_tokens;
    const char *const *stop; /* [stop_count], UTF-8, NUL-terminated */
    int32_t stop_count;
    const int32_t *stop_ids; /* [stop_id_count] */
    int32_t stop_id_count;
    bool ignore_eos;
    bool include_stop;   /* the stop string, or the stop token's text, is part of the text */
    int64_t deadline_ns; /* clock_now_ns; 0: none. Ends with GENERATION_ERROR_DEADLINE */
    int64_t
        time_limit_ns; /* from now; 0: none. Ends with GENERATION_TIME_LIMIT and what there is */
    /* Output. */
    bool no_text; /* ids only */
    bool echo;    /* the prompt's text comes first */
    bool keep_special_tokens;
    int32_t prompt_logprobs; /* likeliest ids for each prompt token; -1: none at all */
    int32_t stream_interval; /* tokens that a delta waits for; 0, 1: none. The first and the last
                                come at once */
    /* Scheduling. */
    int32_t priority; /* smaller is sooner */
    uint64_t client;  /* a hash of who asks, for fairness; 0: unknown */
};

struct generation_request generation_request_default(void);

/* ---- answers ---- */

/* Before the first delta: what became of the request. */
struct generation_start {
    const char *request_id;
    const int32_t *prompt; /* [prompt_tokens], after templates and truncation */
    int32_t prompt_tokens, cached_tokens;
    const struct generation_logprob
        *prompt_logprobs; /* [prompt_tokens] or NULL; [0].logprob is NaN */
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
    int64_t prefill_ns;        /* from there to the first token */
    int64_t first_token_ns;    /* from submission */
    int64_t decode_ns;         /* from the first token to the last */
    int64_t total_ns;
};

/* Any of them may be NULL. The pointers that they get are valid during the call only. A callback
 * may call generation_service_cancel and _pause on its own call. */
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
 * GENERATION_ABORTED. Returns how many (0 or 1). */
int32_t generation_service_abort(struct generation_service *service, const char *request_id);

/* ---- text ---- */

enum generation_error generation_service_tokenize(struct generation_service *service,
                                                  const char *text, size_t bytes, bool add_special,
                                                  struct token_list *ids,
                                                  struct generation_message *message);
enum generation_error generation_service_detokenize(struct generation_service *service,
                                                    const int32_t *ids, int32_t count,
                                                    bool keep_special, struct text_buffer *text,
                                                    struct generation_message *message);

/* The bytes of one token alone (borrowed; may be part of a character). */
const char *generation_service_token_bytes(const struct generation_service *service, int32_t id,
                                           size_t *length);

/* ---- the server ---- */

struct generation_service_options {
    struct engine_loop *loop; /* borrowed, like all of these */
    const struct model_spec *spec;
    const struct tokenizer *tokenizer;
    const struct chat_template *chat; /* NULL: the model has none */
    struct metrics *metrics;
    const char *const *model_names; /* [model_name_count]: what clients may call it; the first is
                                       told */
    int32_t model_name_count;
    int32_t positions;       /* longest sequence */
    int32_t sequences;       /* choices open at once, running and waiting */
    const char *dtype;       /* "bfloat16", for those who ask */
    bool no_model_defaults;  /* --generation-config none */
    int64_t step_overdue_ns; /* a step that takes longer is a sign of a lost rank */
};

/* STATUS_NO_MEMORY (logged). Local. */
enum status generation_service_create(const struct generation_service_options *options,
                                      struct generation_service **service);
void generation_service_destroy(struct generation_service *service); /* NULL allowed */

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

/* New requests are refused from now on with GENERATION_ERROR_UNAVAILABLE / taken again. */
void generation_service_drain(struct generation_service *service);
void generation_service_resume(struct generation_service *service);

/* Requests that are not done. */
int32_t generation_service_open(const struct generation_service *service);

const struct generation_service_options *
generation_service_options(const struct generation_service *service);

#endif
