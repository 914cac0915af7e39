/* Streaming detokenisation, the last step before a reply's text goes out; whole sequences are
 * decoded by the same code. */
#include "runtime/detokenizer.h"

#include <string.h>

#include "runtime/tokenizer_parts.h"
#include "runtime/tokenizer_utf8.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

/* Where the text of one call goes. */
struct writer {
    char *text;
    size_t length;
};

void detokenizer_init(struct detokenizer *detokenizer, const struct tokenizer *tokenizer,
                      bool skip_special) {
    *detokenizer = (struct detokenizer){.tokenizer = tokenizer,
                                        .skip_special = skip_special,
                                        .strip_left = tokenizer->decode.strip_count};
}

void detokenizer_follow(struct detokenizer *detokenizer) {
    detokenizer->has_token = true;
    detokenizer->strip_left = 0;
}

/* Every byte may become U+FFFD, the pending ones too; and a space may come before. */
size_t detokenizer_delta_bytes_max(const struct tokenizer *tokenizer) {
    return 3 * (tokenizer->decode.piece_bytes_max + 4) + 1;
}

/* Hands out one whole character, or strips it. */
static void emit(struct detokenizer *d, struct writer *out, const char *bytes, size_t length) {
    const struct tokenizer_decode *decode = &d->tokenizer->decode;
    if (d->strip_left > 0) {
        if (length == decode->strip_length && memcmp(bytes, decode->strip, length) == 0) {
            d->strip_left--;
            return;
        }
        d->strip_left = 0;
    }
    memcpy(out->text + out->length, bytes, length);
    out->length += length;
}

/* Gives up on the first `count` pending bytes: one U+FFFD for all of them, as Unicode recommends
 * for a broken-off character, or one for each under ByteFallback, as Hugging Face's library has it.
 */
static void emit_broken(struct detokenizer *d, struct writer *out, int32_t count) {
    int32_t marks = d->tokenizer->decode.byte_fallback ? count : 1;
    for (int32_t i = 0; count > 0 && i < marks; i++)
        emit(d, out, replacement, sizeof replacement - 1);
}

static void flush_pending(struct detokenizer *d, struct writer *out) {
    emit_broken(d, out, d->pending_count);
    d->pending_count = 0;
}

static void take_byte(struct detokenizer *d, struct writer *out, unsigned char byte) {
    d->pending[d->pending_count++] = byte;
    switch (tokenizer_utf8_classify(d->pending, (size_t)d->pending_count)) {
    case TOKENIZER_UTF8_INCOMPLETE:
        return;
    case TOKENIZER_UTF8_COMPLETE:
        emit(d, out, (const char *)d->pending, (size_t)d->pending_count);
        d->pending_count = 0;
        return;
    case TOKENIZER_UTF8_INVALID:
        break;
    }
    if (d->pending_count == 1) {
        flush_pending(d, out);
        return;
    }
    emit_broken(d, out, d->pending_count - 1);
    d->pending_count = 0;
    take_byte(d, out, byte); /* as the start of a character: no deeper than this */
}

size_t detokenizer_push(struct detokenizer *detokenizer, int32_t id, char *delta) {
    const struct tokenizer_decode *decode = &detokenizer->tokenizer->decode;
    uint32_t flags = tokenizer_vocab_flags(&detokenizer->tokenizer->vocab, id);
    struct writer out = {.text = delta};
    if (flags == 0 || (detokenizer->skip_special && (flags & TOKENIZER_VOCAB_SPECIAL) != 0))
        return 0;
    bool is_first = !detokenizer->has_token;
    detokenizer->has_token = true;
    if (decode->separates && !is_first)
        emit(detokenizer, &out, " ", 1);
    const struct tokenizer_decode_piece *piece =
        is_first && decode->first_pieces != NULL ? &decode->first_pieces[id] : &decode->pieces[id];
    const char *bytes = decode->text.data + piece->start;
    if (decode->byte_fallback && piece->byte < 0)
        flush_pending(detokenizer, &out);
    for (uint32_t i = 0; i < piece->length; i++)
        take_byte(detokenizer, &out, (unsigned char)bytes[i]);
    return out.length;
}

size_t detokenizer_push_broken(struct detokenizer *detokenizer, char *delta) {
    struct writer out = {.text = delta};
    detokenizer->has_token = true;
    emit_broken(detokenizer, &out, 1);
    return out.length;
}

size_t detokenizer_finish(struct detokenizer *detokenizer, char *delta) {
    struct writer out = {.text = delta};
    flush_pending(detokenizer, &out);
    return out.length;
}
