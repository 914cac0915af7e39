/* NFC, NFD, NFKC and NFKD over utf8proc's tables. */
#include "runtime/tokenizer_unicode.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/tokenizer_utf8.h"

/* Code points that one character can become (U+FDFA becomes 18). */
#define DECOMPOSED_MAX 32

static int combining_class(utf8proc_int32_t c) {
    return utf8proc_get_property(c)->combining_class;
}

/* Appends the full decomposition, marks not yet in order. */
static enum status decompose(const char *text, size_t length, utf8proc_option_t options,
                             struct text_buffer *code_points) {
    for (size_t at = 0, size; at < length; at += size) {
        utf8proc_int32_t c = tokenizer_utf8_read(text + at, &size);
        utf8proc_int32_t parts[DECOMPOSED_MAX];
        int boundary = 0;
        utf8proc_ssize_t count =
            utf8proc_decompose_char(c, parts, DECOMPOSED_MAX, options, &boundary);
        ASSERT(count > 0 && count <= DECOMPOSED_MAX);
        RETURN_IF_ERROR(
            text_buffer_append(code_points, (char *)parts, (size_t)count * sizeof parts[0]));
    }
    return STATUS_OK;
}

/* A stable sort of a run of marks by combining class: counts, then places. */
static enum status order_long_run(utf8proc_int32_t *run, size_t count) {
    utf8proc_int32_t *copy = malloc(count * sizeof copy[0]);
    if (copy == NULL) {
        LOG_ERROR("tokenizer: cannot take memory to order %zu combining marks", count);
        return STATUS_NO_MEMORY;
    }
    size_t starts[257] = {0};
    memcpy(copy, run, count * sizeof copy[0]);
    for (size_t i = 0; i < count; i++)
        starts[combining_class(run[i]) + 1]++;
    for (int of = 0; of < 256; of++)
        starts[of + 1] += starts[of];
    for (size_t i = 0; i < count; i++)
        run[starts[combining_class(copy[i])]++] = copy[i];
    free(copy);
    return STATUS_OK;
}

static void order_short_run(utf8proc_int32_t *run, size_t count) {
    for (size_t i = 1; i < count; i++) {
        utf8proc_int32_t mark = run[i];
        int mark_class = combining_class(mark);
        size_t at = i;
        for (; at > 0 && combining_class(run[at - 1]) > mark_class; at--)
            run[at] = run[at - 1];
        run[at] = mark;
    }
}

/* Canonical ordering: within each run of characters with a combining class other than 0. */
static enum status order_marks(utf8proc_int32_t *code_points, size_t count) {
    size_t start = 0;
    while (start < count) {
        if (code_points[start] < 0x300 || combining_class(code_points[start]) == 0) {
            start++;
            continue;
        }
        size_t end = start + 1;
        while (end < count && combining_class(code_points[end]) != 0)
            end++;
        if (end - start > 16)
            RETURN_IF_ERROR(order_long_run(code_points + start, end - start));
        else
            order_short_run(code_points + start, end - start);
        start = end;
    }
    return STATUS_OK;
}

enum status tokenizer_unicode_normalize(const char *text, size_t length, unsigned form,
                                        struct text_buffer *code_points, struct text_buffer *out) {
    int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if ((form & TOKENIZER_UNICODE_COMPATIBILITY) != 0)
        options |= UTF8PROC_COMPAT;
    code_points->length = 0;
    RETURN_IF_ERROR(text_buffer_reserve(code_points, length + 1));
    RETURN_IF_ERROR(decompose(text, length, (utf8proc_option_t)options, code_points));
    utf8proc_int32_t *characters = (utf8proc_int32_t *)(void *)code_points->data;
    utf8proc_ssize_t count = (utf8proc_ssize_t)(code_points->length / sizeof characters[0]);
    RETURN_IF_ERROR(order_marks(characters, (size_t)count));
    if ((form & TOKENIZER_UNICODE_COMPOSE) != 0)
        count = utf8proc_normalize_utf32(characters, count,
                                         (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    ASSERT(count >= 0);
    RETURN_IF_ERROR(text_buffer_reserve(out, (size_t)count * 4));
    for (utf8proc_ssize_t i = 0; i < count; i++)
        out->length += tokenizer_utf8_write(characters[i], out->data + out->length);
    return STATUS_OK;
}
