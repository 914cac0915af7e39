/* Searching for split patterns: PCRE2 with its just-in-time compiler where that works. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/tokenizer_regex.h"

#include <pcre2.h>
#include <stdint.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/tokenizer_regex_syntax.h"
#include "runtime/tokenizer_utf8.h"

/* Steps that a match may take from one starting point before the matcher gives up. */
#define STEPS_MAX 10000000u

void tokenizer_regex_scratch_deinit(struct tokenizer_regex_scratch *scratch) {
    pcre2_match_data_free(scratch->match);
    *scratch = (struct tokenizer_regex_scratch){0};
}

void tokenizer_regex_deinit(struct tokenizer_regex *regex) {
    text_buffer_deinit(&regex->literal);
    pcre2_code_free(regex->code);
    *regex = (struct tokenizer_regex){0};
}

static enum status compile(struct tokenizer_regex *regex, const char *name,
                           const struct text_buffer *pattern) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL) {
        LOG_ERROR("%s: cannot take memory to compile a pattern", name);
        return STATUS_NO_MEMORY;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 100);
    int error;
    PCRE2_SIZE at;
    regex->code = pcre2_compile((PCRE2_SPTR)pattern->data, pattern->length,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                &error, &at, context);
    pcre2_compile_context_free(context);
    if (regex->code == NULL) {
        char text[160];
        pcre2_get_error_message(error, (PCRE2_UCHAR *)text, sizeof text);
        LOG_ERROR("%s: expected a regular expression, got \"%.200s\": %s at byte %zu", name,
                  pattern->data, text, at);
        return STATUS_BAD_TOKENIZER;
    }
    regex->jit = pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) == 0;
    return STATUS_OK;
}

enum status tokenizer_regex_init(struct tokenizer_regex *regex, const char *name,
                                 const char *pattern, size_t length) {
    if (length == 4 && memcmp(pattern, "\\s+$", 4) == 0) {
        *regex = (struct tokenizer_regex){.kind = TOKENIZER_REGEX_TRAILING_SPACE};
        return STATUS_OK;
    }
    struct tokenizer_regex made = {.kind = TOKENIZER_REGEX_COMPILED};
    struct text_buffer rewritten = {0};
    enum status status = tokenizer_regex_syntax_rewrite(name, pattern, length, &rewritten);
    if (status == STATUS_OK)
        status = compile(&made, name, &rewritten);
    text_buffer_deinit(&rewritten);
    if (status == STATUS_OK)
        *regex = made;
    return status;
}

enum status tokenizer_regex_init_literal(struct tokenizer_regex *regex, const char *bytes,
                                         size_t length) {
    struct tokenizer_regex made = {.kind = TOKENIZER_REGEX_LITERAL};
    RETURN_IF_ERROR(text_buffer_append(&made.literal, bytes, length));
    *regex = made;
    return STATUS_OK;
}

/* \s+$ from a run of white space that starts at `from`: up to the end of the text, else up to the
 * last line feed in the run that is not its first character. Returns the end of the run. */
static size_t trailing_space_run(const char *text, size_t length, size_t from, size_t *match_end) {
    size_t at = from;
    *match_end = from;
    while (at < length) {
        size_t size;
        int32_t c = tokenizer_utf8_read(text + at, &size);
        if (!tokenizer_utf8_is_space(c))
            return at;
        if (c == '\n' && at > from)
            *match_end = at;
        at += size;
    }
    *match_end = length;
    return length;
}

static void search_trailing_space(const char *text, size_t length, size_t from, size_t *start,
                                  size_t *end) {
    size_t at = from;
    while (at < length) {
        size_t size;
        if (!tokenizer_utf8_is_space(tokenizer_utf8_read(text + at, &size))) {
            at += size;
            continue;
        }
        size_t match_end;
        size_t run_end = trailing_space_run(text, length, at, &match_end);
        if (match_end > at) {
            *start = at;
            *end = match_end;
            return;
        }
        at = run_end;
    }
    *start = *end = length + 1;
}

static enum status search_compiled(const struct tokenizer_regex *regex,
                                   struct tokenizer_regex_scratch *scratch, const char *text,
                                   size_t length, size_t from) {
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int found = PCRE2_ERROR_JIT_STACKLIMIT;
    if (regex->jit)
        found = pcre2_jit_match(regex->code, subject, length, from, 0, scratch->match, NULL);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT || found == PCRE2_ERROR_MATCHLIMIT) {
        /* The interpreter backtracks on the heap and takes what the JIT's stack did not. */
        pcre2_match_context *context = pcre2_match_context_create(NULL);
        if (context != NULL)
            pcre2_set_match_limit(context, STEPS_MAX);
        found = pcre2_match(regex->code, subject, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                            scratch->match, context);
        pcre2_match_context_free(context);
    }
    if (found >= 0)
        return STATUS_OK;
    PCRE2_SIZE *where = pcre2_get_ovector_pointer(scratch->match);
    where[0] = where[1] = length + 1;
    if (found == PCRE2_ERROR_NOMATCH)
        return STATUS_OK;
    LOG_ERROR("prompt: the split pattern gives up after byte %zu of a piece of %zu (PCRE2 error "
              "%d)",
              from, length, found);
    return STATUS_LIMIT;
}

static void search_literal(const struct text_buffer *literal, const char *text, size_t length,
                           size_t from, size_t *start, size_t *end) {
    size_t size = literal->length;
    const char *at = text + from;
    while ((size_t)(text + length - at) >= size) {
        at = memchr(at, literal->data[0], (size_t)(text + length - at) - size + 1);
        if (at == NULL)
            break;
        if (memcmp(at, literal->data, size) == 0) {
            *start = (size_t)(at - text);
            *end = *start + size;
            return;
        }
        at++;
    }
    *start = *end = length + 1;
}

enum status tokenizer_regex_search(const struct tokenizer_regex *regex,
                                   struct tokenizer_regex_scratch *scratch, const char *text,
                                   size_t length, size_t from, size_t *start, size_t *end) {
    switch (regex->kind) {
    case TOKENIZER_REGEX_LITERAL:
        search_literal(&regex->literal, text, length, from, start, end);
        return STATUS_OK;
    case TOKENIZER_REGEX_TRAILING_SPACE:
        search_trailing_space(text, length, from, start, end);
        return STATUS_OK;
    case TOKENIZER_REGEX_COMPILED:
        break;
    }
    if (scratch->match == NULL)
        scratch->match = pcre2_match_data_create(1, NULL);
    if (scratch->match == NULL) {
        LOG_ERROR("tokenizer: cannot take memory to search");
        return STATUS_NO_MEMORY;
    }
    RETURN_IF_ERROR(search_compiled(regex, scratch, text, length, from));
    PCRE2_SIZE *where = pcre2_get_ovector_pointer(scratch->match);
    *start = where[0];
    *end = where[1];
    return STATUS_OK;
}
