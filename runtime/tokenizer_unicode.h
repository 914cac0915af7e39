/* The Unicode normalisation forms, without a worst case. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_UNICODE_H
#define MOEBIUS_RUNTIME_TOKENIZER_UNICODE_H

#include <stddef.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"

enum tokenizer_unicode_form {
    TOKENIZER_UNICODE_COMPOSE = 1,      /* NFC, NFKC; without: NFD, NFKD */
    TOKENIZER_UNICODE_COMPATIBILITY = 2 /* NFKC, NFKD */
};

/* Appends the normalised form of well-formed UTF-8 to `out`. `form` is the sum of flags of enum
 * tokenizer_unicode_form; `code_points` is scratch. utf8proc decomposes and composes; the ordering
 * of combining marks between is done here, since utf8proc's is quadratic in a long run of them.
 * Local. */
enum status tokenizer_unicode_normalize(const char *text, size_t length, unsigned form,
                                        struct text_buffer *code_points, struct text_buffer *out);

#endif
