/* Typed access to config.json and its kin. Every refusal is one logged line that names the file,
 * the field, what was expected and what was found.
 *
 * Numbers may be written 64, 64.0 or 6.4e1 alike. A key that is missing takes the fallback; a key
 * that is null is refused unless a function says otherwise (config_reader_state tells them apart).
 * All functions are Local. */
#ifndef MOEBIUS_RUNTIME_CONFIG_READER_H
#define MOEBIUS_RUNTIME_CONFIG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

struct json_t; /* jansson's value */

/* One JSON object of a file. Borrowed parts live as long as the reader that was opened. */
struct config_reader {
    const char *file;            /* for messages; the caller keeps it alive */
    const char *parent;          /* key under which this object stands; NULL for the file itself */
    const struct json_t *object; /* values handed out are borrowed from it */
    struct json_t *root;         /* owned: what config_reader_close releases; NULL in children */
};

enum config_state { CONFIG_MISSING, CONFIG_NULL, CONFIG_VALUE };

/* Parses a file: STATUS_IO, STATUS_NO_MEMORY, STATUS_BAD_CONFIG (logged). */
enum status config_reader_open(const char *path, struct config_reader *reader);

/* The same for text[size]; `origin` stands for the path in messages. */
enum status config_reader_open_memory(const char *origin, const char *text, size_t size,
                                      struct config_reader *reader);
void config_reader_close(struct config_reader *reader);

enum config_state config_reader_state(const struct config_reader *reader, const char *key);

/* A whole number in [low, high]. `fallback` is not checked against the range. STATUS_BAD_CONFIG. */
enum status config_reader_int(const struct config_reader *reader, const char *key, int32_t low,
                              int32_t high, int32_t *value);
enum status config_reader_int_or(const struct config_reader *reader, const char *key, int32_t low,
                                 int32_t high, int32_t fallback, int32_t *value);

/* A finite number in [low, high]. */
struct config_range {
    double low, high;
};
enum status config_reader_number(const struct config_reader *reader, const char *key,
                                 struct config_range range, double *value);
enum status config_reader_number_or(const struct config_reader *reader, const char *key,
                                    struct config_range range, double fallback, double *value);
/* null, too, gives the fallback. */
enum status config_reader_number_or_null(const struct config_reader *reader, const char *key,
                                         struct config_range range, double fallback, double *value);

/* true or false; null is false (Python's truth, which the configs were written for). */
enum status config_reader_bool_or(const struct config_reader *reader, const char *key,
                                  bool fallback, bool *value);

/* A string; NULL when missing or null. */
enum status config_reader_string(const struct config_reader *reader, const char *key,
                                 const char **value);

/* An object under `key`; *child is borrowed and is not closed. Must not be missing or null. */
enum status config_reader_object(const struct config_reader *reader, const char *key,
                                 struct config_reader *child);

/* Whether any value of this object is itself an object. */
bool config_reader_is_nested(const struct config_reader *reader);

/* Number of keys of this object. */
size_t config_reader_keys(const struct config_reader *reader);

/* Whole numbers in [low, high]: a list of at most `capacity`. Missing and null give none. */
struct config_ints {
    int32_t low, high;
    bool one_allowed; /* a bare number stands for a list of one */
    int32_t capacity;
    int32_t *values; /* [capacity] */
};
enum status config_reader_ints(const struct config_reader *reader, const char *key,
                               const struct config_ints *ints, int32_t *count);

/* A list of strings: its length (missing and null: 0), and its elements. */
enum status config_reader_strings(const struct config_reader *reader, const char *key,
                                  int32_t *count);
const char *config_reader_string_at(const struct config_reader *reader, const char *key,
                                    int32_t index);

/* Logs "FILE: field KEY: expected EXPECTED, got VALUE" with the key's value as it stands in the
 * file and returns `status`. */
enum status config_reader_refuse(const struct config_reader *reader, const char *key,
                                 enum status status, const char *expected, ...)
    __attribute__((format(printf, 4, 5)));

#endif
