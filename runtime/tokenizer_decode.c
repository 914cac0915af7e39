/* Reads the decoder of tokenizer.json and turns every token's text into the bytes it stands for. */
#include "runtime/tokenizer_decode.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/tokenizer_bpe.h"
#include "runtime/tokenizer_normalize.h"
#include "runtime/tokenizer_utf8.h"

/* What loading needs beside the decoder itself. */
struct loader {
    struct tokenizer_decode *decode;
    struct tokenizer_normalize_step replaces[TOKENIZER_NORMALIZE_STEPS_MAX];
    int replace_count;
    struct tokenizer_regex_scratch regex;
    struct text_buffer buffers[2];
    bool fused; /* behind Fuse the texts are one: Strip means its start, nothing else may follow */
};

enum kind {
    KIND_SEQUENCE,
    KIND_BYTE_LEVEL,
    KIND_METASPACE,
    KIND_REPLACE,
    KIND_BYTE_FALLBACK,
    KIND_FUSE,
    KIND_STRIP
};

static const struct tokenizer_json_choice kinds[] = {
    {"Sequence", KIND_SEQUENCE},
    {"ByteLevel", KIND_BYTE_LEVEL},
    {"Metaspace", KIND_METASPACE},
    {"Replace", KIND_REPLACE},
    {"ByteFallback", KIND_BYTE_FALLBACK},
    {"Fuse", KIND_FUSE},
    {"Strip", KIND_STRIP},
};

void tokenizer_decode_deinit(struct tokenizer_decode *decode) {
    text_buffer_deinit(&decode->text);
    free(decode->pieces);
    free(decode->first_pieces);
    *decode = (struct tokenizer_decode){0};
}

const char *tokenizer_decode_piece(const struct tokenizer_decode *decode, int32_t id,
                                   size_t *length) {
    *length = 0;
    if (id < 0 || id >= decode->id_count)
        return NULL;
    *length = decode->pieces[id].length;
    return decode->text.data + decode->pieces[id].start;
}

/* Member `key` as one character. */
static enum status load_character(const struct tokenizer_json *node, const char *key, char *bytes,
                                  size_t *length) {
    const char *text;
    size_t size;
    size_t first = 0;
    RETURN_IF_ERROR(tokenizer_json_string(node, key, &text, &size));
    if (size > 0)
        tokenizer_utf8_read(text, &first);
    if (size == 0 || first != size) {
        struct tokenizer_json member;
        RETURN_IF_ERROR(tokenizer_json_member(node, key, &member));
        return tokenizer_json_bad(&member, "one character");
    }
    memcpy(bytes, text, size);
    *length = size;
    return STATUS_OK;
}

static enum status load_metaspace(struct tokenizer_decode *decode,
                                  const struct tokenizer_json *node) {
    static const struct tokenizer_json_choice schemes[] = {
        {"never", 0}, {"first", 1}, {"always", 1}};
    struct tokenizer_json scheme;
    bool legacy;
    int drops;
    RETURN_IF_ERROR(load_character(node, "replacement", decode->mark, &decode->mark_length));
    RETURN_IF_ERROR(tokenizer_json_bool(node, "add_prefix_space", true, &legacy));
    RETURN_IF_ERROR(tokenizer_json_member(node, "prepend_scheme", &scheme));
    drops = legacy;
    if (scheme.value != NULL)
        RETURN_IF_ERROR(tokenizer_json_choose(node, "prepend_scheme", schemes, 3, &drops));
    decode->drops_first_marks = drops != 0;
    decode->kind = TOKENIZER_DECODE_METASPACE;
    return STATUS_OK;
}

static enum status load_strip(struct loader *loader, const struct tokenizer_json *node) {
    struct tokenizer_decode *decode = loader->decode;
    int32_t stop;
    if (!loader->fused || decode->strip_count > 0)
        return tokenizer_json_unsupported(node, "one Strip, behind Fuse");
    RETURN_IF_ERROR(load_character(node, "content", decode->strip, &decode->strip_length));
    RETURN_IF_ERROR(tokenizer_json_id(node, "start", INT32_MAX, &decode->strip_count));
    RETURN_IF_ERROR(tokenizer_json_id(node, "stop", INT32_MAX, &stop));
    if (stop == 0)
        return STATUS_OK;
    struct tokenizer_json member;
    RETURN_IF_ERROR(tokenizer_json_member(node, "stop", &member));
    return tokenizer_json_unsupported(&member, "0");
}

