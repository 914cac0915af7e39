/* runtime/sequence.c: reserve, commit, rollback, fork and tree commits, against a cache whose slots
 * hold the numbers of the tokens that they stand for. */
#include <string.h>

#include "runtime/sequence.h"
#include "tests/unit/unit_test.h"

#define LAYERS 2
static const struct kv_shape shape = {DTYPE_F32, 1, 2};

static struct kv_cache cache;

static void begin(int32_t blocks) {
    assert_int_equal(kv_cache_init(&cache, &shape, LAYERS, blocks), STATUS_OK);
}

/* Every block is free again and no reference is left. */
static void end(void) {
    assert_int_equal(cache.free_count, cache.block_count);
    for (int32_t i = 0; i < cache.block_count; i++)
        assert_int_equal(cache.references[i], 0);
    kv_cache_deinit(&cache);
}

/* The first key element of a slot, as the kernels would find it through the block table. */
static float *key_of(const struct sequence *sequence, int32_t layer, int32_t slot) {
    int32_t block = sequence->blocks[slot / KV_BLOCK_TOKENS];
    char *base = kv_cache_layer(&cache, layer) + (size_t)block * kv_block_bytes(&shape);
    return (float *)(void *)base + kv_key_index(&shape, 0, slot % KV_BLOCK_TOKENS, 0);
}

static void mark(const struct sequence *sequence, int32_t slot, float number) {
    for (int32_t layer = 0; layer < LAYERS; layer++)
        *key_of(sequence, layer, slot) = number + (float)layer * 0.5f;
}

static void expect(const struct sequence *sequence, int32_t slot, float number) {
    for (int32_t layer = 0; layer < LAYERS; layer++)
        assert_true(*key_of(sequence, layer, slot) == number + (float)layer * 0.5f);
}

/* Reserves, writes and commits `rows` tokens numbered first, first + 1, ... */
static void append(struct sequence *sequence, int32_t rows, float first) {
    assert_int_equal(sequence_reserve(sequence, rows), STATUS_OK);
    sequence->staged = rows;
    for (int32_t i = 0; i < rows; i++)
        mark(sequence, sequence->committed + i, first + (float)i);
    sequence_commit(sequence, rows);
}

static void reserve_grows_by_blocks(void **state) {
    (void)state;
    begin(4);
    struct sequence sequence;
    assert_int_equal(sequence_init(&sequence, &cache, 64), STATUS_OK);
    assert_int_equal(sequence_reserve(&sequence, 0), STATUS_OK);
    assert_int_equal(sequence.block_count, 0);
    append(&sequence, 1, 0.0f);
    assert_int_equal(sequence.block_count, 1);
    append(&sequence, 15, 1.0f);
    assert_int_equal(sequence.block_count, 1);
    append(&sequence, 1, 16.0f);
    assert_int_equal(sequence.block_count, 2);
    for (int32_t i = 0; i < 17; i++)
        expect(&sequence, i, (float)i);
    sequence_deinit(&sequence);
    sequence_deinit(&sequence); /* of an empty one: nothing */
    end();
}

static void limits_change_nothing(void **state) {
    (void)state;
    begin(3);
    struct sequence a, b;
    assert_int_equal(sequence_init(&a, &cache, 33), STATUS_OK); /* a table of 3 blocks */
    assert_int_equal(sequence_init(&b, &cache, 64), STATUS_OK);
    append(&a, 16, 0.0f);
    assert_int_equal(sequence_reserve(&a, 33), STATUS_LIMIT); /* beyond its table */
    append(&b, 1, 100.0f);
    assert_int_equal(sequence_reserve(&b, 32), STATUS_LIMIT); /* beyond the pool: needs 2 more */
    assert_int_equal(b.block_count, 1);
    assert_int_equal(cache.free_count, 1);
    append(&b, 15, 101.0f);
    expect(&a, 15, 15.0f);
    expect(&b, 15, 115.0f);
    sequence_deinit(&a);
    sequence_deinit(&b);
    end();
}

/* Rows that were staged and not committed give their blocks back. */
static void commit_drops_the_rest(void **state) {
    (void)state;
    begin(4);
    struct sequence sequence;
    assert_int_equal(sequence_init(&sequence, &cache, 64), STATUS_OK);
    append(&sequence, 10, 0.0f);
    assert_int_equal(sequence_reserve(&sequence, 40), STATUS_OK);
    assert_int_equal(sequence.block_count, 4);
    sequence.staged = 40;
    sequence_commit(&sequence, 3);
    assert_int_equal(sequence.committed, 13);
    assert_int_equal(sequence.staged, 0);
    assert_int_equal(sequence.block_count, 1);
    sequence_rollback(&sequence, 0);
    assert_int_equal(cache.free_count, 4);
    sequence_deinit(&sequence);
    end();
}

static void rollback_keeps_the_front(void **state) {
    (void)state;
    begin(4);
    struct sequence sequence;
    assert_int_equal(sequence_init(&sequence, &cache, 64), STATUS_OK);
    append(&sequence, 40, 0.0f);
    sequence_rollback(&sequence, 32);
    assert_int_equal(sequence.block_count, 2);
    sequence_rollback(&sequence, 17);
    assert_int_equal(sequence.block_count, 2);
    append(&sequence, 2, 170.0f);
    expect(&sequence, 16, 16.0f);
    expect(&sequence, 17, 170.0f);
    expect(&sequence, 18, 171.0f);
    sequence_deinit(&sequence);
    end();
}

