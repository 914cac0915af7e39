/* The scheduler's rules, one by one. */
#include "tests/support/scheduler_world.h"
#include "tests/unit/unit_test.h"

#include <stdlib.h>
#include <string.h>

static struct scheduler_world world;

static const struct scheduler_limits usual = {.groups = 1,
                                              .places = 8,
                                              .rows = 64,
                                              .waiting = 8,
                                              .positions = 256,
                                              .blocks = 64,
                                              .prefix_cache = true};

static void begin(const struct scheduler_limits *limits) {
    scheduler_world_begin(&world, limits, 1);
}

static void end(void) {
    assert_string_equal(world.broken, "");
    scheduler_world_end(&world);
}

/* A request whose prompt is `beginning` + 0, 1, 2, ... */
static struct scheduler_request counted(int32_t beginning, int32_t prompt, int32_t output) {
    struct scheduler_request request = scheduler_world_request(&world, prompt, output, 2);
    for (int32_t i = 0; i < prompt; i++)
        request.tokens[i] = beginning + i;
    return request;
}

static int32_t submit(const struct scheduler_request *request) {
    int32_t handle = scheduler_world_submit(&world, request, request->max_tokens);
    assert_true(handle >= 0);
    return handle;
}

static int32_t submit_counted(int32_t beginning, int32_t prompt, int32_t output) {
    struct scheduler_request request = counted(beginning, prompt, output);
    return submit(&request);
}

static void step(void) {
    assert_true(scheduler_world_step(&world));
}

/* The entry of a request in the last plan; one without rows: none. */
static struct scheduler_entry entry_of(int32_t handle) {
    for (int32_t i = 0; i < world.plan->entries; i++)
        if (world.plan->entry[i].handle == handle)
            return world.plan->entry[i];
    return (struct scheduler_entry){0};
}

static void limits_are_checked(void **state) {
    (void)state;
    struct scheduler *scheduler = NULL;
    struct scheduler_limits limits = usual;
    limits.rows = 0;
    assert_int_equal(scheduler_create(&limits, &scheduler), STATUS_BAD_CONFIG);
    limits = usual;
    limits.blocks = 0;
    assert_int_equal(scheduler_create(&limits, &scheduler), STATUS_BAD_CONFIG);
    limits.blocks = 4;
    assert_int_equal(scheduler_longest(&limits), 65); /* the last token needs no slot */
    limits.blocks = 64;
    assert_int_equal(scheduler_longest(&limits), 256);
    assert_null(scheduler);
    scheduler_destroy(NULL);
}

static void a_full_queue_and_a_too_long_request_are_refused(void **state) {
    (void)state;
    begin(&usual);
    struct scheduler_request request = counted(0, 200, 57);
    int32_t handle;
    assert_int_equal(scheduler_submit(world.scheduler, &request, &handle), STATUS_BAD_REQUEST);
    free(request.tokens);
    for (int32_t i = 0; i < usual.waiting; i++)
        submit_counted(100 * i, 5, 5);
    assert_int_equal(scheduler_room(world.scheduler), 0);
    request = counted(0, 10, 5);
    assert_int_equal(scheduler_submit(world.scheduler, &request, &handle), STATUS_LIMIT);
    free(request.tokens);
    step(); /* they run now */
    assert_int_equal(scheduler_room(world.scheduler), usual.waiting);
    assert_true(scheduler_world_drain(&world, 100));
    end();
}

static void lower_priority_values_go_first_and_clients_in_order(void **state) {
    (void)state;
    struct scheduler_limits limits = usual;
    limits.places = 1;
    begin(&limits);
    int32_t handle[4];
    const int32_t priority[4] = {1, 0, 0, -1}, expected[4] = {3, 1, 2, 0};
    for (int i = 0; i < 4; i++) {
        struct scheduler_request request = counted(100 * i, 10, 1);
        request.priority = priority[i];
        handle[i] = submit(&request);
    }
    for (int i = 0; i < 4; i++) {
        step();
        assert_int_equal(world.plan->entries, 1);
        assert_int_equal(world.plan->entry[0].handle, handle[expected[i]]);
    }
    end();
}

