/* Bounded JSON parsing for everything that comes with a checkpoint. Under the loader and the
 * tokenizer. */
#include "runtime/json_file.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>

#include "kernels/base/log.h"
#include "runtime/regular_file.h"

/* What a text would cost as a tree, counted without building it. */
struct json_cost {
    int64_t values;
    int64_t objects;
    int64_t arrays;
    int64_t depth, depth_max;
};

/* Every value and name but the first in its container follows a comma or a colon, the first follows
 * its bracket: so brackets + commas + colons bound the number of values. True of valid JSON; of
 * invalid JSON, jansson stops at or before what is counted here. */
static void count_bytes(const char *text, size_t size, struct json_cost *cost) {
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '"') {
            in_string = true;
        } else if (c == ',' || c == ':') {
            cost->values++;
        } else if (c == '{' || c == '[') {
            cost->objects += c == '{';
            cost->arrays += c == '[';
            cost->values++;
            cost->depth++;
            if (cost->depth > cost->depth_max)
                cost->depth_max = cost->depth;
        } else if (c == '}' || c == ']') {
            cost->depth--;
        }
    }
}

static bool within(const char *origin, const char *what, int64_t got, int64_t limit) {
    if (got <= limit)
        return true;
    LOG_ERROR("%s: expected JSON with at most %" PRId64 " %s, got %" PRId64, origin, limit, what,
              got);
    return false;
}

enum status json_file_parse(const char *origin, const char *text, size_t size, enum status bad,
                            struct json_t **root) {
    struct json_cost cost = {0};
    count_bytes(text, size, &cost);
    if (!within(origin, "levels of nesting", cost.depth_max, JSON_FILE_DEPTH_MAX) ||
        !within(origin, "values", cost.values, JSON_FILE_VALUES_MAX) ||
        !within(origin, "objects", cost.objects, JSON_FILE_OBJECTS_MAX) ||
        !within(origin, "arrays", cost.arrays, JSON_FILE_ARRAYS_MAX))
        return bad;
    json_error_t error;
    json_t *parsed = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (parsed == NULL) {
        LOG_ERROR("%s:%d:%d: expected valid JSON, got: %s", origin, error.line, error.column,
                  error.text);
        return bad;
    }
    if (!json_is_object(parsed)) {
        LOG_ERROR("%s: expected a JSON object, got %s", origin, json_file_kind(parsed));
        json_decref(parsed);
        return bad;
    }
    *root = parsed;
    return STATUS_OK;
}

enum status json_file_load(const char *path, enum status bad, struct json_t **root) {
    char *text = NULL;
    size_t size = 0;
    enum status status = regular_file_load(path, JSON_FILE_BYTES_MAX, &text, &size);
    if (status == STATUS_LIMIT)
        return bad;
    if (status != STATUS_OK)
        return status;
    status = json_file_parse(path, text, size, bad, root);
    free(text);
    return status;
}

void json_file_release(struct json_t *root) {
    json_decref(root);
}

const char *json_file_kind(const struct json_t *value) {
    if (value == NULL)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        break;
    }
    return "null";
}
