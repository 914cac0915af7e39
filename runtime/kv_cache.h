/* The paged KV cache of one rank: a fixed pool of blocks of KV_BLOCK_TOKENS slots, taken at start.
 * A block number stands for one block in every layer. Which blocks are in use is the coordinator's
 * business. */
#ifndef MOEBIUS_RUNTIME_KV_CACHE_H
#define MOEBIUS_RUNTIME_KV_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "kernels/kv_layout.h"

struct kv_cache {
    struct kv_shape shape;
    int32_t layers, block_count;
    char *base;   /* [layers][block_count] blocks of kv_block_bytes(shape) */
    size_t bytes; /* of base */
};

/* Bytes of one block over all layers: what a block costs in the memory plan. Local. */
size_t kv_cache_block_bytes(const struct kv_shape *shape, int32_t layers);

/* Takes the pool, zero-filled. STATUS_NO_MEMORY (logged). Local. */
enum status kv_cache_init(struct kv_cache *cache, const struct kv_shape *shape, int32_t layers,
                          int32_t block_count);
void kv_cache_deinit(struct kv_cache *cache);

/* This layer's blocks, for the kernels. */
char *kv_cache_layer(const struct kv_cache *cache, int32_t layer);

/* Copies the keys and values of one slot to another in every layer. Local. */
void kv_cache_copy_slot(struct kv_cache *cache, int32_t from_block, int32_t from_offset,
                        int32_t to_block, int32_t to_offset);

#endif
