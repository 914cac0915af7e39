/* The "decoder" of tokenizer.json: ids back to text. Every id's own bytes are worked out at load;
 * what depends on the neighbours is in detokenizer.c (a stream) and here (a whole sequence). */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_DECODE_H
#define MOEBIUS_RUNTIME_TOKENIZER_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"
#include "runtime/tokenizer_added.h"
#include "runtime/tokenizer_json.h"
#include "runtime/tokenizer_vocab.h"

enum tokenizer_decode_kind {
    TOKENIZER_DECODE_PLAIN,      /* texts as they are */
    TOKENIZER_DECODE_BYTE_LEVEL, /* each character stands for a byte */
    TOKENIZER_DECODE_METASPACE   /* the mark is a space, and nothing in the first token */
};

struct tokenizer_decode_piece {
    uint32_t start;  /* offset in `text` */
    uint32_t length; /* bytes */
    int32_t byte;    /* >= 0: this token is one byte of a character (ByteFallback) */
};

struct tokenizer_decode {
    enum tokenizer_decode_kind kind;
    bool byte_fallback;
    bool separates;         /* no decoder at all: a space between two tokens */
    char mark[4];           /* Metaspace */
    size_t mark_length;     /* bytes */
    bool drops_first_marks; /* Metaspace: but for prepend_scheme "never" */
    char strip[4];          /* Strip: the character taken away at the start of the text, */
    size_t strip_length;    /* its bytes, */
    int32_t strip_count;    /* and at most how many of them */
    struct text_buffer text;
    struct tokenizer_decode_piece *pieces;       /* by id, `id_count` of them */
    struct tokenizer_decode_piece *first_pieces; /* for the first token, if that differs */
    int32_t id_count;
    size_t piece_bytes_max; /* of the longest piece */
};

/* Reads `node` (a decoder, or missing) and works out the pieces of all ids. The tokens of `renamed`
 * decode to what they are looked for as, which is their normalised text. *decode is {0} before,
 * and to be deinitialised also after an error. Local. */
enum status tokenizer_decode_load(struct tokenizer_decode *decode,
                                  const struct tokenizer_vocab *vocab,
                                  const struct tokenizer_added *renamed,
                                  const struct tokenizer_json *node);

void tokenizer_decode_deinit(struct tokenizer_decode *decode);

/* The bytes of one id (borrowed), not yet checked to be UTF-8; length 0 for an id that no token
 * has. Local. */
const char *tokenizer_decode_piece(const struct tokenizer_decode *decode, int32_t id,
                                   size_t *length);

#endif
