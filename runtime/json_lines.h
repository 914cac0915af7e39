/* One JSON object a line, as scripts send them: {"text": "..."} or {"ids": [1, 2, 3]}; other
 * members are ignored. */
#ifndef MOEBIUS_RUNTIME_JSON_LINES_H
#define MOEBIUS_RUNTIME_JSON_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"
#include "runtime/token_list.h"

/* Appends the string member "text" of the object in line[length] to `text`; it may hold NUL.
 * STATUS_BAD_REQUEST (logged: origin, line number, what was expected, what was found). Local. */
enum status json_lines_text(const char *origin, int64_t line_number, const char *line,
                            size_t length, struct text_buffer *text);

/* Appends the integers of the array member "ids", each within int32. Local. */
enum status json_lines_ids(const char *origin, int64_t line_number, const char *line, size_t length,
                           struct token_list *ids);

#endif