static enum status load_replace(struct loader *loader, const struct tokenizer_json *node) {
    if (loader->decode->byte_fallback || loader->fused)
        return tokenizer_json_unsupported(node, "Replace before ByteFallback and Fuse");
    if (loader->replace_count == TOKENIZER_NORMALIZE_STEPS_MAX)
        return tokenizer_json_unsupported(node, "at most 16 steps");
    struct tokenizer_normalize_step *step = &loader->replaces[loader->replace_count++];
    *step = (struct tokenizer_normalize_step){.kind = TOKENIZER_NORMALIZE_REPLACE};
    return tokenizer_normalize_load_replace(step, node);
}

/* One decoder; `is_only`: there is no other. */
static enum status load_step(struct loader *loader, const struct tokenizer_json *node,
                             bool is_only) {
    int kind;
    RETURN_IF_ERROR(
        tokenizer_json_choose(node, "type", kinds, sizeof kinds / sizeof kinds[0], &kind));
    switch ((enum kind)kind) {
    case KIND_REPLACE:
        return load_replace(loader, node);
    case KIND_STRIP:
        return load_strip(loader, node);
    case KIND_FUSE:
        loader->fused = true;
        return STATUS_OK;
    case KIND_BYTE_FALLBACK:
        if (loader->fused)
            return tokenizer_json_unsupported(node, "ByteFallback before Fuse");
        loader->decode->byte_fallback = true;
        return STATUS_OK;
    case KIND_BYTE_LEVEL:
        loader->decode->kind = TOKENIZER_DECODE_BYTE_LEVEL;
        return is_only ? STATUS_OK : tokenizer_json_unsupported(node, "ByteLevel alone");
    case KIND_METASPACE:
        if (!is_only)
            return tokenizer_json_unsupported(node, "Metaspace alone");
        return load_metaspace(loader->decode, node);
    case KIND_SEQUENCE:
        break;
    }
    return tokenizer_json_unsupported(node, "no sequence within a sequence");
}

static enum status load_steps(struct loader *loader, const struct tokenizer_json *node) {
    loader->decode->separates = node->value == NULL;
    if (node->value == NULL)
        return STATUS_OK;
    int kind;
    RETURN_IF_ERROR(
        tokenizer_json_choose(node, "type", kinds, sizeof kinds / sizeof kinds[0], &kind));
    if (kind != KIND_SEQUENCE)
        return load_step(loader, node, true);
    struct tokenizer_json list;
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_member(node, "decoders", &list));
    RETURN_IF_ERROR(tokenizer_json_count(&list, &count));
    if (list.value == NULL)
        return tokenizer_json_bad(&list, "an array");
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json element;
        tokenizer_json_element(&list, i, &element);
        RETURN_IF_ERROR(load_step(loader, &element, count == 1));
    }
    return STATUS_OK;
}

/* The bytes that the characters of a byte-level token stand for; a token with another character in
 * it is its own text. */
static enum status append_byte_level(struct text_buffer *out, const char *text, size_t length) {
    size_t start = out->length;
    RETURN_IF_ERROR(text_buffer_reserve(out, length));
    for (size_t i = 0, size; i < length; i += size) {
        int byte = tokenizer_bpe_character_to_byte(tokenizer_utf8_read(text + i, &size));
        if (byte < 0) {
            out->length = start;
            return text_buffer_append(out, text, length);
        }
        out->data[out->length++] = (char)(unsigned char)byte;
    }
    return STATUS_OK;
}

/* Marks are spaces, or nothing if `drops_marks`. */
static enum status append_metaspace(const struct tokenizer_decode *decode, bool drops_marks,
                                    struct text_buffer *out, const char *text, size_t length) {
    for (size_t i = 0, size; i < length; i += size) {
        tokenizer_utf8_read(text + i, &size);
        if (size != decode->mark_length || memcmp(text + i, decode->mark, size) != 0)
            RETURN_IF_ERROR(text_buffer_append(out, text + i, size));
        else if (!drops_marks)
            RETURN_IF_ERROR(text_buffer_append(out, " ", 1));
    }
    return STATUS_OK;
}

/* Runs the Replace steps over a token's text. */
static enum status replace_all(struct loader *loader, const char **text, size_t *length) {
    for (int i = 0; i < loader->replace_count; i++) {
        struct text_buffer *next = &loader->buffers[i & 1];
        next->length = 0;
        RETURN_IF_ERROR(text_buffer_reserve(next, *length + 1)); /* never NULL */
        RETURN_IF_ERROR(tokenizer_normalize_replace(&loader->replaces[i], &loader->regex, *text,
                                                    *length, next));
        *text = next->data;
        *length = next->length;
    }
    return STATUS_OK;
}

