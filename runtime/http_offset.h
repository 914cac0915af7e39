/* Where tokens begin in a text that is known, in characters (code points), as OpenAI counts
 * text_offset. */
#ifndef MOEBIUS_RUNTIME_HTTP_OFFSET_H
#define MOEBIUS_RUNTIME_HTTP_OFFSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* {text, bytes} begins. */
struct http_offset {
    const char *text;   /* [bytes], borrowed */
    size_t bytes, at;   /* at: of the next token */
    int32_t characters; /* before it */
};

/* How many characters begin in these bytes, which may be part of one. Local. */
int32_t http_offset_count(const char *bytes, size_t length);

/* Where a token begins that has so many characters before it: the character that it goes on with,
 * where its first byte is inside one. Local. */
int32_t http_offset_begin(int32_t characters, const char *token, size_t length);

/* Goes past a token of these bytes. A special token that does not stand there (a BOS that was
 * added) takes no room; another that does not (a stripped space; a normaliser's work) takes its own
 * characters, but never goes beyond the text. Local. */
void http_offset_pass(struct http_offset *offset, const char *token, size_t length,
                      bool is_special);

#endif
