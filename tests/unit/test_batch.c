/* runtime/batch.c: rows of chains and trees become positions, slots and paths. Every row's list of
 * visible slots is rebuilt from what the kernels would read and held against the parents. */
#include <string.h>

#include "runtime/batch.h"
#include "tests/support/block_source.h"
#include "tests/unit/unit_test.h"

#define ROWS 160
static const struct kv_shape shape = {DTYPE_F32, 1, 2};

static struct kv_cache cache;
static struct sequence first, second;
static struct batch batch;
static struct block_source blocks;

static int begin(void **state) {
    (void)state;
    block_source_init(&blocks, 32);
    if (kv_cache_init(&cache, &shape, 1, 32) != STATUS_OK ||
        sequence_init(&first, &cache, 256) != STATUS_OK ||
        sequence_init(&second, &cache, 256) != STATUS_OK)
        return -1;
    return batch_init(&batch, ROWS, 2) == STATUS_OK ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    batch_deinit(&batch);
    sequence_deinit(&first);
    sequence_deinit(&second);
    kv_cache_deinit(&cache);
    return 0;
}

/* The slot in which the kernels look for `position` of a row. */
static int32_t slot_seen(int32_t row, int32_t position) {
    const struct attention_row *attention = &batch.attention[row];
    if (position < attention->path_start)
        return position;
    return batch.paths[attention->path + position - attention->path_start];
}

/* Walks the parents of a row: its own slot, its parent's, ..., then the committed positions. */
static void expect_sees_ancestors(int32_t row, const struct sequence *sequence) {
    const struct attention_row *attention = &batch.attention[row];
    assert_int_equal(attention->position, batch.positions[row]);
    assert_ptr_equal(batch.members[attention->table], sequence);
    assert_ptr_equal(batch.tables[attention->table], sequence->blocks);
    assert_true(attention->position + 1 - attention->path_start <= ATTENTION_PATH_MAX);
    int32_t node = row, position = batch.positions[row];
    while (node != BATCH_NO_PARENT) {
        assert_int_equal(batch.positions[node], position);
        assert_int_equal(slot_seen(row, position), batch.slots[node]);
        node = batch.parents[node];
        position--;
    }
    assert_int_equal(position, sequence->committed - 1);
    for (; position >= 0; position--)
        assert_int_equal(slot_seen(row, position), position);
}

static void expect_slots(int32_t row, const struct sequence *sequence) {
    int32_t slot = batch.slots[row];
    assert_int_equal(batch.kv_blocks[row], sequence->blocks[slot / KV_BLOCK_TOKENS]);
    assert_int_equal(batch.kv_offsets[row], slot % KV_BLOCK_TOKENS);
}

static void append(struct sequence *sequence, const int32_t *tokens, int32_t count, bool all) {
    block_source_reserve(&blocks, sequence, count);
    assert_int_equal(batch_append_chain(&batch, sequence, tokens, count, all), STATUS_OK);
}

static void commit_tokens(struct sequence *sequence, int32_t count) {
    static const int32_t tokens[ROWS];
    batch_clear(&batch);
    append(sequence, tokens, count, false);
    sequence_commit(sequence, count);
    batch_clear(&batch);
}

static void chains_are_plain(void **state) {
    (void)state;
    const int32_t tokens[] = {5, 6, 7, 8, 9};
    commit_tokens(&first, 14);
    append(&first, tokens, 5, true);
    append(&second, tokens + 1, 3, false);
    assert_int_equal(batch.rows, 8);
    assert_int_equal(batch.sequences, 2);
    assert_int_equal(batch.path_count, 0);
    for (int32_t row = 0; row < 8; row++) {
        const struct sequence *sequence = row < 5 ? &first : &second;
        assert_int_equal(batch.tokens[row], row < 5 ? 5 + row : 6 + row - 5);
        assert_int_equal(batch.positions[row], row < 5 ? 14 + row : row - 5);
        assert_int_equal(batch.attention[row].path_start, batch.positions[row] + 1);
        expect_sees_ancestors(row, sequence);
        expect_slots(row, sequence);
    }
    assert_int_equal(batch.logit_count, 6); /* all of the first, the last of the second */
    for (int32_t i = 0; i < 6; i++)
        assert_int_equal(batch.logit_rows[i], i < 5 ? i : 7);
}