static void long_prompts_come_in_pieces_behind_decodes(void **state) {
    (void)state;
    begin(&usual);
    int32_t decoding = submit_counted(0, 10, 20);
    step();
    int32_t lengthy = submit_counted(1000, 200, 2), brief = submit_counted(2000, 16, 2);
    step();
    assert_int_equal(world.plan->entry[0].handle, decoding);
    assert_int_equal(entry_of(brief).rows, 16);
    assert_true(entry_of(brief).completes);
    assert_int_equal(entry_of(lengthy).rows, 64 - 16 - 1); /* a piece, then what nobody wants */
    assert_false(entry_of(lengthy).completes);
    step();
    assert_int_equal(entry_of(lengthy).keep, 47);
    assert_int_equal(world.plan->rows, 64);
    assert_true(scheduler_world_drain(&world, 100));
    end();
}

static void what_was_computed_is_found_again(void **state) {
    (void)state;
    begin(&usual);
    submit_counted(0, 48, 1);
    step();
    step();
    int32_t same = submit_counted(0, 48, 1), longer = submit_counted(0, 60, 1);
    struct scheduler_request whole = counted(0, 48, 1);
    whole.whole_prompt = true;
    int32_t computes = submit(&whole);
    int32_t other = submit_counted(1, 48, 1);
    step();
    assert_int_equal(entry_of(same).cached, 32); /* the last token is always computed */
    assert_int_equal(entry_of(longer).cached, 48);
    assert_int_equal(entry_of(computes).cached, 0);
    assert_int_equal(entry_of(other).cached, 0);
    assert_true(scheduler_world_drain(&world, 100));
    struct scheduler_stats stats;
    scheduler_stats(world.scheduler, &stats);
    assert_int_equal(stats.prefix_hit_tokens, 80);
    assert_int_equal(stats.prefix_query_tokens, 48 + 48 + 60 + 48); /* not the whole prompt's */
    end();
}

static void without_the_cache_nothing_is_found(void **state) {
    (void)state;
    struct scheduler_limits limits = usual;
    limits.prefix_cache = false;
    begin(&limits);
    submit_counted(0, 48, 1);
    step();
    int32_t same = submit_counted(0, 48, 1);
    step();
    assert_int_equal(entry_of(same).cached, 0);
    struct scheduler_group_stats stats;
    step();
    scheduler_group_stats(world.scheduler, 0, &stats);
    assert_int_equal(stats.cached, 0);
    end();
}

static void siblings_wait_for_the_prompt_and_share_it(void **state) {
    (void)state;
    begin(&usual);
    struct scheduler_request first = counted(0, 100, 4);
    int32_t leader = submit(&first), sibling[2];
    for (int i = 0; i < 2; i++) {
        struct scheduler_request request = counted(0, 100, 4);
        request.sibling = leader;
        sibling[i] = submit(&request);
    }
    step();
    assert_true(entry_of(leader).rows > 0);
    assert_int_equal(entry_of(sibling[0]).rows, 0);
    step();
    assert_true(entry_of(leader).completes);
    assert_int_equal(entry_of(sibling[0]).rows, 0);
    step();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(entry_of(sibling[i]).cached, 96);
        assert_int_equal(entry_of(sibling[i]).rows, 4);
    }
    assert_true(scheduler_world_drain(&world, 100));
    end();
}

static void a_sibling_takes_over_when_the_first_is_cancelled(void **state) {
    (void)state;
    begin(&usual);
    struct scheduler_request first = counted(0, 100, 4);
    int32_t leader = submit(&first), sibling[2];
    for (int i = 0; i < 2; i++) {
        struct scheduler_request request = counted(0, 100, 4);
        request.sibling = leader;
        sibling[i] = submit(&request);
    }
    step();
    scheduler_world_cancel(&world, leader);
    step();
    assert_true(entry_of(sibling[0]).rows > 0);
    assert_int_equal(entry_of(sibling[1]).rows, 0);
    assert_true(scheduler_world_drain(&world, 100));
    assert_true(world.sibling_cached >= 96);
    end();
}

