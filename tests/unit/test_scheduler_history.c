/* The scheduler over long random histories in which everything happens: bursts, shared prefixes,
 * siblings, cancels, deadlines, priorities, pools that are too small. The world checks every step;
 * injected bugs show that it can see them. */
#include <stdlib.h>

#include "tests/support/scheduler_world.h"
#include "tests/unit/unit_test.h"

struct history {
    const char *name;
    struct scheduler_limits limits;
    int32_t requests, vocabulary, prompt, output; /* longest */
    bool expects_preemptions;
};

static const struct history histories[] = {
    {"roomy", {1, 16, 64, 32, 128, 200, true, 0, 0, 7, 0}, 2000, 3, 80, 40, false},
    {"no cache", {1, 16, 64, 32, 128, 16, false, 0, 0, 7, 0}, 2000, 3, 80, 40, true},
    {"tiny pool", {1, 8, 32, 16, 128, 9, true, 0, 0, 7, 0}, 2000, 2, 80, 40, true},
    {"one sequence", {1, 4, 16, 8, 128, 8, true, 0, 0, 7, 0}, 1000, 2, 80, 40, true},
    {"few rows", {1, 16, 4, 32, 128, 60, true, 0, 0, 7, 0}, 1000, 3, 60, 30, false},
    {"one row", {1, 3, 1, 8, 64, 12, true, 0, 0, 7, 0}, 300, 3, 30, 20, false},
    {"three groups", {3, 12, 48, 32, 128, 8, true, 0, 0, 7, 0}, 2000, 3, 80, 40, true},
    {"more groups than places", {5, 3, 24, 16, 128, 9, true, 0, 0, 7, 0}, 1000, 3, 80, 40, false},
    {"eight groups", {8, 64, 256, 64, 96, 8, true, 0, 0, 7, 0}, 4000, 2, 60, 30, true},
    {"strict", {2, 10, 32, 64, 128, 9, true, 0, 0, 7, INT32_MAX}, 2000, 2, 80, 40, true},
    {"oldest soon", {1, 8, 32, 64, 128, 12, true, 4, 1, 7, 1}, 2000, 2, 80, 40, true},
    {"short and long", {2, 16, 40, 64, 160, 11, true, 8, 2, 7, 8}, 2000, 3, 140, 20, true},
};

#define HISTORIES ((int)(sizeof histories / sizeof histories[0]))

static int32_t pick(struct scheduler_world *world, int32_t from, int32_t to) {
    return from + scheduler_world_random(world, to - from + 1);
}

static int32_t any_live(struct scheduler_world *world) {
    int32_t first = scheduler_world_random(world, world->handles);
    for (int32_t i = 0; i < world->handles; i++)
        if (world->request[(first + i) % world->handles].live)
            return (first + i) % world->handles;
    return -1;
}

/* Begins as some other request does, so that there are prefixes to share: prompts, and answers too.
 */
static void copy_beginning(struct scheduler_world *world, struct scheduler_request *request) {
    int32_t other = any_live(world);
    if (other < 0 || scheduler_world_random(world, 3) == 0)
        return;
    int32_t count = world->request[other].count;
    if (count > request->prompt_count)
        count = request->prompt_count;
    if (scheduler_world_random(world, 2) == 0)
        count = pick(world, 0, count);
    for (int32_t i = 0; i < count; i++)
        request->tokens[i] = world->request[other].asked.tokens[i];
}

static struct scheduler_request random_request(struct scheduler_world *world,
                                               const struct history *history) {
    int32_t prompt = pick(world, 1, scheduler_world_random(world, 4) == 0 ? history->prompt : 20);
    struct scheduler_request request = scheduler_world_request(
        world, prompt, pick(world, 1, history->output), history->vocabulary);
    copy_beginning(world, &request);
    request.priority = pick(world, -1, 1);
    request.client = (uint64_t)pick(world, 0, 5);
    request.whole_prompt = scheduler_world_random(world, 20) == 0;
    if (scheduler_world_random(world, 10) == 0)
        request.deadline_ns = world->now_ns + pick(world, 0, 200);
    if (scheduler_world_random(world, 10) == 0)
        request.limit_ns = world->now_ns + pick(world, 0, 200);
    return request;
}

/* n choices of one prompt: the others name the first as their sibling. */
static void submit_choices(struct scheduler_world *world, const struct history *history) {
    struct scheduler_request first = random_request(world, history);
    int32_t choices = scheduler_world_random(world, 5) == 0 ? pick(world, 2, 4) : 1;
    struct scheduler_request copies[4];
    for (int32_t i = 0; i < choices; i++) {
        copies[i] = scheduler_world_request(world, first.prompt_count, first.max_tokens, 1);
        int32_t *tokens = copies[i].tokens;
        for (int32_t k = 0; k < first.prompt_count; k++)
            tokens[k] = first.tokens[k];
        copies[i] = first;
        copies[i].tokens = tokens;
    }
    free(first.tokens);
    int32_t leader = -1;
    for (int32_t i = 0; i < choices; i++) {
        copies[i].sibling = leader;
        int32_t handle =
            scheduler_world_submit(world, &copies[i], pick(world, 1, first.max_tokens));
        if (leader < 0)
            leader = handle;
    }
}

/* Submits in bursts with pauses, cancels now and then, until the history's requests are through. */
static bool play(struct scheduler_world *world, const struct history *history) {
    int32_t burst = 0;
    while (world->submitted < history->requests) {
        if (scheduler_world_random(world, 40) == 0)
            burst = pick(world, 0, 4);
        for (int32_t i = 0; i < burst; i++)
            submit_choices(world, history);
        if (burst == 0 && world->live == 0)
            burst = 1;
        if (scheduler_world_random(world, 8) == 0 && any_live(world) >= 0)
            scheduler_world_cancel(world, any_live(world));
        world->now_ns += pick(world, 0, 3);
        if (!scheduler_world_step(world))
            return false;
    }
    return scheduler_world_drain(world, 100000);
}

static void everything_is_given_back(struct scheduler_world *world) {
    assert_true(scheduler_world_step(world)); /* tells of the last places */
    for (int32_t i = 0; i < world->limits.groups; i++) {
        struct scheduler_group_stats stats;
        scheduler_group_stats(world->scheduler, i, &stats);
        assert_int_equal(stats.used, 0);
        assert_int_equal(stats.running, 0);
    }
    assert_int_equal(world->scheduler->free_handles, world->handles);
    assert_int_equal(world->submitted, world->finished + world->cancelled + world->timed_out);
    assert_int_equal(scheduler_room(world->scheduler), world->limits.waiting);
}

static void histories_hold(void **state) {
    (void)state;
    for (int i = 0; i < HISTORIES; i++) {
        for (uint64_t seed = 1; seed <= 3; seed++) {
            struct scheduler_world world;
            scheduler_world_begin(&world, &histories[i].limits, seed * 1000 + (uint64_t)i);
            if (!play(&world, &histories[i]))
                print_error("%s, seed %d: step %lld: %s\n", histories[i].name, (int)seed,
                            (long long)world.step, world.broken);
            assert_string_equal(world.broken, "");
            everything_is_given_back(&world);
            struct scheduler_stats stats;
            scheduler_stats(world.scheduler, &stats);
            /* A history that brings nothing about shows nothing. */
            assert_true(world.finished > histories[i].requests / 4);
            assert_true(world.cancelled > 0 && world.timed_out > 0);
            assert_true((stats.prefix_hit_tokens > 0) == histories[i].limits.prefix_cache);
            assert_true(!histories[i].expects_preemptions || stats.preemptions >= 10);
            scheduler_world_end(&world);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(histories_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
