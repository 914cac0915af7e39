/* Typed reads of JSON objects with one-line refusals. Used by the family parsers when a model is
 * opened. */
#include "runtime/config_reader.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/json_file.h"

#define VALUE_TEXT_MAX 80
#define EXPECTED_TEXT_MAX 640

static enum status adopt(const char *origin, struct json_t *root, struct config_reader *reader) {
    *reader = (struct config_reader){.file = origin, .object = root, .root = root};
    return STATUS_OK;
}

enum status config_reader_open(const char *path, struct config_reader *reader) {
    struct json_t *root = NULL;
    RETURN_IF_ERROR(json_file_load(path, STATUS_BAD_CONFIG, &root));
    return adopt(path, root, reader);
}

enum status config_reader_open_memory(const char *origin, const char *text, size_t size,
                                      struct config_reader *reader) {
    struct json_t *root = NULL;
    RETURN_IF_ERROR(json_file_parse(origin, text, size, STATUS_BAD_CONFIG, &root));
    return adopt(origin, root, reader);
}

void config_reader_close(struct config_reader *reader) {
    json_file_release(reader->root);
    *reader = (struct config_reader){0};
}

/* Writes a value as a message can bear it: numbers and strings in full up to a length, containers
 * by their size. */
static void describe(const struct json_t *value, char *text, size_t size) {
    if (json_is_integer(value))
        snprintf(text, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, size, "%.9g", json_real_value(value));
    else if (json_is_string(value))
        snprintf(text, size, "\"%.60s\"", json_string_value(value));
    else if (json_is_array(value))
        snprintf(text, size, "a list of %zu", json_array_size(value));
    else
        snprintf(text, size, "%s", json_file_kind(value));
}

/* Logs the refusal of `value`, which stands at position `index` of the list `key`, or is the key's
 * own value when index is -1. */
static void log_refusal(const struct config_reader *reader, const char *key, int32_t index,
                        const struct json_t *value, const char *expected) {
    char got[VALUE_TEXT_MAX];
    describe(value, got, sizeof got);
    char position[16] = "";
    if (index >= 0)
        snprintf(position, sizeof position, "[%d]", (int)index);
    LOG_ERROR("%s: field %s%s%s%s: expected %s, got %s", reader->file,
              reader->parent != NULL ? reader->parent : "", reader->parent != NULL ? "." : "", key,
              position, expected, got);
}

enum status config_reader_refuse(const struct config_reader *reader, const char *key,
                                 enum status status, const char *expected, ...) {
    char text[EXPECTED_TEXT_MAX];
    va_list arguments;
    va_start(arguments, expected);
    vsnprintf(text, sizeof text, expected, arguments);
    va_end(arguments);
    log_refusal(reader, key, -1, json_object_get(reader->object, key), text);
    return status;
}

enum config_state config_reader_state(const struct config_reader *reader, const char *key) {
    const json_t *value = json_object_get(reader->object, key);
    if (value == NULL)
        return CONFIG_MISSING;
    return json_is_null(value) ? CONFIG_NULL : CONFIG_VALUE;
}

/* A whole number of [low, high] written in any of JSON's forms. */
static bool as_int(const struct json_t *value, int32_t low, int32_t high, int32_t *result) {
    if (json_is_integer(value)) {
        json_int_t whole = json_integer_value(value);
        if (whole < low || whole > high)
            return false;
        *result = (int32_t)whole;
        return true;
    }
    if (!json_is_real(value))
        return false;
    double real = json_real_value(value);
    if (!(real >= low && real <= high) || real != floor(real))
        return false;
    *result = (int32_t)real;
    return true;
}

enum status config_reader_int(const struct config_reader *reader, const char *key, int32_t low,
                              int32_t high, int32_t *value) {
    if (!as_int(json_object_get(reader->object, key), low, high, value))
        return config_reader_refuse(reader, key, STATUS_BAD_CONFIG, "a whole number from %d to %d",
                                    (int)low, (int)high);
    return STATUS_OK;
}

enum status config_reader_int_or(const struct config_reader *reader, const char *key, int32_t low,
                                 int32_t high, int32_t fallback, int32_t *value) {
    if (config_reader_state(reader, key) == CONFIG_MISSING) {
        *value = fallback;
        return STATUS_OK;
    }
    return config_reader_int(reader, key, low, high, value);
}

enum status config_reader_number(const struct config_reader *reader, const char *key,
                                 struct config_range range, double *value) {
    const json_t *found = json_object_get(reader->object, key);
    double number = json_is_number(found) ? json_number_value(found) : (double)NAN;
    if (!(number >= range.low && number <= range.high))
        return config_reader_refuse(reader, key, STATUS_BAD_CONFIG, "a number from %g to %g",
                                    range.low, range.high);
    *value = number;
    return STATUS_OK;
}

