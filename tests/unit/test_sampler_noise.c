/* The noise and the arithmetic under it: known answers, error bounds, and that neighbours of every
 * kind (positions, ids, seeds) are independent. */

#include <math.h>
#include <string.h>

#include "kernels/ref_sample.h"
#include "runtime/sampler_math.h"
#include "runtime/sampler_noise.h"
#include "tests/unit/unit_test.h"

#define DRAWS_COUNT 200000
#define BINS_COUNT 64
#define SIGMAS 5.0

/* The three vectors published with Random123 for philox4x32 at 10 rounds: zeros, ones, digits of
 * pi. */
static void philox_gives_the_published_answers(void **state) {
    (void)state;
    static const uint32_t vectors[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        ref_sample_philox(vectors[i], vectors[i] + 4, out);
        assert_memory_equal(out, vectors[i] + 6, sizeof(out));
        memcpy(out, vectors[i], sizeof(out));
        ref_sample_philox(out, vectors[i] + 4, out);
        assert_memory_equal(out, vectors[i] + 6, sizeof(out));
    }
}

/* Pins the layout of counter and key: changing it would change every seeded answer. */
static void bits_are_philox_words_of_seed_and_position(void **state) {
    (void)state;
    assert_int_equal(sampler_noise_bits(0, 0, 0) >> 48, 0xe8d5);
    assert_int_equal(sampler_noise_bits(0, 0, 32) >> 48, 0x6627);
    assert_int_equal(sampler_noise_bits(0, 0, 8) >> 48, 0xc58d);
    assert_int_equal(sampler_noise_bits(0, 0, 56) >> 48, 0x9b00);
    const int32_t id = 5 * 64 + 32 + 2 * 8 + 3; /* the upper half of word 2 of counter 43 */
    const uint32_t key[2] = {0xcafe, 0xbeef};
    uint32_t high[4], low[4];
    ref_sample_philox((const uint32_t[4]){43, 5, 3, 0}, key, high);
    ref_sample_philox((const uint32_t[4]){(uint32_t)id, 5, 3, 1}, key, low);
    assert_int_equal(sampler_noise_bits(UINT64_C(0xbeef0000cafe), INT64_C(0x300000005), id),
                     (uint64_t)(high[2] >> 16) << 48 | (uint64_t)(low[1] & 0xffff) << 32 | low[0]);
}

static double relative_error(double got, long double expected) {
    if (expected == 0)
        return got == 0 ? 0 : (double)INFINITY;
    return (double)fabsl(((long double)got - expected) / expected);
}

static void log_and_exp_keep_their_bounds(void **state) {
    (void)state;
    for (int32_t i = 0; i < DRAWS_COUNT; i++) {
        uint64_t bits[2] = {sampler_noise_bits(1, i, 0), sampler_noise_bits(1, i, 1)};
        double u = sampler_noise_uniform(bits[0]);
        double near_one = 1 - ldexp(u, -(int)(bits[1] % 50));
        double any = ldexp(u, (int)(bits[1] % 2000) - 1000);
        assert_true(relative_error(sampler_math_log(u), logl((long double)u)) < 1e-15);
        assert_true(relative_error(sampler_math_log(near_one), logl((long double)near_one)) <
                    1e-15);
        assert_true(relative_error(sampler_math_log(any), logl((long double)any)) < 1e-15);
        for (int k = 0; k < 10; k += 3) {
            double x = ldexp(-700 * u, -k * 5);
            assert_true(relative_error(sampler_math_exp(x), expl((long double)x)) < 1e-15);
            assert_true(relative_error(sampler_math_exp(-x), expl((long double)-x)) < 1e-15);
        }
    }
    assert_true(sampler_math_log(1.0) == 0.0);
    assert_true(sampler_math_exp(0.0) == 1.0);
    assert_true(sampler_math_exp(-701.0) == 0.0);
    assert_true(sampler_math_exp(-(double)INFINITY) == 0.0);
}

static void check_one_noise(uint64_t bits) {
    double u = sampler_noise_uniform(bits);
    assert_true(u > 0 && u < 1);
    double noise = sampler_noise_gumbel(bits);
    assert_true(noise >= -3.61 && noise <= SAMPLER_NOISE_MAX);
    assert_true(fabs(noise + log(-log(u))) <= 1e-14 * (1 + fabs(noise)));
    double bound = (double)sample_bound((uint16_t)(bits >> 48));
    assert_true(bound > noise - 1e-4); /* sampler.c takes off more */
    assert_true(noise < 3 || noise > 6 || bound < noise + 0.1);
}

