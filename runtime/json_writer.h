/* JSON text written to a stream: what --json prints. Parsing is jansson's (json_file.h); writing a
 * flat object in a fixed order, with escaped strings, needs no tree. */
#ifndef MOEBIUS_RUNTIME_JSON_WRITER_H
#define MOEBIUS_RUNTIME_JSON_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_WRITER_DEPTH_MAX 16

/* {.out = stream} starts a document; values are separated by the writer. */
struct json_writer {
    FILE *out;
    int32_t depth;
    bool has_items[JSON_WRITER_DEPTH_MAX];
};

/* Opens and closes objects and arrays. key is NULL at the top and inside arrays. Local. */
void json_writer_begin_object(struct json_writer *writer, const char *key);
void json_writer_end_object(struct json_writer *writer);
void json_writer_begin_array(struct json_writer *writer, const char *key);
void json_writer_end_array(struct json_writer *writer);

/* Bytes that are not UTF-8 become U+FFFD. Local. */
void json_writer_string(struct json_writer *writer, const char *key, const char *text,
                        size_t length);
void json_writer_text(struct json_writer *writer, const char *key,
                      const char *text); /* NUL-terminated */
void json_writer_integer(struct json_writer *writer, const char *key, int64_t value);
/* 9 significant digits: an f32 comes back as it was. Infinities and NaN become null. */
void json_writer_number(struct json_writer *writer, const char *key, double value);
/* The same with a key as json_writer_string's text. Local. */
void json_writer_number_of(struct json_writer *writer, const char *key, size_t length,
                           double value);
void json_writer_boolean(struct json_writer *writer, const char *key, bool value);
void json_writer_null(struct json_writer *writer, const char *key);

/* Whether json_writer_string writes both alike. Local. */
bool json_writer_is_same(const char *a, size_t a_length, const char *b, size_t b_length);

/* The whole array on one line. Local. */
void json_writer_integers(struct json_writer *writer, const char *key, const int32_t *values,
                          int64_t count);

#endif
