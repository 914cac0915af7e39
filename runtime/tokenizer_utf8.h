/* UTF-8 as the tokenizer needs it: check, read, write, white space and word characters. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_UTF8_H
#define MOEBIUS_RUNTIME_TOKENIZER_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What some bytes are when they are read as the start of one character. */
enum tokenizer_utf8_state {
    TOKENIZER_UTF8_COMPLETE,   /* exactly one character */
    TOKENIZER_UTF8_INCOMPLETE, /* bytes that more bytes can complete */
    TOKENIZER_UTF8_INVALID     /* no character starts with these bytes */
};

/* `length` is 1 to 4, and all but the last of the bytes are known to be incomplete. Local. */
enum tokenizer_utf8_state tokenizer_utf8_classify(const unsigned char *bytes, size_t length);

/* The offset of the first byte that is in no well-formed character, or `length` if there is none.
 * Overlong forms, surrogates and code points above U+10FFFF are not well-formed. Local. */
size_t tokenizer_utf8_invalid_at(const char *text, size_t length);

/* The character at `text` (well-formed, at least one byte) and its bytes in *size. Local. */
int32_t tokenizer_utf8_read(const char *text, size_t *size);

/* The start of the character before `at` (> 0) in well-formed text. Local. */
size_t tokenizer_utf8_previous(const char *text, size_t at);

/* Writes a code point (0 to 0x10ffff, no surrogate) as 1 to 4 bytes; returns how many. Local. */
size_t tokenizer_utf8_write(int32_t code_point, char *bytes);

/* The Unicode property White_Space, and "word" characters (Alphabetic, Mark, decimal digit,
 * connector punctuation, joiners). Local. */
bool tokenizer_utf8_is_space(int32_t code_point);
bool tokenizer_utf8_is_word(int32_t code_point);

#endif
