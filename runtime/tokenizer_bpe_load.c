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

/* The two texts of a merge, as "a b" or as ["a", "b"]. */
struct halves {
    const char *text[2];
    size_t length[2];
};

static bool read_halves(const json_t *element, struct halves *halves) {
    if (json_is_array(element) && json_array_size(element) == 2) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *half = json_array_get(element, i);
            halves->text[i] = json_string_value(half);
            halves->length[i] = json_string_length(half);
        }
        return halves->text[0] != NULL && halves->text[1] != NULL;
    }
    if (!json_is_string(element))
        return false;
    const char *text = json_string_value(element);
    size_t length = json_string_length(element);
    const char *space = memchr(text, ' ', length);
    if (space == NULL)
        return false;
    halves->text[0] = text;
    halves->length[0] = (size_t)(space - text);
    halves->text[1] = space + 1;
    halves->length[1] = length - halves->length[0] - 1;
    return memchr(halves->text[1], ' ', halves->length[1]) == NULL;
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

static enum status add_merge(struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                             const struct halves *halves, uint32_t rank, struct text_buffer *joined,
                             const char **wrong) {
    int32_t ids[3];
    *wrong = NULL;
    joined->length = 0;
    for (int i = 0; i < 2; i++) {
        RETURN_IF_ERROR(text_buffer_append(joined, halves->text[i], halves->length[i]));
        ids[i] =
            tokenizer_vocab_find(vocab, halves->text[i], halves->length[i], TOKENIZER_VOCAB_MODEL);
    }
    ids[2] = ids[0] < 0 || ids[1] < 0
                 ? -1
                 : tokenizer_vocab_find(vocab, joined->data, joined->length, TOKENIZER_VOCAB_MODEL);
    if (ids[2] < 0) {
        *wrong = "two tokens of model.vocab that together are one, too";
        return STATUS_BAD_TOKENIZER;
    }
    RETURN_IF_ERROR(add_joint(bpe, vocab, ids));
    return tokenizer_map_set(&bpe->merge.pairs, (uint64_t)ids[0] << 32 | (uint32_t)ids[1],
                             (uint64_t)rank << 32 | (uint32_t)ids[2]);
}

static enum status load_merges(struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                               const struct tokenizer_json *merges) {
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_count(merges, &count));
    if (merges->value == NULL)
        return tokenizer_json_bad(merges, "an array");
    RETURN_IF_ERROR(tokenizer_map_reserve(&bpe->merge.pairs, count));
    bpe->merge.cuts = 1;
    struct text_buffer joined = {0};
    enum status status = STATUS_OK;
    uint32_t rank = 0;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        const json_t *element = json_array_get(merges->value, i);
        struct halves halves;
        const char *wrong = "\"a b\" or [\"a\", \"b\"]";
        if (json_is_string(element) && strncmp(json_string_value(element), "#version", 8) == 0)
            continue;
        status = STATUS_BAD_TOKENIZER;
        if (read_halves(element, &halves))
            status = add_merge(bpe, vocab, &halves, rank++, &joined, &wrong);
        if (status != STATUS_OK && wrong != NULL) {
            struct tokenizer_json node;
            tokenizer_json_element(merges, i, &node);
            status = tokenizer_json_bad(&node, wrong);
        }
    }
    text_buffer_deinit(&joined);
    return status;
}

enum status tokenizer_bpe_load(struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                               const struct tokenizer_json *model, bool byte_level) {
    bpe->byte_level = byte_level;
    RETURN_IF_ERROR(load_options(bpe, vocab, model));
    find_bytes(bpe, vocab);
    RETURN_IF_ERROR(check_byte_fallback(bpe, model));
    struct tokenizer_json merges;
    RETURN_IF_ERROR(tokenizer_json_member(model, "merges", &merges));
    return load_merges(bpe, vocab, &merges);
}
