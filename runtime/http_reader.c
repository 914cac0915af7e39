/* The small steps of reading a POST body. */
#include "runtime/http_reader.h"

#include <jansson.h>
#include <stdio.h>

#include "runtime/json_file.h"

enum generation_error http_reader_refuse(const struct http_reader *reader,
                                         enum generation_error error, const char *field,
                                         const char *expected, const char *got) {
    snprintf(reader->message->text, sizeof reader->message->text, "%s: expected %s, got %s", field,
             expected, got);
    return error;
}

enum generation_error http_reader_wrong_type(const struct http_reader *reader, const char *field,
                                             const char *expected, const json_t *value) {
    return http_reader_refuse(reader, GENERATION_ERROR_INVALID, field, expected,
                              json_file_kind(value));
}

enum generation_error http_reader_no_memory(const struct http_reader *reader) {
    snprintf(reader->message->text, sizeof reader->message->text, "the server is out of memory");
    return GENERATION_ERROR_INTERNAL;
}

/* The member, NULL where it is absent or null. */
json_t *http_reader_member(const struct http_reader *reader, const char *field) {
    json_t *value = json_object_get(reader->body->root, field);
    return json_is_null(value) ? NULL : value;
}

enum generation_error http_reader_integer(const struct http_reader *reader, const char *field,
                                          int64_t least, int32_t *into) {
    const json_t *value = http_reader_member(reader, field);
    if (value == NULL)
        return GENERATION_ERROR_NONE;
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value))
        return http_reader_wrong_type(reader, field, "an integer", value);
    if (number < least || number > INT32_MAX) {
        char expected[64], got[32];
        snprintf(expected, sizeof expected, "an integer from %lld to %d", (long long)least,
                 INT32_MAX);
        snprintf(got, sizeof got, "%lld", (long long)number);
        return http_reader_refuse(reader, GENERATION_ERROR_INVALID, field, expected, got);
    }
    *into = (int32_t)number;
    return GENERATION_ERROR_NONE;
}

enum generation_error http_reader_boolean(const struct http_reader *reader, const char *field,
                                          bool *into) {
    const json_t *value = http_reader_member(reader, field);
    if (value == NULL)
        return GENERATION_ERROR_NONE;
    if (!json_is_boolean(value))
        return http_reader_wrong_type(reader, field, "true or false", value);
    *into = json_is_true(value);
    return GENERATION_ERROR_NONE;
}

enum generation_error http_reader_string(const struct http_reader *reader, const char *field,
                                         const char **into) {
    const json_t *value = http_reader_member(reader, field);
    if (value == NULL)
        return GENERATION_ERROR_NONE;
    if (!json_is_string(value))
        return http_reader_wrong_type(reader, field, "a string", value);
    *into = json_string_value(value);
    return GENERATION_ERROR_NONE;
}
