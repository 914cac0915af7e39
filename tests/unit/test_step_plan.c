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
                                          .positions = 100,
                                          .history = 3};

static void fill(struct step_plan *plan) {
    const int32_t tokens[] = {5, 69999, 7, 8}, blocks[] = {299, 0, 128};
    assert_int_equal(step_plan_init(plan, &limits), STATUS_OK);
    step_plan_clear(plan, 41);
    step_plan_add_chain(plan,
                        (struct step_entry){.group = 1,
                                            .place = 3,
                                            .keep = 15,
                                            .rows = 3,
                                            .logit_from = 1,
                                            .scores = 2,
                                            .next = 77,
                                            .sends = true,
                                            .table_first = 1,
                                            .blocks = 1},
                        tokens, blocks);
    step_plan_add_chain(plan, (struct step_entry){.group = 0, .place = 2, .next = -1}, NULL, NULL);
    step_plan_add_chain(
        plan,
        (struct step_entry){
            .place = 0, .keep = 16, .rows = 1, .next = -1, .samples = true, .blocks = 2},
        tokens + 3, blocks + 1);
}

static void expect_same_entries(const struct step_plan *a, const struct step_plan *b) {
    for (int32_t i = 0; i < a->entries; i++) {
        const struct step_entry *x = &a->entry[i], *y = &b->entry[i];
        assert_int_equal(x->group, y->group);
        assert_int_equal(x->place, y->place);
        assert_int_equal(x->keep, y->keep);
        assert_int_equal(x->first_row, y->first_row);
        assert_int_equal(x->rows, y->rows);
        assert_int_equal(x->logit_from, y->logit_from);
        assert_int_equal(x->scores, y->scores);
        assert_int_equal(x->next, y->next);
        assert_int_equal(x->samples, y->samples);
        assert_int_equal(x->sends, y->sends);
        assert_int_equal(x->table_first, y->table_first);
        assert_int_equal(x->first_block, y->first_block);
        assert_int_equal(x->blocks, y->blocks);
    }
}

static void a_plan_survives_the_wire(void **state) {
    (void)state;
    struct step_plan sent, got;
    fill(&sent);
    assert_int_equal(step_plan_init(&got, &limits), STATUS_OK);
    char *bytes = malloc((size_t)step_plan_bytes_max(&limits));
    int64_t length = step_plan_encode(&sent, bytes);
    assert_true(length <= step_plan_bytes_max(&limits));
    assert_int_equal(step_plan_decode(&got, bytes, length), STATUS_OK);
    assert_int_equal(got.step, 41);
    assert_int_equal(got.entries, 3);
    assert_int_equal(got.rows, 4);
    expect_same_entries(&got, &sent);
    assert_memory_equal(got.tokens, sent.tokens, 4 * sizeof *got.tokens);
    const int32_t parents[] = {-1, 0, 1, -1};
    assert_memory_equal(got.parents, parents, sizeof parents);
    assert_int_equal(got.blocks, 3);
    assert_memory_equal(got.block, sent.block, 3 * sizeof *got.block);
    sent.parents[2] = 0; /* a tree */
    assert_int_equal(step_plan_decode(&got, bytes, step_plan_encode(&sent, bytes)), STATUS_OK);
    assert_memory_equal(got.parents, sent.parents, sizeof parents);
    assert_int_equal(step_plan_logit_rows(&got.entry[0]), 2);
    assert_int_equal(step_plan_logit_rows(&got.entry[1]), 0);
    assert_int_equal(step_plan_logit_rows(&got.entry[2]), 1);
    free(bytes);
    step_plan_deinit(&sent);
    step_plan_deinit(&got);
}

