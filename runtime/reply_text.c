/* Detokenizer and stop strings in a row: from a choice's tokens to the text that its client gets.
 * The same for every way the tokens are cut into pushes. */
#include "runtime/reply_text.h"

#include <string.h>

size_t reply_text_scratch_bytes(const struct tokenizer *tokenizer) {
    return detokenizer_delta_bytes_max(tokenizer);
}

enum status reply_text_init(struct reply_text *reply, const struct reply_text_options *options) {
    RETURN_IF_ERROR(stop_matcher_init(&reply->stop, options->stop, options->stop_count));
    reply->include_stop = options->include_stop;
    reply->unsearched = options->min_tokens;
    if (options->tokenizer == NULL)
        return STATUS_OK;
    detokenizer_init(&reply->detokenizer, options->tokenizer, !options->keep_special);
    if (options->follows_prompt)
        detokenizer_follow(&reply->detokenizer);
    return STATUS_OK;
}

void reply_text_deinit(struct reply_text *reply) {
    stop_matcher_deinit(&reply->stop);
}

static enum status search(struct reply_text *reply, const char *text, size_t length, bool last,
                          struct text_buffer *out) {
    bool matched_before = reply->stop.matched >= 0;
    RETURN_IF_ERROR(stop_matcher_push(&reply->stop, text, length, last, out));
    if (matched_before || reply->stop.matched < 0 || !reply->include_stop)
        return STATUS_OK;
    const char *stop = reply->stop.strings[reply->stop.matched];
    return text_buffer_append(out, stop, strlen(stop));
}

enum status reply_text_push(struct reply_text *reply, int32_t id, char *scratch,
                            struct text_buffer *out) {
    size_t length = detokenizer_push(&reply->detokenizer, id, scratch);
    if (reply->unsearched > 0) {
        reply->unsearched--;
        return text_buffer_append(out, scratch, length);
    }
    return search(reply, scratch, length, false, out);
}

enum status reply_text_finish(struct reply_text *reply, char *scratch, struct text_buffer *out) {
    size_t length = detokenizer_finish(&reply->detokenizer, scratch);
    return search(reply, scratch, length, true, out);
}
