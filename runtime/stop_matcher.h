/* Stop strings in streamed text: found across token borders; text that may still become a stop
 * string is held back. */
#ifndef MOEBIUS_RUNTIME_STOP_MATCHER_H
#define MOEBIUS_RUNTIME_STOP_MATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"

#define STOP_MATCHER_STRINGS_MAX 64

struct stop_matcher {
    const char *const *strings; /* borrowed, NUL-terminated, none empty */
    int32_t count;
    struct text_buffer held; /* text not yet released */
    int32_t matched;         /* index of the string that was found, -1: none yet */
};

/* Starts with nothing held. STATUS_BAD_REQUEST (logged) for an empty string or too many. Local. */
enum status stop_matcher_init(struct stop_matcher *matcher, const char *const *strings,
                              int32_t count);
void stop_matcher_deinit(struct stop_matcher *matcher);

/* Takes the next text and appends what is certain to `released`: everything before the first stop
 * string (earliest start; of two with the same start the shorter, of two equal ones the first in
 * the list), or everything that cannot be the beginning of one. After a match further text is
 * dropped. `last` ends the stream: what is held is released, up to a stop string that only waited
 * for a longer one with an earlier start. How the text is cut into pushes makes no difference.
 * STATUS_NO_MEMORY. Local. */
enum status stop_matcher_push(struct stop_matcher *matcher, const char *text, size_t length,
                              bool last, struct text_buffer *released);

#endif
