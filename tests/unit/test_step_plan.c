/* runtime/step_plan: what goes over the wire comes back, and nothing else is taken for a plan. */
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/step_plan.h"
#include "tests/unit/unit_test.h"

static const struct step_limits limits = {.groups = 2,
                                          .places = 4,
                                          .entries = 4,
                                          .rows = 10,
                                          .blocks = 5,
                                          .kv_blocks = 300,
                                          .vocabulary = 70000,
                                          .positions = 100};

static void fill(struct step_plan *plan) {
    const int32_t tokens[] = {5, 69999, 7, 8}, blocks[] = {299, 0, 128};
    assert_int_equal(step_plan_init(plan, &limits), STATUS_OK);
    step_plan_clear(plan, 41);
    step_plan_add_chain(
        plan,
        (struct step_entry){
            .group = 1, .place = 3, .keep = 15, .rows = 3, .table_first = 1, .blocks = 1},
        tokens, blocks);
    step_plan_add_chain(plan, (struct step_entry){.group = 0, .place = 2, .keep = 0}, NULL, NULL);
    step_plan_add_chain(
        plan,
        (struct step_entry){
            .place = 0, .keep = 16, .rows = 1, .blocks = 2, .logits = STEP_LOGITS_LAST},
        tokens + 3, blocks + 1);
}

static void a_plan_survives_the_wire(void **state) {
    (void)state;
    struct step_plan sent, got;
    fill(&sent);
    assert_int_equal(step_plan_init(&got, &limits), STATUS_OK);
    char *bytes = malloc((size_t)step_plan_bytes_max(&sent));
    int64_t length = step_plan_encode(&sent, bytes);
    assert_true(length <= step_plan_bytes_max(&sent));
    assert_int_equal(step_plan_decode(&got, bytes, length), STATUS_OK);
    assert_int_equal(got.step, 41);
    assert_int_equal(got.entries, 3);
    assert_int_equal(got.rows, 4);
    assert_memory_equal(got.entry, sent.entry, 3 * sizeof *got.entry);
    assert_memory_equal(got.tokens, sent.tokens, 4 * sizeof *got.tokens);
    const int32_t parents[] = {-1, 0, 1, -1};
    assert_memory_equal(got.parents, parents, sizeof parents);
    assert_int_equal(got.blocks, 3);
    assert_memory_equal(got.block, sent.block, 3 * sizeof *got.block);
    sent.parents[2] = 0; /* a tree */
    assert_int_equal(step_plan_decode(&got, bytes, step_plan_encode(&sent, bytes)), STATUS_OK);
    assert_memory_equal(got.parents, sent.parents, sizeof parents);
    assert_int_equal(step_plan_logit_rows(&got.entry[0]), 0);
    assert_int_equal(step_plan_logit_rows(&got.entry[2]), 1);
    got.entry[0].logits = STEP_LOGITS_ALL;
    assert_int_equal(step_plan_logit_rows(&got.entry[0]), 3);
    free(bytes);
    step_plan_deinit(&sent);
    step_plan_deinit(&got);
}

/* The plan with one number changed is none; the number is as before afterwards. */
static void refuses(const struct step_plan *plan, struct step_plan *got, char *bytes,
                    int32_t *number, int32_t wrong) {
    int32_t right = *number;
    *number = wrong;
    assert_int_equal(step_plan_decode(got, bytes, step_plan_encode(plan, bytes)), STATUS_PEER);
    assert_int_equal(got->entries, 0);
    *number = right;
}

/* Every length but the right one, and a wrong value in every field that has rules. */
static void what_is_no_plan_is_refused(void **state) {
    (void)state;
    log_setup(LOG_LEVEL_ERROR, 0);
    struct step_plan plan, got;
    fill(&plan);
    assert_int_equal(step_plan_init(&got, &limits), STATUS_OK);
    char *bytes = malloc((size_t)step_plan_bytes_max(&plan));
    int64_t length = step_plan_encode(&plan, bytes);
    for (int64_t wrong = 0; wrong < length; wrong++)
        assert_int_equal(step_plan_decode(&got, bytes, wrong), STATUS_PEER);
    refuses(&plan, &got, bytes, &plan.entry[0].group, 2);
    refuses(&plan, &got, bytes, &plan.entry[0].place, 4);
    refuses(&plan, &got, bytes, &plan.entry[0].keep, 101);
    refuses(&plan, &got, bytes, &plan.entry[0].keep, 30); /* 3 more rows need a third block */
    refuses(&plan, &got, bytes, &plan.entry[0].logits, 3);
    refuses(&plan, &got, bytes, &plan.entry[0].table_first, 301);
    refuses(&plan, &got, bytes, &plan.entry[2].blocks, 1);
    refuses(&plan, &got, bytes, &plan.tokens[1], 70000);
    refuses(&plan, &got, bytes, &plan.parents[1], 1); /* its own parent */
    refuses(&plan, &got, bytes, &plan.block[2], 300);
    refuses(&plan, &got, bytes, &plan.stop, 2);
    assert_int_equal(step_plan_decode(&got, bytes, step_plan_encode(&plan, bytes)), STATUS_OK);
    struct step_limits fewer = limits;
    fewer.entries = 2;
    struct step_plan small;
    assert_int_equal(step_plan_init(&small, &fewer), STATUS_OK);
    assert_int_equal(step_plan_decode(&small, bytes, length), STATUS_PEER);
    step_plan_deinit(&small);
    free(bytes);
    step_plan_deinit(&plan);
    step_plan_deinit(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_survives_the_wire),
        cmocka_unit_test(what_is_no_plan_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
