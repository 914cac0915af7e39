/* The two big sections of tokenizer.json, model.vocab and model.merges, read in place. A JSON tree
 * of them would take most of the time that loading takes; so they are cut out of the text before it
 * goes to the JSON library, and scanned here, as strictly. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_SCAN_H
#define MOEBIUS_RUNTIME_TOKENIZER_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"

/* A section: the bytes of its JSON value in the file's text; {0} if it was not found. */
struct tokenizer_scan_section {
    const char *start;
    size_t length;
};

struct tokenizer_scan {
    const char *file; /* the name that messages give */
    struct tokenizer_scan_section vocab;
    struct tokenizer_scan_section merges;
    struct text_buffer rest; /* the text with only brackets and line feeds in their places */
};

/* A string of the file: a slice of its text, or of `unescaped` if it has escapes. */
struct tokenizer_scan_string {
    const char *text;
    size_t length;
    struct text_buffer unescaped;
};

/* Where reading a section stands. */
struct tokenizer_scan_cursor {
    const char *file;
    const char *field;
    const char *at;
    const char *end;
    const char *start;
    const char *element; /* where the last element starts */
    size_t index;        /* elements read so far */
};

/* Cuts the sections out of `text`, which stays in use. Text that is no JSON, or has the sections
 * written otherwise, comes through whole, for the JSON library to complain about. Logs and returns
 * only STATUS_NO_MEMORY. Local. */
enum status tokenizer_scan_init(struct tokenizer_scan *scan, const char *file, const char *text,
                                size_t length);

void tokenizer_scan_deinit(struct tokenizer_scan *scan);

/* Starts reading a section that was found: STATUS_BAD_TOKENIZER, logged, if it is not UTF-8.
 * Local. */
enum status tokenizer_scan_start(const struct tokenizer_scan *scan, bool vocab,
                                 struct tokenizer_scan_cursor *cursor);

/* The next entry of model.vocab; *more is false, and nothing else set, behind the last.
 * STATUS_BAD_TOKENIZER, logged: malformed, or no id below `limit`. Local. */
enum status tokenizer_scan_entry(struct tokenizer_scan_cursor *cursor, int32_t limit,
                                 struct tokenizer_scan_string *text, int32_t *id, bool *more);

/* The next of model.merges: *parts is 1 for "a b" (in halves[0]) and 2 for ["a", "b"]. Otherwise as
 * above. Local. */
enum status tokenizer_scan_merge(struct tokenizer_scan_cursor *cursor,
                                 struct tokenizer_scan_string halves[2], int *parts, bool *more);

/* Logs "file: field[index]: expected X, got ..." of the element last read; STATUS_BAD_TOKENIZER.
 * Local. */
enum status tokenizer_scan_bad(const struct tokenizer_scan_cursor *cursor, const char *expected);

#endif
