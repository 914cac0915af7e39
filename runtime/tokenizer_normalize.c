/* Runs the normaliser's steps over one piece of text. */
#include "runtime/tokenizer_normalize.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer_unicode.h"
#include "runtime/tokenizer_utf8.h"

void tokenizer_normalize_scratch_deinit(struct tokenizer_normalize_scratch *scratch) {
    text_buffer_deinit(&scratch->buffers[0]);
    text_buffer_deinit(&scratch->buffers[1]);
    text_buffer_deinit(&scratch->code_points);
    tokenizer_regex_scratch_deinit(&scratch->regex);
}

void tokenizer_normalize_step_deinit(struct tokenizer_normalize_step *step) {
    tokenizer_regex_deinit(&step->pattern);
    text_buffer_deinit(&step->text);
}

void tokenizer_normalize_deinit(struct tokenizer_normalize *normalize) {
    for (int i = 0; i < normalize->count; i++)
        tokenizer_normalize_step_deinit(&normalize->steps[i]);
    *normalize = (struct tokenizer_normalize){0};
}

enum status tokenizer_normalize_load_replace(struct tokenizer_normalize_step *step,
                                             const struct tokenizer_json *node) {
    bool is_regex;
    const char *text;
    size_t length;
    RETURN_IF_ERROR(tokenizer_json_pattern(node, &is_regex, &text, &length));
    char name[400];
    snprintf(name, sizeof name, "%.200s: %s.pattern", node->file, node->path);
    RETURN_IF_ERROR(is_regex ? tokenizer_regex_init(&step->pattern, name, text, length)
                             : tokenizer_regex_init_literal(&step->pattern, text, length));
    RETURN_IF_ERROR(tokenizer_json_string(node, "content", &text, &length));
    return text_buffer_append(&step->text, text, length);
}

static const struct tokenizer_json_choice kinds[] = {
    {"Sequence", TOKENIZER_NORMALIZE_SEQUENCE}, {"NFC", TOKENIZER_NORMALIZE_NFC},
    {"NFD", TOKENIZER_NORMALIZE_NFD},           {"NFKC", TOKENIZER_NORMALIZE_NFKC},
    {"NFKD", TOKENIZER_NORMALIZE_NFKD},         {"Lowercase", TOKENIZER_NORMALIZE_LOWERCASE},
    {"Prepend", TOKENIZER_NORMALIZE_PREPEND},   {"Replace", TOKENIZER_NORMALIZE_REPLACE},
};

static enum status load_step(struct tokenizer_normalize *normalize,
                             const struct tokenizer_json *node) {
    int kind;
    RETURN_IF_ERROR(
        tokenizer_json_choose(node, "type", kinds, sizeof kinds / sizeof kinds[0], &kind));
    if (kind == TOKENIZER_NORMALIZE_SEQUENCE)
        return tokenizer_json_unsupported(node, "no sequence within a sequence");
    if (normalize->count == TOKENIZER_NORMALIZE_STEPS_MAX)
        return tokenizer_json_unsupported(node, "at most 16 steps");
    struct tokenizer_normalize_step *step = &normalize->steps[normalize->count++];
    *step = (struct tokenizer_normalize_step){.kind = (enum tokenizer_normalize_kind)kind};
    if (kind == TOKENIZER_NORMALIZE_REPLACE)
        return tokenizer_normalize_load_replace(step, node);
    if (kind != TOKENIZER_NORMALIZE_PREPEND)
        return STATUS_OK;
    const char *text;
    size_t length;
    RETURN_IF_ERROR(tokenizer_json_string(node, "prepend", &text, &length));
    return text_buffer_append(&step->text, text, length);
}

enum status tokenizer_normalize_load(struct tokenizer_normalize *normalize,
                                     const struct tokenizer_json *node) {
    if (node->value == NULL)
        return STATUS_OK;
    int kind;
    RETURN_IF_ERROR(
        tokenizer_json_choose(node, "type", kinds, sizeof kinds / sizeof kinds[0], &kind));
    if (kind != TOKENIZER_NORMALIZE_SEQUENCE)
        return load_step(normalize, node);
    struct tokenizer_json list;
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_member(node, "normalizers", &list));
    RETURN_IF_ERROR(tokenizer_json_count(&list, &count));
    if (list.value == NULL)
        return tokenizer_json_bad(&list, "an array");
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json element;
        tokenizer_json_element(&list, i, &element);
        RETURN_IF_ERROR(load_step(normalize, &element));
    }
    return STATUS_OK;
}

