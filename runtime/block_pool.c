/* Block accounts of the scheduler: references, free list in order of last use, and the table that
 * finds a full block by content. The memory itself is the ranks' (kv_cache). */
#include "runtime/block_pool.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"

enum status block_pool_init(struct block_pool *pool, int32_t count, uint64_t hash_key) {
    *pool = (struct block_pool){.count = count,
                                .first_free = 0,
                                .last_free = count - 1,
                                .hash_key = hash_key,
                                .next_content = BLOCK_POOL_ROOT + 1};
    int64_t buckets = 1;
    while (buckets < count)
        buckets *= 2;
    pool->bucket_mask = (int32_t)(buckets - 1);
    pool->block = calloc((size_t)count, sizeof *pool->block);
    pool->bucket = malloc(sizeof *pool->bucket * (size_t)buckets);
    if (pool->block == NULL || pool->bucket == NULL)
        return STATUS_NO_MEMORY;
    for (int64_t i = 0; i < buckets; i++)
        pool->bucket[i] = -1;
    for (int32_t i = 0; i < count; i++) {
        pool->block[i].previous = i - 1;
        pool->block[i].next = i + 1 < count ? i + 1 : -1;
    }
    return STATUS_OK;
}

void block_pool_deinit(struct block_pool *pool) {
    free(pool->block);
    free(pool->bucket);
    *pool = (struct block_pool){0};
}

int32_t block_pool_free_count(const struct block_pool *pool) {
    return pool->count - pool->used;
}

/* ---- the free list: blocks without content first, then the one unused for longest ---- */

static void link_first(struct block_pool *pool, int32_t number) {
    struct pool_block *block = &pool->block[number];
    block->previous = -1;
    block->next = pool->first_free;
    if (pool->first_free >= 0)
        pool->block[pool->first_free].previous = number;
    else
        pool->last_free = number;
    pool->first_free = number;
}

static void link_last(struct block_pool *pool, int32_t number) {
    struct pool_block *block = &pool->block[number];
    block->next = -1;
    block->previous = pool->last_free;
    if (pool->last_free >= 0)
        pool->block[pool->last_free].next = number;
    else
        pool->first_free = number;
    pool->last_free = number;
}

static void unlink_free(struct block_pool *pool, int32_t number) {
    struct pool_block *block = &pool->block[number];
    if (block->previous >= 0)
        pool->block[block->previous].next = block->next;
    else
        pool->first_free = block->next;
    if (block->next >= 0)
        pool->block[block->next].previous = block->previous;
    else
        pool->last_free = block->previous;
}

/* ---- the table of contents ---- */

static uint64_t rotate(uint64_t x, int bits) {
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4]) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32) + v[3];
    v[2] += v[1];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein, 2012) of the parent's number and the tokens. It only picks
 * the bucket: what is found is compared. */
static int32_t *bucket_of(const struct block_pool *pool, uint64_t parent, const int32_t *tokens) {
    uint64_t v[4] = {pool->hash_key ^ 0x736f6d6570736575u, ~pool->hash_key ^ 0x646f72616e646f6du,
                     pool->hash_key ^ 0x6c7967656e657261u, ~pool->hash_key ^ 0x7465646279746573u};
    for (int32_t i = 0; i <= KV_BLOCK_TOKENS / 2; i++) {
        uint64_t word = parent;
        if (i > 0)
            memcpy(&word, tokens + 2 * (i - 1), sizeof word);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    uint64_t hash = v[0] ^ v[1] ^ v[2] ^ v[3];
    return &pool->bucket[hash & (uint64_t)pool->bucket_mask];
}

static int32_t find_in(const struct block_pool *pool, const int32_t *bucket, uint64_t parent,
                       const int32_t *tokens) {
    int32_t number = *bucket;
    while (number >= 0 &&
           (pool->block[number].parent != parent ||
            memcmp(pool->block[number].tokens, tokens, sizeof pool->block[number].tokens) != 0))
        number = pool->block[number].chain;
    return number;
}

int32_t block_pool_find(const struct block_pool *pool, uint64_t parent, const int32_t *tokens) {
    return find_in(pool, bucket_of(pool, parent, tokens), parent, tokens);
}

static void forget_content(struct block_pool *pool, int32_t number) {
    struct pool_block *block = &pool->block[number];
    int32_t *link = bucket_of(pool, block->parent, block->tokens);
    while (*link != number)
        link = &pool->block[*link].chain;
    *link = block->chain;
    block->content = 0;
}

uint64_t block_pool_publish(struct block_pool *pool, int32_t block, uint64_t parent,
                            const int32_t *tokens) {
    struct pool_block *own = &pool->block[block];
    ASSERT(own->references > 0 && own->content == 0);
    int32_t *bucket = bucket_of(pool, parent, tokens);
    int32_t other = find_in(pool, bucket, parent, tokens);
    if (other >= 0)
        return pool->block[other].content;
    own->content = pool->next_content++;
    own->parent = parent;
    memcpy(own->tokens, tokens, sizeof own->tokens);
    own->chain = *bucket;
    *bucket = block;
    return own->content;
}

/* ---- holders ---- */

int32_t block_pool_acquire(struct block_pool *pool) {
    int32_t number = pool->first_free;
    ASSERT(number >= 0);
    struct pool_block *block = &pool->block[number];
    unlink_free(pool, number);
    if (block->content != 0) {
        forget_content(pool, number);
        pool->cached--;
    }
    block->references = 1;
    pool->used++;
    return number;
}

void block_pool_share(struct block_pool *pool, int32_t block) {
    struct pool_block *shared = &pool->block[block];
    ASSERT(shared->references > 0 || shared->content != 0);
    if (shared->references++ > 0)
        return;
    unlink_free(pool, block);
    pool->cached--;
    pool->used++;
}

void block_pool_release(struct block_pool *pool, int32_t block) {
    struct pool_block *released = &pool->block[block];
    ASSERT(released->references > 0);
    if (--released->references > 0)
        return;
    pool->used--;
    if (released->content == 0) {
        link_first(pool, block);
        return;
    }
    link_last(pool, block);
    pool->cached++;
}
