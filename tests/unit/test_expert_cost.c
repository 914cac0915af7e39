/* moe/expert_cost: the reckoning against numbers worked out by hand, and the choices that it must
 * make where one flow is clearly the right one. */
#include "moe/expert_cost.h"

#include <math.h>

#include "tests/unit/unit_test.h"

#define RANKS_MAX 64

struct machine {
    int32_t first[RANKS_MAX + 1], members[RANKS_MAX], rank_on_node[RANKS_MAX], node_of[RANKS_MAX];
    int32_t rows[RANKS_MAX];
    struct expert_nodes nodes;
    struct expert_cost_shape shape;
};

static void machine_init(struct machine *m, int32_t ranks, int32_t per_node, int32_t top_k,
                         int64_t row_bytes) {
    *m = (struct machine){.nodes = {.count = (ranks + per_node - 1) / per_node,
                                    .first = m->first,
                                    .members = m->members,
                                    .rank_on_node = m->rank_on_node},
                          .shape = {.ranks = ranks,
                                    .top_k = top_k,
                                    .row_bytes = row_bytes,
                                    .nodes = &m->nodes,
                                    .node_of = m->node_of,
                                    .rows_of = m->rows}};
    for (int32_t rank = 0; rank < ranks; rank++) {
        m->members[rank] = rank;
        m->node_of[rank] = rank / per_node;
        m->rank_on_node[rank] = rank % per_node;
        m->first[rank / per_node + 1] = rank + 1;
    }
}

static enum expert_flow chosen(const struct machine *m, const struct link_costs *links) {
    double cost_ns[EXPERT_FLOW_COUNT];
    return expert_cost_choose(&m->shape, links, cost_ns);
}

/* Two ranks, k = 1: one message of half the rows and half the pairs; the all-gather's has all. */
static void small_cases_are_as_by_hand(void **state) {
    (void)state;
    struct machine m;
    struct link_costs links = {.node = {100.0, 2.0}, .remote = {1000.0, 10.0}};
    machine_init(&m, 2, 2, 1, 40);
    m.rows[0] = 10;
    double each = 10.0 * (0.5 * 40.0 + 0.5 * 8.0), all = 10.0 * (40.0 + 8.0);
    assert_true(fabs(expert_cost_of(EXPERT_FLOW_A2A_DEDUP, &m.shape, &links) -
                     (100.0 + 2.0 * each)) < 1e-9);
    assert_true(
        fabs(expert_cost_of(EXPERT_FLOW_ALLGATHER, &m.shape, &links) - (100.0 + 2.0 * all)) < 1e-9);
    machine_init(&m, 2, 1, 1, 40);
    m.rows[0] = 10;
    assert_true(fabs(expert_cost_of(EXPERT_FLOW_A2A_DEDUP, &m.shape, &links) -
                     (1000.0 + 10.0 * each)) < 1e-9);
    m.rows[0] = 0;
    assert_true(expert_cost_of(EXPERT_FLOW_A2A_DEDUP, &m.shape, &links) < 1e-9);
    assert_true(expert_cost_of(EXPERT_FLOW_ALLGATHER, &m.shape, &links) < 1e-9);
}

/* One token on many ranks: 63 messages against 6 rounds. Many tokens: bytes decide. */
static void few_tokens_are_gathered_many_are_not(void **state) {
    (void)state;
    struct machine m;
    struct link_costs links = link_probe_default();
    machine_init(&m, 64, 64, 4, 4096);
    m.rows[0] = 1;
    assert_int_equal(chosen(&m, &links), EXPERT_FLOW_ALLGATHER);
    for (int32_t rank = 0; rank < 64; rank++)
        m.rows[rank] = 64;
    assert_int_equal(chosen(&m, &links), EXPERT_FLOW_A2A_DEDUP);
}

/* A slow network between nodes of many ranks: one copy a node; the same ranks as one node, or as
 * nodes of one rank: never. */
static void slow_networks_are_crossed_once(void **state) {
    (void)state;
    struct machine m;
    struct link_costs links = {.node = {1000.0, 0.1}, .remote = {5000.0, 2.0}};
    static const int32_t per_node[] = {8, 32, 1};
    for (int i = 0; i < 3; i++) {
        machine_init(&m, 32, per_node[i], 8, 4096);
        for (int32_t rank = 0; rank < 32; rank++)
            m.rows[rank] = 32;
        assert_true((chosen(&m, &links) == EXPERT_FLOW_HIERARCHICAL) == (per_node[i] == 8));
    }
}

/* Rows that sit on other ranks cost the same when the ranks are the same. */
static void ranks_of_a_node_are_alike(void **state) {
    (void)state;
    struct machine m;
    struct link_costs links = link_probe_default();
    double before = 0.0;
    for (int32_t home = 0; home < 4; home++) {
        machine_init(&m, 8, 4, 4, 1024);
        m.rows[home] = 20;
        double cost = expert_cost_of(EXPERT_FLOW_HIERARCHICAL, &m.shape, &links) +
                      expert_cost_of(EXPERT_FLOW_A2A_DEDUP, &m.shape, &links);
        assert_true(home == 0 || fabs(cost - before) < 1e-6);
        before = cost;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_cases_are_as_by_hand),
        cmocka_unit_test(few_tokens_are_gathered_many_are_not),
        cmocka_unit_test(slow_networks_are_crossed_once),
        cmocka_unit_test(ranks_of_a_node_are_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
