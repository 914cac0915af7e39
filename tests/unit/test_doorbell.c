/* comm/doorbell: rings arrive and wake; what comes from elsewhere does neither, however much there
 * is of it. All ranks are in this process. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/doorbell.h"
#include "kernels/base/clock.h"
#include "tests/unit/unit_test.h"

#define RANKS 3
#define LONG_MS 10000 /* for what must come */
#define SHORT_MS 30   /* for what must not */
#define FLOOD_NS 300000000
#define FLOOD_LOOKS_MAX 430 /* one each 0.7 ms of it */

/* A job's ranks. */
struct job {
    struct doorbell *bells[RANKS];
    struct doorbell_door doors[RANKS];
};

static void open_doors(struct job *job) {
    for (int32_t rank = 0; rank < RANKS; rank++)
        assert_int_equal(doorbell_create(rank, RANKS, &job->bells[rank], &job->doors[rank]),
                         STATUS_OK);
}

/* Tries until all have heard, or as long as it takes to be sure that they will not. */
static bool try_doors(struct job *job, const struct doorbell_door *doors, int64_t ms) {
    bool all = false;
    int64_t end = clock_now_ns() + ms * 1000000;
    for (int32_t rank = 0; rank < RANKS; rank++)
        doorbell_meet(job->bells[rank], doors);
    while (!all && clock_now_ns() < end) {
        all = true;
        for (int32_t rank = 0; rank < RANKS; rank++)
            all &= doorbell_try(job->bells[rank], 1);
    }
    return all;
}

/* What rank_group.c does by MPI. */
static void settle_doors(struct job *job) {
    for (int32_t rank = 0; rank < RANKS; rank++) {
        int32_t told[RANKS];
        for (int32_t peer = 0; peer < RANKS; peer++)
            told[peer] = doorbell_heard(job->bells[peer])[rank];
        doorbell_settle(job->bells[rank], told);
    }
}

static void close_doors(struct job *job) {
    for (int32_t rank = 0; rank < RANKS; rank++)
        doorbell_destroy(job->bells[rank]);
}

static int start_job(void **state) {
    struct job *job = calloc(1, sizeof *job);
    open_doors(job);
    assert_true(try_doors(job, job->doors, LONG_MS));
    settle_doors(job);
    *state = job;
    return 0;
}

static int end_job(void **state) {
    close_doors(*state);
    free(*state);
    return 0;
}

/* A stranger sends to rank 1 by its loopback. */
struct stranger {
    int socket;
    struct sockaddr_in to;
    atomic_bool is_over;
    atomic_long sent;
};