enum status config_reader_number_or(const struct config_reader *reader, const char *key,
                                    struct config_range range, double fallback, double *value) {
    if (config_reader_state(reader, key) == CONFIG_MISSING) {
        *value = fallback;
        return STATUS_OK;
    }
    return config_reader_number(reader, key, range, value);
}

enum status config_reader_number_or_null(const struct config_reader *reader, const char *key,
                                         struct config_range range, double fallback,
                                         double *value) {
    if (config_reader_state(reader, key) == CONFIG_NULL) {
        *value = fallback;
        return STATUS_OK;
    }
    return config_reader_number_or(reader, key, range, fallback, value);
}

enum status config_reader_bool_or(const struct config_reader *reader, const char *key,
                                  bool fallback, bool *value) {
    const json_t *found = json_object_get(reader->object, key);
    if (found == NULL) {
        *value = fallback;
        return STATUS_OK;
    }
    if (!json_is_boolean(found) && !json_is_null(found))
        return config_reader_refuse(reader, key, STATUS_BAD_CONFIG, "true or false");
    *value = json_is_true(found);
    return STATUS_OK;
}

enum status config_reader_string(const struct config_reader *reader, const char *key,
                                 const char **value) {
    const json_t *found = json_object_get(reader->object, key);
    if (found != NULL && !json_is_null(found) && !json_is_string(found))
        return config_reader_refuse(reader, key, STATUS_BAD_CONFIG, "a string");
    *value = json_string_value(found);
    return STATUS_OK;
}

enum status config_reader_object(const struct config_reader *reader, const char *key,
                                 struct config_reader *child) {
    const json_t *found = json_object_get(reader->object, key);
    if (!json_is_object(found))
        return config_reader_refuse(reader, key, STATUS_BAD_CONFIG, "an object");
    *child = (struct config_reader){.file = reader->file, .parent = key, .object = found};
    return STATUS_OK;
}

/* jansson's iterators want a non-const object, and change nothing in it. */
static json_t *iterable(const struct config_reader *reader) {
    union {
        const struct json_t *in;
        json_t *out;
    } object = {.in = reader->object};
    return object.out;
}

bool config_reader_is_nested(const struct config_reader *reader) {
    json_t *object = iterable(reader);
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at))
        if (json_is_object(json_object_iter_value(at)))
            return true;
    return false;
}

size_t config_reader_keys(const struct config_reader *reader) {
    return json_object_size(reader->object);
}

/* One element of a list of whole numbers, or the number that stands for a list of one. */
static enum status read_element(const struct config_reader *reader, const char *key, int32_t index,
                                const struct json_t *value, const struct config_ints *ints,
                                int32_t *result) {
    if (as_int(value, ints->low, ints->high, result))
        return STATUS_OK;
    char expected[96];
    snprintf(expected, sizeof expected, "a whole number from %d to %d", (int)ints->low,
             (int)ints->high);
    log_refusal(reader, key, index, value, expected);
    return STATUS_BAD_CONFIG;
}

enum status config_reader_ints(const struct config_reader *reader, const char *key,
                               const struct config_ints *ints, int32_t *count) {
    ASSERT(ints->capacity >= 1);
    const json_t *found = json_object_get(reader->object, key);
    *count = 0;
    if (found == NULL || json_is_null(found))
        return STATUS_OK;
    if (!json_is_array(found) && ints->one_allowed) {
        RETURN_IF_ERROR(read_element(reader, key, -1, found, ints, &ints->values[0]));
        *count = 1;
        return STATUS_OK;
    }
    if (!json_is_array(found) || json_array_size(found) > (size_t)ints->capacity)
        return config_reader_refuse(reader, key, STATUS_BAD_CONFIG, "a list of at most %d numbers",
                                    (int)ints->capacity);
    int32_t size = (int32_t)json_array_size(found);
    for (int32_t i = 0; i < size; i++)
        RETURN_IF_ERROR(
            read_element(reader, key, i, json_array_get(found, (size_t)i), ints, &ints->values[i]));
    *count = size;
    return STATUS_OK;
}

enum status config_reader_strings(const struct config_reader *reader, const char *key,
                                  int32_t *count) {
    const json_t *found = json_object_get(reader->object, key);
    *count = 0;
    if (found == NULL || json_is_null(found))
        return STATUS_OK;
    if (!json_is_array(found))
        return config_reader_refuse(reader, key, STATUS_BAD_CONFIG, "a list of strings");
    int32_t size = (int32_t)json_array_size(found);
    for (int32_t i = 0; i < size; i++) {
        const json_t *element = json_array_get(found, (size_t)i);
        if (!json_is_string(element)) {
            log_refusal(reader, key, i, element, "a string");
            return STATUS_BAD_CONFIG;
        }
    }
    *count = size;
    return STATUS_OK;
}

const char *config_reader_string_at(const struct config_reader *reader, const char *key,
                                    int32_t index) {
    return json_string_value(json_array_get(json_object_get(reader->object, key), (size_t)index));
}
