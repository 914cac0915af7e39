/* Reads model.vocab and model.merges straight from the text of tokenizer.json. */
#include "runtime/tokenizer_scan.h"

#include <string.h>

#include "kernels/base/log.h"
#include "runtime/tokenizer_utf8.h"

/* Text being walked over without being understood. */
struct walk {
    const char *at;
    const char *end;
};

static void skip_space(struct walk *walk) {
    while (walk->at < walk->end &&
           (*walk->at == ' ' || *walk->at == '\n' || *walk->at == '\r' || *walk->at == '\t'))
        walk->at++;
}

static bool take(struct walk *walk, char wanted) {
    skip_space(walk);
    if (walk->at == walk->end || *walk->at != wanted)
        return false;
    walk->at++;
    return true;
}

/* Walks over a string, quotes included. */
static bool skip_string(struct walk *walk) {
    if (!take(walk, '"'))
        return false;
    for (; walk->at < walk->end; walk->at++) {
        if (*walk->at == '"') {
            walk->at++;
            return true;
        }
        if (*walk->at == '\\' && ++walk->at == walk->end)
            return false;
    }
    return false;
}

/* Walks over a value: brackets are counted, whether they match is for those to say who read it. */
static bool skip_value(struct walk *walk) {
    int64_t depth = 0;
    skip_space(walk);
    while (walk->at < walk->end) {
        char c = *walk->at;
        if (c == '"') {
            if (!skip_string(walk))
                return false;
        } else if (depth == 0 && (c == ',' || c == '}' || c == ']')) {
            return true;
        } else {
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
            walk->at++;
        }
        if (depth == 0 && (c == '"' || c == '}' || c == ']'))
            return true;
    }
    return false;
}

static bool key_is(const struct walk *key, const char *name) {
    size_t length = strlen(name);
    return (size_t)(key->end - key->at) == length + 2 && memcmp(key->at + 1, name, length) == 0;
}

/* The next member of an object: its key with quotes, and walk at its value. */
static bool next_key(struct walk *walk, struct walk *key) {
    skip_space(walk);
    key->at = walk->at;
    if (!skip_string(walk))
        return false;
    key->end = walk->at;
    return take(walk, ':');
}

static void find_sections(struct tokenizer_scan *scan, struct walk walk) {
    struct walk key;
    if (!take(&walk, '{'))
        return;
    do {
        if (!next_key(&walk, &key))
            return;
        skip_space(&walk);
        const char *start = walk.at;
        if (!skip_value(&walk))
            return;
        size_t length = (size_t)(walk.at - start);
        if (key_is(&key, "vocab") && *start == '{')
            scan->vocab = (struct tokenizer_scan_section){start, length};
        if (key_is(&key, "merges") && *start == '[')
            scan->merges = (struct tokenizer_scan_section){start, length};
    } while (take(&walk, ','));
}

/* Finds the member "model" of the root, and the sections in it. */
static void find_model(struct tokenizer_scan *scan, struct walk walk) {
    struct walk key;
    if (!take(&walk, '{'))
        return;
    do {
        if (!next_key(&walk, &key))
            return;
        if (key_is(&key, "model")) {
            find_sections(scan, walk);
            return;
        }
        if (!skip_value(&walk))
            return;
    } while (take(&walk, ','));
}

/* Appends the text from *done to the section, and for the section its brackets and line feeds: the
 * JSON library counts lines. */
