/* Reading tokenizer.json with errors that name file, field, expected and got. A node is a JSON
 * value that knows its path; a missing key and null are one thing: node.value is NULL. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_JSON_H
#define MOEBIUS_RUNTIME_TOKENIZER_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

struct json_t; /* jansson's */

struct tokenizer_json {
    const char *file; /* the name that messages give */
    const struct json_t *value;
    char path[160]; /* "model.merges[7]" */
};

/* A name and the number that a JSON string of that name stands for. */
struct tokenizer_json_choice {
    const char *name;
    int value;
};

/* The member `key` of an object. STATUS_BAD_TOKENIZER if `parent` is no object. Local. */
enum status tokenizer_json_member(const struct tokenizer_json *parent, const char *key,
                                  struct tokenizer_json *member);

/* The elements of an array: how many (0 for a missing array), and the one at `index`. Local. */
enum status tokenizer_json_count(const struct tokenizer_json *array, size_t *count);
void tokenizer_json_element(const struct tokenizer_json *array, size_t index,
                            struct tokenizer_json *element);

/* Member `key` as a string (borrowed, may hold NUL), a boolean (`missing` if it is not there), an
 * id (0 to `limit` - 1). Local. */
enum status tokenizer_json_string(const struct tokenizer_json *parent, const char *key,
                                  const char **text, size_t *length);
enum status tokenizer_json_bool(const struct tokenizer_json *parent, const char *key, bool missing,
                                bool *value);
enum status tokenizer_json_id(const struct tokenizer_json *parent, const char *key, int32_t limit,
                              int32_t *id);

/* Member `key` as one of the `count` names of `choices`; another name is STATUS_UNSUPPORTED, a
 * missing one STATUS_BAD_TOKENIZER. Local. */
enum status tokenizer_json_choose(const struct tokenizer_json *parent, const char *key,
                                  const struct tokenizer_json_choice *choices, size_t count,
                                  int *value);

/* The member named `key` with its string value wrapped in {"String": ...} or {"Regex": ...}.
 * Local. */
enum status tokenizer_json_pattern(const struct tokenizer_json *parent, bool *is_regex,
                                   const char **text, size_t *length);

/* Log "file: path: expected X, got Y" and return STATUS_BAD_TOKENIZER or STATUS_UNSUPPORTED.
 * Local. */
enum status tokenizer_json_bad(const struct tokenizer_json *node, const char *expected);
enum status tokenizer_json_unsupported(const struct tokenizer_json *node, const char *expected);

#endif
