/* moe/expert_plan.c: the sort is a permutation, stable, and its way back is its inverse. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "moe/expert_plan.h"
#include "tests/unit/unit_test.h"

#define GUARD (-99)
#define ROW_BYTES 64

static const char guard;

struct shape {
    int32_t rows, top_k, experts;
};

/* Ids of a row are distinct, as a router's; `skew` sends most rows to the low experts. */
static void draw_ids(const struct shape *shape, uint64_t seed, bool skew, int32_t *ids) {
    uint64_t state = seed;
    for (int32_t row = 0; row < shape->rows; row++) {
        for (int32_t slot = 0; slot < shape->top_k; slot++) {
            bool taken = true;
            int32_t id = 0;
            for (int32_t tries = 0; taken; tries++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                uint64_t range = (uint64_t)(skew && tries < 8 ? shape->top_k : shape->experts);
                id = (int32_t)((state >> 33) % range);
                taken = false;
                for (int32_t s = 0; s < slot; s++)
                    taken = taken || ids[row * shape->top_k + s] == id;
            }
            ids[row * shape->top_k + slot] = id;
        }
    }
}

static void check(const struct shape *shape, const int32_t *ids) {
    int32_t pairs = shape->rows * shape->top_k;
    int32_t *memory = malloc(sizeof *memory * (size_t)(pairs + shape->experts + 3));
    const void **x_at = malloc(sizeof *x_at * (size_t)(pairs + 1));
    static const char x[255 * ROW_BYTES];
    assert_non_null(memory);
    assert_non_null(x_at);
    for (int32_t i = 0; i < pairs + shape->experts + 3; i++)
        memory[i] = GUARD;
    x_at[pairs] = &guard;
    struct expert_plan plan = {
        .offsets = memory, .x_at = x_at, .row_of = memory + shape->experts + 2};
    expert_plan_build(shape->rows, shape->top_k, shape->experts, ids, x, ROW_BYTES, &plan);
    assert_int_equal(plan.offsets[shape->experts + 1], GUARD);
    assert_ptr_equal(plan.x_at[pairs], &guard);
    assert_int_equal(plan.row_of[pairs], GUARD);

    assert_int_equal(plan.offsets[0], 0);
    assert_int_equal(plan.offsets[shape->experts], pairs);
    for (int32_t e = 0; e < shape->experts; e++) {
        const char *previous = NULL;
        assert_true(plan.offsets[e] <= plan.offsets[e + 1]);
        for (int32_t p = plan.offsets[e]; p < plan.offsets[e + 1]; p++) {
            const char *row = plan.x_at[p];
            assert_true(previous == NULL || row > previous); /* rows ascend, none twice */
            previous = row;
        }
    }
    for (int32_t i = 0; i < pairs; i++) {
        int32_t place = plan.row_of[i];
        assert_in_range(place, plan.offsets[ids[i]], plan.offsets[ids[i] + 1] - 1);
        assert_ptr_equal(plan.x_at[place], x + i / shape->top_k * ROW_BYTES);
        for (int32_t j = 0; shape->rows < 40 && j < i; j++)
            assert_int_not_equal(plan.row_of[j], place);
    }
    free(memory);
    free(x_at);
}

static void random_ids(void **state) {
    (void)state;
    static const struct shape shapes[] = {{1, 1, 1},   {1, 4, 4},    {1, 8, 128}, {3, 2, 5},
                                          {17, 4, 16}, {33, 2, 255}, {255, 8, 60}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (uint64_t seed = 0; seed < 6; seed++) {
            int32_t ids[255 * 8];
            draw_ids(&shapes[s], seed, seed % 2 == 0, ids);
            check(&shapes[s], ids);
        }
}

static void known_answer(void **state) {
    (void)state;
    const int32_t ids[] = {2, 0, 0, 3, 3, 2};
    const char x[3 * ROW_BYTES] = {0};
    const int32_t offsets_want[] = {0, 2, 2, 4, 6}, rows_want[] = {0, 1, 0, 2, 1, 2};
    const int32_t row_of_want[] = {2, 0, 1, 4, 5, 3};
    int32_t offsets[5], row_of[6];
    const void *x_at[6];
    struct expert_plan plan = {offsets, x_at, row_of};
    expert_plan_build(3, 2, 4, ids, x, ROW_BYTES, &plan);
    assert_memory_equal(offsets, offsets_want, sizeof offsets);
    for (int i = 0; i < 6; i++)
        assert_ptr_equal(x_at[i], x + rows_want[i] * ROW_BYTES);
    assert_memory_equal(row_of, row_of_want, sizeof row_of);
}

static void no_rows(void **state) {
    (void)state;
    int32_t offsets[4] = {9, 9, 9, 9}, none = 0;
    const void *nowhere = NULL;
    struct expert_plan plan = {offsets, &nowhere, &none};
    expert_plan_build(0, 2, 3, &none, &none, ROW_BYTES, &plan);
    for (int32_t e = 0; e < 4; e++)
        assert_int_equal(offsets[e], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_ids), cmocka_unit_test(known_answer),
                                       cmocka_unit_test(no_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
