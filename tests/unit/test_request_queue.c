/* runtime/request_queue.c: order, the limit, wakes, and two threads at once. */
#include <pthread.h>
#include <stdlib.h>

#include "kernels/base/clock.h"
#include "runtime/request_queue.h"
#include "tests/unit/unit_test.h"

#define CAPACITY 5
#define ITEMS 100000

static int64_t items[ITEMS];

static void order_and_limit(void **state) {
    (void)state;
    struct request_queue queue;
    assert_int_equal(request_queue_init(&queue, CAPACITY), STATUS_OK);
    assert_null(request_queue_pop(&queue));
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < CAPACITY; i++)
            assert_int_equal(request_queue_push(&queue, &items[i]), STATUS_OK);
        assert_int_equal(request_queue_push(&queue, &items[0]), STATUS_LIMIT);
        assert_int_equal(request_queue_count(&queue), CAPACITY);
        for (int i = 0; i < CAPACITY; i++)
            assert_ptr_equal(request_queue_pop(&queue), &items[i]);
        assert_null(request_queue_pop(&queue));
        assert_int_equal(request_queue_count(&queue), 0);
    }
    request_queue_deinit(&queue);
}

static void wait_ends(void **state) {
    (void)state;
    struct request_queue queue;
    assert_int_equal(request_queue_init(&queue, CAPACITY), STATUS_OK);
    int64_t start_ns = clock_now_ns();
    request_queue_wait(&queue, 20); /* nothing comes */
    assert_true(clock_now_ns() - start_ns >= 15 * 1000000);
    request_queue_wake(&queue); /* before the wait counts */
    start_ns = clock_now_ns();
    request_queue_wait(&queue, 10000);
    assert_int_equal(request_queue_push(&queue, &items[0]), STATUS_OK);
    request_queue_wait(&queue, 10000); /* something is there */
    assert_true(clock_now_ns() - start_ns < INT64_C(5000000000));
    request_queue_deinit(&queue);
}

static void *push_all(void *context) {
    struct request_queue *queue = context;
    for (int64_t i = 0; i < ITEMS; i++) {
        items[i] = i;
        while (request_queue_push(queue, &items[i]) == STATUS_LIMIT) {
        }
    }
    return NULL;
}

/* A lost wake would end in the wait's ten seconds, and the test in its time limit. */
static void two_threads(void **state) {
    (void)state;
    struct request_queue queue;
    pthread_t thread;
    assert_int_equal(request_queue_init(&queue, CAPACITY), STATUS_OK);
    int64_t start_ns = clock_now_ns();
    assert_int_equal(pthread_create(&thread, NULL, push_all, &queue), 0);
    for (int64_t i = 0; i < ITEMS;) {
        const int64_t *item = request_queue_pop(&queue);
        if (item == NULL) {
            request_queue_wait(&queue, 10000);
            continue;
        }
        assert_int_equal(*item, i);
        i++;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(clock_now_ns() - start_ns < INT64_C(60000000000));
    request_queue_deinit(&queue);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(order_and_limit),
                                       cmocka_unit_test(wait_ends), cmocka_unit_test(two_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
