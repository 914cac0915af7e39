/* The regular expressions of tokenizer.json. They are written for Oniguruma (Ruby's syntax); they
 * are rewritten for PCRE2 where the two differ in meaning, and refused where that cannot be done.
 * A compiled pattern is read-only: what a search needs to write is in the caller's scratch. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_REGEX_H
#define MOEBIUS_RUNTIME_TOKENIZER_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"

struct pcre2_real_code_8;       /* PCRE2's pcre2_code */
struct pcre2_real_match_data_8; /* PCRE2's pcre2_match_data */

enum tokenizer_regex_kind {
    TOKENIZER_REGEX_LITERAL,        /* the bytes of `literal` */
    TOKENIZER_REGEX_TRAILING_SPACE, /* \s+$, quadratic for a backtracking matcher: done by hand */
    TOKENIZER_REGEX_COMPILED        /* PCRE2 */
};

/* {0} holds nothing and may be deinitialised. */
struct tokenizer_regex {
    enum tokenizer_regex_kind kind;
    bool jit;
    struct text_buffer literal;
    struct pcre2_real_code_8 *code;
};

/* One per thread and call; {0} to start with. */
struct tokenizer_regex_scratch {
    struct pcre2_real_match_data_8 *match;
};

void tokenizer_regex_scratch_deinit(struct tokenizer_regex_scratch *scratch);

/* Compiles well-formed UTF-8; `name` ("file: field") opens the message if it is refused:
 * STATUS_BAD_TOKENIZER for a pattern that is malformed, STATUS_UNSUPPORTED for syntax that cannot
 * be carried over with its meaning. Local. */
enum status tokenizer_regex_init(struct tokenizer_regex *regex, const char *name,
                                 const char *pattern, size_t length);

/* A pattern that matches just these bytes (at least one). Local. */
enum status tokenizer_regex_init_literal(struct tokenizer_regex *regex, const char *bytes,
                                         size_t length);

void tokenizer_regex_deinit(struct tokenizer_regex *regex);

/* The first match in text[from..length) of well-formed UTF-8; text before `from` is visible to look
 * behind. No match: *start = *end = length + 1. STATUS_LIMIT if the matcher gives up. Local. */
enum status tokenizer_regex_search(const struct tokenizer_regex *regex,
                                   struct tokenizer_regex_scratch *scratch, const char *text,
                                   size_t length, size_t from, size_t *start, size_t *end);

#endif
