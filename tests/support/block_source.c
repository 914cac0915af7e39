/* Counted references over block numbers, the highest free one first: tables are never in order. */
#include "tests/support/block_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what) {
    printf("FAILED: blocks: %s\n", what);
    exit(1);
}

void block_source_init(struct block_source *source, int32_t count) {
    if (count > BLOCK_SOURCE_BLOCKS_MAX)
        fail("too many");
    memset(source, 0, sizeof *source);
    source->count = source->free_count = count;
}

static int32_t take(struct block_source *source) {
    for (int32_t block = source->count - 1; block >= 0; block--) {
        if (source->references[block] > 0)
            continue;
        source->references[block] = 1;
        source->free_count--;
        return block;
    }
    fail("none is free");
    return -1;
}

static void give_back(struct block_source *source, int32_t block) {
    if (source->references[block] == 0)
        fail("given back twice");
    if (--source->references[block] == 0)
        source->free_count++;
}

static void cut(struct block_source *source, struct sequence *sequence, int32_t keep) {
    for (int32_t i = keep; i < sequence->block_count; i++)
        give_back(source, sequence->blocks[i]);
    if (keep < sequence->block_count)
        (void)sequence_set_blocks(sequence, keep, NULL, 0);
}

void block_source_reserve(struct block_source *source, struct sequence *sequence, int32_t rows) {
    int32_t needed = sequence_blocks_for(sequence->committed + rows);
    cut(source, sequence, needed);
    while (sequence->block_count < needed) {
        int32_t block = take(source);
        if (sequence_set_blocks(sequence, sequence->block_count, &block, 1) != STATUS_OK)
            fail("a table is too short");
    }
}

void block_source_release(struct block_source *source, struct sequence *sequence) {
    cut(source, sequence, 0);
}

void block_source_fork(struct block_source *source, const struct sequence *parent,
                       struct sequence *child) {
    int32_t full = parent->committed / KV_BLOCK_TOKENS;
    if (child->block_count != 0 || sequence_set_blocks(child, 0, parent->blocks, full) != STATUS_OK)
        fail("no place for a fork");
    for (int32_t i = 0; i < full; i++)
        source->references[parent->blocks[i]]++;
    sequence_settle(child, full * KV_BLOCK_TOKENS);
}
