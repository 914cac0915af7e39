/* Encoding and decoding with a loaded tokenizer: the first and the last step of a request that
 * comes as text. Added tokens are cut out, the text between is normalised, cut again, split into
 * words, and each word is merged. */
#include "runtime/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/detokenizer.h"
#include "runtime/tokenizer_parts.h"
#include "runtime/tokenizer_utf8.h"

/* What one call of tokenizer_encode writes to. */
struct encoder {
    const struct tokenizer *tokenizer;
    bool plain_special;
    struct token_list *ids;
    int64_t ids_max;
    bool has_enough;                      /* ids holds more than ids_max: an error ended it */
    struct text_buffer raw_pieces;        /* struct tokenizer_added_piece */
    struct text_buffer normalized_pieces; /* the same, within one of those */
    struct tokenizer_normalize_scratch normalize;
    struct tokenizer_split_scratch split;
    struct tokenizer_bpe_scratch bpe;
};

void tokenizer_destroy(struct tokenizer *tokenizer) {
    if (tokenizer == NULL)
        return;
    tokenizer_vocab_deinit(&tokenizer->vocab);
    tokenizer_added_deinit(&tokenizer->raw);
    tokenizer_added_deinit(&tokenizer->normalized);
    tokenizer_normalize_deinit(&tokenizer->normalize);
    tokenizer_split_deinit(&tokenizer->split);
    tokenizer_bpe_deinit(&tokenizer->bpe);
    tokenizer_decode_deinit(&tokenizer->decode);
    token_list_deinit(&tokenizer->before);
    token_list_deinit(&tokenizer->after);
    free(tokenizer);
}

static void encoder_deinit(struct encoder *encoder) {
    text_buffer_deinit(&encoder->raw_pieces);
    text_buffer_deinit(&encoder->normalized_pieces);
    tokenizer_normalize_scratch_deinit(&encoder->normalize);
    tokenizer_split_scratch_deinit(&encoder->split);
    tokenizer_bpe_scratch_deinit(&encoder->bpe);
}

static enum status encode_word(void *context, const char *word, size_t length) {
    struct encoder *encoder = context;
    encoder->has_enough = encoder->ids->count > encoder->ids_max;
    if (encoder->has_enough)
        return STATUS_LIMIT;
    return tokenizer_bpe_encode(&encoder->tokenizer->bpe, &encoder->tokenizer->vocab, &encoder->bpe,
                                word, length, encoder->ids);
}

/* A piece between added tokens that are looked for in the text as it came. */
static enum status encode_text(struct encoder *encoder, const char *text, size_t length,
                               bool at_start) {
    const struct tokenizer *tokenizer = encoder->tokenizer;
    RETURN_IF_ERROR(tokenizer_normalize_run(&tokenizer->normalize, &encoder->normalize, text,
                                            length, &text, &length));
    RETURN_IF_ERROR(tokenizer_added_cut(&tokenizer->normalized, text, length,
                                        encoder->plain_special, &encoder->normalized_pieces));
    size_t count = encoder->normalized_pieces.length / sizeof(struct tokenizer_added_piece);
    const struct tokenizer_added_piece *pieces = (void *)encoder->normalized_pieces.data;
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].id >= 0) {
            RETURN_IF_ERROR(token_list_append(encoder->ids, pieces[i].id));
            continue;
        }
        struct tokenizer_split_run run = {.scratch = &encoder->split,
                                          .word = encode_word,
                                          .context = encoder,
                                          .at_start = at_start && pieces[i].start == 0};
        RETURN_IF_ERROR(tokenizer_split_text(&tokenizer->split, &run, text + pieces[i].start,
                                             pieces[i].end - pieces[i].start));
    }
    return STATUS_OK;
}

static enum status encode_all(struct encoder *encoder, const char *text, size_t length) {
    RETURN_IF_ERROR(tokenizer_added_cut(&encoder->tokenizer->raw, text, length,
                                        encoder->plain_special, &encoder->raw_pieces));
    size_t count = encoder->raw_pieces.length / sizeof(struct tokenizer_added_piece);
    const struct tokenizer_added_piece *pieces = (void *)encoder->raw_pieces.data;
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].id >= 0)
            RETURN_IF_ERROR(token_list_append(encoder->ids, pieces[i].id));
        else
            RETURN_IF_ERROR(encode_text(encoder, text + pieces[i].start,
                                        pieces[i].end - pieces[i].start, pieces[i].start == 0));
    }
    return STATUS_OK;
}

static enum status append_list(struct token_list *ids, const struct token_list *more) {
    for (int64_t i = 0; i < more->count; i++)
        RETURN_IF_ERROR(token_list_append(ids, more->ids[i]));
    return STATUS_OK;
}

static enum status encode_around(struct encoder *encoder, const char *text, size_t length,
                                 bool add_special) {
    if (add_special)
        RETURN_IF_ERROR(append_list(encoder->ids, &encoder->tokenizer->before));
    RETURN_IF_ERROR(encode_all(encoder, text, length));
    return add_special ? append_list(encoder->ids, &encoder->tokenizer->after) : STATUS_OK;
}

