/* Reads the lines of moebius tokenize --jsonl. */
#include "runtime/json_lines.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/json_file.h"

static enum status refuse(const char *origin, int64_t line_number, const char *expected,
                          const char *got) {
    LOG_ERROR("%s: line %lld: expected %s, got %s", origin, (long long)line_number, expected, got);
    return STATUS_BAD_REQUEST;
}

/* The member `key` of the line's object; *root is to be released by the caller, and NULL on
 * failure. */
static enum status parse_member(const char *origin, int64_t line_number, const char *line,
                                size_t length, const char *key, json_t **root, json_t **member) {
    json_error_t error;
    *root = json_loadb(line, length, JSON_ALLOW_NUL, &error);
    if (*root == NULL) {
        char *near = strstr(error.text, " near '"); /* what follows is the user's text */
        if (near != NULL)
            *near = '\0';
        return refuse(origin, line_number, "one JSON object", error.text);
    }
    *member = json_object_get(*root, key);
    return STATUS_OK;
}

enum status json_lines_text(const char *origin, int64_t line_number, const char *line,
                            size_t length, struct text_buffer *text) {
    json_t *root, *member;
    RETURN_IF_ERROR(parse_member(origin, line_number, line, length, "text", &root, &member));
    enum status status =
        json_is_string(member)
            ? text_buffer_append(text, json_string_value(member), json_string_length(member))
            : refuse(origin, line_number, "a member \"text\" with a string",
                     json_file_kind(member));
    json_decref(root);
    return status;
}

enum status json_lines_ids(const char *origin, int64_t line_number, const char *line, size_t length,
                           struct token_list *ids) {
    json_t *root, *member, *item;
    RETURN_IF_ERROR(parse_member(origin, line_number, line, length, "ids", &root, &member));
    enum status status = STATUS_OK;
    if (!json_is_array(member))
        status =
            refuse(origin, line_number, "a member \"ids\" with an array", json_file_kind(member));
    size_t index;
    json_array_foreach(member, index, item) {
        json_int_t id = json_integer_value(item);
        char got[64];
        if (json_is_integer(item))
            snprintf(got, sizeof got, "%lld at index %zu", (long long)id, index);
        else
            snprintf(got, sizeof got, "%s at index %zu", json_file_kind(item), index);
        if (!json_is_integer(item) || id < 0 || id > INT32_MAX)
            status = refuse(origin, line_number, "ids from 0 to 2147483647", got);
        else
            status = token_list_append(ids, (int32_t)id);
        if (status != STATUS_OK)
            break;
    }
    json_decref(root);
    return status;
}
