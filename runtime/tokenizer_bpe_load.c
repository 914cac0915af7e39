/* Reads the model of tokenizer.json: its options and its merges. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "runtime/tokenizer_bpe.h"
#include "runtime/tokenizer_utf8.h"

/* Options that change ids in ways that are not built. */
static enum status check_options(const struct tokenizer_json *model) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof affixes / sizeof affixes[0]; i++) {
        struct tokenizer_json affix;
        RETURN_IF_ERROR(tokenizer_json_member(model, affixes[i], &affix));
        if (affix.value != NULL && !json_is_string(affix.value))
            return tokenizer_json_bad(&affix, "a string");
        if (json_string_length(affix.value) > 0)
            return tokenizer_json_unsupported(&affix, "none");
    }
    struct tokenizer_json dropout;
    RETURN_IF_ERROR(tokenizer_json_member(model, "dropout", &dropout));
    if (dropout.value != NULL && !json_is_number(dropout.value))
        return tokenizer_json_bad(&dropout, "a number");
    if (json_number_value(dropout.value) > 0.0)
        return tokenizer_json_unsupported(&dropout, "none");
    return STATUS_OK;
}

static enum status load_options(struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                                const struct tokenizer_json *model) {
    RETURN_IF_ERROR(check_options(model));
    RETURN_IF_ERROR(tokenizer_json_bool(model, "byte_fallback", false, &bpe->byte_fallback));
    RETURN_IF_ERROR(tokenizer_json_bool(model, "fuse_unk", false, &bpe->fuse_unk));
    RETURN_IF_ERROR(tokenizer_json_bool(model, "ignore_merges", false, &bpe->ignore_merges));
    bpe->unk_id = -1;
    struct tokenizer_json unk;
    RETURN_IF_ERROR(tokenizer_json_member(model, "unk_token", &unk));
    if (unk.value == NULL)
        return STATUS_OK;
    if (!json_is_string(unk.value))
        return tokenizer_json_bad(&unk, "a string");
    bpe->unk_id = tokenizer_vocab_find(vocab, json_string_value(unk.value),
                                       json_string_length(unk.value), TOKENIZER_VOCAB_MODEL);
    return bpe->unk_id < 0 ? tokenizer_json_bad(&unk, "a token of model.vocab") : STATUS_OK;
}

static void find_bytes(struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab) {
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        size_t length =
            bpe->byte_level
                ? tokenizer_utf8_write(tokenizer_bpe_byte_to_character((unsigned char)byte), name)
                : (size_t)snprintf(name, sizeof name, "<0x%02X>", byte);
        bpe->byte_ids[byte] = tokenizer_vocab_find(vocab, name, length, TOKENIZER_VOCAB_MODEL);
    }
    for (int c = 0; c < 128; c++) {
        char name = (char)c;
        bpe->ascii_ids[c] = tokenizer_vocab_find(vocab, &name, 1, TOKENIZER_VOCAB_MODEL);
    }
}

/* Byte fallback of a byte-level model would ask for the bytes of a byte's character: no such file
 * is known, and with all bytes in the vocabulary it makes no difference. */
static enum status check_byte_fallback(const struct tokenizer_bpe *bpe,
                                       const struct tokenizer_json *model) {
    if (!bpe->byte_level || !bpe->byte_fallback)
        return STATUS_OK;
    struct tokenizer_json fallback;
    RETURN_IF_ERROR(tokenizer_json_member(model, "byte_fallback", &fallback));
    for (int byte = 0; byte < 0xf5; byte++)
        if (bpe->byte_ids[byte] < 0 && byte != 0xc0 && byte != 0xc1)
            return tokenizer_json_unsupported(&fallback, "false, or every byte in model.vocab");
    return STATUS_OK;
}

/* Where loading the merges stands. */
struct merge_loader {
    struct tokenizer_bpe *bpe;
    const struct tokenizer_vocab *vocab;
    struct tokenizer_scan_cursor cursor;
    struct tokenizer_scan_string halves[2];
    struct text_buffer joined;
    uint32_t rank;
    int32_t guess; /* the id that the next merge probably makes */
};

/* Makes two halves of "a b". */
static bool cut_in_two(struct tokenizer_scan_string halves[2]) {
    const char *text = halves[0].text;
    size_t length = halves[0].length;
    const char *space = length > 0 ? memchr(text, ' ', length) : NULL;
    if (space == NULL)
        return false;
    halves[0].length = (size_t)(space - text);
    halves[1].text = space + 1;
    halves[1].length = length - halves[0].length - 1;
    return memchr(halves[1].text, ' ', halves[1].length) == NULL;
}

/* The first (or last) symbol that a token can be merged from: the token of its first (last)
 * character. -1 if that is no token: then no word ever holds this token. */
static int32_t edge_symbol(const struct tokenizer_vocab *vocab, int32_t id, bool last) {
    size_t length;
    const char *text = tokenizer_vocab_text(vocab, id, &length);
    if (length == 0)
        return -1;
    size_t start = last ? tokenizer_utf8_previous(text, length) : 0;
    size_t size;
    tokenizer_utf8_read(text + start, &size);
    return tokenizer_vocab_find(vocab, text + start, size, TOKENIZER_VOCAB_MODEL);
}