static enum status append_piece(struct loader *loader, struct tokenizer_decode_piece *piece,
                                bool is_first, const char *text, size_t length) {
    struct tokenizer_decode *decode = loader->decode;
    RETURN_IF_ERROR(replace_all(loader, &text, &length));
    piece->start = (uint32_t)decode->text.length;
    piece->byte = decode->byte_fallback ? tokenizer_bpe_byte_of_name(text, length) : -1;
    if (decode->kind == TOKENIZER_DECODE_BYTE_LEVEL)
        RETURN_IF_ERROR(append_byte_level(&decode->text, text, length));
    else if (decode->kind == TOKENIZER_DECODE_METASPACE)
        RETURN_IF_ERROR(append_metaspace(decode, is_first, &decode->text, text, length));
    else if (piece->byte >= 0)
        RETURN_IF_ERROR(text_buffer_append(&decode->text, (char[1]){(char)piece->byte}, 1));
    else
        RETURN_IF_ERROR(text_buffer_append(&decode->text, text, length));
    piece->length = (uint32_t)decode->text.length - piece->start;
    if (piece->length > decode->piece_bytes_max)
        decode->piece_bytes_max = piece->length;
    return STATUS_OK;
}

/* Replacing may make texts longer; what a file of bounded size can ask for is bounded, too. */
#define TEXT_BYTES_MAX ((size_t)1 << 30)

/* One id: its piece, and the one that it has as the first token. */
static enum status make_piece(struct loader *loader, int32_t id, const char *text, size_t length,
                              const struct tokenizer_json *node) {
    struct tokenizer_decode *decode = loader->decode;
    RETURN_IF_ERROR(append_piece(loader, &decode->pieces[id], false, text, length));
    if (decode->first_pieces != NULL)
        RETURN_IF_ERROR(append_piece(loader, &decode->first_pieces[id], true, text, length));
    if (decode->text.length > TEXT_BYTES_MAX)
        return tokenizer_json_unsupported(node, "tokens that decode to less than 1 GiB");
    return STATUS_OK;
}

static enum status take_pieces(struct tokenizer_decode *decode,
                               const struct tokenizer_vocab *vocab) {
    size_t count = (size_t)vocab->id_count;
    decode->id_count = vocab->id_count;
    decode->pieces = calloc(count, sizeof decode->pieces[0]);
    if (decode->drops_first_marks)
        decode->first_pieces = calloc(count, sizeof decode->pieces[0]);
    if (decode->pieces == NULL || (decode->drops_first_marks && decode->first_pieces == NULL)) {
        LOG_ERROR("tokenizer: cannot take memory for %d ids", vocab->id_count);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++)
        decode->pieces[i].byte = -1;
    return text_buffer_reserve(&decode->text, vocab->text.length + 1); /* never NULL */
}

static enum status make_pieces(struct loader *loader, const struct tokenizer_vocab *vocab,
                               const struct tokenizer_added *renamed,
                               const struct tokenizer_json *node) {
    RETURN_IF_ERROR(take_pieces(loader->decode, vocab));
    for (int32_t id = 0; id < vocab->id_count; id++) {
        size_t length;
        const char *text = tokenizer_vocab_text(vocab, id, &length);
        if (text != NULL)
            RETURN_IF_ERROR(make_piece(loader, id, text, length, node));
    }
    for (size_t i = 0; i < renamed->token_count; i++) {
        const struct tokenizer_added_token *token = &renamed->tokens[i];
        RETURN_IF_ERROR(
            make_piece(loader, token->id, renamed->text.data + token->start, token->length, node));
    }
    return STATUS_OK;
}

enum status tokenizer_decode_load(struct tokenizer_decode *decode,
                                  const struct tokenizer_vocab *vocab,
                                  const struct tokenizer_added *renamed,
                                  const struct tokenizer_json *node) {
    struct loader loader = {.decode = decode};
    enum status status = load_steps(&loader, node);
    if (status == STATUS_OK)
        status = make_pieces(&loader, vocab, renamed, node);
    for (int i = 0; i < loader.replace_count; i++)
        tokenizer_normalize_step_deinit(&loader.replaces[i]);
    tokenizer_regex_scratch_deinit(&loader.regex);
    text_buffer_deinit(&loader.buffers[0]);
    text_buffer_deinit(&loader.buffers[1]);
    return status;
}
