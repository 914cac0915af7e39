/* launcher/bench_arrivals.c: mean, variance and shape of the gaps, against the gamma distribution's
 * own. */
#include "launcher/bench_arrivals.h"

#include <math.h>

#include "tests/unit/unit_test.h"

#define DRAWS 200000
#define RATE 20.0

/* Gaps of mean 1 / rate have variance 1 / (rate^2 * shape); the bounds are 6 standard errors of the
 * estimates (the fourth moment of a gamma: 3 + 6 / shape). */
static void check_moments(double shape) {
    struct bench_arrivals arrivals = {.rate = RATE, .burstiness = shape, .state = 7};
    double sum = 0.0, square = 0.0;
    for (int i = 0; i < DRAWS; i++) {
        double gap = bench_arrivals_gap_s(&arrivals) * RATE;
        assert_true(gap >= 0.0 && isfinite(gap));
        sum += gap;
        square += (gap - 1.0) * (gap - 1.0);
    }
    double mean = sum / DRAWS, variance = square / DRAWS * shape;
    double mean_error = sqrt(1.0 / shape / DRAWS), error = sqrt((2.0 + 6.0 / shape) / DRAWS);
    if (fabs(mean - 1.0) > 6.0 * mean_error || fabs(variance - 1.0) > 6.0 * error)
        fail_msg("shape %g: mean %g +- %g, variance %g +- %g", shape, mean, mean_error, variance,
                 error);
}

static void moments(void **state) {
    (void)state;
    check_moments(0.5);
    check_moments(1.0);
    check_moments(4.0);
}

/* Poisson arrivals: gaps are exponential. The same share of gaps exceeds t as exp(-t) says. */
static void exponential(void **state) {
    (void)state;
    static const double at[] = {0.1, 0.5, 1.0, 2.0, 4.0};
    struct bench_arrivals arrivals = {.rate = RATE, .burstiness = 1.0, .state = 11};
    int over[5] = {0};
    for (int i = 0; i < DRAWS; i++) {
        double gap = bench_arrivals_gap_s(&arrivals) * RATE;
        for (int k = 0; k < 5; k++)
            over[k] += gap > at[k];
    }
    for (int k = 0; k < 5; k++) {
        double share = exp(-at[k]);
        double error = sqrt(share * (1.0 - share) / DRAWS);
        if (fabs((double)over[k] / DRAWS - share) > 6.0 * error)
            fail_msg("%d of %d gaps over %g, expected a share of %g", over[k], DRAWS, at[k], share);
    }
}

static void repeatable(void **state) {
    (void)state;
    struct bench_arrivals a = {.rate = 1.0, .burstiness = 1.0, .state = 3}, b = a, c = a;
    c.state = 4;
    int differ = 0;
    for (int i = 0; i < 100; i++) {
        double gap = bench_arrivals_gap_s(&a);
        assert_true(gap == bench_arrivals_gap_s(&b));
        differ += gap != bench_arrivals_gap_s(&c);
    }
    assert_int_equal(differ, 100);
}

static void all_at_once(void **state) {
    (void)state;
    struct bench_arrivals arrivals = {.rate = (double)INFINITY, .burstiness = 1.0};
    for (int i = 0; i < 10; i++)
        assert_true(bench_arrivals_gap_s(&arrivals) == 0.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(moments), cmocka_unit_test(exponential),
                                       cmocka_unit_test(repeatable), cmocka_unit_test(all_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
