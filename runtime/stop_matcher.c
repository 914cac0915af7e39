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

/* How many bytes of `string` stand at text[0..length): all of it (a match), the rest of the text (a
 * beginning), or 0. */
static size_t prefix_at(const char *text, size_t length, const char *string) {
    size_t string_length = strlen(string);
    size_t compared = length < string_length ? length : string_length;
    return memcmp(text, string, compared) == 0 ? compared : 0;
}

/* Finds the first place where a stop string stands or may begin; *found is its index when it stands
 * there in full, else -1. */
static size_t first_candidate(const struct stop_matcher *matcher, int32_t *found) {
    const struct text_buffer *held = &matcher->held;
    for (size_t place = 0; place < held->length; place++) {
        bool may_begin = false;
        for (int32_t i = 0; i < matcher->count; i++) {
            size_t prefix =
                prefix_at(held->data + place, held->length - place, matcher->strings[i]);
            if (prefix > 0 && matcher->strings[i][prefix] == '\0') {
                *found = i;
                return place;
            }
            may_begin = may_begin || prefix > 0;
        }
        if (may_begin) {
            *found = -1;
            return place;
        }
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
    int32_t found;
    size_t place = first_candidate(matcher, &found);
    if (found < 0 && last)
        place = held->length;
    RETURN_IF_ERROR(text_buffer_append(released, held->data, place));
    matcher->matched = found;
    held->length -= place;
    memmove(held->data, held->data + place, held->length);
    if (found >= 0)
        held->length = 0;
    return STATUS_OK;
}
