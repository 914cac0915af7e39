/* The merges of byte-pair encoding: symbols of one word in, tokens out. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_MERGE_H
#define MOEBIUS_RUNTIME_TOKENIZER_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"
#include "runtime/token_list.h"
#include "runtime/tokenizer_map.h"

/* (left << 32 | right) to (rank << 32 | merged). Filled at load, then only read. */
struct tokenizer_merge {
    struct tokenizer_map pairs;
    /* left << 32 | right of first symbols that some merge can put together: where two neighbours
     * are not in it, no merge ever crosses, and the word falls into parts that are merged one by
     * one. Empty and unused if !cuts. */
    struct tokenizer_map joints;
    int cuts;
};

/* What merging a long word needs; {0} to start with. */
struct tokenizer_merge_scratch {
    struct text_buffer nodes; /* struct node */
    struct text_buffer heap;  /* struct candidate */
};

void tokenizer_merge_deinit(struct tokenizer_merge *merge);
void tokenizer_merge_scratch_deinit(struct tokenizer_merge_scratch *scratch);

/* Merges `count` symbols, always the pair of lowest rank, of those the leftmost, and appends what
 * is left to `out`. `symbols` is overwritten. O(n log n). Local. */
enum status tokenizer_merge_run(const struct tokenizer_merge *merge,
                                struct tokenizer_merge_scratch *scratch, int32_t *symbols,
                                size_t count, struct token_list *out);

#endif
