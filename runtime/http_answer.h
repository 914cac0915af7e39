/* The JSON of OpenAI's completion and chat completion objects, whole and in chunks. */
#ifndef MOEBIUS_RUNTIME_HTTP_ANSWER_H
#define MOEBIUS_RUNTIME_HTTP_ANSWER_H

#include <stdio.h>

#include "runtime/generation_service.h"

/* What all objects of one answer have in common; borrowed. */
struct http_answer {
    const struct generation_service *service; /* for the bytes of tokens */
    bool is_chat, is_stream;
    bool has_ids;        /* token_ids and prompt_token_ids are wanted */
    bool tokens_as_ids;  /* tokens of logprobs are written token_id:N */
    bool keep_special;   /* special tokens are part of the text */
    int32_t tops;        /* likeliest ids told beside each token of logprobs */
    int32_t prompt_tops; /* and of prompt_logprobs */
    const char *id;      /* of the request, without "cmpl-" */
    const char *model;
    int64_t created_s; /* Unix time */
};

/* A choice, or the news of one. */
struct http_choice {
    int32_t index;
    bool is_first; /* a chat's chunk that tells the role */
    const char *text;
    size_t text_bytes;
    const int32_t *ids; /* [id_count] of the text, where they are wanted */
    int64_t id_count;
    const struct token_list *prompt_ids;       /* told with the choice; or NULL */
    const struct generation_logprob *logprobs; /* [logprob_count]; NULL: not wanted */
    int32_t logprob_count;
    /* echo: log-probabilities of the prompt's tokens before them, told with the text's beginning.
     */
    const struct generation_logprob *echoed; /* [echoed_count] or NULL */
    int32_t echoed_count;
    size_t echo_bytes;   /* of text, the prompt's */
    int32_t text_offset; /* characters of the choice before the first of logprobs; moved on */
    const struct generation_end_of_choice *end;       /* NULL: not complete */
    const struct generation_logprob *prompt_logprobs; /* [prompt_count], told with it; or NULL */
    int32_t prompt_count;
};

/* One object with these choices; usage NULL: null in a whole answer, left out of a chunk. Local. */
void http_answer_write(FILE *out, const struct http_answer *answer, struct http_choice *choices,
                       int32_t choice_count, const struct generation_usage *usage);

/* {"error": {...}} with the HTTP status that belongs to the error. Local. */
void http_answer_error(FILE *out, enum generation_error error, const char *message);
int32_t http_answer_code(enum generation_error error);

#endif