/* A scan skips ids by a bound, so one that is too low would lose a winner. */
static void bound_is_above_the_noise_everywhere(void **state) {
    (void)state;
    check_one_noise(0);
    check_one_noise(UINT64_MAX);
    for (int shift = 0; shift < 64; shift++) {
        check_one_noise(UINT64_MAX >> shift);
        check_one_noise(UINT64_MAX << shift);
        check_one_noise(~(UINT64_C(1) << shift));
        check_one_noise((UINT64_MAX << shift) - 1);
    }
    for (int32_t i = 0; i < DRAWS_COUNT; i++) {
        check_one_noise(sampler_noise_bits(2, i, 2));
        check_one_noise(sampler_noise_bits(2, i, 3) | ~(UINT64_MAX >> (i % 53)));
    }
}

/* Gumbel: mean 0.5772 (Euler), variance pi^2 / 6, fourth central moment 5.4 variance^2. */
static void noise_has_the_moments_of_gumbel(void **state) {
    (void)state;
    const double mean = 0.57721566490153286, variance = 1.6449340668482264;
    double sum = 0, squares = 0;
    for (int32_t i = 0; i < DRAWS_COUNT; i++) {
        double noise = sampler_noise_gumbel(sampler_noise_bits(3, i / 400, i % 400));
        sum += noise;
        squares += (noise - mean) * (noise - mean);
    }
    double n = DRAWS_COUNT;
    assert_true(fabs(sum / n - mean) < SIGMAS * sqrt(variance / n));
    assert_true(fabs(squares / n - variance) < SIGMAS * variance * sqrt(4.4 / n));
}

static void bits_are_even_in_every_word(void **state) {
    (void)state;
    for (int shift = 0; shift <= 58; shift += 6) {
        int32_t counts[BINS_COUNT] = {0};
        for (int32_t i = 0; i < DRAWS_COUNT; i++)
            counts[sampler_noise_bits(4, i % 500, i / 500) >> shift & (BINS_COUNT - 1)]++;
        double expected = (double)DRAWS_COUNT / BINS_COUNT, chi_square = 0;
        for (int i = 0; i < BINS_COUNT; i++)
            chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
        double df = BINS_COUNT - 1;
        assert_true(fabs(chi_square - df) < SIGMAS * sqrt(2 * df));
    }
}

struct step {
    uint64_t seed;
    int64_t position;
    int32_t id;
};

/* Correlation, in its own standard deviations, of the uniforms at a grid of keys with those one
 * step away. */
static double correlation_sigmas(struct step step) {
    double sum = 0;
    for (int32_t i = 0; i < DRAWS_COUNT; i++) {
        uint64_t seed = (uint64_t)(i % 8) * 2;
        int64_t position = i / 8 % 160 * 2;
        int32_t id = i / 1280 * 4 + 1;
        double a = sampler_noise_uniform(sampler_noise_bits(seed, position, id)) - 0.5;
        double b = sampler_noise_uniform(sampler_noise_bits(
                       seed + step.seed, position + step.position, id + step.id)) -
                   0.5;
        sum += a * b;
    }
    return 12 * sum / sqrt(DRAWS_COUNT); /* each uniform has variance 1/12 */
}

static void neighbours_are_independent(void **state) {
    (void)state;
    static const struct step steps[] = {
        {1, 0, 0},
        {0, 1, 0},
        {0, 0, 1},
        {0, 0, -1},
        {0, 0, 2},
        {0, 0, 8},
        {0, 0, 32},
        {0, 0, 64},
        {1, 1, 0},
        {0, 1, 1},
        {1, 0, 1},
        {UINT64_MAX, 1, 0},
        {0, 1, -1},
        {1, 1, -1},
        {UINT64_C(1) << 32, 0, 0},
        {0, INT64_C(1) << 32, 0},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++)
        assert_true(fabs(correlation_sigmas(steps[i])) < SIGMAS);
    /* Control: no step at all is perfect correlation, and the measure sees it. */
    assert_true(correlation_sigmas((struct step){0, 0, 0}) > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(bits_are_philox_words_of_seed_and_position),
        cmocka_unit_test(log_and_exp_keep_their_bounds),
        cmocka_unit_test(bound_is_above_the_noise_everywhere),
        cmocka_unit_test(noise_has_the_moments_of_gumbel),
        cmocka_unit_test(bits_are_even_in_every_word),
        cmocka_unit_test(neighbours_are_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
