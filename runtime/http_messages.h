/* A conversation in a POST body: its messages, and what else its template gets. */
#ifndef MOEBIUS_RUNTIME_HTTP_MESSAGES_H
#define MOEBIUS_RUNTIME_HTTP_MESSAGES_H

#include "runtime/http_reader.h"

/* messages, chat_template_kwargs and add_generation_prompt into reader->body, whose one prompt the
 * conversation is. GENERATION_ERROR_INVALID, _UNSUPPORTED (parts that are not text) or _INTERNAL
 * with the message. Local. */
enum generation_error http_messages_read(const struct http_reader *reader);

#endif
