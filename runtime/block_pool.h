/* The KV blocks of one data-parallel group, as the scheduler counts them: who holds which block,
 * and which full blocks have content that others may use (the prefix cache). A block that nobody
 * holds keeps its content until the block is needed; the one unused for longest goes first.
 *
 * Content is named, not hashed: a block is found by its parent's content number and its 16 token
 * ids, both compared, so that a hit is never wrong. A number is given once and never again. */
#ifndef MOEBIUS_RUNTIME_BLOCK_POOL_H
#define MOEBIUS_RUNTIME_BLOCK_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "kernels/kv_layout.h"

#define BLOCK_POOL_ROOT 0 /* the parent of a sequence's first block */

struct pool_block {
    int32_t references;
    int32_t previous, next; /* in the free list, while references == 0; -1: end */
    int32_t chain;          /* next of the same bucket, -1: end */
    uint64_t content;       /* number; 0: none that may be found */
    uint64_t parent;        /* number of the content before */
    int32_t tokens[KV_BLOCK_TOKENS];
};

struct block_pool {
    struct pool_block *block;
    int32_t count;
    int32_t used;   /* blocks that are held */
    int32_t cached; /* free ones that have content */
    int32_t first_free, last_free;
    int32_t *bucket; /* [bucket_mask + 1] */
    int32_t bucket_mask;
    uint64_t hash_key, next_content;
};

/* `hash_key`: any number that clients do not know, so that they cannot choose tokens that make the
 * search slow. STATUS_NO_MEMORY (not logged). Local. */
enum status block_pool_init(struct block_pool *pool, int32_t count, uint64_t hash_key);
void block_pool_deinit(struct block_pool *pool);

/* Blocks that nobody holds. */
int32_t block_pool_free_count(const struct block_pool *pool);

/* A free block, held once and without content; one must be free. Local. */
int32_t block_pool_acquire(struct block_pool *pool);

/* One more, one less holder. A sequence gives its blocks back last one first, so that a prefix
 * outlives what stands on it. Local. */
void block_pool_share(struct block_pool *pool, int32_t block);
void block_pool_release(struct block_pool *pool, int32_t block);

/* The block whose content is tokens[KV_BLOCK_TOKENS] after `parent`, -1: none. Local. */
int32_t block_pool_find(const struct block_pool *pool, uint64_t parent, const int32_t *tokens);

/* Says what a held block contains, now that it is computed; the number of that content. If another
 * block has the same content already, that one stays the one to be found. Local. */
uint64_t block_pool_publish(struct block_pool *pool, int32_t block, uint64_t parent,
                            const int32_t *tokens);

#endif
