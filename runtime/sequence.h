/* One sequence's place in the KV cache: a block table and how many of its positions are committed.
 * Positions 0 .. committed-1 stand in slots of the same number; rows of the running step stand in
 * the slots after them.
 *
 * The blocks are somebody else's: who hands them out (the coordinator) also knows when they are
 * free again. Several sequences may hold the same full blocks, which nobody writes any more. */
#ifndef MOEBIUS_RUNTIME_SEQUENCE_H
#define MOEBIUS_RUNTIME_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/kv_cache.h"

struct sequence {
    struct kv_cache *cache;
    int32_t *blocks;        /* block table: slot s is in blocks[s / KV_BLOCK_TOKENS] */
    int32_t block_count;    /* blocks in the table */
    int32_t block_capacity; /* length of the table */
    int32_t committed;      /* positions whose keys and values are final */
    int32_t staged; /* rows of the running step, in slots committed .. committed + staged - 1 */
};

/* How many blocks hold `slots` slots. Local. */
int32_t sequence_blocks_for(int32_t slots);

/* An empty sequence for up to `length_max` slots (trees need room for all their nodes). The table
 * is taken here, so that a step takes nothing. STATUS_NO_MEMORY (logged). Local. */
enum status sequence_init(struct sequence *sequence, struct kv_cache *cache, int32_t length_max);
void sequence_deinit(struct sequence *sequence);

/* Cuts the table to its first `first` blocks and appends `count` (<= what the table holds, ids of
 * the cache). STATUS_LIMIT when the table is too short or ends before `first`; nothing has changed
 * then. Local. */
enum status sequence_set_blocks(struct sequence *sequence, int32_t first, const int32_t *blocks,
                                int32_t count);

/* Whether the table reaches to slot committed + rows - 1. Local. */
bool sequence_has_room(const struct sequence *sequence, int32_t rows);

/* Makes the first `length` positions the committed ones and drops all staged rows: fewer than
 * before is a rollback, more are staged rows that form a chain in order, or blocks that came filled
 * (sequence_set_blocks). They lie within the table (our bug otherwise). Local. */
void sequence_settle(struct sequence *sequence, int32_t length);

/* Commits the first `count` staged rows, which must be a chain in order; the other staged rows are
 * dropped. Local. */
void sequence_commit(struct sequence *sequence, int32_t count);

/* Commits a path of tree nodes: slots[0..count) (ascending slots of staged rows, parents before
 * children) become positions committed, committed + 1, ...: their keys and values move there in
 * every layer. The other staged rows are dropped. Local. */
void sequence_commit_path(struct sequence *sequence, const int32_t *slots, int32_t count);

#endif
