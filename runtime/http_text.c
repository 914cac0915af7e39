/* Between stdio and an exchange: used by all routes of the HTTP door. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */

#include "runtime/http_text.h"

#include <stdlib.h>

#include "runtime/http_answer.h"

bool http_text_open(struct http_text *text) {
    *text = (struct http_text){0};
    text->file = open_memstream(&text->bytes, &text->length);
    return text->file != NULL;
}

bool http_text_close(struct http_text *text) {
    return fclose(text->file) == 0 && text->bytes != NULL;
}

void http_text_reply_no_memory(struct http_exchange *exchange) {
    http_exchange_reply(exchange, 500, "text/plain", "out of memory\n", 14);
}

void http_text_reply(struct http_text *text, struct http_exchange *exchange, int32_t code,
                     const char *content_type) {
    if (http_text_close(text))
        http_exchange_reply(exchange, code, content_type, text->bytes, text->length);
    else
        http_text_reply_no_memory(exchange);
    free(text->bytes);
}

void http_text_reply_error(struct http_exchange *exchange, enum generation_error error,
                           const struct generation_message *message) {
    struct http_text text;
    if (!http_text_open(&text)) {
        http_text_reply_no_memory(exchange);
        return;
    }
    if (error == GENERATION_ERROR_FULL) {
        char value[24];
        snprintf(value, sizeof value, "%d", message->retry_after_ms);
        http_exchange_add_header(exchange, "retry-after-ms", value);
        snprintf(value, sizeof value, "%d", (message->retry_after_ms + 999) / 1000);
        http_exchange_add_header(exchange, "Retry-After", value);
    }
    http_answer_error(text.file, error, message->text);
    http_text_reply(&text, exchange, http_answer_code(error), "application/json");
}
