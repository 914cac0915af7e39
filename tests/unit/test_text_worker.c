/* runtime/text_worker.c: every job that is taken comes back once, worked on unless it is dropped;
 * the order among clients; the limits; the end with jobs under way. A gate holds the worker where a
 * test wants it. */
#include <poll.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/text_worker.h"
#include "tests/unit/unit_test.h"

#define JOBS_MAX 8
#define BYTES_MAX 100
#define CLIENT_BYTES_MAX 99
#define MANY 20000

struct counted {
    struct text_job job; /* first */
    sem_t *gate;         /* work waits for it; NULL: does not */
    int worked, back;
    int turn; /* when it was worked on */
};

static int event_fd;
static int turn; /* the worker's */
static sem_t at_gate;

static void work(struct text_job *job) {
    struct counted *counted = (struct counted *)job;
    if (counted->gate != NULL)
        sem_post(&at_gate);
    while (counted->gate != NULL && sem_wait(counted->gate) != 0) {
    }
    counted->worked++;
    counted->turn = turn++;
}

static void done(struct text_job *job) {
    ((struct counted *)job)->back++;
}

static void wake(void *context) {
    uint64_t one = 1;
    (void)context;
    (void)!write(event_fd, &one, sizeof one);
}

static struct text_worker *open_worker(void) {
    struct text_worker_options options = {.jobs_max = JOBS_MAX,
                                          .bytes_max = BYTES_MAX,
                                          .client_bytes_max = CLIENT_BYTES_MAX,
                                          .wake = wake};
    struct text_worker *worker = NULL;
    assert_int_equal(sem_init(&at_gate, 0, 0), 0);
    event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(event_fd >= 0);
    assert_int_equal(text_worker_create(&options, &worker), STATUS_OK);
    return worker;
}

static void close_worker(struct text_worker *worker) {
    text_worker_destroy(worker);
    sem_destroy(&at_gate);
    close(event_fd);
}

/* Sleeps until the worker has woken us, and takes what it has. A lost wake ends the test. */
static void take_news(struct text_worker *worker) {
    struct pollfd event = {.fd = event_fd, .events = POLLIN};
    uint64_t wakes;
    assert_int_equal(poll(&event, 1, 30000), 1);
    (void)!read(event_fd, &wakes, sizeof wakes);
    text_worker_poll(worker);
}

static struct counted make_job(int64_t bytes, sem_t *gate) {
    return (struct counted){.job = {.work = work, .done = done, .bytes = bytes}, .gate = gate};
}

static void limits(void **state) {
    (void)state;
    struct counted jobs[JOBS_MAX + 1];
    sem_t gate;
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    struct text_worker *worker = open_worker();
    for (int i = 0; i <= JOBS_MAX; i++) {
        jobs[i] = make_job(10, &gate);
        assert_int_equal(text_worker_submit(worker, &jobs[i].job),
                         i < JOBS_MAX ? STATUS_OK : STATUS_LIMIT);
    }
    assert_int_equal(text_worker_bytes(worker), 10 * JOBS_MAX);
    for (int i = 0; i < JOBS_MAX; i++)
        sem_post(&gate);
    while (jobs[JOBS_MAX - 1].back == 0)
        take_news(worker);
    assert_int_equal(text_worker_bytes(worker), 0);
    for (int i = 0; i < JOBS_MAX; i++)
        assert_true(jobs[i].worked == 1 && jobs[i].back == 1);
    jobs[0] = make_job(BYTES_MAX - 1, &gate);
    jobs[1] = make_job(2, NULL); /* places, but not the bytes */
    assert_int_equal(text_worker_submit(worker, &jobs[0].job), STATUS_OK);
    assert_int_equal(text_worker_submit(worker, &jobs[1].job), STATUS_LIMIT);
    sem_post(&gate);
    while (jobs[0].back == 0)
        take_news(worker);
    assert_int_equal(text_worker_submit(worker, &jobs[1].job), STATUS_OK);
    close_worker(worker);
    assert_true(jobs[1].back == 1 && jobs[JOBS_MAX].back == 0);
    sem_destroy(&gate);
}

