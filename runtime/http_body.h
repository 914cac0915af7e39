/* A completion request's JSON body, OpenAI's and vLLM's fields, as a request of the generation
 * service. Which fields there are is http_fields.c's table; all others are refused. */
#ifndef MOEBIUS_RUNTIME_HTTP_BODY_H
#define MOEBIUS_RUNTIME_HTTP_BODY_H

#include "runtime/generation_service.h"

#define HTTP_BODY_PROMPTS_MAX 128

struct json_t;

struct http_prompt {
    const char *text; /* NULL: ids, or the chat */
    size_t text_bytes;
    int32_t *ids;
    int32_t id_count;
    struct generation_encoding encoding; /* where it was encoded beforehand */
};

struct http_body {
    bool is_chat;
    bool stream, include_usage, continuous_usage; /* the last: with each event */
    bool return_token_ids;                        /* ids of prompt and answer beside the text */
    bool tokens_as_ids;                           /* tokens of logprobs are written token_id:N */
    int32_t prompt_logprobs; /* to be told as such; the request's may be more, for echo; -1: none */
    int32_t prompt_count;    /* 1 for a chat */
    struct http_prompt *prompts;       /* [prompt_count] */
    struct generation_request request; /* all but the prompt; points into this structure's memory */
    struct chat_input chat;
    /* What the above points to. */
    struct json_t *root;
    char *messages_json, *variables_json;
    const char **stop;
    int32_t *stop_ids;
};

/* Fills *body from text[length] (NUL-terminated behind it). GENERATION_ERROR_INVALID,
 * _UNSUPPORTED or _INTERNAL (no memory) with a message that names field, expected and got. Free
 * with http_body_deinit, also after an error. Local. */
enum generation_error http_body_parse(const char *text, size_t length, bool is_chat,
                                      struct http_body *body, struct generation_message *message);
void http_body_deinit(struct http_body *body);

/* Makes prompt `index` the request's. Local. */
void http_body_choose(struct http_body *body, int32_t index);

#endif