static void ends_are_told_once_and_free_at_once(void **state) {
    (void)state;
    begin(&usual);
    struct scheduler_request request = counted(0, 40, 50);
    request.deadline_ns = 100;
    request.limit_ns = 200;
    int32_t late = submit(&request);
    request = counted(500, 40, 50);
    request.deadline_ns = 200;
    request.limit_ns = 100;
    int32_t limited = submit(&request);
    world.now_ns = 99;
    step();
    assert_int_equal(world.plan->ended_count, 0);
    world.now_ns = 100;
    step();
    assert_int_equal(world.plan->ended_count, 2);
    for (int i = 0; i < 2; i++) {
        const struct scheduler_ended *ended = &world.plan->ended[i];
        assert_true(ended->handle == late || ended->handle == limited);
        assert_int_equal(ended->end,
                         ended->handle == late ? SCHEDULER_END_DEADLINE : SCHEDULER_END_TIME_LIMIT);
    }
    assert_int_equal(world.plan->freed_count, 2);
    struct scheduler_group_stats stats;
    scheduler_group_stats(world.scheduler, 0, &stats);
    assert_int_equal(stats.used, 0);
    end();
}

static void the_lowest_is_preempted_and_keeps_its_tokens(void **state) {
    (void)state;
    struct scheduler_limits limits = usual;
    limits.blocks = 9;
    begin(&limits);
    struct scheduler_request request = counted(0, 60, 60);
    request.priority = 1;
    int32_t low = submit(&request);
    step();
    int32_t high = submit_counted(500, 60, 60);
    for (int i = 0; i < 8; i++)
        step(); /* 5 blocks each are too many */
    struct scheduler_stats stats;
    scheduler_stats(world.scheduler, &stats);
    assert_int_equal(stats.preemptions, 1);
    assert_int_equal(entry_of(low).rows, 0);
    assert_true(entry_of(high).rows > 0);
    assert_true(scheduler_token_count(world.scheduler, low) > 62);
    assert_true(scheduler_world_drain(&world, 200));
    assert_int_equal(world.tokens, 120); /* none twice, none lost */
    end();
}

static void groups_fill_evenly_but_a_long_prefix_draws(void **state) {
    (void)state;
    struct scheduler_limits limits = usual;
    limits.groups = 2;
    begin(&limits);
    int32_t first = submit_counted(0, 100, 100);
    step();
    step();
    int32_t second = submit_counted(500, 30, 100);
    step();
    int32_t alike = submit_counted(0, 100, 100);
    step();
    assert_int_not_equal(world.request[first].group, world.request[second].group);
    assert_int_equal(world.request[first].group, world.request[alike].group);
    end();
}

/* A step is as long as its fullest group. */
static void groups_have_equal_shares_of_long_prompts(void **state) {
    (void)state;
    struct scheduler_limits limits = usual;
    limits.groups = 2; /* each has a piece of 16 rows; then 32 are left */
    begin(&limits);
    int32_t handles[2];
    for (int32_t i = 0; i < 2; i++)
        handles[i] = submit_counted(1000 * i, 100, 1);
    step();
    int32_t rows[2] = {0};
    for (int32_t i = 0; i < 2; i++)
        rows[entry_of(handles[i]).group] += entry_of(handles[i]).rows;
    for (int32_t i = 0; i < 2; i++)
        assert_int_equal(rows[i], limits.rows / 2);
    end();
}

static void an_admission_leaves_blocks_to_grow(void **state) {
    (void)state;
    struct scheduler_limits limits = usual;
    limits.blocks = 4;
    begin(&limits);
    int32_t all = submit_counted(0, 64, 1); /* alone it may take every block */
    step();
    assert_true(entry_of(all).rows > 0);
    submit_counted(100, 20, 10);
    step();
    int32_t next = submit_counted(200, 32, 2);
    step();
    assert_int_equal(entry_of(next).rows, 0); /* two blocks are free, one has to stay so */
    assert_true(scheduler_world_drain(&world, 100));
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_checked),
        cmocka_unit_test(a_full_queue_and_a_too_long_request_are_refused),
        cmocka_unit_test(lower_priority_values_go_first_and_clients_in_order),
        cmocka_unit_test(long_prompts_come_in_pieces_behind_decodes),
        cmocka_unit_test(what_was_computed_is_found_again),
        cmocka_unit_test(without_the_cache_nothing_is_found),
        cmocka_unit_test(siblings_wait_for_the_prompt_and_share_it),
        cmocka_unit_test(a_sibling_takes_over_when_the_first_is_cancelled),
        cmocka_unit_test(ends_are_told_once_and_free_at_once),
        cmocka_unit_test(the_lowest_is_preempted_and_keeps_its_tokens),
        cmocka_unit_test(groups_fill_evenly_but_a_long_prefix_draws),
        cmocka_unit_test(groups_have_equal_shares_of_long_prompts),
        cmocka_unit_test(an_admission_leaves_blocks_to_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
