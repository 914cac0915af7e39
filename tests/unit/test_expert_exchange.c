/* moe/expert_exchange.c and the flows: a message that cannot be of this step is refused, before
 * what it says is copied anywhere. (What good messages become is tests/system/test_exchange.c.) */
#include "moe/expert_exchange.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "tests/unit/unit_test.h"

#define RANKS 4
#define EXPERTS 8
#define TOP_K 2
#define HIDDEN 16
#define ROW_COLUMNS 32 /* a row travels with its zeros */
#define ROWS 4         /* of all ranks together in a step */

/* The message that rank 2 sends to rank 0. */
struct crafted {
    char bytes[1024];
    int64_t used;
};

static struct crafted crafted;

static enum status hand_out(struct transport *transport, const struct transport_scope *scope,
                            const struct transport_send *sends, int32_t send_count,
                            struct transport_receive *receives, int32_t receive_count) {
    (void)transport, (void)scope, (void)sends, (void)send_count;
    for (int32_t i = 0; i < receive_count; i++) {
        receives[i].bytes = 0;
        if (receives[i].peer != 2)
            continue;
        if (crafted.used > receives[i].capacity)
            return STATUS_PEER; /* as every transport does */
        memcpy(receives[i].buffer, crafted.bytes, (size_t)crafted.used);
        receives[i].bytes = crafted.used;
    }
    return STATUS_OK;
}

static void put(const void *from, size_t bytes) {
    memcpy(crafted.bytes + crafted.used, from, bytes);
    crafted.used += (int64_t)bytes;
}

/* A section of rank 2 with so many rows; its pairs name these rows, all for an expert of rank 0. */
static void craft(int32_t rows, const int32_t *pair_rows, int32_t pairs) {
    static const float row[ROW_COLUMNS] = {1.0f};
    const int32_t head[] = {2, rows, pairs};
    static const char zeros[EXPERT_SECTION_ALIGNMENT];
    crafted.used = 0;
    for (int32_t i = 0; i < rows; i++)
        put(row, sizeof row);
    for (int32_t i = 0; i < pairs; i++) {
        struct expert_pair pair = {.row = pair_rows[i], .slot = 0};
        put(&pair, sizeof pair);
    }
    put(zeros, (size_t)(-(crafted.used + (int64_t)sizeof head) & (EXPERT_SECTION_ALIGNMENT - 1)));
    put(head, sizeof head);
}

/* What rank 0, without rows of its own, says to the crafted message; rank 2 was planned two rows.
 */
static enum status dispatch(enum expert_flow flow) {
    static const int32_t node_of[RANKS] = {0, 0, 1, 1}, rows_of[RANKS] = {0, 0, 2, 0};
    static const char host_of[RANKS][64] = {"a", "a", "b", "b"};
    static const struct transport_ops ops = {.name = "crafted", .exchange = hand_out};
    struct transport transport = {
        .ops = &ops, .size = RANKS, .node_of = node_of, .host_of = host_of};
    struct placement_options rule = {.node_of = node_of};
    struct expert_ranks ranks = {.transport = &transport, .flow = flow};
    struct placement *placement = NULL;
    assert_int_equal(placement_create(1, EXPERTS, RANKS, &rule, &placement), STATUS_OK);
    ranks.placement = placement;
    struct expert_exchange_limits limits = {.rows = ROWS,
                                            .top_k = TOP_K,
                                            .hidden = HIDDEN,
                                            .slots = EXPERTS,
                                            .act_dtype = DTYPE_F32,
                                            .wire_dtype = DTYPE_F32};
    struct expert_exchange exchange;
    struct arena measure = {0};
    expert_exchange_take(&measure, &ranks, &limits, &exchange);
    void *memory = aligned_alloc(4096, (measure.used + 4095) / 4096 * 4096);
    assert_non_null(memory);
    struct arena arena = {.base = memory, .capacity = measure.used};
    expert_exchange_take(&arena, &ranks, &limits, &exchange);
    expert_exchange_begin_step(&exchange, rows_of);
    struct transport_scope scope = {.step = 1, .layer = 0, .kind = TRAFFIC_DISPATCH};
    enum status status = expert_exchange_dispatch(&exchange, &scope, 0, 0, NULL);
    free(memory);
    placement_destroy(placement);
    return status;
}

static void expect(enum status each, enum status once, enum status hierarchical) {
    assert_int_equal(dispatch(EXPERT_FLOW_A2A), each);
    assert_int_equal(dispatch(EXPERT_FLOW_A2A_DEDUP), once);
    assert_int_equal(dispatch(EXPERT_FLOW_HIERARCHICAL), hierarchical);
}

static void refuses_what_does_not_fit(void **state) {
    (void)state;
    static const int32_t in_order[] = {0, 0, 1, 1, 1, 1}, rising[] = {0, 1, 2, 3},
                         alternating[] = {0, 1, 0, 1};
    craft(2, in_order, 4);
    expect(STATUS_OK, STATUS_OK, STATUS_OK);
    craft(4, rising, 4); /* a copy each is a2a's way; else two rows were planned */
    expect(STATUS_OK, STATUS_PEER, STATUS_PEER);
    craft(2, in_order, 6); /* of two rows with two experts each */
    expect(STATUS_PEER, STATUS_PEER, STATUS_PEER);
    craft(2, alternating, 4);
    expect(STATUS_PEER, STATUS_PEER, STATUS_PEER);
}

int main(void) {
    log_setup(LOG_LEVEL_ERROR, 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(refuses_what_does_not_fit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
