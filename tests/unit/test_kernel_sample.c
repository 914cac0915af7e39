/* The sampler's inner loops on every instruction set of this machine, held against the reference
 * bit for bit. */
#include <float.h>
#include <math.h>

#include "kernels/ref_sample.h"
#include "tests/unit/kernel_test.h"
#include "tests/unit/unit_test.h"

/* Random bits are the reference's on every instruction set, wherever a run of groups begins and
 * ends. */
static void noise_is_the_same_everywhere(void **state) {
    (void)state;
    enum { GROUPS = 13, IDS = (GROUPS + 1) * SAMPLE_GROUP };
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        for (int32_t groups = 0; groups <= GROUPS; groups++) {
            uint16_t want[IDS], got[IDS];
            memset(want, 0x55, sizeof want);
            memset(got, 0x55, sizeof got);
            struct noise_args args = {.seed = UINT64_C(0xfedcba9876543210) + (uint64_t)groups,
                                      .position = INT64_C(0x123456789) * groups,
                                      .first_group = INT32_MAX / SAMPLE_GROUP - 7 * groups - GROUPS,
                                      .groups = groups,
                                      .high = want};
            ref_sample_ops.noise(&args);
            args.high = got;
            kernels.ops->sample->noise(&args);
            assert_memory_equal(got, want, sizeof got); /* and nothing behind them is written */
        }
        kernels_deinit(&kernels);
    }
}

/* The greatest wherever it stands; NaN is nowhere. */
static void the_greatest_is_found(void **state) {
    (void)state;
    enum { MOST = 150 };
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        const struct sample_ops *ops = kernels.ops->sample;
        for (int32_t count = 0; count <= MOST; count++) {
            float x[MOST + 1];
            for (int32_t i = 0; i <= MOST; i++)
                x[i] = i % 5 == 3 || i >= count ? NAN : -3.0f - kernel_test_noise(9, i);
            assert_true(ops->greatest(x, count) == ref_sample_ops.greatest(x, count));
            for (int32_t at = 0; at < count; at++) {
                float saved = x[at];
                x[at] = -1.0f;
                assert_true(ops->greatest(x, count) == -1.0f);
                x[at] = saved;
            }
        }
        kernels_deinit(&kernels);
    }
}

#define SAMPLED 300

/* Ties, holes and infinities among logits of every size. */
static void fill_logits(uint32_t seed, float width, float *x) {
    static const float odd[] = {NAN, -INFINITY, 0.0f, -0.0f, -3e38f};
    for (int32_t i = 0; i < SAMPLED; i++) {
        x[i] = kernel_test_noise(seed, i) * width;
        if (i % 3 == 0)
            x[i] = floorf(x[i]);
        if (i % 11 == 4)
            x[i] = odd[i / 11 % 5];
    }
    if (seed % 7 == 0)
        x[seed % SAMPLED] = x[SAMPLED / 2] = INFINITY;
}

static void check_passes(const struct sample_ops *ops, const float *x, int32_t count, float scale) {
    float weights[2][SAMPLED + 1];
    memset(weights, 0x55, sizeof weights);
    struct weigh_args args = {.x = x,
                              .count = count,
                              .greatest = ref_sample_ops.greatest(x, count),
                              .scale = scale,
                              .coarse = sample_coarse(count),
                              .weights = weights[0]};
    if (args.greatest == -INFINITY)
        return;
    double sum = ref_sample_ops.weigh(&args);
    args.weights = weights[1];
    assert_true(ops->weigh(&args) == sum && sum >= 1.0);
    assert_memory_equal(weights[0], weights[1], sizeof *weights);
    args.weights = NULL;
    assert_true(ops->weigh(&args) == sum);
    for (int32_t i = 0; i < count; i += 7) {
        struct sample_tally want = ref_sample_ops.tally(x, weights[0], count, x[i]),
                            got = ops->tally(x, weights[0], count, x[i]);
        assert_true(got.count == want.count && got.weight == want.weight);
        got = ops->tally(x, NULL, count, x[i]);
        assert_true(got.count == want.count && got.weight == 0);
        int32_t ids[2][SAMPLED];
        int32_t found = ref_sample_ops.between(x, count, x[i], x[count / 2], ids[0]);
        assert_int_equal(ops->between(x, count, x[i], x[count / 2], ids[1]), found);
        assert_memory_equal(ids[0], ids[1], sizeof(int32_t) * (size_t)found);
    }
}

static void check_hopefuls(const struct sample_ops *ops, const float *x, int32_t count,
                           float scale) {
    uint16_t high[SAMPLED];
    int32_t ids[2][SAMPLED];
    for (int32_t i = 0; i < SAMPLED; i++)
        high[i] = (uint16_t)(i % 13 == 5 ? UINT16_MAX - i / 13
                                         : (int32_t)((uint32_t)i * 2654435761u >> 16));
    struct hopeful_args args = {
        .x = x, .high = high, .count = count, .inverse_temperature = scale, .out = ids[0]};
    static const float limits[] = {-INFINITY, -FLT_MAX, -2, 0, 3, 40, 1e6f, FLT_MAX};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        args.limit = limits[i];
        args.out = ids[0];
        int32_t found = ref_sample_ops.hopefuls(&args);
        args.out = ids[1];
        assert_int_equal(ops->hopefuls(&args), found);
        assert_memory_equal(ids[0], ids[1], sizeof(int32_t) * (size_t)found);
    }
}

/* Every bit of every pass is the reference's. */
static void passes_over_logits_are_the_same_everywhere(void **state) {
    (void)state;
    static const float scales[] = {1.0f, 0.03f, 40.0f, 1e5f};
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        for (uint32_t round = 0; round < 200; round++) {
            float x[SAMPLED];
            fill_logits(round, round % 2 ? 4.0f : 25.0f, x);
            int32_t count = round < 40 ? (int32_t)round + 1 : SAMPLED - (int32_t)round % 40;
            check_passes(kernels.ops->sample, x, count, scales[round % 4]);
            check_hopefuls(kernels.ops->sample, x, count, scales[round % 4]);
        }
        kernels_deinit(&kernels);
    }
}

/* Weights against the C library's, and their steps. */
static void weights_are_powers_in_exact_steps(void **state) {
    (void)state;
    for (int32_t i = 0; i < 40000; i++) {
        float x = (float)i * -0.001f, weight = -1.0f;
        struct weigh_args args = {.x = &x,
                                  .count = 1,
                                  .greatest = 0.0f,
                                  .scale = 1.0f,
                                  .coarse = sample_coarse(100000),
                                  .weights = &weight};
        assert_true(ref_sample_ops.weigh(&args) == (double)weight);
        assert_true(fabs((double)weight - exp2((double)x)) <= 2e-7 * exp2((double)x) + 0x1p-37);
        double steps = (double)weight * 0x1p36; /* 53 - 17 bits */
        assert_true(steps == floor(steps));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_is_the_same_everywhere),
        cmocka_unit_test(the_greatest_is_found),
        cmocka_unit_test(passes_over_logits_are_the_same_everywhere),
        cmocka_unit_test(weights_are_powers_in_exact_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