/* Tokens that stand for something else than their characters. */
static bool is_odd(const struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                   int32_t id) {
    size_t length;
    const char *text = tokenizer_vocab_text(vocab, id, &length);
    return id == bpe->unk_id || (!bpe->byte_level && bpe->byte_fallback &&
                                 tokenizer_bpe_byte_of_name(text, length) >= 0);
}

static enum status add_joint(struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                             const int32_t ids[3]) {
    for (int i = 0; i < 3; i++)
        if (is_odd(bpe, vocab, ids[i]))
            bpe->merge.cuts = 0;
    int32_t left = edge_symbol(vocab, ids[0], true);
    int32_t right = edge_symbol(vocab, ids[1], false);
    if (left < 0 || right < 0)
        return STATUS_OK;
    return tokenizer_map_set(&bpe->merge.joints, (uint64_t)left << 32 | (uint32_t)right, 1);
}

/* The id of a text: mostly the guessed one. */
static int32_t find_guessed(const struct tokenizer_vocab *vocab, const struct text_buffer *text,
                            int32_t guess) {
    if (tokenizer_vocab_is(vocab, guess, text->data, text->length, TOKENIZER_VOCAB_MODEL))
        return guess;
    return tokenizer_vocab_find(vocab, text->data, text->length, TOKENIZER_VOCAB_MODEL);
}

static enum status add_merge(struct merge_loader *loader) {
    const struct tokenizer_vocab *vocab = loader->vocab;
    struct text_buffer *joined = &loader->joined;
    int32_t ids[3];
    joined->length = 0;
    RETURN_IF_ERROR(text_buffer_reserve(joined, 1)); /* never NULL */
    for (int i = 0; i < 2; i++) {
        const struct tokenizer_scan_string *half = &loader->halves[i];
        RETURN_IF_ERROR(text_buffer_append(joined, half->text, half->length));
        ids[i] = tokenizer_vocab_find(vocab, half->text, half->length, TOKENIZER_VOCAB_MODEL);
    }
    ids[2] = ids[0] < 0 || ids[1] < 0 ? -1 : find_guessed(vocab, joined, loader->guess);
    if (ids[2] < 0)
        return tokenizer_scan_bad(&loader->cursor,
                                  "two tokens of model.vocab that together are one, too");
    loader->guess = ids[2] + 1;
    RETURN_IF_ERROR(add_joint(loader->bpe, vocab, ids));
    return tokenizer_map_set(&loader->bpe->merge.pairs, (uint64_t)ids[0] << 32 | (uint32_t)ids[1],
                             (uint64_t)loader->rank++ << 32 | (uint32_t)ids[2]);
}

static enum status add_merges(struct merge_loader *loader) {
    for (;;) {
        int parts;
        bool more;
        RETURN_IF_ERROR(tokenizer_scan_merge(&loader->cursor, loader->halves, &parts, &more));
        if (!more)
            return STATUS_OK;
        const struct tokenizer_scan_string *whole = &loader->halves[0];
        if (parts == 1 && whole->length >= 8 && memcmp(whole->text, "#version", 8) == 0)
            continue;
        if (parts == 1 && !cut_in_two(loader->halves))
            return tokenizer_scan_bad(&loader->cursor, "\"a b\" or [\"a\", \"b\"]");
        RETURN_IF_ERROR(add_merge(loader));
    }
}

static enum status load_merges(struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                               const struct tokenizer_scan *scan,
                               const struct tokenizer_json *model) {
    if (scan->merges.start == NULL) {
        struct tokenizer_json merges;
        RETURN_IF_ERROR(tokenizer_json_member(model, "merges", &merges));
        return tokenizer_json_bad(&merges, "an array");
    }
    struct merge_loader loader = {.bpe = bpe, .vocab = vocab};
    bpe->merge.cuts = 1;
    /* There are about as many merges as tokens. */
    enum status status = tokenizer_map_reserve(&bpe->merge.pairs, (size_t)vocab->id_count);
    if (status == STATUS_OK)
        status = tokenizer_scan_start(scan, false, &loader.cursor);
    if (status == STATUS_OK)
        status = add_merges(&loader);
    text_buffer_deinit(&loader.joined);
    text_buffer_deinit(&loader.halves[0].unescaped);
    text_buffer_deinit(&loader.halves[1].unescaped);
    return status;
}

enum status tokenizer_bpe_load(struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                               const struct tokenizer_scan *scan,
                               const struct tokenizer_json *model, bool byte_level) {
    bpe->byte_level = byte_level;
    RETURN_IF_ERROR(load_options(bpe, vocab, model));
    find_bytes(bpe, vocab);
    RETURN_IF_ERROR(check_byte_fallback(bpe, model));
    return load_merges(bpe, vocab, scan, model);
}
