/* The coordinator's part for tests that fill batches themselves: hands out blocks of a KV cache,
 * counts who holds them, and grows block tables as the plan of a step would. Exits with 1 when the
 * cache is exhausted. */
#ifndef MOEBIUS_TESTS_SUPPORT_BLOCK_SOURCE_H
#define MOEBIUS_TESTS_SUPPORT_BLOCK_SOURCE_H

#include "runtime/sequence.h"

#define BLOCK_SOURCE_BLOCKS_MAX 4096

struct block_source {
    int32_t count, free_count;
    int32_t references[BLOCK_SOURCE_BLOCKS_MAX];
};

void block_source_init(struct block_source *source, int32_t count);

/* Makes the table reach to `rows` slots behind the committed ones, and no further. */
void block_source_reserve(struct block_source *source, struct sequence *sequence, int32_t rows);

/* Gives all blocks of the table back. */
void block_source_release(struct block_source *source, struct sequence *sequence);

/* Makes `child` (empty, same cache) hold the full blocks of the committed part of `parent`. */
void block_source_fork(struct block_source *source, const struct sequence *parent,
                       struct sequence *child);

#endif
