/* Block tables: what the plan appends before a step, what is committed or dropped after it. */
#include "runtime/sequence.h"

#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

int32_t sequence_blocks_for(int32_t slots) {
    return slots / KV_BLOCK_TOKENS + (slots % KV_BLOCK_TOKENS > 0 ? 1 : 0);
}

enum status sequence_init(struct sequence *sequence, struct kv_cache *cache, int32_t length_max) {
    int32_t capacity = sequence_blocks_for(length_max);
    int32_t *blocks = malloc(sizeof *blocks * (size_t)(capacity > 0 ? capacity : 1));
    if (blocks == NULL) {
        LOG_ERROR("sequence: cannot take a block table of %d entries", capacity);
        return STATUS_NO_MEMORY;
    }
    *sequence = (struct sequence){.cache = cache, .blocks = blocks, .block_capacity = capacity};
    return STATUS_OK;
}

void sequence_deinit(struct sequence *sequence) {
    free(sequence->blocks);
    *sequence = (struct sequence){0};
}

enum status sequence_set_blocks(struct sequence *sequence, int32_t first, const int32_t *blocks,
                                int32_t count) {
    if (first > sequence->block_count || count > sequence->block_capacity - first)
        return STATUS_LIMIT;
    for (int32_t i = 0; i < count; i++) {
        ASSERT(blocks[i] >= 0 && blocks[i] < sequence->cache->block_count);
        sequence->blocks[first + i] = blocks[i];
    }
    sequence->block_count = first + count;
    return STATUS_OK;
}

bool sequence_has_room(const struct sequence *sequence, int32_t rows) {
    return (int64_t)sequence->committed + rows <= (int64_t)sequence->block_count * KV_BLOCK_TOKENS;
}

void sequence_settle(struct sequence *sequence, int32_t length) {
    ASSERT(length >= 0 && sequence_blocks_for(length) <= sequence->block_count);
    sequence->committed = length;
    sequence->staged = 0;
}

void sequence_commit(struct sequence *sequence, int32_t count) {
    ASSERT(count >= 0 && count <= sequence->staged);
    sequence_settle(sequence, sequence->committed + count);
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
