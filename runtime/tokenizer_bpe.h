/* The "model" of tokenizer.json: byte-pair encoding, over bytes or over characters. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_BPE_H
#define MOEBIUS_RUNTIME_TOKENIZER_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/token_list.h"
#include "runtime/tokenizer_json.h"
#include "runtime/tokenizer_merge.h"
#include "runtime/tokenizer_scan.h"
#include "runtime/tokenizer_vocab.h"

struct tokenizer_bpe {
    struct tokenizer_merge merge;
    bool byte_level;        /* symbols are bytes, written as characters in the vocabulary */
    bool byte_fallback;     /* a character that is no token becomes its bytes, <0xXX> */
    bool fuse_unk;          /* neighbours that are no tokens become one unknown token */
    bool ignore_merges;     /* a word that is a token is that token */
    int32_t unk_id;         /* -1: what is no token is left out */
    int32_t byte_ids[256];  /* byte level: the byte's character; else <0xXX>; -1: no token */
    int32_t ascii_ids[128]; /* characters below 128 that are tokens; -1: none */
};

/* {0} to start with. */
struct tokenizer_bpe_scratch {
    struct tokenizer_merge_scratch merge;
    struct text_buffer symbols; /* int32_t */
    struct text_buffer name;    /* a word as the vocabulary writes it */
};

void tokenizer_bpe_scratch_deinit(struct tokenizer_bpe_scratch *scratch);

/* The characters by which byte-level vocabularies write bytes: printable ones stand for themselves,
 * the others for U+0100 and up. Local. */
int32_t tokenizer_bpe_byte_to_character(unsigned char byte);
int tokenizer_bpe_character_to_byte(int32_t character); /* -1: stands for none */

/* The byte that "<0xXX>" names; -1 for another text. Local. */
int tokenizer_bpe_byte_of_name(const char *text, size_t length);

/* Reads the options of `model` and the merges of `scan` (the vocabulary is in `vocab` already).
 * *bpe is {0} before, and to be deinitialised also after an error. Local. */
enum status tokenizer_bpe_load(struct tokenizer_bpe *bpe, const struct tokenizer_vocab *vocab,
                               const struct tokenizer_scan *scan,
                               const struct tokenizer_json *model, bool byte_level);

void tokenizer_bpe_deinit(struct tokenizer_bpe *bpe);

/* Appends the ids of one word (well-formed UTF-8, not empty). Local. */
enum status tokenizer_bpe_encode(const struct tokenizer_bpe *bpe,
                                 const struct tokenizer_vocab *vocab,
                                 struct tokenizer_bpe_scratch *scratch, const char *word,
                                 size_t length, struct token_list *out);

#endif
