/* moe/placement: every expert somewhere, nearest replica first, and bad lists refused by layer and
 * rank. */
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "moe/placement.h"
#include "tests/unit/unit_test.h"

static void check_complete(const struct placement *placement) {
    for (int32_t layer = 0; layer < placement->layers; layer++) {
        const struct placement_layer *l = &placement->layer[layer];
        for (int32_t home = 0; home < placement->ranks; home++) {
            for (int32_t slot = l->first_slot[home]; slot + 1 < l->first_slot[home + 1]; slot++)
                assert_true(l->expert_of[slot] < l->expert_of[slot + 1]);
            for (int32_t expert = 0; expert < placement->experts; expert++) {
                int32_t slot = l->target[home * placement->experts + expert];
                assert_in_range(slot, 0, l->first_slot[placement->ranks] - 1);
                assert_int_equal(l->expert_of[slot], expert);
                int32_t rank = placement_rank_of(placement, layer, slot);
                assert_true(slot >= l->first_slot[rank] && slot < l->first_slot[rank + 1]);
            }
        }
    }
}

static void rules_place_every_expert(void **state) {
    (void)state;
    for (int policy = PLACEMENT_CONTIGUOUS; policy <= PLACEMENT_RANDOM; policy++)
        for (int32_t ranks = 1; ranks <= 9; ranks++)
            for (int32_t experts = 1; experts <= 17; experts += 4) {
                struct placement *placement = NULL;
                struct placement_options options = {.policy = (enum placement_policy)policy,
                                                    .seed = 3,
                                                    .replicas = ranks > 1 ? experts / 3 : 0};
                assert_int_equal(placement_create(3, experts, ranks, &options, &placement),
                                 STATUS_OK);
                check_complete(placement);
                placement_destroy(placement);
            }
}

static void contiguous_and_round_robin_are_what_they_say(void **state) {
    (void)state;
    struct placement *placement = NULL;
    struct placement_options options = {.policy = PLACEMENT_CONTIGUOUS};
    assert_int_equal(placement_create(1, 7, 3, &options, &placement), STATUS_OK);
    const int32_t contiguous[] = {0, 1, 2, 3, 4, 5, 6}, first[] = {0, 3, 5, 7};
    assert_memory_equal(placement->layer[0].expert_of, contiguous, sizeof contiguous);
    assert_memory_equal(placement->layer[0].first_slot, first, sizeof first);
    placement_destroy(placement);
    options.policy = PLACEMENT_ROUND_ROBIN;
    assert_int_equal(placement_create(1, 7, 3, &options, &placement), STATUS_OK);
    const int32_t dealt[] = {0, 3, 6, 1, 4, 2, 5};
    assert_memory_equal(placement->layer[0].expert_of, dealt, sizeof dealt);
    placement_destroy(placement);
}

/* Lists of one layer, given as text of digits a rank. */
static enum status from_text(const char *const *ranks, int32_t count, int32_t experts,
                             const int32_t *node_of, struct placement **placement) {
    int32_t numbers[8][8], counts[8];
    const int32_t *lists[8];
    for (int32_t r = 0; r < count; r++) {
        counts[r] = (int32_t)strlen(ranks[r]);
        for (int32_t i = 0; i < counts[r]; i++)
            numbers[r][i] = ranks[r][i] - '0';
        lists[r] = numbers[r];
    }
    struct placement_source source = {.origin = "test", .experts = lists, .counts = counts};
    return placement_from_lists(1, experts, count, &source, node_of, placement);
}

static void the_nearest_replica_is_used(void **state) {
    (void)state;
    const char *const lists[] = {"01", "23", "0",
                                 "14"}; /* expert 0 on ranks 0 and 2, 1 on 0 and 3 */
    const int32_t nodes[] = {0, 0, 1, 1};
    struct placement *placement = NULL;
    assert_int_equal(from_text(lists, 4, 5, nodes, &placement), STATUS_OK);
    const int32_t expected_rank[4][2] = {{0, 0}, {0, 0}, {2, 3}, {2, 3}};
    for (int32_t home = 0; home < 4; home++)
        for (int32_t expert = 0; expert < 2; expert++) {
            int32_t slot = placement->layer[0].target[home * 5 + expert];
            assert_int_equal(placement_rank_of(placement, 0, slot), expected_rank[home][expert]);
        }
    placement_destroy(placement);
}

static void bad_lists_are_refused(void **state) {
    (void)state;
    log_setup(LOG_LEVEL_ERROR, 0);
    static const char *const bad[][2] = {
        {"01", "2"},   /* expert 3 nowhere */
        {"012", "44"}, /* no such expert */
        {"0112", "3"}, /* twice on a rank */
        {"", ""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct placement *placement = NULL;
        assert_int_equal(from_text(bad[i], 2, 4, NULL, &placement), STATUS_BAD_CONFIG);
        assert_null(placement);
    }
    struct placement *placement = NULL;
    struct placement_options options = {.replicas = 5};
    assert_int_equal(placement_create(1, 4, 2, &options, &placement), STATUS_USAGE);
    options.replicas = 1;
    assert_int_equal(placement_create(1, 4, 1, &options, &placement), STATUS_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_place_every_expert),
        cmocka_unit_test(contiguous_and_round_robin_are_what_they_say),
        cmocka_unit_test(the_nearest_replica_is_used),
        cmocka_unit_test(bad_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
