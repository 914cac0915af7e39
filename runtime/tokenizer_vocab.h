/* The entries of a tokenizer: token text to id and back. Filled at load, then only read. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_VOCAB_H
#define MOEBIUS_RUNTIME_TOKENIZER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"

/* Ids are below this: a table over ids must not take memory without bound. */
#define TOKENIZER_VOCAB_ID_LIMIT (1 << 22)

enum tokenizer_vocab_flags {
    TOKENIZER_VOCAB_MODEL = 1,  /* in model.vocab: what merges are made of */
    TOKENIZER_VOCAB_ADDED = 2,  /* in added_tokens */
    TOKENIZER_VOCAB_SPECIAL = 4 /* an added token that is special */
};

struct tokenizer_vocab_entry {
    uint32_t start;  /* offset of the text in `text` */
    uint32_t length; /* bytes */
    uint32_t flags;  /* 0: no token has this id */
};

struct tokenizer_vocab_slot {
    uint32_t hash; /* of the text: tells most texts apart without a look at them */
    int32_t id;    /* -1: free */
};

struct tokenizer_vocab {
    struct text_buffer text;               /* all token texts, one after the other */
    struct tokenizer_vocab_entry *entries; /* by id, `id_count` of them */
    struct tokenizer_vocab_slot *slots;    /* hash of text to id */
    uint32_t slot_mask;
    int32_t id_count; /* highest id + 1 */
};

/* An empty vocabulary for ids below `id_count` (> 0). Local. */
enum status tokenizer_vocab_init(struct tokenizer_vocab *vocab, int32_t id_count);

void tokenizer_vocab_deinit(struct tokenizer_vocab *vocab);

/* Adds a token, or adds `flags` to the one that is there. STATUS_BAD_TOKENIZER, not logged, if the
 * id has another text or the text another id. Local. */
enum status tokenizer_vocab_add(struct tokenizer_vocab *vocab, const char *text, size_t length,
                                int32_t id, uint32_t flags);

/* The id of a text that has one of `flags`, or -1. Local. */
int32_t tokenizer_vocab_find(const struct tokenizer_vocab *vocab, const char *text, size_t length,
                             uint32_t flags);

/* Whether `id` has just this text and one of `flags`: spares a search where the id can be guessed.
 * Local. */
bool tokenizer_vocab_is(const struct tokenizer_vocab *vocab, int32_t id, const char *text,
                        size_t length, uint32_t flags);

/* The text of an id (borrowed); NULL and length 0 for an id that no token has. Local. */
const char *tokenizer_vocab_text(const struct tokenizer_vocab *vocab, int32_t id, size_t *length);

/* The flags of an id; 0 for one that no token has. Local. */
uint32_t tokenizer_vocab_flags(const struct tokenizer_vocab *vocab, int32_t id);

#endif
