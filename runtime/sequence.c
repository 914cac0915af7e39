/* Block tables: reserve before a step, commit or roll back after it, fork for several answers to
 * one prompt. */
#include "runtime/sequence.h"

#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

static int32_t blocks_for(int32_t slots) {
    return (slots + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

enum status sequence_init(struct sequence *sequence, struct kv_cache *cache, int32_t length_max) {
    int32_t capacity = blocks_for(length_max);
    int32_t *blocks = malloc(sizeof *blocks * (size_t)(capacity > 0 ? capacity : 1));
    if (blocks == NULL) {
        LOG_ERROR("sequence: cannot take a block table of %d entries", capacity);
        return STATUS_NO_MEMORY;
    }
    *sequence = (struct sequence){.cache = cache, .blocks = blocks, .block_capacity = capacity};
    return STATUS_OK;
}

/* Gives back all blocks past the first `keep`. */
static void release_blocks_after(struct sequence *sequence, int32_t keep) {
    while (sequence->block_count > keep)
        kv_cache_release(sequence->cache, sequence->blocks[--sequence->block_count]);
}

void sequence_deinit(struct sequence *sequence) {
    if (sequence->blocks == NULL)
        return;
    release_blocks_after(sequence, 0);
    free(sequence->blocks);
    *sequence = (struct sequence){0};
}

/* A block that is shared and about to be written becomes a private copy. At most one can be: the
 * one that holds the committed end. */
static enum status own_last_block(struct sequence *sequence) {
    int32_t index = sequence->committed / KV_BLOCK_TOKENS;
    if (index >= sequence->block_count || sequence->cache->references[sequence->blocks[index]] == 1)
        return STATUS_OK;
    int32_t copy;
    RETURN_IF_ERROR(kv_cache_acquire(sequence->cache, &copy));
    kv_cache_copy_block(sequence->cache, sequence->blocks[index], copy);
    kv_cache_release(sequence->cache, sequence->blocks[index]);
    sequence->blocks[index] = copy;
    return STATUS_OK;
}

enum status sequence_reserve(struct sequence *sequence, int32_t rows) {
    int32_t needed = blocks_for(sequence->committed + rows);
    if (needed > sequence->block_capacity)
        return STATUS_LIMIT;
    int32_t held = sequence->block_count;
    while (sequence->block_count < needed) {
        int32_t block;
        if (kv_cache_acquire(sequence->cache, &block) != STATUS_OK) {
            release_blocks_after(sequence, held);
            return STATUS_LIMIT;
        }
        sequence->blocks[sequence->block_count++] = block;
    }
    enum status status = own_last_block(sequence);
    if (status != STATUS_OK)
        release_blocks_after(sequence, held);
    return status;
}

void sequence_commit(struct sequence *sequence, int32_t count) {
    ASSERT(count >= 0 && count <= sequence->staged);
    sequence->committed += count;
    sequence->staged = 0;
    release_blocks_after(sequence, blocks_for(sequence->committed));
}

void sequence_commit_path(struct sequence *sequence, const int32_t *slots, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        int32_t from = slots[i], to = sequence->committed + i;
        ASSERT(from >= to && from < sequence->committed + sequence->staged);
        if (from != to)
            kv_cache_copy_slot(sequence->cache, sequence->blocks[from / KV_BLOCK_TOKENS],
                               from % KV_BLOCK_TOKENS, sequence->blocks[to / KV_BLOCK_TOKENS],
                               to % KV_BLOCK_TOKENS);
    }
    sequence_commit(sequence, count);
}

void sequence_rollback(struct sequence *sequence, int32_t length) {
    ASSERT(length >= 0 && length <= sequence->committed);
    sequence->committed = length;
    sequence->staged = 0;
    release_blocks_after(sequence, blocks_for(length));
}

enum status sequence_fork(const struct sequence *parent, struct sequence *child) {
    ASSERT(child->block_count == 0 && child->cache == parent->cache && parent->staged == 0);
    int32_t shared = blocks_for(parent->committed);
    if (shared > child->block_capacity)
        return STATUS_LIMIT;
    for (int32_t i = 0; i < shared; i++) {
        kv_cache_share(child->cache, parent->blocks[i]);
        child->blocks[i] = parent->blocks[i];
    }
    child->block_count = shared;
    child->committed = parent->committed;
    child->staged = 0;
    return STATUS_OK;
}
