/* The paged KV cache of one rank: a fixed pool of blocks of KV_BLOCK_TOKENS slots, taken at start.
 * A block number stands for one block in every layer. Blocks are counted references, so that forked
 * sequences can share a prefix. */
#ifndef MOEBIUS_RUNTIME_KV_CACHE_H
#define MOEBIUS_RUNTIME_KV_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "kernels/kv_layout.h"

struct kv_cache {
    struct kv_shape shape;
    int32_t layers, block_count;
    char *base;           /* [layers][block_count] blocks of kv_block_bytes(shape) */
    size_t bytes;         /* of base */
    int32_t *references;  /* [block_count] */
    int32_t *free_blocks; /* stack of block numbers */
    int32_t free_count;
};

/* Bytes of one block over all layers: what a block costs in the memory plan. Local. */
size_t kv_cache_block_bytes(const struct kv_shape *shape, int32_t layers);

/* Takes the pool, zero-filled. STATUS_NO_MEMORY (logged). Local. */
enum status kv_cache_init(struct kv_cache *cache, const struct kv_shape *shape, int32_t layers,
                          int32_t block_count);
void kv_cache_deinit(struct kv_cache *cache);

/* A free block with one reference; STATUS_LIMIT (not logged: the scheduler's business) when none is
 * left. Local. */
enum status kv_cache_acquire(struct kv_cache *cache, int32_t *block);

/* One more, one less reference; the last release returns the block to the pool. Local. */
void kv_cache_share(struct kv_cache *cache, int32_t block);
void kv_cache_release(struct kv_cache *cache, int32_t block);

/* This layer's blocks, for the kernels. */
char *kv_cache_layer(const struct kv_cache *cache, int32_t layer);

/* Copies a whole block in every layer. Local. */
void kv_cache_copy_block(struct kv_cache *cache, int32_t from, int32_t to);

/* Copies the keys and values of one slot to another in every layer. Local. */
void kv_cache_copy_slot(struct kv_cache *cache, int32_t from_block, int32_t from_offset,
                        int32_t to_block, int32_t to_offset);

#endif
