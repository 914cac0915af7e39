/* From a word to its first symbols, which tokenizer_merge.c then merges. */
#include "runtime/tokenizer_bpe.h"

#include <string.h>

#include "runtime/tokenizer_utf8.h"

void tokenizer_bpe_scratch_deinit(struct tokenizer_bpe_scratch *scratch) {
    tokenizer_merge_scratch_deinit(&scratch->merge);
    text_buffer_deinit(&scratch->symbols);
    text_buffer_deinit(&scratch->name);
}

void tokenizer_bpe_deinit(struct tokenizer_bpe *bpe) {
    tokenizer_merge_deinit(&bpe->merge);
    *bpe = (struct tokenizer_bpe){0};
}

/* Bytes that stand for themselves: the printable ones of Latin-1 but the soft hyphen. */
static bool is_itself(int32_t c) {
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

/* The others, in order: 0-32, 127-160, 173. */
int32_t tokenizer_bpe_byte_to_character(unsigned char byte) {
    if (is_itself(byte))
        return byte;
    if (byte <= 32)
        return 0x100 + byte;
    return byte == 173 ? 0x100 + 67 : 0x100 + 33 + (byte - 127);
}

int tokenizer_bpe_character_to_byte(int32_t character) {
    if (is_itself(character))
        return character;
    int32_t place = character - 0x100;
    if (place < 0 || place > 67)
        return -1;
    if (place <= 32)
        return place;
    return place == 67 ? 173 : 127 + place - 33;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int tokenizer_bpe_byte_of_name(const char *text, size_t length) {
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_value(text[3]);
    int low = hex_value(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The first symbols of a word while they are collected. */
struct collector {
    const struct tokenizer_bpe *bpe;
    const struct tokenizer_vocab *vocab;
    int32_t *symbols;
    size_t count;
    bool unk_waits; /* an unknown token that may still grow */
};

static void add_symbol(struct collector *c, int32_t id) {
    if (c->unk_waits)
        c->symbols[c->count++] = c->bpe->unk_id;
    c->unk_waits = false;
    c->symbols[c->count++] = id;
}

/* A character that is no token. Its bytes do not end an unknown token that waits: that is how
 * Hugging Face's library has it. */
static void add_unknown(struct collector *c, const char *bytes, size_t size) {
    const struct tokenizer_bpe *bpe = c->bpe;
    if (bpe->byte_fallback && !bpe->byte_level) {
        size_t known = 0;
        while (known < size && bpe->byte_ids[(unsigned char)bytes[known]] >= 0)
            known++;
        if (known == size) {
            for (size_t i = 0; i < size; i++)
                c->symbols[c->count++] = bpe->byte_ids[(unsigned char)bytes[i]];
            return;
        }
    }
    if (bpe->unk_id < 0)
        return;
    if (c->unk_waits && !bpe->fuse_unk)
        c->symbols[c->count++] = bpe->unk_id;
    c->unk_waits = true;
}

static void collect_bytes(struct collector *c, const char *word, size_t length) {
    for (size_t i = 0; i < length; i++) {
        int32_t id = c->bpe->byte_ids[(unsigned char)word[i]];
        if (id >= 0)
            add_symbol(c, id);
        else
            add_unknown(c, word + i, 1);
    }
}

static void collect_characters(struct collector *c, const char *word, size_t length) {
    for (size_t i = 0, size; i < length; i += size) {
        tokenizer_utf8_read(word + i, &size);
        int32_t id = size == 1
                         ? c->bpe->ascii_ids[(unsigned char)word[i]]
                         : tokenizer_vocab_find(c->vocab, word + i, size, TOKENIZER_VOCAB_MODEL);
        if (id >= 0)
            add_symbol(c, id);
        else
            add_unknown(c, word + i, size);
    }
}

/* The token that is the whole word, or -1. */
static enum status find_word(const struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                             struct text_buffer *name, const char *word, size_t length,
                             int32_t *id) {
    if (!bpe->byte_level) {
        *id = tokenizer_vocab_find(vocab, word, length, TOKENIZER_VOCAB_MODEL);
        return STATUS_OK;
    }
    name->length = 0;
    RETURN_IF_ERROR(text_buffer_reserve(name, 2 * length));
    for (size_t i = 0; i < length; i++)
        name->length += tokenizer_utf8_write(
            tokenizer_bpe_byte_to_character((unsigned char)word[i]), name->data + name->length);
    *id = tokenizer_vocab_find(vocab, name->data, name->length, TOKENIZER_VOCAB_MODEL);
    return STATUS_OK;
}

enum status tokenizer_bpe_encode(const struct tokenizer_bpe *bpe,
                                 const struct tokenizer_vocab *vocab,
                                 struct tokenizer_bpe_scratch *scratch, const char *word,
                                 size_t length, struct token_list *out) {
    if (bpe->ignore_merges) {
        int32_t id;
        RETURN_IF_ERROR(find_word(bpe, vocab, &scratch->name, word, length, &id));
        if (id >= 0)
            return token_list_append(out, id);
    }
    scratch->symbols.length = 0;
    /* Every byte adds at most itself and an unknown token before it. */
    RETURN_IF_ERROR(text_buffer_reserve(&scratch->symbols, (2 * length + 1) * sizeof(int32_t)));
    struct collector c = {
        .bpe = bpe, .vocab = vocab, .symbols = (int32_t *)(void *)scratch->symbols.data};
    if (bpe->byte_level)
        collect_bytes(&c, word, length);
    else
        collect_characters(&c, word, length);
    if (c.unk_waits)
        c.symbols[c.count++] = bpe->unk_id;
    return tokenizer_merge_run(&bpe->merge, &scratch->merge, c.symbols, c.count, out);
}
