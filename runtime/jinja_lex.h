/* Tokens of a template: text between tags, and what stands in the tags, with Jinja2's rules for
 * whitespace as transformers sets them (trim_blocks and lstrip_blocks on, the last newline of the
 * template dropped). */
#ifndef MOEBIUS_RUNTIME_JINJA_LEX_H
#define MOEBIUS_RUNTIME_JINJA_LEX_H

#include "runtime/jinja_value.h"

enum jinja_token_kind {
    JINJA_TOKEN_TEXT,
    JINJA_TOKEN_BLOCK_BEGIN, /* {% */
    JINJA_TOKEN_BLOCK_END,
    JINJA_TOKEN_PRINT_BEGIN, /* {{ */
    JINJA_TOKEN_PRINT_END,
    JINJA_TOKEN_NAME,
    JINJA_TOKEN_STRING,
    JINJA_TOKEN_INTEGER,
    JINJA_TOKEN_FLOAT,
    JINJA_TOKEN_OPERATOR,
    JINJA_TOKEN_END
};

struct jinja_token {
    enum jinja_token_kind kind;
    int32_t line;             /* from 1 */
    struct jinja_string text; /* text, name, string without escapes, operator, number as written */
    int64_t integer;
    double number;
};

struct jinja_tokens {
    struct jinja_token *tokens; /* ends with JINJA_TOKEN_END; in the arena's memory */
    int64_t count;
};

/* Cuts a template into tokens. `source` must stay as long as the tokens. STATUS_BAD_TOKENIZER for
 * what is no template, STATUS_UNSUPPORTED for what Jinja2 would read and this does not (logged,
 * with the origin and the line), or as jinja_memory_take. Local. */
enum status jinja_lex(struct jinja_memory *memory, struct jinja_string source,
                      struct jinja_tokens *tokens);

#endif
