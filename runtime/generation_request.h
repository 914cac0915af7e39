/* A request in the client's words, and how it becomes a generation: every field checked, the prompt
 * tokenized. */
#ifndef MOEBIUS_RUNTIME_GENERATION_REQUEST_H
#define MOEBIUS_RUNTIME_GENERATION_REQUEST_H

#include "runtime/chat_template.h"
#include "runtime/generation.h"
#include "runtime/model_spec.h"
#include "runtime/tokenizer.h"

/* Why a request is not answered, by what a client can do about it. */
enum generation_error {
    GENERATION_ERROR_NONE,
    GENERATION_ERROR_INVALID,  /* gRPC INVALID_ARGUMENT,   HTTP 400: change the request */
    GENERATION_ERROR_TOO_LONG, /* gRPC INVALID_ARGUMENT,   HTTP 400: prompt and output do not fit */
    GENERATION_ERROR_NO_TEXT,  /* gRPC FAILED_PRECONDITION, HTTP 400: no tokenizer here */
    GENERATION_ERROR_NOT_FOUND,   /* gRPC NOT_FOUND,          HTTP 404: another model's name */
    GENERATION_ERROR_UNSUPPORTED, /* gRPC UNIMPLEMENTED,      HTTP 400: never, however often asked
                                   */
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

/* A prompt's ids, or why it has none. {0} before; free with token_list_deinit(&encoding->ids). */
struct generation_encoding {
    enum generation_error error;
    struct generation_message message;
    struct token_list ids;
};

/* Start from generation_request_default. Everything is copied by generation_service_submit. */
struct generation_request {
    const char *request_id; /* NULL or empty: one is made */
    const char *model;      /* NULL or empty: the only one */
    /* The prompt: exactly one of text, ids, chat. */
    const char *text; /* UTF-8; no longer than positions of the longest token, truncated or not */
    size_t text_bytes;
    const int32_t *ids;
    int32_t id_count;
    const struct chat_input *chat;
    bool plain_prompt;                          /* text: add no special tokens (BOS) */
    int32_t truncate_prompt_tokens;             /* keeps the last N; 0: off */
    const struct generation_encoding *encoding; /* of text or chat; NULL: is made when submitted */
    /* Sampling. sampling.logprobs: likeliest ids wanted beside each token; -1: none at all. */
    uint32_t given; /* sum of enum generation_given */
    struct sampling_params sampling;
    int32_t n;
    int32_t together; /* choices that are to come with it, its n among them: without room for them
                         there is none for it; 0: n */
    /* Ends. */
    int32_t max_tokens; /* 0: as many as fit */
    int32_t min_tokens;
    bool prompt_only;        /* none at all: max_tokens is not looked at */
    const char *const *stop; /* [stop_count], UTF-8, NUL-terminated */
    int32_t stop_count;
    const int32_t *stop_ids; /* [stop_id_count]; not produced before min_tokens */
    int32_t stop_id_count;
    bool ignore_eos;
    bool include_stop;     /* the stop string, or the stop token's text, is part of the text */
    int64_t arrived_ns;    /* clock_now_ns; 0: now */
    int64_t deadline_ns;   /* clock_now_ns; 0: none. Ends with GENERATION_ERROR_DEADLINE */
    int64_t time_limit_ns; /* from arrival; 0: none. Ends with GENERATION_TIME_LIMIT and what there
                              is */
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

/* What requests are held against. */
struct generation_request_limits {
    const struct model_spec *spec;
    const struct tokenizer *tokenizer; /* NULL: none is loaded; token ids in and out only */
    const struct chat_template *chat;  /* NULL: the model has none */
    const char *const *model_names;    /* [model_name_count] */
    int32_t model_name_count;
    int32_t positions;      /* longest sequence */
    int32_t sequences;      /* choices open at once */
    bool no_model_defaults; /* --generation-config none */
};

/* Checks everything and fills in *like (for generation_create; like->prompt is prompt->ids) from
 * the request; prompt is {0} before. The first thing that is wrong is told in *message. Local. */
enum generation_error generation_request_prepare(const struct generation_request *request,
                                                 const struct generation_request_limits *limits,
                                                 struct generation *like, struct token_list *prompt,
                                                 struct generation_message *message);

/* Encodes the prompt beforehand: any thread may do it, and any request will do, for what is wrong
 * with the rest of it is left to generation_request_prepare. Local. */
void generation_request_encode(const struct generation_request *request,
                               const struct generation_request_limits *limits,
                               struct generation_encoding *encoding);

/* The hash of who asks (generation_request.client), the same at all doors: "key:2" (the second
 * bearer key), "cert:NAME" or an address. Never 0. Nothing that clients choose freely may go in:
 * else one could be many, and have the service of many. Local. */
uint64_t generation_request_client(const char *name);

/* Writes a message and returns `error`. Local. */
enum generation_error generation_request_refuse(struct generation_message *message,
                                                enum generation_error error, const char *format,
                                                ...) __attribute__((format(printf, 3, 4)));

/* What a status of the layers below means to a client; `text` (their line in the log) goes into the
 * message. Local. */
enum generation_error generation_request_status(struct generation_message *message,
                                                enum status status, const char *text);

#endif
