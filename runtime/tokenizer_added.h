/* Added tokens: cut out of the text before anything else is done to it. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_ADDED_H
#define MOEBIUS_RUNTIME_TOKENIZER_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"
#include "runtime/tokenizer_map.h"

struct tokenizer_added_token {
    int32_t id;
    uint32_t start; /* what is looked for: offset in `text` */
    uint32_t length;
    bool special;
    bool single_word; /* only where no word character is beside it */
    bool lstrip;      /* swallows the white space before it */
    bool rstrip;      /* and after it */
};

/* Tokens that are looked for in one form of the text (as it came, or normalised): a trie over
 * bytes. {0} holds none. */
struct tokenizer_added {
    struct text_buffer text; /* what is looked for, all tokens one after the other */
    struct tokenizer_added_token *tokens;
    size_t token_count;
    struct tokenizer_map edges;   /* node << 8 | byte to node; the root is node 0 */
    struct tokenizer_map endings; /* node to token index */
    uint64_t node_count;
    bool starts[256]; /* bytes that some token starts with */
};

/* A piece of text, or an added token in it. */
struct tokenizer_added_piece {
    size_t start; /* bytes [start, end) of the text */
    size_t end;
    int32_t id; /* -1: text */
};

void tokenizer_added_deinit(struct tokenizer_added *added);

/* Adds a token that stands for `length` > 0 bytes. Of two tokens with the same bytes the later one
 * counts. Local. */
enum status tokenizer_added_insert(struct tokenizer_added *added, const char *bytes, size_t length,
                                   const struct tokenizer_added_token *token);

/* Cuts well-formed text at the tokens: leftmost first, of those the longest. `pieces` is filled
 * with struct tokenizer_added_piece (cleared before). `plain_special`: special tokens are text.
 * Local. */
enum status tokenizer_added_cut(const struct tokenizer_added *added, const char *text,
                                size_t length, bool plain_special, struct text_buffer *pieces);

#endif