/* The bytes of the character at `at`; 1 at the end. */
static size_t step_over(const char *text, size_t length, size_t at) {
    size_t size = 1;
    if (at < length)
        tokenizer_utf8_read(text + at, &size);
    return size;
}

enum status tokenizer_normalize_replace(const struct tokenizer_normalize_step *step,
                                        struct tokenizer_regex_scratch *scratch, const char *text,
                                        size_t length, struct text_buffer *out) {
    size_t done = 0;
    size_t from = 0;
    bool had_match = false;
    while (from <= length && length > 0) {
        size_t start;
        size_t end;
        RETURN_IF_ERROR(
            tokenizer_regex_search(&step->pattern, scratch, text, length, from, &start, &end));
        if (start > length)
            break;
        if (start == end && had_match && start == done) { /* no empty match right after a match */
            from += step_over(text, length, from);
            continue;
        }
        had_match = true;
        RETURN_IF_ERROR(text_buffer_append(out, text + done, start - done));
        RETURN_IF_ERROR(text_buffer_append(out, step->text.data, step->text.length));
        done = from = end;
    }
    return text_buffer_append(out, text + done, length - done);
}

static enum status lowercase(const char *text, size_t length, struct text_buffer *out) {
    RETURN_IF_ERROR(text_buffer_reserve(out, length));
    for (size_t at = 0, size; at < length; at += size) {
        int32_t c = tokenizer_utf8_read(text + at, &size);
        char bytes[4];
        /* The one character whose small form is two: I with dot above. */
        if (c == 0x130)
            RETURN_IF_ERROR(text_buffer_append(out, "i\xcc\x87", 3));
        else
            RETURN_IF_ERROR(
                text_buffer_append(out, bytes, tokenizer_utf8_write(utf8proc_tolower(c), bytes)));
    }
    return STATUS_OK;
}

/* Appends the result of one step to `out`. */
static enum status run_step(const struct tokenizer_normalize_step *step,
                            struct tokenizer_normalize_scratch *scratch, const char *text,
                            size_t length, struct text_buffer *out) {
    switch (step->kind) {
    case TOKENIZER_NORMALIZE_LOWERCASE:
        return lowercase(text, length, out);
    case TOKENIZER_NORMALIZE_PREPEND:
        if (length > 0)
            RETURN_IF_ERROR(text_buffer_append(out, step->text.data, step->text.length));
        return text_buffer_append(out, text, length);
    case TOKENIZER_NORMALIZE_REPLACE:
        return tokenizer_normalize_replace(step, &scratch->regex, text, length, out);
    case TOKENIZER_NORMALIZE_NFC:
        return tokenizer_unicode_normalize(text, length, TOKENIZER_UNICODE_COMPOSE,
                                           &scratch->code_points, out);
    case TOKENIZER_NORMALIZE_NFKC:
        return tokenizer_unicode_normalize(
            text, length, TOKENIZER_UNICODE_COMPOSE | TOKENIZER_UNICODE_COMPATIBILITY,
            &scratch->code_points, out);
    case TOKENIZER_NORMALIZE_NFD:
        return tokenizer_unicode_normalize(text, length, 0, &scratch->code_points, out);
    case TOKENIZER_NORMALIZE_NFKD:
        return tokenizer_unicode_normalize(text, length, TOKENIZER_UNICODE_COMPATIBILITY,
                                           &scratch->code_points, out);
    case TOKENIZER_NORMALIZE_SEQUENCE:
        break;
    }
    return STATUS_OK;
}

/* No character below U+0300 changes under NFC: nothing to do for text without such bytes. */
static bool is_plain_nfc(const char *text, size_t length) {
    unsigned char seen = 0;
    for (size_t i = 0; i < length; i++)
        seen = (unsigned char)text[i] > seen ? (unsigned char)text[i] : seen;
    return seen < 0xcc;
}

enum status tokenizer_normalize_run(const struct tokenizer_normalize *normalize,
                                    struct tokenizer_normalize_scratch *scratch, const char *text,
                                    size_t length, const char **out, size_t *out_length) {
    *out = text;
    *out_length = length;
    for (int i = 0; i < normalize->count; i++) {
        const struct tokenizer_normalize_step *step = &normalize->steps[i];
        if (step->kind == TOKENIZER_NORMALIZE_NFC && is_plain_nfc(*out, *out_length))
            continue;
        struct text_buffer *next = &scratch->buffers[i & 1];
        next->length = 0;
        RETURN_IF_ERROR(text_buffer_reserve(next, *out_length + 1)); /* never NULL */
        RETURN_IF_ERROR(run_step(step, scratch, *out, *out_length, next));
        *out = next->data;
        *out_length = next->length;
    }
    return STATUS_OK;
}
