/* The JSON side of loading a tokenizer: each getter checks the type and says what it found. */
#include "runtime/tokenizer_json.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"

/* What a message says that it got. */
static void describe(const json_t *value, char *text, size_t size) {
    if (value == NULL) {
        snprintf(text, size, "nothing");
        return;
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        snprintf(text, size, "an object");
        break;
    case JSON_ARRAY:
        snprintf(text, size, "an array of %zu", json_array_size(value));
        break;
    case JSON_STRING:
        snprintf(text, size, "\"%.60s\"", json_string_value(value));
        break;
    case JSON_INTEGER:
        snprintf(text, size, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        snprintf(text, size, "%g", json_real_value(value));
        break;
    case JSON_TRUE:
        snprintf(text, size, "true");
        break;
    case JSON_FALSE:
        snprintf(text, size, "false");
        break;
    case JSON_NULL:
        snprintf(text, size, "null");
        break;
    }
}

enum status tokenizer_json_bad(const struct tokenizer_json *node, const char *expected) {
    char got[96];
    describe(node->value, got, sizeof got);
    LOG_ERROR("%s: %s: expected %s, got %s", node->file, node->path, expected, got);
    return STATUS_BAD_TOKENIZER;
}

enum status tokenizer_json_unsupported(const struct tokenizer_json *node, const char *expected) {
    char got[96];
    describe(node->value, got, sizeof got);
    LOG_ERROR("%s: %s: not supported: expected %s, got %s", node->file, node->path, expected, got);
    return STATUS_UNSUPPORTED;
}

enum status tokenizer_json_member(const struct tokenizer_json *parent, const char *key,
                                  struct tokenizer_json *member) {
    if (!json_is_object(parent->value))
        return tokenizer_json_bad(parent, "an object");
    struct tokenizer_json found = {.file = parent->file};
    found.value = json_object_get(parent->value, key);
    if (json_is_null(found.value))
        found.value = NULL;
    snprintf(found.path, sizeof found.path, "%.100s%s%.50s", parent->path,
             parent->path[0] != '\0' ? "." : "", key);
    *member = found;
    return STATUS_OK;
}

enum status tokenizer_json_count(const struct tokenizer_json *array, size_t *count) {
    if (array->value != NULL && !json_is_array(array->value))
        return tokenizer_json_bad(array, "an array");
    *count = json_array_size(array->value);
    return STATUS_OK;
}

void tokenizer_json_element(const struct tokenizer_json *array, size_t index,
                            struct tokenizer_json *element) {
    struct tokenizer_json found = {.file = array->file};
    found.value = json_array_get(array->value, index);
    snprintf(found.path, sizeof found.path, "%.130s[%zu]", array->path, index);
    *element = found;
}

enum status tokenizer_json_string(const struct tokenizer_json *parent, const char *key,
                                  const char **text, size_t *length) {
    struct tokenizer_json member;
    RETURN_IF_ERROR(tokenizer_json_member(parent, key, &member));
    if (!json_is_string(member.value))
        return tokenizer_json_bad(&member, "a string");
    *text = json_string_value(member.value);
    *length = json_string_length(member.value);
    return STATUS_OK;
}

enum status tokenizer_json_bool(const struct tokenizer_json *parent, const char *key, bool missing,
                                bool *value) {
    struct tokenizer_json member;
    RETURN_IF_ERROR(tokenizer_json_member(parent, key, &member));
    if (member.value != NULL && !json_is_boolean(member.value))
        return tokenizer_json_bad(&member, "true or false");
    *value = member.value == NULL ? missing : json_is_true(member.value);
    return STATUS_OK;
}

enum status tokenizer_json_id(const struct tokenizer_json *parent, const char *key, int32_t limit,
                              int32_t *id) {
    struct tokenizer_json member;
    RETURN_IF_ERROR(tokenizer_json_member(parent, key, &member));
    json_int_t value = json_integer_value(member.value);
    if (!json_is_integer(member.value) || value < 0 || value >= limit) {
        char expected[64];
        snprintf(expected, sizeof expected, "an id from 0 to %d", limit - 1);
        return tokenizer_json_bad(&member, expected);
    }
    *id = (int32_t)value;
    return STATUS_OK;
}

enum status tokenizer_json_choose(const struct tokenizer_json *parent, const char *key,
                                  const struct tokenizer_json_choice *choices, size_t count,
                                  int *value) {
    const char *text;
    size_t length;
    RETURN_IF_ERROR(tokenizer_json_string(parent, key, &text, &length));
    char expected[256];
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, choices[i].name) == 0) {
            *value = choices[i].value;
            return STATUS_OK;
        }
        int added = snprintf(expected + used, sizeof expected - used, "%s%s",
                             i > 0 ? ", " : "one of ", choices[i].name);
        used += (size_t)added < sizeof expected - used ? (size_t)added : 0;
    }
    struct tokenizer_json member;
    RETURN_IF_ERROR(tokenizer_json_member(parent, key, &member));
    return tokenizer_json_unsupported(&member, expected);
}

enum status tokenizer_json_pattern(const struct tokenizer_json *parent, bool *is_regex,
                                   const char **text, size_t *length) {
    struct tokenizer_json pattern;
    struct tokenizer_json regex;
    RETURN_IF_ERROR(tokenizer_json_member(parent, "pattern", &pattern));
    RETURN_IF_ERROR(tokenizer_json_member(&pattern, "Regex", &regex));
    *is_regex = regex.value != NULL;
    RETURN_IF_ERROR(tokenizer_json_string(&pattern, *is_regex ? "Regex" : "String", text, length));
    if (*length == 0)
        return tokenizer_json_bad(&pattern, "a pattern that is not empty");
    return STATUS_OK;
}
