/* kernels/thread_pool: every item exactly once, results visible to the caller, whatever the numbers
 * of items and threads. Run under the tsan preset too. */

#include <stdlib.h>
#include <string.h>

#include "kernels/thread_pool.h"
#include "tests/unit/unit_test.h"

#define ITEMS_MAX 1000

struct tally {
    int32_t threads;
    int32_t done[ITEMS_MAX]; /* plain: items are disjoint, and run() publishes them */
    int32_t bad_threads[ITEMS_MAX];
};

static void count_item(void *context, int32_t item, int32_t thread) {
    struct tally *tally = context;
    tally->done[item]++;
    tally->bad_threads[item] += thread < 0 || thread >= tally->threads;
}

static void run_and_check(struct thread_pool *pool, struct tally *tally, int32_t items) {
    memset(tally, 0, sizeof *tally);
    tally->threads = thread_pool_threads(pool);
    thread_pool_run(pool, items, count_item, tally);
    for (int32_t i = 0; i < ITEMS_MAX; i++) {
        assert_int_equal(tally->done[i], i < items);
        assert_int_equal(tally->bad_threads[i], 0);
    }
}

static void every_item_runs_once(void **state) {
    (void)state;
    static const int32_t items[] = {0, 1, 2, 3, 7, 64, ITEMS_MAX};
    struct tally *tally = malloc(sizeof *tally);
    for (int32_t threads = 1; threads <= 5; threads++) {
        struct thread_pool *pool = NULL;
        assert_int_equal(thread_pool_create(threads, &pool), STATUS_OK);
        assert_int_equal(thread_pool_threads(pool), threads);
        for (size_t i = 0; i < sizeof items / sizeof *items; i++)
            run_and_check(pool, tally, items[i]);
        thread_pool_destroy(pool);
    }
    free(tally);
}

static void many_tiny_jobs(void **state) {
    (void)state;
    struct tally *tally = malloc(sizeof *tally);
    struct thread_pool *pool = NULL;
    assert_int_equal(thread_pool_create(3, &pool), STATUS_OK);
    for (int32_t job = 0; job < 2000; job++)
        run_and_check(pool, tally, job % 9);
    thread_pool_destroy(pool);
    free(tally);
}

/* A job whose items are unequal, so that threads run dry at different times and the next job begins
 * while some are still looking for items of this one. */
static void uneven_item(void *context, int32_t item, int32_t thread) {
    volatile uint32_t sink = 1;
    for (int32_t i = 0; i < (item % 5) * 200; i++)
        sink = sink * 1664525u + 1013904223u;
    count_item(context, item, thread);
}

static void uneven_jobs(void **state) {
    (void)state;
    struct tally *tally = malloc(sizeof *tally);
    struct thread_pool *pool = NULL;
    assert_int_equal(thread_pool_create(4, &pool), STATUS_OK);
    for (int32_t job = 0; job < 500; job++) {
        memset(tally, 0, sizeof *tally);
        tally->threads = 4;
        thread_pool_run(pool, 13, uneven_item, tally);
        for (int32_t i = 0; i < 13; i++)
            assert_int_equal(tally->done[i], 1);
    }
    thread_pool_destroy(pool);
    free(tally);
}

static void destroy_takes_null_and_idle_pools(void **state) {
    (void)state;
    thread_pool_destroy(NULL);
    for (int32_t i = 0; i < 50; i++) {
        struct thread_pool *pool = NULL;
        assert_int_equal(thread_pool_create(1 + i % 4, &pool), STATUS_OK);
        thread_pool_destroy(pool);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_runs_once),
        cmocka_unit_test(many_tiny_jobs),
        cmocka_unit_test(uneven_jobs),
        cmocka_unit_test(destroy_takes_null_and_idle_pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