/* Submits for a client, behind a gate that holds the worker. */
static enum status submit_for(struct text_worker *worker, uint64_t client, int64_t bytes,
                              struct counted *job) {
    *job = make_job(bytes, NULL);
    job->job.client = client;
    return text_worker_submit(worker, &job->job);
}

/* Each client's jobs line up behind each other: neither many nor large ones of one keep another's
 * waiting for longer than its own share. */
static void fair(void **state) {
    (void)state;
    struct counted first, large[2], small[3], middle, too_much;
    sem_t gate;
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    struct text_worker *worker = open_worker();
    first = make_job(1, &gate);
    assert_int_equal(text_worker_submit(worker, &first.job), STATUS_OK);
    while (sem_wait(&at_gate) != 0) { /* until the worker is at it */
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(submit_for(worker, 1, 20, &large[i]), STATUS_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit_for(worker, 2, 5, &small[i]), STATUS_OK);
    assert_int_equal(submit_for(worker, 3, 30, &middle), STATUS_OK);
    assert_int_equal(submit_for(worker, 1, CLIENT_BYTES_MAX - 39, &too_much), STATUS_LIMIT);
    sem_post(&gate);
    while (large[1].back == 0 || middle.back == 0)
        take_news(worker);
    const struct counted *order[] = {&small[0], &small[1], &small[2],
                                     &large[0], &middle,   &large[1]};
    for (int i = 0; i < 6; i++)
        assert_int_equal(order[i]->turn, first.turn + 1 + i);
    close_worker(worker);
    sem_destroy(&gate);
}

/* What waits comes back at once; what the worker is at, when it is through. */
static void drops(void **state) {
    (void)state;
    struct counted jobs[3];
    sem_t gate;
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    struct text_worker *worker = open_worker();
    for (int i = 0; i < 3; i++) {
        jobs[i] = make_job(1, i == 0 ? &gate : NULL);
        assert_int_equal(text_worker_submit(worker, &jobs[i].job), STATUS_OK);
    }
    while (sem_wait(&at_gate) != 0) {
    }
    text_worker_drop(&jobs[1].job);
    text_worker_drop(&jobs[0].job);
    assert_true(jobs[0].back == 0 && jobs[1].back == 1 && jobs[2].back == 0);
    assert_int_equal(text_worker_bytes(worker), 2);
    sem_post(&gate);
    while (jobs[2].back == 0)
        take_news(worker);
    text_worker_poll(worker);
    assert_true(jobs[0].worked == 1 && jobs[1].worked == 0 && jobs[2].worked == 1);
    assert_true(jobs[0].back == 1 && jobs[1].back == 1 && jobs[2].back == 1);
    close_worker(worker);
    sem_destroy(&gate);
}

/* What it is at is brought to its end; the rest comes back as it is. */
static void ends(void **state) {
    (void)state;
    struct counted jobs[JOBS_MAX];
    struct text_worker *worker = open_worker();
    for (int i = 0; i < JOBS_MAX; i++) {
        jobs[i] = make_job(1, NULL);
        assert_int_equal(text_worker_submit(worker, &jobs[i].job), STATUS_OK);
    }
    close_worker(worker);
    for (int i = 0; i < JOBS_MAX; i++)
        assert_true(jobs[i].back == 1 && jobs[i].worked <= 1);
    text_worker_destroy(NULL);
}

static void many(void **state) {
    (void)state;
    static struct counted jobs[MANY];
    struct text_worker *worker = open_worker();
    for (int i = 0; i < MANY; i++) {
        jobs[i] = make_job(i % 30, NULL);
        while (text_worker_submit(worker, &jobs[i].job) == STATUS_LIMIT)
            take_news(worker);
    }
    while (jobs[MANY - 1].back == 0)
        take_news(worker);
    for (int i = 0; i < MANY; i++)
        assert_true(jobs[i].worked == 1 && jobs[i].back == 1);
    assert_int_equal(text_worker_bytes(worker), 0);
    close_worker(worker);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(limits), cmocka_unit_test(fair),
                                       cmocka_unit_test(drops), cmocka_unit_test(ends),
                                       cmocka_unit_test(many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