static enum status cut_out(struct tokenizer_scan *scan,
                           const struct tokenizer_scan_section *section, const char **done) {
    if (section->start == NULL)
        return STATUS_OK;
    const char *end = section->start + section->length;
    RETURN_IF_ERROR(text_buffer_append(&scan->rest, *done, (size_t)(section->start + 1 - *done)));
    for (const char *at = section->start; (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++)
        RETURN_IF_ERROR(text_buffer_append(&scan->rest, "\n", 1));
    *done = end - 1;
    return STATUS_OK;
}

enum status tokenizer_scan_init(struct tokenizer_scan *scan, const char *file, const char *text,
                                size_t length) {
    *scan = (struct tokenizer_scan){.file = file};
    const char *done = text;
    find_model(scan, (struct walk){.at = text, .end = text + length});
    bool vocab_first = (uintptr_t)scan->vocab.start < (uintptr_t)scan->merges.start;
    RETURN_IF_ERROR(cut_out(scan, vocab_first ? &scan->vocab : &scan->merges, &done));
    RETURN_IF_ERROR(cut_out(scan, vocab_first ? &scan->merges : &scan->vocab, &done));
    RETURN_IF_ERROR(text_buffer_reserve(&scan->rest, 1)); /* never NULL */
    return text_buffer_append(&scan->rest, done, (size_t)(text + length - done));
}

void tokenizer_scan_deinit(struct tokenizer_scan *scan) {
    text_buffer_deinit(&scan->rest);
}

/* What a message quotes: a few characters from here on. */
static enum status malformed(const struct tokenizer_scan_cursor *cursor, const char *expected) {
    size_t left = (size_t)(cursor->end - cursor->at);
    LOG_ERROR("%s: %s: element %zu: expected %s, got \"%.*s\" at byte %zu of it", cursor->file,
              cursor->field, cursor->index, expected, (int)(left < 24 ? left : 24), cursor->at,
              (size_t)(cursor->at - cursor->start));
    return STATUS_BAD_TOKENIZER;
}

enum status tokenizer_scan_bad(const struct tokenizer_scan_cursor *cursor, const char *expected) {
    size_t length = (size_t)(cursor->at - cursor->element);
    LOG_ERROR("%s: %s: element %zu: expected %s, got %.*s", cursor->file, cursor->field,
              cursor->index - 1, expected, (int)(length < 60 ? length : 60), cursor->element);
    return STATUS_BAD_TOKENIZER;
}

enum status tokenizer_scan_start(const struct tokenizer_scan *scan, bool vocab,
                                 struct tokenizer_scan_cursor *cursor) {
    const struct tokenizer_scan_section *section = vocab ? &scan->vocab : &scan->merges;
    *cursor = (struct tokenizer_scan_cursor){.file = scan->file,
                                             .field = vocab ? "model.vocab" : "model.merges",
                                             .at = section->start,
                                             .end = section->start + section->length,
                                             .start = section->start};
    size_t wrong = tokenizer_utf8_invalid_at(section->start, section->length);
    if (wrong < section->length) {
        cursor->at += wrong;
        return malformed(cursor, "UTF-8");
    }
    return STATUS_OK;
}

static bool take_byte(struct tokenizer_scan_cursor *cursor, char wanted) {
    struct walk walk = {.at = cursor->at, .end = cursor->end};
    bool taken = take(&walk, wanted);
    cursor->at = walk.at;
    return taken;
}

/* Four hex digits at cursor->at; -1 if there are none. */
static int32_t read_hex(struct tokenizer_scan_cursor *cursor) {
    int32_t value = 0;
    if (cursor->end - cursor->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = *cursor->at++;
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
            value = value * 16 + ((c | 0x20) - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* \uXXXX, or two of them for one character; cursor->at is behind the u. */
static enum status unescape_code_point(struct tokenizer_scan_cursor *cursor,
                                       struct text_buffer *out) {
    int32_t c = read_hex(cursor);
    if (c >= 0xd800 && c <= 0xdbff && cursor->end - cursor->at >= 6 && cursor->at[0] == '\\' &&
        cursor->at[1] == 'u') {
        cursor->at += 2;
        int32_t low = read_hex(cursor);
        c = low >= 0xdc00 && low <= 0xdfff ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : -1;
    }
    if (c <= 0 || (c >= 0xd800 && c <= 0xdfff))
        return malformed(cursor, "\\u and the digits of a character that is not NUL");
    char bytes[4];
    return text_buffer_append(out, bytes, tokenizer_utf8_write(c, bytes));
}

/* One escape; cursor->at is behind the backslash. */
static enum status unescape(struct tokenizer_scan_cursor *cursor, struct text_buffer *out) {
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    char c = cursor->at < cursor->end ? *cursor->at : '\0';
    const char *found = c == '\0' ? NULL : strchr(letters, c);
    if (c != 'u' && found == NULL)
        return malformed(cursor, "an escape of JSON");
    cursor->at++;
    return c == 'u' ? unescape_code_point(cursor, out)
                    : text_buffer_append(out, &meanings[found - letters], 1);
}

static enum status read_escaped(struct tokenizer_scan_cursor *cursor, const char *start,
                                struct tokenizer_scan_string *string) {
    struct text_buffer *out = &string->unescaped;
    out->length = 0;
    RETURN_IF_ERROR(text_buffer_append(out, start, (size_t)(cursor->at - start)));
    while (cursor->at < cursor->end && *cursor->at != '"') {
        if ((unsigned char)*cursor->at < 0x20)
            return malformed(cursor, "no control character");
        if (*cursor->at == '\\') {
            cursor->at++;
            RETURN_IF_ERROR(unescape(cursor, out));
        } else {
            RETURN_IF_ERROR(text_buffer_append(out, cursor->at++, 1));
        }
    }
    if (cursor->at == cursor->end)
        return malformed(cursor, "the end of a string");
    cursor->at++;
    string->text = out->data;
    string->length = out->length;
    return STATUS_OK;
}

static enum status read_string(struct tokenizer_scan_cursor *cursor,
                               struct tokenizer_scan_string *string) {
    if (!take_byte(cursor, '"'))
        return malformed(cursor, "a string");
    const char *start = cursor->at;
    while (cursor->at < cursor->end && *cursor->at != '"' && *cursor->at != '\\' &&
           (unsigned char)*cursor->at >= 0x20)
        cursor->at++;
    if (cursor->at == cursor->end || *cursor->at != '"')
        return read_escaped(cursor, start, string);
    string->text = start;
    string->length = (size_t)(cursor->at - start);
    cursor->at++;
    return STATUS_OK;
}

/* A non-negative integer without sign, fraction or exponent. */
static enum status read_id(struct tokenizer_scan_cursor *cursor, int32_t limit, int32_t *id) {
    struct walk walk = {.at = cursor->at, .end = cursor->end};
    skip_space(&walk);
    const char *start = walk.at;
    cursor->at = start;
    int64_t value = 0;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9' && value < limit)
        value = value * 10 + (*cursor->at++ - '0');
    char next = cursor->at < cursor->end ? *cursor->at : '\0';
    bool has_end = next != '\0' && strchr(" \t\r\n,}", next) != NULL;
    bool has_zero = *start == '0' && cursor->at - start > 1; /* 007 */
    if (cursor->at == start || !has_end || has_zero || value >= limit) {
        cursor->at = start;
        return malformed(cursor, "an id: a whole number from 0 to 4194303");
    }
    *id = (int32_t)value;
    return STATUS_OK;
}

/* The bracket that opens the section, or the comma before its next element, or its end. */
static enum status next_element(struct tokenizer_scan_cursor *cursor, const char brackets[2],
                                bool *more) {
    bool is_first = cursor->at == cursor->start;
    if (is_first && !take_byte(cursor, brackets[0]))
        return malformed(cursor, "an opening bracket");
    if (take_byte(cursor, brackets[1])) {
        *more = false;
        return cursor->at == cursor->end ? STATUS_OK : malformed(cursor, "the end");
    }
    if (!is_first && !take_byte(cursor, ','))
        return malformed(cursor, "a comma");
    struct walk walk = {.at = cursor->at, .end = cursor->end};
    skip_space(&walk);
    cursor->at = cursor->element = walk.at;
    *more = true;
    return STATUS_OK;
}

enum status tokenizer_scan_entry(struct tokenizer_scan_cursor *cursor, int32_t limit,
                                 struct tokenizer_scan_string *text, int32_t *id, bool *more) {
    bool found;
    RETURN_IF_ERROR(next_element(cursor, "{}", &found));
    *more = found;
    if (!found)
        return STATUS_OK;
    RETURN_IF_ERROR(read_string(cursor, text));
    if (!take_byte(cursor, ':'))
        return malformed(cursor, "a colon");
    RETURN_IF_ERROR(read_id(cursor, limit, id));
    cursor->index++;
    return STATUS_OK;
}

enum status tokenizer_scan_merge(struct tokenizer_scan_cursor *cursor,
                                 struct tokenizer_scan_string halves[2], int *parts, bool *more) {
    bool found;
    RETURN_IF_ERROR(next_element(cursor, "[]", &found));
    *more = found;
    if (!found)
        return STATUS_OK;
    *parts = take_byte(cursor, '[') ? 2 : 1;
    RETURN_IF_ERROR(read_string(cursor, &halves[0]));
    if (*parts == 2) {
        if (!take_byte(cursor, ','))
            return malformed(cursor, "the second half of a merge");
        RETURN_IF_ERROR(read_string(cursor, &halves[1]));
        if (!take_byte(cursor, ']'))
            return malformed(cursor, "the end of a merge of two halves");
    }
    cursor->index++;
    return STATUS_OK;
}
