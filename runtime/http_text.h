/* Text that is written into memory with stdio and then sent: how answers are made. */
#ifndef MOEBIUS_RUNTIME_HTTP_TEXT_H
#define MOEBIUS_RUNTIME_HTTP_TEXT_H

#include <stdbool.h>
#include <stdio.h>

#include "runtime/generation_service.h"
#include "runtime/http_server.h"

struct http_text {
    FILE *file; /* write here */
    char *bytes;
    size_t length; /* of bytes, after http_text_close */
};

/* False: no memory. Local. */
bool http_text_open(struct http_text *text);

/* bytes and length are valid afterwards, to be freed with free(text->bytes), also after false: no
 * memory. Local. */
bool http_text_close(struct http_text *text);

/* Closes, replies with it and frees it. Local. */
void http_text_reply(struct http_text *text, struct http_exchange *exchange, int32_t code,
                     const char *content_type);

/* The whole answer for want of memory: plain text, code 500. Local. */
void http_text_reply_no_memory(struct http_exchange *exchange);

/* An error object with its code, and when to come again where the queue was full. Local. */
void http_text_reply_error(struct http_exchange *exchange, enum generation_error error,
                           const struct generation_message *message);

#endif