static enum status check_text(const char *text, size_t length) {
    if (length > TOKENIZER_TEXT_BYTES_MAX) {
        LOG_ERROR("prompt: expected at most %zu bytes, got %zu", TOKENIZER_TEXT_BYTES_MAX, length);
        return STATUS_BAD_REQUEST;
    }
    size_t at = tokenizer_utf8_invalid_at(text, length);
    if (at < length) {
        LOG_ERROR("prompt: byte %zu: expected UTF-8, got 0x%02x", at, (unsigned char)text[at]);
        return STATUS_BAD_REQUEST;
    }
    return STATUS_OK;
}

enum status tokenizer_encode_at_most(const struct tokenizer *tokenizer, const char *text,
                                     size_t length, unsigned flags, int64_t ids_max,
                                     struct token_list *ids) {
    RETURN_IF_ERROR(check_text(text, length));
    int64_t count = ids->count;
    struct encoder encoder = {.tokenizer = tokenizer,
                              .plain_special = (flags & TOKENIZER_PLAIN_SPECIAL) != 0,
                              .ids = ids,
                              .ids_max = ids_max};
    enum status status =
        encode_around(&encoder, text, length, (flags & TOKENIZER_ADD_SPECIAL) != 0);
    encoder_deinit(&encoder);
    if (encoder.has_enough)
        return STATUS_OK;
    if (status != STATUS_OK)
        ids->count = count;
    return status;
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                             unsigned flags, struct token_list *ids) {
    return tokenizer_encode_at_most(tokenizer, text, length, flags, INT64_MAX, ids);
}

/* How many ids from `from` on form a run of ByteFallback tokens (ids that give no text do not end
 * it), and whether its bytes are whole characters. */
static int64_t measure_run(const struct tokenizer *tokenizer, const struct token_list *ids,
                           int64_t from, bool *is_whole) {
    unsigned char pending[4];
    size_t pending_count = 0;
    *is_whole = true;
    int64_t at = from;
    for (; at < ids->count && tokenizer->decode.pieces[ids->ids[at]].byte >= 0; at++) {
        if (!*is_whole)
            continue;
        pending[pending_count++] = (unsigned char)tokenizer->decode.pieces[ids->ids[at]].byte;
        enum tokenizer_utf8_state state = tokenizer_utf8_classify(pending, pending_count);
        *is_whole = state != TOKENIZER_UTF8_INVALID;
        if (state == TOKENIZER_UTF8_COMPLETE)
            pending_count = 0;
    }
    *is_whole = *is_whole && pending_count == 0;
    return at - from;
}

/* Decodes ids that all give text. */
static enum status decode_all(const struct tokenizer *tokenizer, const struct token_list *ids,
                              struct text_buffer *text) {
    struct detokenizer stream;
    size_t delta_max = detokenizer_delta_bytes_max(tokenizer);
    detokenizer_init(&stream, tokenizer, false);
    int64_t broken = 0; /* ids left of a run that is no text */
    int64_t whole = 0;  /* ids left of one that is */
    for (int64_t i = 0; i < ids->count; i++) {
        if (broken == 0 && whole == 0 && tokenizer->decode.byte_fallback) {
            bool is_whole;
            int64_t run = measure_run(tokenizer, ids, i, &is_whole);
            *(is_whole ? &whole : &broken) = run;
        }
        RETURN_IF_ERROR(text_buffer_reserve(text, delta_max));
        text->length += broken > 0
                            ? detokenizer_push_broken(&stream, text->data + text->length)
                            : detokenizer_push(&stream, ids->ids[i], text->data + text->length);
        broken -= broken > 0;
        whole -= whole > 0;
    }
    RETURN_IF_ERROR(text_buffer_reserve(text, delta_max));
    text->length += detokenizer_finish(&stream, text->data + text->length);
    return STATUS_OK;
}

enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, int64_t count,
                             bool skip_special, struct text_buffer *text) {
    struct token_list kept = {0};
    size_t length = text->length;
    enum status status = token_list_reserve(&kept, count);
    for (int64_t i = 0; status == STATUS_OK && i < count; i++) {
        uint32_t flags = tokenizer_vocab_flags(&tokenizer->vocab, ids[i]);
        if (flags != 0 && !(skip_special && (flags & TOKENIZER_VOCAB_SPECIAL) != 0))
            kept.ids[kept.count++] = ids[i];
    }
    if (status == STATUS_OK)
        status = decode_all(tokenizer, &kept, text);
    token_list_deinit(&kept);
    if (status != STATUS_OK)
        text->length = length;
    return status;
}

int32_t tokenizer_token_id(const struct tokenizer *tokenizer, const char *text) {
    return tokenizer_vocab_find(&tokenizer->vocab, text, strlen(text),
                                TOKENIZER_VOCAB_MODEL | TOKENIZER_VOCAB_ADDED);
}

const char *tokenizer_id_to_token(const struct tokenizer *tokenizer, int32_t id, size_t *length) {
    return tokenizer_vocab_text(&tokenizer->vocab, id, length);
}

const char *tokenizer_id_to_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *length) {
    return tokenizer_decode_piece(&tokenizer->decode, id, length);
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id) {
    return (tokenizer_vocab_flags(&tokenizer->vocab, id) & TOKENIZER_VOCAB_SPECIAL) != 0;
}

int32_t tokenizer_vocab_count(const struct tokenizer *tokenizer) {
    return tokenizer->vocab.id_count;
}

size_t tokenizer_token_bytes_max(const struct tokenizer *tokenizer) {
    return tokenizer->decode.piece_bytes_max;
}