/* Everything that a request can say, and nothing; the history fills the plan. */
static void admissions_survive_the_wire(void **state) {
    (void)state;
    static const int32_t history[] = {69999, 0, 7};
    struct step_plan sent, got;
    assert_int_equal(step_plan_init(&sent, &limits), STATUS_OK);
    assert_int_equal(step_plan_init(&got, &limits), STATUS_OK);
    struct sampling_params plain = sampling_params_default(), full = {.temperature = 0.7f,
                                                                      .top_k = 12,
                                                                      .top_p = 0.5f,
                                                                      .min_p = 0.25f,
                                                                      .repetition_penalty = 1.25f,
                                                                      .frequency_penalty = -2.0f,
                                                                      .presence_penalty = 0.5f,
                                                                      .seed = UINT64_MAX - 3,
                                                                      .logprobs = 20,
                                                                      .bias_count = 300,
                                                                      .banned_count = 64};
    for (int32_t i = 0; i < 300; i++)
        full.bias[i] = (struct sampling_bias){.id = 69999 - i, .bias = (float)i * 0.125f};
    for (int32_t i = 0; i < 64 + 2; i++)
        full.banned[i] = i * 1000;
    struct step_admission some = {.group = 1,
                                  .place = 3,
                                  .prompt_count = 100,
                                  .min_tokens = 9,
                                  .stop_count = 2,
                                  .prompt_top = 20,
                                  .sampling = &full,
                                  .history = history,
                                  .history_count = 3},
                          none = {.place = 2, .prompt_count = 1, .sampling = &plain};
    step_plan_clear(&sent, 5);
    step_plan_add_admission(&sent, &some);
    assert_false(step_plan_admits(&sent, &some)); /* no room for another history */
    assert_true(step_plan_admits(&sent, &none));
    step_plan_add_admission(&sent, &none);
    sent.more = sent.tell = 1;
    char *bytes = malloc((size_t)step_plan_bytes_max(&limits));
    int64_t length = step_plan_encode(&sent, bytes);
    assert_int_equal(step_plan_decode(&got, bytes, length), STATUS_OK);
    assert_int_equal(got.more + got.tell, 2);
    assert_int_equal(got.admissions, 2);
    const struct step_admission *first = &got.admission[0], *second = &got.admission[1];
    assert_int_equal(first->group * 1000 + first->place, 1003);
    assert_int_equal(first->prompt_count, 100);
    assert_int_equal(first->min_tokens, 9);
    assert_int_equal(first->stop_count, 2);
    assert_int_equal(first->prompt_top, 20);
    assert_memory_equal(first->sampling, &full, sizeof full);
    assert_int_equal(first->history_count, 3);
    assert_memory_equal(first->history, history, sizeof history);
    assert_memory_equal(second->sampling, &plain, sizeof plain);
    assert_int_equal(second->history_count, 0);
    for (int64_t wrong = 0; wrong < length; wrong++)
        assert_int_equal(step_plan_decode(&got, bytes, wrong), STATUS_PEER);
    full.banned[7] = 70000;
    length = step_plan_encode(&sent, bytes);
    assert_int_equal(step_plan_decode(&got, bytes, length), STATUS_PEER);
    full.banned[7] = 7000;
    sent.admission[0].place = 2; /* the other group's */
    length = step_plan_encode(&sent, bytes);
    assert_int_equal(step_plan_decode(&got, bytes, length), STATUS_PEER);
    step_plan_clear(&sent, 6);
    step_plan_add_admission(&sent, &none);
    assert_in_range(step_plan_encode(&sent, bytes), 1, 20); /* a greedy request is short */
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
    struct step_plan plan, got;
    fill(&plan);
    assert_int_equal(step_plan_init(&got, &limits), STATUS_OK);
    char *bytes = malloc((size_t)step_plan_bytes_max(&limits));
    int64_t length = step_plan_encode(&plan, bytes);
    for (int64_t wrong = 0; wrong < length; wrong++)
        assert_int_equal(step_plan_decode(&got, bytes, wrong), STATUS_PEER);
    refuses(&plan, &got, bytes, &plan.entry[0].group, 2);
    refuses(&plan, &got, bytes, &plan.entry[0].place, 4);
    refuses(&plan, &got, bytes, &plan.entry[0].place, 2); /* the other group's */
    refuses(&plan, &got, bytes, &plan.entry[0].keep, 101);
    refuses(&plan, &got, bytes, &plan.entry[0].keep, 30);  /* 3 more rows need a third block */
    refuses(&plan, &got, bytes, &plan.entry[0].scores, 3); /* of two */
    refuses(&plan, &got, bytes, &plan.entry[0].next, 70000);
    refuses(&plan, &got, bytes, &plan.entry[0].next, -1);      /* scored, but not known */
    refuses(&plan, &got, bytes, &plan.entry[2].logit_from, 1); /* samples without logits */
    refuses(&plan, &got, bytes, &plan.entry[0].table_first, 301);
    refuses(&plan, &got, bytes, &plan.entry[2].blocks, 1);
    refuses(&plan, &got, bytes, &plan.tokens[1], 70000);
    refuses(&plan, &got, bytes, &plan.parents[1], 1); /* its own parent */
    refuses(&plan, &got, bytes, &plan.block[2], 300);
    refuses(&plan, &got, bytes, &plan.stop, 2);
    plan.entry[0].table_first = 6; /* blocks enough, but the longest sequence has 100 positions */
    refuses(&plan, &got, bytes, &plan.entry[0].keep, 98);
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
    log_setup(LOG_LEVEL_ERROR, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_survives_the_wire),
        cmocka_unit_test(admissions_survive_the_wire),
        cmocka_unit_test(what_is_no_plan_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
