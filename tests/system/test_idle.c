/* Ranks with nothing to do: they cost next to nothing, wake at once, say little, and a heartbeat
 * tells each that the others are there. Where UDP does not get through, from the start or later,
 * they cost more and wake as soon. Run under mpirun.
 *
 * Usage: test_idle measure SECONDS      rank 0 idles with heartbeats, then wakes the others with
 *                                       plans, measures and judges
 *        test_idle unheard SECONDS      the same without any datagrams
 *        test_idle cut SECONDS          the same without datagrams after the start
 *        test_idle forever TIMEOUT_MS   idles until something goes wrong; test_rank_faults and the
 *                                       tests on hosts make it go wrong */
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
#include "tests/support/log_capture.h"
#include "tests/support/lost_datagrams.h"

#define MEASURE_TIMEOUT_MS 1500 /* a heartbeat every half second */
#ifdef __SANITIZE_ADDRESS__
#define CPU_SHARE_MAX 0.3
#define POLLING_SHARE_MAX 0.3
#define WAKE_MEDIAN_US_MAX 20000.0
#else
#define CPU_SHARE_MAX 0.02
#define POLLING_SHARE_MAX 0.06 /* 0.02 to 0.05, by the machine */
#define WAKE_MEDIAN_US_MAX 1000.0
#endif
#define WAKES 41
#define WAKE_PAUSE_MS 60             /* longer than a rank thinks that the next step is near */
#define BURST 200                    /* plans without a pause, which nobody sleeps through */
#define BURST_RINGS_MAX (BURST / 10) /* at one rank: the machine itself may make pauses */

/* How far datagrams get. */
enum network { NETWORK_SOUND, NETWORK_UNHEARD, NETWORK_CUT };

struct idle {
    enum network network;
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

/* Rank 0 says which ranks will poll, if any will. */
static void join(struct idle *idle, int32_t timeout_ms) {
    const struct rank_group_options options = {
        .under_launcher = true, .timeout_ms = timeout_ms, .command = "test_idle"};
    struct log_capture capture;
    char said[1000], expected[200] = "";
    if (idle->network == NETWORK_UNHEARD)
        lost_datagrams_begin();
    log_capture_begin(&capture);
    enum status status = rank_group_start(&options, &idle->ranks);
    int lines = log_capture_end(&capture, said, sizeof said);
    demand(idle, status);
    bool tells = idle->ranks.rank == 0 && idle->network == NETWORK_UNHEARD;
    if (tells)
        snprintf(expected, sizeof expected,
                 "%d of %d ranks cannot be woken by UDP, first rank 1 on %s: they poll while idle",
                 idle->ranks.size - 1, idle->ranks.size, idle->ranks.host_of[1]);
    EXPECT(lines == (tells ? 1 : 0) && strstr(said, expected) != NULL,
           "rank %d: the start: expected '%s', got: %s", idle->ranks.rank, expected, said);
    if (idle->network == NETWORK_CUT)
        lost_datagrams_begin();
}

static void set_up(struct idle *idle, int32_t timeout_ms) {
    join(idle, timeout_ms);
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

static double share_max(const struct idle *idle) {
    return idle->network == NETWORK_SOUND ? CPU_SHARE_MAX : POLLING_SHARE_MAX;
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

/* Whoever is awake is not rung: a busy server pays nothing for those that sleep. */
static void share_burst(struct idle *idle) {
    int64_t before = lost_datagrams_passed(), others = idle->ranks.size - 1;
    for (int i = 0; i < BURST; i++) {
        step_plan_clear(&idle->plan, i);
        demand(idle, step_link_share(&idle->link, &idle->plan));
    }
    int64_t rings = lost_datagrams_passed() - before;
    EXPECT(rings <= BURST_RINGS_MAX * others, "%d plans in a row: %" PRId64 " rings", BURST, rings);
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
    EXPECT(share < share_max(idle), "rank 0: idle at %.2f %% of a core", 100.0 * share);
    printf("rank 0: idle at %.2f %% of a core, %" PRId64 " heartbeat messages in %.1f s\n",
           100.0 * share, beats.messages, seconds);
    for (int i = 0; i < WAKES; i++) {
        pause_ms(WAKE_PAUSE_MS);
        step_plan_clear(&idle->plan, clock_now_ns());
        demand(idle, step_link_share(&idle->link, &idle->plan));
    }
    share_burst(idle);
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
    EXPECT(share < share_max(idle), "rank %d: idle at %.2f %% of a core", idle->ranks.rank,
           100.0 * share);
    EXPECT(late_us[WAKES / 2] < WAKE_MEDIAN_US_MAX, "rank %d: woke after %.0f us (median)",
           idle->ranks.rank, late_us[WAKES / 2]);
    printf(
        "rank %d: idle at %.2f %% of a core; woke after %.0f us (median; least %.0f, most %.0f)\n",
        idle->ranks.rank, 100.0 * share, late_us[WAKES / 2], late_us[0], late_us[WAKES - 1]);
}

int main(int argc, char **argv) {
    static const char *const names[] = {
        [NETWORK_SOUND] = "measure", [NETWORK_UNHEARD] = "unheard", [NETWORK_CUT] = "cut"};
    static struct idle idle;
    bool forever = argc == 3 && strcmp(argv[1], "forever") == 0, is_known = forever;
    for (int i = 0; argc == 3 && i < 3; i++) {
        if (strcmp(argv[1], names[i]) == 0) {
            idle.network = (enum network)i;
            is_known = true;
        }
    }
    if (!is_known) {
        fprintf(stderr, "usage: test_idle measure|unheard|cut SECONDS | forever TIMEOUT_MS\n");
        return 2;
    }
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
