/* The event loop: timers in order, tasks at the end of a turn, watches that vanish while they are
 * due, signals from another thread. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/base/clock.h"
#include "runtime/rpc_loop.h"

#define TIMERS 500

struct timed {
    struct rpc_loop *loop;
    struct rpc_loop_timer timer;
    int64_t due_ns, *last_ns;
    int *fired;
};

static void note_time(void *context) {
    struct timed *timed = context;
    assert_true(rpc_loop_now_ns(timed->loop) >= timed->due_ns);
    assert_true(timed->due_ns >= *timed->last_ns);
    *timed->last_ns = timed->due_ns;
    ++*timed->fired;
}

static void test_timers_fire_in_order(void **state) {
    (void)state;
    struct rpc_loop *loop;
    assert_int_equal(rpc_loop_create(&loop), STATUS_OK);
    struct timed *timed = calloc(TIMERS, sizeof(*timed));
    int64_t start_ns = clock_now_ns(), last_ns = 0;
    int fired = 0, expected = 0;
    uint32_t random = 7;
    for (int i = 0; i < 4 * TIMERS; i++) { /* most are armed more than once */
        random = random * 1664525 + 1013904223;
        struct timed *one = &timed[(random >> 8) % TIMERS];
        one->loop = loop;
        one->last_ns = &last_ns;
        one->fired = &fired;
        one->due_ns = start_ns + (random >> 10) % 20000000;
        if (i % 5 == 0)
            rpc_loop_timer_disarm(loop, &one->timer);
        else
            rpc_loop_timer_arm(loop, &one->timer, one->due_ns, note_time, one);
    }
    for (int i = 0; i < TIMERS; i++)
        expected += timed[i].timer.is_armed;
    assert_in_range(expected, TIMERS / 2, TIMERS);
    int64_t end_ns = start_ns + INT64_C(60000000000);
    while (fired < expected && clock_now_ns() < end_ns)
        assert_int_equal(rpc_loop_turn(loop, end_ns), STATUS_OK);
    assert_int_equal(fired, expected);
    rpc_loop_destroy(loop);
    free(timed);
}

struct chain {
    struct rpc_loop *loop;
    struct rpc_loop_task first, second;
    int count;
};

static void count_task(void *context) {
    struct chain *chain = context;
    chain->count++;
}

static void defer_other(void *context) {
    struct chain *chain = context;
    chain->count++;
    rpc_loop_task_defer(chain->loop, &chain->second, count_task, chain);
    rpc_loop_task_defer(chain->loop, &chain->second, count_task, chain);
}

static void test_tasks(void **state) {
    (void)state;
    struct chain chain = {0};
    assert_int_equal(rpc_loop_create(&chain.loop), STATUS_OK);
    rpc_loop_task_defer(chain.loop, &chain.first, defer_other, &chain);
    assert_int_equal(rpc_loop_turn(chain.loop, 0), STATUS_OK);
    assert_int_equal(chain.count, 1); /* what a task defers has the next turn */
    assert_int_equal(rpc_loop_turn(chain.loop, RPC_LOOP_NEVER), STATUS_OK); /* does not wait */
    assert_int_equal(chain.count, 2);
    rpc_loop_task_defer(chain.loop, &chain.first, count_task, &chain);
    rpc_loop_task_cancel(chain.loop, &chain.first);
    assert_int_equal(rpc_loop_turn(chain.loop, 0), STATUS_OK);
    assert_int_equal(chain.count, 2);
    rpc_loop_destroy(chain.loop);
}

struct pair {
    struct rpc_loop *loop;
    struct rpc_loop_watch *own, *other;
    int *count;
};

/* The first handler of the turn removes and frees the other watch, which is due too. */
static void remove_other(void *context, uint32_t events) {
    struct pair *pair = context;
    assert_true((events & EPOLLIN) != 0);
    ++*pair->count;
    rpc_loop_watch_remove(pair->loop, pair->other);
    rpc_loop_watch_remove(pair->loop, pair->own);
}

static void test_a_removed_watch_is_silent(void **state) {
    (void)state;
    struct rpc_loop *loop;
    assert_int_equal(rpc_loop_create(&loop), STATUS_OK);
    int pipes[2][2], count = 0;
    struct rpc_loop_watch watches[2] = {{0}, {0}};
    struct pair pairs[2] = {{loop, &watches[0], &watches[1], &count},
                            {loop, &watches[1], &watches[0], &count}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        assert_int_equal(write(pipes[i][1], "x", 1), 1);
        assert_int_equal(
            rpc_loop_watch_add(loop, &watches[i], pipes[i][0], EPOLLIN, remove_other, &pairs[i]),
            STATUS_OK);
    }
    assert_int_equal(rpc_loop_turn(loop, 0), STATUS_OK);
    assert_int_equal(count, 1);
    for (int i = 0; i < 2; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    rpc_loop_destroy(loop);
}

#define SIGNALS 20000

struct crossing {
    struct rpc_loop *loop;
    struct rpc_loop_event event;
    atomic_int sent;
    int seen;
};

static void *signal_often(void *context) {
    struct crossing *crossing = context;
    for (int i = 1; i <= SIGNALS; i++) {
        atomic_store_explicit(&crossing->sent, i, memory_order_relaxed);
        rpc_loop_event_signal(&crossing->event);
    }
    return NULL;
}

static void look(void *context) {
    struct crossing *crossing = context;
    crossing->seen = atomic_load_explicit(&crossing->sent, memory_order_relaxed);
    if (crossing->seen == SIGNALS)
        rpc_loop_stop(crossing->loop);
}

/* No signal is lost: the last one is always seen. */
static void test_signals_from_a_thread(void **state) {
    (void)state;
    struct crossing crossing = {0};
    assert_int_equal(rpc_loop_create(&crossing.loop), STATUS_OK);
    assert_int_equal(rpc_loop_event_init(crossing.loop, &crossing.event, look, &crossing),
                     STATUS_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, signal_often, &crossing), 0);
    assert_int_equal(rpc_loop_run(crossing.loop), STATUS_OK);
    pthread_join(thread, NULL);
    assert_int_equal(crossing.seen, SIGNALS);
    rpc_loop_stop(crossing.loop); /* a stop before the run counts */
    assert_int_equal(rpc_loop_run(crossing.loop), STATUS_OK);
    rpc_loop_event_deinit(crossing.loop, &crossing.event);
    rpc_loop_destroy(crossing.loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_in_order),
        cmocka_unit_test(test_tasks),
        cmocka_unit_test(test_a_removed_watch_is_silent),
        cmocka_unit_test(test_signals_from_a_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