/* The path's keys move to the front, in order, over block borders. */
static void commit_path_moves_keys(void **state) {
    (void)state;
    static const int32_t path[] = {14, 17, 20, 33};
    begin(4);
    struct sequence sequence;
    assert_int_equal(sequence_init(&sequence, &cache, 64), STATUS_OK);
    append(&sequence, 14, 0.0f);
    assert_int_equal(sequence_reserve(&sequence, 20), STATUS_OK);
    sequence.staged = 20;
    for (int32_t slot = 14; slot < 34; slot++)
        mark(&sequence, slot, (float)(1000 + slot));
    sequence_commit_path(&sequence, path, 4);
    assert_int_equal(sequence.committed, 18);
    assert_int_equal(sequence.block_count, 2);
    for (int32_t i = 0; i < 14; i++)
        expect(&sequence, i, (float)i);
    for (int32_t i = 0; i < 4; i++)
        expect(&sequence, 14 + i, (float)(1000 + path[i]));
    sequence_deinit(&sequence);
    end();
}

/* Fork in the middle of a block: both write their own continuation, neither sees the other's. */
static void fork_copies_on_write(void **state) {
    (void)state;
    begin(8);
    struct sequence parent, child, grandchild;
    assert_int_equal(sequence_init(&parent, &cache, 64), STATUS_OK);
    assert_int_equal(sequence_init(&child, &cache, 64), STATUS_OK);
    assert_int_equal(sequence_init(&grandchild, &cache, 64), STATUS_OK);
    append(&parent, 20, 0.0f);
    assert_int_equal(sequence_fork(&parent, &child), STATUS_OK);
    assert_int_equal(sequence_fork(&child, &grandchild), STATUS_OK);
    assert_int_equal(cache.free_count, 6); /* nothing is copied yet */
    append(&child, 5, 200.0f);
    append(&parent, 5, 300.0f);
    append(&grandchild, 5, 400.0f);
    assert_int_equal(cache.free_count, 4); /* the first block is shared, the second is not */
    for (int32_t i = 0; i < 20; i++) {
        expect(&parent, i, (float)i);
        expect(&child, i, (float)i);
        expect(&grandchild, i, (float)i);
    }
    for (int32_t i = 0; i < 5; i++) {
        expect(&child, 20 + i, 200.0f + (float)i);
        expect(&parent, 20 + i, 300.0f + (float)i);
        expect(&grandchild, 20 + i, 400.0f + (float)i);
    }
    sequence_deinit(&parent); /* the children outlive it */
    expect(&child, 3, 3.0f);
    sequence_deinit(&child);
    sequence_deinit(&grandchild);
    end();
}

/* A rollback into a shared block must not let the next tokens overwrite the other's. */
static void rollback_into_a_shared_block(void **state) {
    (void)state;
    begin(8);
    struct sequence parent, child;
    assert_int_equal(sequence_init(&parent, &cache, 64), STATUS_OK);
    assert_int_equal(sequence_init(&child, &cache, 64), STATUS_OK);
    append(&parent, 40, 0.0f);
    assert_int_equal(sequence_fork(&parent, &child), STATUS_OK);
    sequence_rollback(&child, 5);
    append(&child, 30, 500.0f);
    for (int32_t i = 0; i < 40; i++)
        expect(&parent, i, (float)i);
    for (int32_t i = 0; i < 35; i++)
        expect(&child, i, i < 5 ? (float)i : 495.0f + (float)i);
    sequence_deinit(&parent);
    sequence_deinit(&child);
    end();
}

static void fork_within_limits(void **state) {
    (void)state;
    begin(3);
    struct sequence parent, small, child;
    assert_int_equal(sequence_init(&parent, &cache, 64), STATUS_OK);
    assert_int_equal(sequence_init(&small, &cache, 16), STATUS_OK);
    assert_int_equal(sequence_init(&child, &cache, 64), STATUS_OK);
    append(&parent, 40, 0.0f);
    assert_int_equal(sequence_fork(&parent, &small), STATUS_LIMIT); /* table too short */
    assert_int_equal(small.block_count, 0);
    assert_int_equal(sequence_fork(&parent, &child), STATUS_OK);
    /* No block is left for the copy: nothing changes, and the parent still has its keys. */
    assert_int_equal(sequence_reserve(&child, 1), STATUS_LIMIT);
    assert_int_equal(child.block_count, 3);
    assert_int_equal(child.committed, 40);
    sequence_deinit(&parent);
    append(&child, 1, 40.0f); /* alone now: no copy needed */
    for (int32_t i = 0; i <= 40; i++)
        expect(&child, i, (float)i);
    sequence_deinit(&small);
    sequence_deinit(&child);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reserve_grows_by_blocks), cmocka_unit_test(limits_change_nothing),
        cmocka_unit_test(commit_drops_the_rest),   cmocka_unit_test(rollback_keeps_the_front),
        cmocka_unit_test(commit_path_moves_keys),  cmocka_unit_test(fork_copies_on_write),
        cmocka_unit_test(fork_within_limits),      cmocka_unit_test(rollback_into_a_shared_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