static void open_stranger(struct stranger *stranger, const struct job *job) {
    *stranger = (struct stranger){.socket = socket(AF_INET, SOCK_DGRAM, 0),
                                  .to = {.sin_family = AF_INET,
                                         .sin_port = htons((uint16_t)job->doors[1].port),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    assert_true(stranger->socket >= 0);
}

static void send_garbage(struct stranger *stranger, size_t size) {
    char bytes[2000] = {0};
    assert_true(size <= sizeof bytes);
    assert_int_equal(sendto(stranger->socket, bytes, size, 0,
                            (const struct sockaddr *)(const void *)&stranger->to,
                            sizeof stranger->to),
                     (ssize_t)size);
}

static void drain(struct doorbell *bell) {
    while (doorbell_wait(bell, 0))
        ;
}

/* ---- tests ---- */

static void ring_wakes(void **state) {
    struct job *job = *state;
    for (int32_t rank = 1; rank < RANKS; rank++) {
        assert_true(doorbell_reaches(job->bells[0], rank));
        assert_true(doorbell_hears(job->bells[rank], 0));
        assert_true(doorbell_reaches(job->bells[rank], 0));
        assert_true(doorbell_hears(job->bells[0], rank));
        drain(job->bells[rank]);
    }
    int64_t start = clock_now_ns();
    assert_false(doorbell_wait(job->bells[1], SHORT_MS)); /* sleeps as long as it says */
    assert_true(clock_now_ns() - start >= (SHORT_MS - 1) * INT64_C(1000000));
    doorbell_tell(job->bells[0], 1, DOORBELL_RING);
    assert_true(doorbell_wait(job->bells[1], LONG_MS));
    assert_false(doorbell_wait(job->bells[1], 0)); /* once */
    assert_false(doorbell_wait(job->bells[2], SHORT_MS));
}

static void *ring_from_thread(void *context) {
    struct job *job = context;
    doorbell_tell(job->bells[0], 2, DOORBELL_RING);
    return NULL;
}

static void ring_wakes_a_sleeper(void **state) {
    struct job *job = *state;
    pthread_t thread;
    drain(job->bells[2]);
    int64_t start = clock_now_ns();
    assert_int_equal(pthread_create(&thread, NULL, ring_from_thread, job), 0);
    assert_true(doorbell_wait(job->bells[2], LONG_MS));
    assert_true(clock_now_ns() - start < LONG_MS * INT64_C(1000000) / 2);
    pthread_join(thread, NULL);
}

/* Only rank 0 and the others try each other, and only who was told of reaches anybody. */
static void others_do_not_ring(void **state) {
    struct job *job = *state;
    drain(job->bells[2]);
    assert_false(doorbell_reaches(job->bells[1], 2));
    assert_false(doorbell_hears(job->bells[2], 1));
    doorbell_tell(job->bells[1], 2, DOORBELL_RING);
    assert_false(doorbell_wait(job->bells[2], SHORT_MS));
}

static void garbage_does_not_ring(void **state) {
    struct job *job = *state;
    struct stranger stranger;
    open_stranger(&stranger, job);
    drain(job->bells[1]);
    for (size_t size = 0; size < 200; size++) {
        send_garbage(&stranger, size);
        assert_false(doorbell_wait(job->bells[1], 0));
    }
    send_garbage(&stranger, 2000);
    assert_false(doorbell_wait(job->bells[1], SHORT_MS));
    doorbell_tell(job->bells[0], 1, DOORBELL_RING);
    while (!doorbell_wait(job->bells[1], LONG_MS)) /* the first wait is a nap */
        ;
    close(stranger.socket);
}

/* Rank 0 of `from` takes another door for that of its rank `as`, and rings there. */
static void ring_at(const struct job *from, int32_t as, const struct doorbell_door *door) {
    struct doorbell_door doors[RANKS];
    int32_t told[RANKS] = {-1, -1, -1};
    memcpy(doors, from->doors, sizeof doors);
    doors[as] = *door;
    told[as] = 0; /* the loopback comes first */
    doorbell_meet(from->bells[0], doors);
    doorbell_settle(from->bells[0], told);
    doorbell_tell(from->bells[0], as, DOORBELL_RING);
}

static void other_jobs_and_ranks_do_not_ring(void **state) {
    struct job *job = *state, other = {0};
    open_doors(&other);
    assert_true(try_doors(&other, other.doors, LONG_MS));
    settle_doors(&other);
    drain(job->bells[1]);
    ring_at(&other, 1, &job->doors[1]); /* well formed, for rank 1, with another job's secret */
    assert_false(doorbell_wait(job->bells[1], SHORT_MS));
    ring_at(job, 2, &job->doors[1]); /* with the secret, for rank 2 */
    assert_false(doorbell_wait(job->bells[1], SHORT_MS));
    ring_at(job, 1, &job->doors[1]); /* the control */
    while (!doorbell_wait(job->bells[1], LONG_MS))
        ;
    close_doors(&other);
}

/* Those who do not know the secret are not heard when doors are tried, and the doors of ranks that
 * could open none are not tried. */
static void strangers_are_not_heard(void **state) {
    (void)state;
    struct job job = {0}, other = {0};
    struct doorbell_door doors[RANKS];
    open_doors(&job);
    open_doors(&other);
    memcpy(doors, job.doors, sizeof doors);
    doors[1] = other.doors[1]; /* which is no party to this job */
    doors[2].count = 0;
    doorbell_meet(other.bells[1], other.doors);
    assert_false(try_doors(&job, doors, 5 * SHORT_MS));
    doorbell_try(other.bells[1], SHORT_MS);
    assert_int_equal(doorbell_heard(other.bells[1])[0], -1);
    assert_true(doorbell_heard(job.bells[0])[1] >= 0); /* it is told nothing, but speaks */
    assert_int_equal(doorbell_heard(job.bells[1])[0], -1);
    assert_int_equal(doorbell_heard(job.bells[2])[0], -1);
    settle_doors(&job);
    assert_false(doorbell_reaches(job.bells[0], 1));
    assert_false(doorbell_reaches(job.bells[0], 2));
    assert_true(doorbell_reaches(job.bells[1], 0));
    doorbell_tell(job.bells[0], 1, DOORBELL_RING);
    assert_false(doorbell_wait(job.bells[1], SHORT_MS));
    close_doors(&job);
    close_doors(&other);
}

static void *flood(void *context) {
    struct stranger *stranger = context;
    while (!stranger->is_over) {
        send_garbage(stranger, 32);
        stranger->sent++;
    }
    return NULL;
}

/* A rank that sleeps through a flood wakes no more often than one that polls, and hears a ring. */
static void flood_does_no_harm(void **state) {
    struct job *job = *state;
    struct stranger stranger;
    pthread_t thread;
    int64_t looks = 0;
    open_stranger(&stranger, job);
    drain(job->bells[1]);
    assert_int_equal(pthread_create(&thread, NULL, flood, &stranger), 0);
    while (stranger.sent < 1000)
        doorbell_wait(job->bells[1], 1);
    int64_t end = clock_now_ns() + FLOOD_NS;
    for (; clock_now_ns() < end; looks++)
        assert_false(doorbell_wait(job->bells[1], SHORT_MS));
    long sent = stranger.sent;
    stranger.is_over = true;
    pthread_join(thread, NULL);
    assert_true(looks <= FLOOD_LOOKS_MAX);
    assert_true(looks >= 2 && sent > 10 * looks); /* it was a flood, and it slept in it */
    for (int i = 0; i < 1000; i++)                /* what is left */
        assert_false(doorbell_wait(job->bells[1], 0));
    doorbell_tell(job->bells[0], 1, DOORBELL_RING);
    assert_true(doorbell_wait(job->bells[1], LONG_MS));
    close(stranger.socket);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ring_wakes, start_job, end_job),
        cmocka_unit_test_setup_teardown(ring_wakes_a_sleeper, start_job, end_job),
        cmocka_unit_test_setup_teardown(others_do_not_ring, start_job, end_job),
        cmocka_unit_test_setup_teardown(garbage_does_not_ring, start_job, end_job),
        cmocka_unit_test_setup_teardown(other_jobs_and_ranks_do_not_ring, start_job, end_job),
        cmocka_unit_test(strangers_are_not_heard),
        cmocka_unit_test_setup_teardown(flood_does_no_harm, start_job, end_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
