/* The scheduler over long random histories in which everything happens: bursts, shared prefixes,
 * siblings, cancels, deadlines, priorities, pools that are too small. The world checks every step;
 * injected bugs show that it can see them. */
#include <stdlib.h>
#include <string.h>

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

/* ---- injected bugs: the world sees them ---- */

static struct block_pool *pool_of(struct scheduler *scheduler, int32_t handle) {
    return &scheduler->group[scheduler->request[handle].group].pool;
}

/* A holder that is not counted. */
static void lose_reference(struct scheduler *scheduler, int64_t step) {
    (void)step;
    for (int32_t i = 0; i < scheduler->running_count; i++) {
        const struct scheduled_request *request = &scheduler->request[scheduler->running[i]];
        struct block_pool *pool = pool_of(scheduler, scheduler->running[i]);
        if (pool->block[request->blocks[0]].references > 1) {
            pool->block[request->blocks[0]].references--;
            return;
        }
    }
}

/* A block that no one gives back. */
static void leak_block(struct scheduler *scheduler, int64_t step) {
    if (step == 100 && block_pool_free_count(&scheduler->group[0].pool) > 0)
        block_pool_acquire(&scheduler->group[0].pool);
}

/* Content that may be hit before it is computed. */
static void publish_early(struct scheduler *scheduler, int64_t step) {
    (void)step;
    for (int32_t i = 0; i < scheduler->running_count; i++) {
        struct scheduled_request *request = &scheduler->request[scheduler->running[i]];
        if ((request->published + 1) * KV_BLOCK_TOKENS > request->asked.prompt_count)
            continue;
        request->content = block_pool_publish(
            pool_of(scheduler, scheduler->running[i]), request->blocks[request->published],
            request->content, request->asked.tokens + request->published * KV_BLOCK_TOKENS);
        request->published++;
    }
}

/* The content of one block under the number of another, as if hashes had collided. */
static void confuse_contents(struct scheduler *scheduler, int64_t step) {
    (void)step;
    for (int32_t i = 0; i < scheduler->running_count; i++) {
        struct scheduled_request *request = &scheduler->request[scheduler->running[i]];
        if (request->computed > 0 || request->staged < 2 * KV_BLOCK_TOKENS)
            continue;
        int32_t block = request->blocks[0];
        request->blocks[0] = request->blocks[1];
        request->blocks[1] = block;
    }
}

/* A step that is taken for done before it was run. */
static void skip_rows(struct scheduler *scheduler, int64_t step) {
    if (step % 50 == 49 && scheduler->running_count > 0)
        scheduler->request[scheduler->running[0]].computed++;
}

static void injected_bugs_are_seen(void **state) {
    (void)state;
    const struct {
        world_sabotage sabotage;
        const char *says;
    } bugs[] = {{lose_reference, "references"},
                {leak_block, "references"},
                {publish_early, "shared"},
                {confuse_contents, "reads another's keys"},
                {skip_rows, "no row"}};
    const struct history *longs = &histories[HISTORIES - 1]; /* prompts that take several steps */
    for (int i = 0; i < 5; i++) {
        struct scheduler_world world;
        scheduler_world_begin(&world, &longs->limits, 5);
        world.sabotage = bugs[i].sabotage;
        assert_false(play(&world, longs));
        if (strstr(world.broken, bugs[i].says) == NULL)
            fail_msg("expected to hear of %s, heard: %s", bugs[i].says, world.broken);
        scheduler_world_end(&world);
    }
}

/* ---- fairness ---- */

#define CLIENTS 3

static const struct fair_client {
    int32_t waiting, prompt, output; /* requests that it keeps waiting, and what they are */
} fair_clients[CLIENTS] = {{40, 20, 20}, {4, 20, 20}, {4, 60, 40}};

/* What VTC promises is that two clients who always wait differ by at most twice what one may have
 * running: 2 * max(prompt, 2 * tokens of all places). */
#define FAIR_PLACES 8
#define FAIR_BOUND (2 * 2 * FAIR_PLACES * 40)

static void forget_service(struct scheduler *scheduler, int64_t step) {
    (void)step;
    struct fair_queue *queue = &scheduler->queue;
    for (int32_t i = 0; i < queue->levels; i++)
        queue->level[i].served = 0;
    for (int32_t i = 0; i < queue->accounts; i++)
        queue->account[i].served = 0;
    for (int32_t i = 0; i < queue->accounts; i++)
        for (int line = 0; line < FAIR_QUEUE_LINES; line++)
            if (index_heap_has(&queue->line[line], i))
                index_heap_put(&queue->line[line], i);
}

static void keep_waiting(struct scheduler_world *world, int32_t client_of[]) {
    int32_t waiting[CLIENTS] = {0};
    for (int32_t i = 0; i < world->handles; i++)
        if (world->request[i].live && !world->request[i].running)
            waiting[world->request[i].asked.client]++;
    for (int32_t client = 0; client < CLIENTS; client++) {
        const struct fair_client *own = &fair_clients[client];
        for (; waiting[client] < own->waiting; waiting[client]++) {
            struct scheduler_request request =
                scheduler_world_request(world, own->prompt, own->output, 50);
            request.client = (uint64_t)client;
            client_of[scheduler_world_submit(world, &request, own->output)] = client;
        }
    }
}

