/* JSON from the user's files (config.json, index, safetensors headers, tokenizer.json): parsed with
 * jansson within limits, so that a hostile file costs a message and not the machine's memory. The
 * one place that turns jansson's errors into our log line. Duplicate names and NUL characters in
 * strings are refused; invalid UTF-8 too.
 *
 * Callers (.c files of the loader and the tokenizer) include <jansson.h> for themselves: struct
 * json_t is jansson's json_t. */
#ifndef MOEBIUS_RUNTIME_JSON_FILE_H
#define MOEBIUS_RUNTIME_JSON_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

struct json_t;

#define JSON_FILE_BYTES_MAX (INT64_C(100) << 20)
#define JSON_FILE_VALUES_MAX (INT64_C(8) << 20)  /* of any kind, names of objects counted too */
#define JSON_FILE_OBJECTS_MAX (INT64_C(1) << 20) /* objects are jansson's dearest values */
#define JSON_FILE_ARRAYS_MAX (INT64_C(2) << 20)
#define JSON_FILE_DEPTH_MAX 64

/* Parses text[size], which holds one JSON object and nothing after it but white space. `origin`
 * (path of the file) opens the message. Returns `bad` (STATUS_BAD_CONFIG, ...) with one line logged
 * that names origin, line, column and reason if it is no JSON, no object, or beyond the limits
 * above. json_file_release(*root). Local. */
enum status json_file_parse(const char *origin, const char *text, size_t size, enum status bad,
                            struct json_t **root);

/* The same for a whole file: also STATUS_IO, STATUS_NO_MEMORY (logged). A file of more than
 * JSON_FILE_BYTES_MAX bytes is `bad`. Local. */
enum status json_file_load(const char *path, enum status bad, struct json_t **root);

/* Drops the reference. NULL allowed. Local. */
void json_file_release(struct json_t *root);

/* "an object", "a string", "an integer" ... of a value, for messages; NULL is "nothing". Local. */
const char *json_file_kind(const struct json_t *value);

#endif
