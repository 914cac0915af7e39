/* One sequence's place in the KV cache: a block table and how many of its positions are committed.
 * Positions 0 .. committed-1 stand in slots of the same number; rows of the running step stand in
 * the slots after them. */
#ifndef MOEBIUS_RUNTIME_SEQUENCE_H
#define MOEBIUS_RUNTIME_SEQUENCE_H

#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/kv_cache.h"

struct sequence {
    struct kv_cache *cache;
    int32_t *blocks;        /* block table: slot s is in blocks[s / KV_BLOCK_TOKENS] */
    int32_t block_count;    /* blocks held */
    int32_t block_capacity; /* length of the table */
    int32_t committed;      /* positions whose keys and values are final */
    int32_t staged; /* rows of the running step, in slots committed .. committed + staged - 1 */
};

/* An empty sequence for up to `length_max` slots (trees need room for all their nodes). The table
 * is taken here, so that a step takes nothing. STATUS_NO_MEMORY (logged). Local. */
enum status sequence_init(struct sequence *sequence, struct kv_cache *cache, int32_t length_max);

/* Gives all blocks back. */
void sequence_deinit(struct sequence *sequence);

/* Makes sure that slots committed .. committed + rows - 1 exist and are this sequence's alone (a
 * shared last block is copied). STATUS_LIMIT when the pool or the table is exhausted: nothing has
 * changed then. Local. */
enum status sequence_reserve(struct sequence *sequence, int32_t rows);

/* Commits the first `count` staged rows, which must be a chain in order; the other staged rows are
 * dropped. Local. */
void sequence_commit(struct sequence *sequence, int32_t count);

/* Commits a path of tree nodes: slots[0..count) (ascending slots of staged rows, parents before
 * children) become positions committed, committed + 1, ...: their keys and values move there in
 * every layer. The other staged rows are dropped. Local. */
void sequence_commit_path(struct sequence *sequence, const int32_t *slots, int32_t count);

/* Forgets everything from position `length` on (length <= committed) and drops staged rows; whole
 * free blocks go back. Local. */
void sequence_rollback(struct sequence *sequence, int32_t length);

/* Makes `child` (initialised, empty, same cache) a copy of the committed part of `parent`: blocks
 * are shared, and copied when one of the two writes into them. STATUS_LIMIT when the child's table
 * is too short. Local. */
enum status sequence_fork(const struct sequence *parent, struct sequence *child);

#endif
