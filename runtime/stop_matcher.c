/* Stands between the detokenizer and the reader: nothing that belongs to a stop string gets
 * through. */
#include "runtime/stop_matcher.h"

#include <string.h>

#include "kernels/base/log.h"

enum status stop_matcher_init(struct stop_matcher *matcher, const char *const *strings,
                              int32_t count) {
    if (count > STOP_MATCHER_STRINGS_MAX) {
        LOG_ERROR("stop: expected at most %d strings, got %d", STOP_MATCHER_STRINGS_MAX, count);
        return STATUS_BAD_REQUEST;
    }
    for (int32_t i = 0; i < count; i++) {
        if (strings[i][0] == '\0') {
            LOG_ERROR("stop: string %d: expected at least one character, got an empty string", i);
            return STATUS_BAD_REQUEST;
        }
    }
    *matcher = (struct stop_matcher){.strings = strings, .count = count, .matched = -1};
    return STATUS_OK;
}

void stop_matcher_deinit(struct stop_matcher *matcher) {
    text_buffer_deinit(&matcher->held);
}

/* The shortest stop string that stands in full at text[0..length), or -1; *may_begin: whether
 * another could still become one with more text. */
static int32_t match_at(const struct stop_matcher *matcher, const char *text, size_t length,
                        bool *may_begin) {
    int32_t found = -1;
    size_t found_length = 0;
    *may_begin = false;
    for (int32_t i = 0; i < matcher->count; i++) {
        size_t string_length = strlen(matcher->strings[i]);
        size_t compared = length < string_length ? length : string_length;
        if (memcmp(text, matcher->strings[i], compared) != 0)
            continue;
        if (compared < string_length) {
            *may_begin = true;
        } else if (found < 0 || string_length < found_length) {
            found = i;
            found_length = string_length;
        }
    }
    return found;
}

/* Finds the first place where a stop string stands (*found is its index) or, unless the text is at
 * its end, may begin (*found is -1). */
static size_t first_candidate(const struct stop_matcher *matcher, bool last, int32_t *found) {
    const struct text_buffer *held = &matcher->held;
    for (size_t place = 0; place < held->length; place++) {
        bool may_begin;
        *found = match_at(matcher, held->data + place, held->length - place, &may_begin);
        if (*found >= 0 || (may_begin && !last))
            return place;
    }
    *found = -1;
    return held->length;
}

enum status stop_matcher_push(struct stop_matcher *matcher, const char *text, size_t length,
                              bool last, struct text_buffer *released) {
    if (matcher->matched >= 0)
        return STATUS_OK;
    if (matcher->count == 0)
        return text_buffer_append(released, text, length);
    struct text_buffer *held = &matcher->held;
    RETURN_IF_ERROR(text_buffer_append(held, text, length));
    if (held->length == 0)
        return STATUS_OK;
    int32_t found;
    size_t place = first_candidate(matcher, last, &found);
    RETURN_IF_ERROR(text_buffer_append(released, held->data, place));
    matcher->matched = found;
    held->length -= place;
    memmove(held->data, held->data + place, held->length);
    if (found >= 0)
        held->length = 0;
    return STATUS_OK;
}
