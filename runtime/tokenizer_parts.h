/* What a tokenizer is made of. Only the files of the tokenizer and the detokeniser include this. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_PARTS_H
#define MOEBIUS_RUNTIME_TOKENIZER_PARTS_H

#include "runtime/token_list.h"
#include "runtime/tokenizer.h"
#include "runtime/tokenizer_added.h"
#include "runtime/tokenizer_bpe.h"
#include "runtime/tokenizer_decode.h"
#include "runtime/tokenizer_normalize.h"
#include "runtime/tokenizer_split.h"
#include "runtime/tokenizer_vocab.h"

struct tokenizer {
    struct tokenizer_vocab vocab;
    struct tokenizer_added raw;        /* added tokens looked for in the text as it came, */
    struct tokenizer_added normalized; /* and in the normalised text between those */
    struct tokenizer_normalize normalize;
    struct tokenizer_split split;
    struct tokenizer_bpe bpe;
    struct tokenizer_decode decode;
    struct token_list before; /* what the post-processor puts before a text, */
    struct token_list after;  /* and behind it */
};

#endif
