/* The "pre_tokenizer" of tokenizer.json: cuts normalised text into the words that merges stay in.
 */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_SPLIT_H
#define MOEBIUS_RUNTIME_TOKENIZER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"
#include "runtime/tokenizer_json.h"
#include "runtime/tokenizer_regex.h"

#define TOKENIZER_SPLIT_STEPS_MAX 16

enum tokenizer_split_behavior {
    TOKENIZER_SPLIT_ISOLATED,
    TOKENIZER_SPLIT_REMOVED,
    TOKENIZER_SPLIT_MERGED_WITH_PREVIOUS,
    TOKENIZER_SPLIT_MERGED_WITH_NEXT,
    TOKENIZER_SPLIT_CONTIGUOUS
};

/* When a mark is put before a piece that does not start with it. */
enum tokenizer_split_prepend {
    TOKENIZER_SPLIT_PREPEND_NEVER,
    TOKENIZER_SPLIT_PREPEND_FIRST, /* only at the start of the whole text */
    TOKENIZER_SPLIT_PREPEND_ALWAYS
};

struct tokenizer_split_step {
    bool cuts; /* pattern, behavior and invert hold; else the piece goes on whole */
    enum tokenizer_split_behavior behavior;
    bool invert; /* what the pattern does not match counts as the match */
    struct tokenizer_regex pattern;
    enum tokenizer_split_prepend prepend;
    bool replaces_space;     /* Metaspace: the mark also takes the place of every space */
    struct text_buffer mark; /* Metaspace: U+2581; ByteLevel: a space */
};

/* {0}: a piece is one word. */
struct tokenizer_split {
    struct tokenizer_split_step steps[TOKENIZER_SPLIT_STEPS_MAX];
    int count;
    bool byte_level; /* the words' bytes are the symbols, not their characters */
};

/* {0} to start with. */
struct tokenizer_split_scratch {
    struct text_buffer texts[TOKENIZER_SPLIT_STEPS_MAX];
    struct tokenizer_regex_scratch regex;
};

/* Called for each word in turn (not empty); the first error ends the run. */
typedef enum status (*tokenizer_split_word)(void *context, const char *word, size_t length);

/* One run: who gets the words, and whether the piece starts the whole text. */
struct tokenizer_split_run {
    struct tokenizer_split_scratch *scratch;
    tokenizer_split_word word;
    void *context;
    bool at_start;
};

void tokenizer_split_scratch_deinit(struct tokenizer_split_scratch *scratch);

/* Adds the steps of `node` (a pre_tokenizer, or missing: none). *split is {0} before, and to be
 * deinitialised also after an error. Local. */
enum status tokenizer_split_load(struct tokenizer_split *split, const struct tokenizer_json *node);

void tokenizer_split_deinit(struct tokenizer_split *split);

/* Hands the words of a piece of well-formed text to run->word. Local. */
enum status tokenizer_split_text(const struct tokenizer_split *split,
                                 const struct tokenizer_split_run *run, const char *text,
                                 size_t length);

#endif
