/* Writes JSON for people's scripts: generate --json, tokenize --jsonl, bench --json. */
#include "runtime/json_writer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "kernels/base/check.h"

/* Length of the well-formed UTF-8 sequence at text (1..4), or 0. */
static size_t utf8_length(const unsigned char *text, size_t left) {
    unsigned char c = text[0];
    size_t length = c < 0x80                ? 1
                    : c >= 0xc2 && c < 0xe0 ? 2
                    : c >= 0xe0 && c < 0xf0 ? 3
                    : c >= 0xf0 && c < 0xf5 ? 4
                                            : 0;
    if (length == 0 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] > 0x9f) ||
        (c == 0xf0 && text[1] < 0x90) || (c == 0xf4 && text[1] > 0x8f))
        return 0;
    return length;
}

static void write_string(FILE *out, const char *text, size_t size) {
    const unsigned char *bytes = (const unsigned char *)text;
    fputc('"', out);
    for (size_t i = 0; i < size;) {
        size_t length = utf8_length(bytes + i, size - i);
        if (length == 0) {
            fputs("\xef\xbf\xbd", out);
            i++;
            continue;
        }
        if (bytes[i] == '"' || bytes[i] == '\\')
            fprintf(out, "\\%c", bytes[i]);
        else if (bytes[i] == '\n')
            fputs("\\n", out);
        else if (bytes[i] < 0x20 || bytes[i] == 0x7f)
            fprintf(out, "\\u%04x", bytes[i]);
        else
            fwrite(bytes + i, 1, length, out);
        i += length;
    }
    fputc('"', out);
}

static void begin_item(struct json_writer *writer) {
    if (writer->has_items[writer->depth])
        fputs(", ", writer->out);
    writer->has_items[writer->depth] = true;
}

/* The comma before a value, and its key. */
static void begin_value(struct json_writer *writer, const char *key) {
    begin_item(writer);
    if (key != NULL) {
        write_string(writer->out, key, strlen(key));
        fputs(": ", writer->out);
    }
}

static void open_level(struct json_writer *writer, const char *key, char bracket) {
    begin_value(writer, key);
    fputc(bracket, writer->out);
    writer->depth++;
    ASSERT(writer->depth < JSON_WRITER_DEPTH_MAX);
    writer->has_items[writer->depth] = false;
}

static void close_level(struct json_writer *writer, char bracket) {
    ASSERT(writer->depth > 0);
    writer->depth--;
    fputc(bracket, writer->out);
}

void json_writer_begin_object(struct json_writer *writer, const char *key) {
    open_level(writer, key, '{');
}

void json_writer_end_object(struct json_writer *writer) {
    close_level(writer, '}');
}

void json_writer_begin_array(struct json_writer *writer, const char *key) {
    open_level(writer, key, '[');
}

void json_writer_end_array(struct json_writer *writer) {
    close_level(writer, ']');
}

void json_writer_string(struct json_writer *writer, const char *key, const char *text,
                        size_t length) {
    begin_value(writer, key);
    write_string(writer->out, text, length);
}

void json_writer_text(struct json_writer *writer, const char *key, const char *text) {
    json_writer_string(writer, key, text, strlen(text));
}

void json_writer_integer(struct json_writer *writer, const char *key, int64_t value) {
    begin_value(writer, key);
    fprintf(writer->out, "%" PRId64, value);
}

static void write_number(FILE *out, double value) {
    if (isfinite(value))
        fprintf(out, "%.9g", value);
    else
        fputs("null", out);
}

void json_writer_number(struct json_writer *writer, const char *key, double value) {
    begin_value(writer, key);
    write_number(writer->out, value);
}

void json_writer_number_of(struct json_writer *writer, const char *key, size_t length,
                           double value) {
    begin_item(writer);
    write_string(writer->out, key, length);
    fputs(": ", writer->out);
    write_number(writer->out, value);
}

void json_writer_boolean(struct json_writer *writer, const char *key, bool value) {
    begin_value(writer, key);
    fputs(value ? "true" : "false", writer->out);
}

void json_writer_null(struct json_writer *writer, const char *key) {
    begin_value(writer, key);
    fputs("null", writer->out);
}

bool json_writer_is_same(const char *a, size_t a_length, const char *b, size_t b_length) {
    const unsigned char *first = (const unsigned char *)a, *second = (const unsigned char *)b;
    size_t at = 0;
    while (at < a_length && at < b_length) {
        size_t length = utf8_length(first + at, a_length - at);
        if (length != utf8_length(second + at, b_length - at) ||
            memcmp(first + at, second + at, length) != 0)
            return false;
        at += length > 0 ? length : 1;
    }
    return a_length == b_length;
}

void json_writer_integers(struct json_writer *writer, const char *key, const int32_t *values,
                          int64_t count) {
    json_writer_begin_array(writer, key);
    for (int64_t i = 0; i < count; i++)
        json_writer_integer(writer, NULL, values[i]);
    json_writer_end_array(writer);
}