/* Roots and branches in every order: plain first, junk first, a long plain chain that branches. */
static void trees_see_their_ancestors(void **state) {
    (void)state;
    static const int32_t parents[] = {-1, 0, 1, -1, 3, 1, 2, 4, 6, 4, 0, 8, 11, 3};
    const int32_t count = sizeof parents / sizeof parents[0];
    commit_tokens(&first, 30);
    commit_tokens(&second, 3);
    for (int32_t twice = 0; twice < 2; twice++) { /* the second tree's rows start at `base` */
        struct sequence *sequence = twice == 0 ? &first : &second;
        int32_t base = batch.rows;
        block_source_reserve(&blocks, sequence, count);
        assert_int_equal(batch_begin(&batch, sequence, count), STATUS_OK);
        for (int32_t i = 0; i < count; i++) {
            int32_t row = -7;
            batch_append(&batch, i, parents[i] < 0 ? BATCH_NO_PARENT : base + parents[i],
                         i % 3 == 0, &row);
            assert_int_equal(row, base + i);
            assert_int_equal(batch.slots[row], sequence->committed + i);
        }
    }
    for (int32_t row = 0; row < batch.rows; row++) {
        const struct sequence *sequence = row < count ? &first : &second;
        expect_sees_ancestors(row, sequence);
        expect_slots(row, sequence);
    }
    assert_int_equal(batch.logit_count, 2 * 5);
    for (int32_t i = 1; i < batch.logit_count; i++)
        assert_true(batch.logit_rows[i - 1] < batch.logit_rows[i]);
}

/* As deep as a path may be, on top of a junk root; and a chain longer than that is no path. */
static void the_deepest_path(void **state) {
    (void)state;
    commit_tokens(&first, 9);
    block_source_reserve(&blocks, &first, ATTENTION_PATH_MAX + 1);
    assert_int_equal(batch_begin(&batch, &first, ATTENTION_PATH_MAX + 1), STATUS_OK);
    batch_append(&batch, 1, BATCH_NO_PARENT, false, NULL);
    int32_t parent = BATCH_NO_PARENT;
    for (int32_t depth = 0; depth < ATTENTION_PATH_MAX; depth++)
        batch_append(&batch, 2, parent, false, &parent);
    for (int32_t row = 0; row < batch.rows; row++)
        expect_sees_ancestors(row, &first);
    assert_int_equal(batch.attention[parent].path_start, 9);
    sequence_commit(&first, 1);
    commit_tokens(&first, 100);
    assert_int_equal(first.committed, 110);
}

static void full_changes_nothing(void **state) {
    (void)state;
    static const int32_t tokens[ROWS + 1];
    block_source_reserve(&blocks, &first, ROWS + 1);
    assert_int_equal(batch_append_chain(&batch, &first, tokens, ROWS + 1, false), STATUS_LIMIT);
    assert_int_equal(batch.rows + batch.sequences + first.staged, 0);
    assert_int_equal(batch_append_chain(&batch, &first, tokens, ROWS - 1, false), STATUS_OK);
    assert_int_equal(batch_append_chain(&batch, &second, tokens, 1, false), STATUS_LIMIT);
    block_source_reserve(&blocks, &second, 2);
    assert_int_equal(batch_append_chain(&batch, &second, tokens, 2, false), STATUS_LIMIT);
    assert_int_equal(batch.sequences, 1);
    assert_int_equal(batch_append_chain(&batch, &second, tokens, 1, false), STATUS_OK);
    assert_int_equal(batch.rows, ROWS);
    sequence_commit(&first, ROWS - 1);
    sequence_settle(&second, 0);
    batch_clear(&batch);
    struct sequence third;
    assert_int_equal(sequence_init(&third, &cache, 16), STATUS_OK);
    append(&first, tokens, 1, false);
    append(&second, tokens, 1, false);
    block_source_reserve(&blocks, &third, 1);
    assert_int_equal(batch_append_chain(&batch, &third, tokens, 1, false), STATUS_LIMIT);
    sequence_deinit(&third);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(chains_are_plain, begin, end),
        cmocka_unit_test_setup_teardown(trees_see_their_ancestors, begin, end),
        cmocka_unit_test_setup_teardown(the_deepest_path, begin, end),
        cmocka_unit_test_setup_teardown(full_changes_nothing, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
