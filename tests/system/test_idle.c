/* Ranks with nothing to do: they cost next to nothing, wake at once, say little, and a heartbeat
 * tells each that the others are there. Run under mpirun.
 *
 * Usage: test_idle measure SECONDS   rank 0 idles with heartbeats, then wakes the others with
 * plans, measures and judges test_idle forever TIMEOUT_MS  idles until something goes wrong;
 * test_rank_faults and the tests on hosts make it go wrong */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "comm/rank_group.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "runtime/step_link.h"
#include "tests/support/expect.h"

#define MEASURE_TIMEOUT_MS 1500 /* a heartbeat every half second */
#ifdef __SANITIZE_ADDRESS__
#define CPU_SHARE_MAX 0.3
#define WAKE_MEDIAN_US_MAX 20000.0
#else
#define CPU_SHARE_MAX 0.06 /* 0.02 is what we want; the machine may be slow and busy */
#define WAKE_MEDIAN_US_MAX 1000.0
#endif
#define WAKES 41
#define WAKE_PAUSE_MS 60 /* longer than a rank thinks that the next step is near */

struct idle {
    struct rank_group ranks;
    struct step_plan plan;
    struct step_link link;
    struct traffic *traffic;
};

/* The ranks have lost each other, or have to end together. */
static void demand(const struct idle *idle, enum status status) {
    if (status != STATUS_OK)
        rank_group_abort(&idle->ranks, status_exit_code(status));
}

static void pause_ms(int32_t milliseconds) {
    struct timespec pause = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

static void set_up(struct idle *idle, int32_t timeout_ms) {
    const struct rank_group_options join = {
        .under_launcher = true, .timeout_ms = timeout_ms, .command = "test_idle"};
    demand(idle, rank_group_start(&join, &idle->ranks));
    log_set_rank(idle->ranks.rank);
    demand(idle, rank_group_shape(&idle->ranks, 0, 0));
    const struct step_limits limits = {.groups = idle->ranks.size,
                                       .places = 1,
                                       .entries = 4,
                                       .rows = 64,
                                       .blocks = 4,
                                       .kv_blocks = 4,
                                       .vocabulary = 16,
                                       .positions = 64};
    demand(idle, step_plan_init(&idle->plan, &limits));
    const struct step_link_options link = {
        .ranks = &idle->ranks, .plan = limits, .payload_bytes = 64};
    demand(idle, step_link_init(&idle->link, &link));
    demand(idle, traffic_create(1, &idle->traffic));
    idle->ranks.transport->traffic = idle->traffic;
}

static void tear_down(struct idle *idle) {
    traffic_destroy(idle->traffic);
    step_link_deinit(&idle->link);
    step_plan_deinit(&idle->plan);
    rank_group_finish(&idle->ranks);
}

/* Seconds of CPU time that this process has used. */
static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static void idle_for(struct idle *idle, double seconds) {
    int64_t end = clock_now_ns() + (int64_t)(seconds * 1e9);
    while (clock_now_ns() < end) {
        int32_t wait_ms;
        demand(idle, step_link_idle(&idle->link, &wait_ms));
        int64_t left_ms = (end - clock_now_ns()) / 1000000 + 1;
        pause_ms(left_ms < wait_ms ? (int32_t)left_ms : wait_ms);
    }
}

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The coordinator's side: idle, then plans whose number is the time at which they were sent. */
static void measure_coordinator(struct idle *idle, double seconds) {
    double before = cpu_seconds();
    idle_for(idle, seconds);
    double share = (cpu_seconds() - before) / seconds;
    struct traffic_cell beats = traffic_total(idle->traffic, TRAFFIC_PLAN, TRAFFIC_NODE);
    int64_t others = idle->ranks.size - 1;
    int64_t most = ((int64_t)(seconds * 1e3) * 3 / MEASURE_TIMEOUT_MS + 1) * others;
    EXPECT(beats.bytes == 0 && beats.messages >= others && beats.messages <= most,
           "heartbeats: expected 1 to %" PRId64 " messages of no bytes, got %" PRId64
           " of %" PRId64,
           most, beats.messages, beats.bytes);
    EXPECT(share < CPU_SHARE_MAX, "rank 0: idle at %.2f %% of a core", 100.0 * share);
    printf("rank 0: idle at %.2f %% of a core, %" PRId64 " heartbeat messages in %.1f s\n",
           100.0 * share, beats.messages, seconds);
    for (int i = 0; i < WAKES; i++) {
        pause_ms(WAKE_PAUSE_MS);
        step_plan_clear(&idle->plan, clock_now_ns());
        demand(idle, step_link_share(&idle->link, &idle->plan));
    }
    step_plan_clear(&idle->plan, 0);
    idle->plan.stop = 1;
    demand(idle, step_link_share(&idle->link, &idle->plan));
}

/* The others: what they cost until the first plan, and how late each plan came. All ranks are on
 * one machine, so there is one clock. */
static void measure_other(struct idle *idle) {
    double before = cpu_seconds(), late_us[WAKES];
    int64_t start = clock_now_ns();
    demand(idle, step_link_share(&idle->link, &idle->plan));
    double share = (cpu_seconds() - before) / ((double)(clock_now_ns() - start) * 1e-9);
    int count = 0;
    while (!idle->plan.stop) {
        if (count < WAKES)
            late_us[count++] = (double)(clock_now_ns() - idle->plan.step) * 1e-3;
        demand(idle, step_link_share(&idle->link, &idle->plan));
    }
    qsort(late_us, (size_t)count, sizeof *late_us, by_value);
    EXPECT(count == WAKES, "rank %d: %d of %d plans", idle->ranks.rank, count, WAKES);
    EXPECT(share < CPU_SHARE_MAX, "rank %d: idle at %.2f %% of a core", idle->ranks.rank,
           100.0 * share);
    EXPECT(late_us[WAKES / 2] < WAKE_MEDIAN_US_MAX, "rank %d: woke after %.0f us (median)",
           idle->ranks.rank, late_us[WAKES / 2]);
    printf(
        "rank %d: idle at %.2f %% of a core; woke after %.0f us (median; least %.0f, most %.0f)\n",
        idle->ranks.rank, 100.0 * share, late_us[WAKES / 2], late_us[0], late_us[WAKES - 1]);
}

int main(int argc, char **argv) {
    static struct idle idle;
    if (argc != 3 || (strcmp(argv[1], "measure") != 0 && strcmp(argv[1], "forever") != 0)) {
        fprintf(stderr, "usage: test_idle measure SECONDS | forever TIMEOUT_MS\n");
        return 2;
    }
    bool forever = strcmp(argv[1], "forever") == 0;
    set_up(&idle, forever ? (int32_t)strtol(argv[2], NULL, 10) : MEASURE_TIMEOUT_MS);
    if (idle.ranks.rank == 0 && forever) {
        LOG_INFO("ready in no time");
        for (;;)
            idle_for(&idle, 3600.0);
    }
    if (idle.ranks.rank == 0)
        measure_coordinator(&idle, strtod(argv[2], NULL));
    else
        measure_other(&idle);
    tear_down(&idle);
    return expect_failures == 0 ? 0 : 1;
}
