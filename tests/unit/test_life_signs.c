/* comm/life_signs: a rank that gives no signs is named and ends the process of the one that misses
 * them, in time and not before; one that gives them, however busy it is, or that has left, does
 * not. Two ranks, as processes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "comm/life_signs.h"
#include "kernels/base/clock.h"
#include "tests/unit/unit_test.h"

#define RANKS 2
#define TIMEOUT_MS 600
#define NEARER_MS 2000 /* life_signs.c: who is not the nearest speaks so much later */
#define LATE_MS 5000   /* a machine under load */
#define EXIT_PEER 12

/* What a rank does. */
enum conduct { ABSENT, PRESENT, LEAVES };

struct pair {
    struct doorbell *bells[RANKS];
    struct doorbell_door doors[RANKS];
    const char (*host_of)[64];
    pid_t processes[RANKS];
    atomic_int *begun; /* ranks that have, shared by all processes */
    char said[RANKS][32];
};

static const char apart[RANKS][64] = {"near", "far"}, together[RANKS][64] = {"near", "near"};

static void pause_ms(int64_t ms) {
    struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

static void meet(struct pair *pair) {
    int32_t told[RANKS];
    bool all = false;
    for (int32_t rank = 0; rank < RANKS; rank++)
        assert_int_equal(doorbell_create(rank, RANKS, &pair->bells[rank], &pair->doors[rank]),
                         STATUS_OK);
    for (int32_t rank = 0; rank < RANKS; rank++)
        doorbell_meet(pair->bells[rank], pair->doors);
    for (int i = 0; i < 1000 && !all; i++) {
        all = doorbell_try(pair->bells[0], 5);
        all &= doorbell_try(pair->bells[1], 5);
    }
    assert_true(all);
    for (int32_t rank = 0; rank < RANKS; rank++) {
        told[1 - rank] = doorbell_heard(pair->bells[1 - rank])[rank];
        told[rank] = -1;
        doorbell_settle(pair->bells[rank], told);
    }
}

/* One rank's life: its main thread does nothing but hang for `ms`. */
static void live(struct pair *pair, int32_t rank, enum conduct conduct, int64_t ms) {
    struct life_signs_options options = {.doorbell = pair->bells[rank],
                                         .phase = "trying",
                                         .rank = rank,
                                         .size = RANKS,
                                         .timeout_ms = TIMEOUT_MS,
                                         .host_of = pair->host_of};
    struct life_signs *signs = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
    if (freopen(pair->said[rank], "w", stderr) == NULL)
        _exit(1);
    if (conduct != ABSENT) {
        signs = life_signs_begin(&options);
        (*pair->begun)++;
    }
    while (conduct == LEAVES && *pair->begun < RANKS) /* ranks begin and end together */
        pause_ms(1);
    if (conduct == LEAVES)
        life_signs_end(signs);
    pause_ms(ms);
    _exit(0);
}

static void start(struct pair *pair, const enum conduct conduct[RANKS], int64_t ms) {
    *pair->begun = 0;
    fflush(NULL);
    for (int32_t rank = 0; rank < RANKS; rank++) {
        pair->processes[rank] = fork();
        assert_true(pair->processes[rank] >= 0);
        if (pair->processes[rank] == 0)
            live(pair, rank, conduct[rank], ms);
    }
    int expected = (conduct[0] != ABSENT) + (conduct[1] != ABSENT);
    while (*pair->begun < expected)
        pause_ms(1);
}

/* The exit code of a rank; *ms: how long it took from now. */
static int end_of(const struct pair *pair, int32_t rank, int64_t *ms) {
    int status = 0;
    int64_t start_ns = clock_now_ns();
    assert_int_equal(waitpid(pair->processes[rank], &status, 0), pair->processes[rank]);
    *ms = (clock_now_ns() - start_ns) / 1000000;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void kill_rank(const struct pair *pair, int32_t rank) {
    int64_t ms;
    kill(pair->processes[rank], SIGKILL);
    end_of(pair, rank, &ms);
}

static void expect_said(const struct pair *pair, int32_t rank, const char *expected) {
    char text[1000] = "";
    FILE *file = fopen(pair->said[rank], "r");
    assert_non_null(file);
    (void)!fread(text, 1, sizeof text - 1, file);
    fclose(file);
    if (*expected == '\0')
        assert_string_equal(text, "");
    else if (strstr(text, expected) == NULL)
        fail_msg("expected '%s' in '%s'", expected, text);
}

static int begin(void **state) {
    struct pair *pair = calloc(1, sizeof *pair);
    pair->host_of = apart;
    pair->begun =
        mmap(NULL, sizeof *pair->begun, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(pair->begun, MAP_FAILED);
    for (int32_t rank = 0; rank < RANKS; rank++) {
        snprintf(pair->said[rank], sizeof pair->said[rank], "%s/moebius-signs.XXXXXX", P_tmpdir);
        close(mkstemp(pair->said[rank]));
    }
    meet(pair);
    *state = pair;
    return 0;
}

static int end(void **state) {
    struct pair *pair = *state;
    for (int32_t rank = 0; rank < RANKS; rank++) {
        unlink(pair->said[rank]);
        doorbell_destroy(pair->bells[rank]);
    }
    munmap(pair->begun, sizeof *pair->begun);
    free(pair);
    return 0;
}

/* ---- tests ---- */

static void expect_peace(struct pair *pair) {
    for (int32_t rank = 0; rank < RANKS; rank++) {
        int64_t ms;
        assert_int_equal(end_of(pair, rank, &ms), 0);
        expect_said(pair, rank, "");
    }
}

static void busy_ranks_live(void **state) {
    start(*state, (const enum conduct[]){PRESENT, PRESENT}, 3 * TIMEOUT_MS);
    expect_peace(*state);
}

static void who_has_left_is_not_missed(void **state) {
    start(*state, (const enum conduct[]){PRESENT, LEAVES}, 3 * TIMEOUT_MS);
    expect_peace(*state);
    start(*state, (const enum conduct[]){LEAVES, PRESENT}, 3 * TIMEOUT_MS);
    expect_peace(*state);
}

static void who_never_came_is_named(void **state) {
    struct pair *pair = *state;
    int64_t ms;
    start(pair, (const enum conduct[]){PRESENT, ABSENT}, 60000);
    assert_int_equal(end_of(pair, 0, &ms), EXIT_PEER);
    assert_true(ms >= TIMEOUT_MS - 20 && ms < TIMEOUT_MS + LATE_MS);
    expect_said(pair, 0, "rank 1 on far gave no sign of life for 600 ms while trying\n");
    kill_rank(pair, 1);
}

static void expect_stopped_named(struct pair *pair, int32_t stopped, int64_t later_ms,
                                 const char *said) {
    int64_t ms;
    start(pair, (const enum conduct[]){PRESENT, PRESENT}, 60000);
    pause_ms(2 * TIMEOUT_MS);
    kill(pair->processes[stopped], SIGSTOP);
    assert_int_equal(end_of(pair, 1 - stopped, &ms), EXIT_PEER);
    /* The last sign was given up to a quarter of a timeout before. */
    assert_true(ms >= later_ms + TIMEOUT_MS / 2 && ms < later_ms + TIMEOUT_MS + LATE_MS);
    expect_said(pair, 1 - stopped, said);
    kill_rank(pair, stopped);
}

static void who_is_stopped_is_named(void **state) {
    expect_stopped_named(*state, 1, 0, "rank 1 on far gave no sign of life for 600 ms");
    expect_stopped_named(*state, 0, 0, "rank 0 on near gave no sign of life for 600 ms");
}

/* Other ranks of a host can look at its processes. */
static void those_of_its_host_speak_first(void **state) {
    struct pair *pair = *state;
    pair->host_of = together;
    expect_stopped_named(pair, 1, NEARER_MS, "rank 1 on near gave no sign of life for 600 ms");
}

/* All of them, as of a job that is suspended: none of them was silent for the others. */
static void all_stopped_go_on(void **state) {
    struct pair *pair = *state;
    start(pair, (const enum conduct[]){PRESENT, PRESENT}, 3 * TIMEOUT_MS);
    kill(pair->processes[0], SIGSTOP);
    kill(pair->processes[1], SIGSTOP);
    pause_ms(2 * TIMEOUT_MS);
    kill(pair->processes[0], SIGCONT);
    kill(pair->processes[1], SIGCONT);
    expect_peace(pair);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(busy_ranks_live, begin, end),
        cmocka_unit_test_setup_teardown(who_has_left_is_not_missed, begin, end),
        cmocka_unit_test_setup_teardown(who_never_came_is_named, begin, end),
        cmocka_unit_test_setup_teardown(who_is_stopped_is_named, begin, end),
        cmocka_unit_test_setup_teardown(those_of_its_host_speak_first, begin, end),
        cmocka_unit_test_setup_teardown(all_stopped_go_on, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