/* The largest difference between two clients' service at any time. */
static int64_t unfairness(world_sabotage sabotage) {
    const struct scheduler_limits limits = {1, FAIR_PLACES, 64, 64, 128, 100, false, 0, 0, 7, 0};
    struct scheduler_world world;
    scheduler_world_begin(&world, &limits, 3);
    world.sabotage = sabotage;
    int32_t client_of[FAIR_PLACES + 64];
    int64_t served[CLIENTS] = {0}, worst = 0;
    for (int step = 0; step < 3000; step++) {
        keep_waiting(&world, client_of);
        assert_true(scheduler_world_step(&world));
        for (int32_t i = 0; i < world.plan->entries; i++) {
            const struct scheduler_entry *entry = &world.plan->entry[i];
            int32_t client = client_of[entry->handle];
            served[client] +=
                (entry->begins ? fair_clients[client].prompt : 0) + (entry->completes ? 2 : 0);
        }
        for (int a = 0; a < CLIENTS; a++)
            for (int b = 0; b < CLIENTS; b++)
                if (served[a] - served[b] > worst)
                    worst = served[a] - served[b];
    }
    for (int client = 0; client < CLIENTS; client++)
        assert_true(served[client] > 5000);
    scheduler_world_end(&world);
    return worst;
}

static void clients_are_served_alike(void **state) {
    (void)state;
    int64_t fair = unfairness(NULL), unfair = unfairness(forget_service);
    print_message(
        "largest difference in service: %lld (bound %d); first come, first served: %lld\n",
        (long long)fair, FAIR_BOUND, (long long)unfair);
    assert_true(fair <= FAIR_BOUND);
    assert_true(unfair > 4 * FAIR_BOUND);
}

/* ---- nobody starves ---- */

/* Admissions that a request of low priority sees pass while others keep coming; -1: it is not
 * admitted in 2000 steps. */
static int64_t admissions_passing(int32_t passes) {
    const struct scheduler_limits limits = {1, 4, 32, 16, 128, 40, false, 0, 0, 7, passes};
    struct scheduler_world world;
    scheduler_world_begin(&world, &limits, 3);
    int32_t low = -1;
    int64_t result = -1;
    for (int step = 0; step < 2000 && result < 0; step++) {
        while (scheduler_room(world.scheduler) > 1) {
            struct scheduler_request request = scheduler_world_request(&world, 10, 10, 50);
            scheduler_world_submit(&world, &request, 10);
        }
        if (low < 0) {
            struct scheduler_request request = scheduler_world_request(&world, 10, 10, 50);
            request.priority = 1;
            low = scheduler_world_submit(&world, &request, 10);
        }
        assert_true(scheduler_world_step(&world));
        if (world.request[low].running)
            result = world.scheduler->admissions;
    }
    scheduler_world_end(&world);
    return result;
}

static void low_priority_is_not_forgotten(void **state) {
    (void)state;
    /* 15 are older; each of them may see `passes` others pass before it goes. */
    int64_t admissions = admissions_passing(8);
    assert_true(admissions > 0 && admissions <= 16 * 9);
    assert_int_equal(admissions_passing(INT32_MAX), -1);
}

/* Steps until the first token of a short prompt, at worst, while long ones keep coming. */
static int64_t short_wait(int32_t long_prompt, int32_t long_prompts) {
    const struct scheduler_limits limits = {1,     32,          32,           64, 256, 600,
                                            false, long_prompt, long_prompts, 7,  0};
    struct scheduler_world world;
    scheduler_world_begin(&world, &limits, 3);
    int64_t worst = 0, since = 0;
    int32_t brief = -1;
    for (int step = 0; step < 600; step++) {
        while (scheduler_room(world.scheduler) > 54) {
            struct scheduler_request request = scheduler_world_request(&world, 200, 2, 50);
            scheduler_world_submit(&world, &request, 2);
        }
        if (brief < 0 && step % 20 == 10) {
            struct scheduler_request request = scheduler_world_request(&world, 8, 1, 50);
            request.client = 1;
            brief = scheduler_world_submit(&world, &request, 1);
            since = step;
        }
        assert_true(scheduler_world_step(&world));
        if (brief >= 0 && step + 1 - since > worst)
            worst = step + 1 - since;
        /* It ends with its first token. */
        if (brief >= 0 && (!world.request[brief].live || world.request[brief].asked.client != 1))
            brief = -1;
    }
    scheduler_world_end(&world);
    return worst;
}

static void short_prompts_do_not_wait_for_long_ones(void **state) {
    (void)state;
    assert_true(short_wait(0, 0) <= 2);
    assert_true(short_wait(32, 32) >= 5); /* all rows to whoever came first */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(histories_hold),
        cmocka_unit_test(injected_bugs_are_seen),
        cmocka_unit_test(clients_are_served_alike),
        cmocka_unit_test(low_priority_is_not_forgotten),
        cmocka_unit_test(short_prompts_do_not_wait_for_long_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
