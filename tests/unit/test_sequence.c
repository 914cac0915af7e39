/* runtime/sequence.c: block tables, commit, rollback, shared prefixes and tree commits, against a
 * cache whose slots hold the numbers of the tokens that they stand for. */
#include <string.h>

#include "runtime/sequence.h"
#include "tests/support/block_source.h"
#include "tests/unit/unit_test.h"

#define LAYERS 2
static const struct kv_shape shape = {DTYPE_F32, 1, 2};

static struct kv_cache cache;
static struct block_source source;

static void begin(int32_t blocks) {
    assert_int_equal(kv_cache_init(&cache, &shape, LAYERS, blocks), STATUS_OK);
    block_source_init(&source, blocks);
}

static void end_sequence(struct sequence *sequence) {
    block_source_release(&source, sequence);
    sequence_deinit(sequence);
}

static void end(void) {
    assert_int_equal(source.free_count, source.count);
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

/* Writes and commits `rows` tokens numbered first, first + 1, ... */
static void append(struct sequence *sequence, int32_t rows, float first) {
    block_source_reserve(&source, sequence, rows);
    assert_true(sequence_has_room(sequence, rows));
    sequence->staged = rows;
    for (int32_t i = 0; i < rows; i++)
        mark(sequence, sequence->committed + i, first + (float)i);
    sequence_commit(sequence, rows);
}

static void tables_grow_by_blocks(void **state) {
    (void)state;
    begin(4);
    struct sequence sequence;
    assert_int_equal(sequence_init(&sequence, &cache, 64), STATUS_OK);
    assert_true(sequence_has_room(&sequence, 0));
    assert_false(sequence_has_room(&sequence, 1));
    append(&sequence, 1, 0.0f);
    assert_int_equal(sequence.block_count, 1);
    assert_true(sequence_has_room(&sequence, 15));
    assert_false(sequence_has_room(&sequence, 16));
    append(&sequence, 15, 1.0f);
    assert_int_equal(sequence.block_count, 1);
    append(&sequence, 1, 16.0f);
    assert_int_equal(sequence.block_count, 2);
    for (int32_t i = 0; i < 17; i++)
        expect(&sequence, i, (float)i);
    end_sequence(&sequence);
    sequence_deinit(&sequence); /* of an empty one: nothing */
    end();
}

/* What a table has no room for, or a cut behind its end, changes nothing. */
static void tables_have_limits(void **state) {
    (void)state;
    static const int32_t ids[] = {2, 0, 1, 3};
    begin(4);
    struct sequence sequence;
    assert_int_equal(sequence_init(&sequence, &cache, 33), STATUS_OK); /* a table of 3 blocks */
    assert_int_equal(sequence_set_blocks(&sequence, 0, ids, 4), STATUS_LIMIT);
    assert_int_equal(sequence_set_blocks(&sequence, 1, ids, 1), STATUS_LIMIT);
    assert_int_equal(sequence.block_count, 0);
    assert_int_equal(sequence_set_blocks(&sequence, 0, ids, 3), STATUS_OK);
    assert_int_equal(sequence_set_blocks(&sequence, 3, ids, 1), STATUS_LIMIT);
    assert_int_equal(sequence.block_count, 3);
    assert_memory_equal(sequence.blocks, ids, sizeof(int32_t) * 3);
    assert_int_equal(sequence_set_blocks(&sequence, 1, ids + 3, 1), STATUS_OK); /* another tail */
    assert_int_equal(sequence.block_count, 2);
    assert_int_equal(sequence.blocks[0], 2);
    assert_int_equal(sequence.blocks[1], 3);
    assert_int_equal(sequence_blocks_for(INT32_MAX), INT32_MAX / KV_BLOCK_TOKENS + 1);
    sequence_deinit(&sequence);
    end();
}

/* Rows that were staged and not committed are gone, and so are rolled back ones. */
static void commit_and_rollback(void **state) {
    (void)state;
    begin(4);
    struct sequence sequence;
    assert_int_equal(sequence_init(&sequence, &cache, 64), STATUS_OK);
    append(&sequence, 10, 0.0f);
    block_source_reserve(&source, &sequence, 40);
    assert_int_equal(sequence.block_count, 4);
    sequence.staged = 40;
    for (int32_t i = 0; i < 40; i++)
        mark(&sequence, 10 + i, 10.0f + (float)i);
    sequence_commit(&sequence, 23);
    assert_int_equal(sequence.committed, 33);
    assert_int_equal(sequence.staged, 0);
    sequence_settle(&sequence, 17);
    append(&sequence, 2, 170.0f);
    assert_int_equal(sequence.block_count, 2);
    expect(&sequence, 16, 16.0f);
    expect(&sequence, 17, 170.0f);
    expect(&sequence, 18, 171.0f);
    end_sequence(&sequence);
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
    block_source_reserve(&source, &sequence, 20);
    sequence.staged = 20;
    for (int32_t slot = 14; slot < 34; slot++)
        mark(&sequence, slot, (float)(1000 + slot));
    sequence_commit_path(&sequence, path, 4);
    assert_int_equal(sequence.committed, 18);
    for (int32_t i = 0; i < 14; i++)
        expect(&sequence, i, (float)i);
    for (int32_t i = 0; i < 4; i++)
        expect(&sequence, 14 + i, (float)(1000 + path[i]));
    end_sequence(&sequence);
    end();
}

/* Full blocks are shared, and outlive who filled them; what follows is everybody's own. */
static void a_shared_prefix(void **state) {
    (void)state;
    begin(8);
    struct sequence parent, child, grandchild;
    assert_int_equal(sequence_init(&parent, &cache, 64), STATUS_OK);
    assert_int_equal(sequence_init(&child, &cache, 64), STATUS_OK);
    assert_int_equal(sequence_init(&grandchild, &cache, 64), STATUS_OK);
    append(&parent, 36, 0.0f);
    block_source_fork(&source, &parent, &child);
    block_source_fork(&source, &child, &grandchild);
    assert_int_equal(child.committed, 32);
    append(&child, 5, 200.0f);
    append(&parent, 5, 300.0f);
    append(&grandchild, 5, 400.0f);
    assert_int_equal(source.free_count, 3);
    for (int32_t i = 0; i < 5; i++) {
        expect(&parent, 36 + i, 300.0f + (float)i);
        expect(&child, 32 + i, 200.0f + (float)i);
        expect(&grandchild, 32 + i, 400.0f + (float)i);
    }
    end_sequence(&parent);
    for (int32_t i = 0; i < 32; i++) {
        expect(&child, i, (float)i);
        expect(&grandchild, i, (float)i);
    }
    end_sequence(&child);
    end_sequence(&grandchild);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_grow_by_blocks), cmocka_unit_test(tables_have_limits),
        cmocka_unit_test(commit_and_rollback),   cmocka_unit_test(commit_path_moves_keys),
        cmocka_unit_test(a_shared_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
