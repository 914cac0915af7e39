/* launcher/doctor_findings: what is said of links between hosts that are not alike. */
#include <string.h>

#include "launcher/doctor_findings.h"
#include "tests/unit/unit_test.h"

#define RANKS 4

/* Ranks 0 and 1 on host a, 2 on b, 3 on c; every pair across hosts has 1 GB/s, inside a 5. */
struct job {
    struct transport transport;
    struct rank_group ranks;
    struct doctor_facts facts[RANKS];
    struct doctor_link pairs[RANKS * RANKS];
    struct doctor_links links;
    struct doctor_findings found;
};

static const int32_t node_of[RANKS] = {0, 0, 1, 2};
static const char host_of[RANKS][64] = {"a", "a", "b", "c"};

static void make_job(struct job *job) {
    memset(job, 0, sizeof *job);
    job->transport.size = job->ranks.size = RANKS;
    job->transport.node_of = node_of;
    job->transport.host_of = host_of;
    job->ranks.transport = &job->transport;
    for (int i = 0; i < RANKS * RANKS; i++)
        job->pairs[i] = (struct doctor_link){20.0f, i == 1 ? 5.0f : 1.0f, 1, 1};
    job->links = (struct doctor_links){.size = RANKS, .one_by_one = true, .pair = job->pairs};
}

static void judge(struct job *job) {
    doctor_findings_judge(&job->ranks, job->facts, &job->links, &job->found);
}

static void links_that_are_alike_pass(void **state) {
    (void)state;
    static struct job job;
    make_job(&job);
    job.pairs[0 * RANKS + 3].gigabytes_per_s = 0.3f; /* not a quarter yet */
    judge(&job);
    assert_int_equal(job.found.count, 0);
}

static void a_slow_host_is_a_warning(void **state) {
    (void)state;
    static struct job job;
    make_job(&job);
    for (int rank = 0; rank < 3; rank++)
        job.pairs[rank * RANKS + 3].gigabytes_per_s = 0.005f;
    job.pairs[1 * RANKS + 3].gigabytes_per_s = 0.004f;
    job.pairs[0 * RANKS + 2].gigabytes_per_s = 1.5f;
    judge(&job);
    assert_int_equal(job.found.count, 1);
    assert_int_equal(job.found.problems, 0);
    assert_string_equal(job.found.items[0].text,
                        "the links between hosts are not alike: rank 1 on a and rank 3 on c have "
                        "0.004 GB/s, rank 0 on a and rank 2 on b 1.500");
}

/* In a crowd pairs take turns in parallel, and more of them share a link in one round than in
 * another. */
static void a_crowd_is_not_compared(void **state) {
    (void)state;
    static struct job job;
    make_job(&job);
    job.pairs[0 * RANKS + 3].gigabytes_per_s = 0.005f;
    job.links.one_by_one = false;
    judge(&job);
    assert_int_equal(job.found.count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_that_are_alike_pass),
        cmocka_unit_test(a_slow_host_is_a_warning),
        cmocka_unit_test(a_crowd_is_not_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
