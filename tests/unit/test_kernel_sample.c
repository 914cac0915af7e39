/* The sampler's inner loops on every instruction set of this machine, held against the reference
 * bit for bit. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/ref_sample.h"
#include "tests/unit/kernel_test.h"
#include "tests/unit/unit_test.h"

struct chance {
    int32_t id;
    uint16_t high;
};

static int compare_chances(const void *a, const void *b) {
    const struct chance *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

#define GROUPS 23

/* What the op finds, sorted by id. */
static int32_t find_chances(const struct sample_ops *ops, struct chance_args *args,
                            struct chance *found) {
    int32_t ids[GROUPS * SAMPLE_GROUP];
    uint16_t high[GROUPS * SAMPLE_GROUP];
    args->ids = ids;
    args->high = high;
    int32_t count = ops->chances(args);
    for (int32_t i = 0; i < count; i++)
        found[i] = (struct chance){ids[i], high[i]};
    qsort(found, (size_t)count, sizeof *found, compare_chances);
    return count;
}

/* The same ids with the same bits, whichever groups are asked for; all of them where every id
 * reaches the limit. */
static void chances_are_the_same_everywhere(void **state) {
    (void)state;
    static const float limits[] = {-INFINITY, -40, 0, 3, 9, 40, FLT_MAX};
    static float octets[GROUPS * 3 * SAMPLE_OCTETS];
    static struct chance want[GROUPS * SAMPLE_GROUP], got[GROUPS * SAMPLE_GROUP];
    for (int32_t i = 0; i < GROUPS * 3 * SAMPLE_OCTETS; i++)
        octets[i] = i % 37 == 5    ? -INFINITY
                    : i % 97 == 13 ? INFINITY
                                   : 6.0f * kernel_test_noise(3, i);
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        for (int32_t groups = 0; groups <= GROUPS; groups++) {
            int32_t group[GROUPS];
            for (int32_t i = 0; i < groups; i++)
                group[i] = groups % 2 ? i : 3 * i;
            for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
                struct chance_args args = {.seed = UINT64_C(0xfedcba9876543210) + (uint64_t)groups,
                                           .position = INT64_C(0x123456789) * groups,
                                           .first_group =
                                               INT32_MAX / SAMPLE_GROUP - 7 * groups - 3 * GROUPS,
                                           .group = group,
                                           .groups = groups,
                                           .octets = octets,
                                           .inverse_temperature = groups % 3 ? 1.0f : 30.0f,
                                           .limit = limits[i]};
                int32_t count = find_chances(&ref_sample_ops, &args, want);
                assert_int_equal(find_chances(kernels.ops->sample, &args, got), count);
                for (int32_t j = 0; j < count; j++)
                    assert_true(got[j].id == want[j].id && got[j].high == want[j].high);
                assert_true(i > 0 || count == groups * SAMPLE_GROUP);
                assert_true(i < 4 || groups == 0 || count < groups * SAMPLE_GROUP);
            }
        }
        kernels_deinit(&kernels);
    }
}

/* No id is left out whose noise brings its octet's peak to the limit. */
static void who_reaches_the_limit_has_a_chance(void **state) {
    (void)state;
    static const int32_t group[] = {0};
    struct chance found[SAMPLE_GROUP];
    int32_t left_out = 0;
    for (int32_t round = 0; round < 3000; round++) {
        float octets[SAMPLE_OCTETS];
        for (int32_t i = 0; i < SAMPLE_OCTETS; i++)
            octets[i] = 5.0f * kernel_test_noise((uint32_t)round, i);
        struct chance_args args = {.seed = (uint64_t)round,
                                   .group = group,
                                   .groups = 1,
                                   .octets = octets,
                                   .inverse_temperature = 0.7f,
                                   .limit = 4.0f};
        int32_t count = find_chances(&ref_sample_ops, &args, found), next = 0;
        for (int32_t id = 0; id < SAMPLE_GROUP; id++) {
            bool has_chance = next < count && found[next].id == id;
            next += has_chance;
            double u = ((double)ref_sample_high(args.seed, 0, id) + 0.99999) * 0x1p-16;
            double noise = -log(-log(u)); /* the greatest with these bits, nearly */
            double value =
                (double)args.inverse_temperature * (double)octets[id / 8 % 4 * 2 + id / 32] + noise;
            assert_true(has_chance || value < 4.0 + 1e-3);
            left_out += !has_chance;
        }
    }
    assert_true(left_out > 3000 * SAMPLE_GROUP / 2);
}

#define PEAKS_COUNT 300

/* Of every octet and group, wherever the row begins and ends; NaN is nowhere. */
static void the_peaks_are_found(void **state) {
    (void)state;
    enum { OCTETS = (PEAKS_COUNT / SAMPLE_GROUP + 2) * SAMPLE_OCTETS };
    float x[PEAKS_COUNT];
    for (int32_t i = 0; i < PEAKS_COUNT; i++)
        x[i] = i % 5 == 3 ? NAN : -3.0f - kernel_test_noise(9, i);
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        for (int32_t round = 0; round < PEAKS_COUNT * 4; round++) {
            float want[2][OCTETS], got[2][OCTETS];
            memset(want, 0x55, sizeof want);
            memset(got, 0x55, sizeof got);
            struct peak_args args = {.x = x + round % 7,
                                     .skipped = round * 5 % SAMPLE_GROUP,
                                     .count = round % (PEAKS_COUNT - 7),
                                     .octets = want[0],
                                     .groups = want[1]};
            float greatest = ref_sample_ops.peaks(&args);
            args.octets = got[0];
            args.groups = got[1];
            assert_true(kernels.ops->sample->peaks(&args) == greatest);
            assert_memory_equal(got, want, sizeof got); /* and nothing behind them is written */
        }
        kernels_deinit(&kernels);
    }
}

/* The reference by its definition: the one great logit is the peak of its octet and its group. */
static void peaks_stand_where_their_ids_are(void **state) {
    (void)state;
    for (int32_t at = 0; at < 2 * SAMPLE_GROUP - 10; at++) {
        float x[2 * SAMPLE_GROUP - 10] = {0}, octets[2 * SAMPLE_OCTETS], groups[2];
        struct peak_args args = {.x = x,
                                 .skipped = 10,
                                 .count = 2 * SAMPLE_GROUP - 10,
                                 .octets = octets,
                                 .groups = groups};
        x[at] = 1.0f;
        assert_true(ref_sample_ops.peaks(&args) == 1.0f);
        int32_t id = at + 10, in_group = id % SAMPLE_GROUP;
        for (int32_t i = 0; i < 2 * SAMPLE_OCTETS; i++)
            assert_true((octets[i] == 1.0f) == (i == id / SAMPLE_GROUP * SAMPLE_OCTETS +
                                                         in_group / 8 % 4 * 2 + in_group / 32));
        assert_true(groups[id / SAMPLE_GROUP] == 1.0f && groups[1 - id / SAMPLE_GROUP] == 0.0f);
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

static float greatest_of(const float *x, int32_t count) {
    float greatest = -INFINITY;
    for (int32_t i = 0; i < count; i++)
        greatest = x[i] > greatest ? x[i] : greatest;
    return greatest;
}

static void check_passes(const struct sample_ops *ops, const float *x, int32_t count, float scale) {
    float weights[2][SAMPLED + 1];
    memset(weights, 0x55, sizeof weights);
    struct weigh_args args = {.x = x,
                              .count = count,
                              .greatest = greatest_of(x, count),
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
        float values[2][SAMPLED];
        struct list_args list = {.x = x,
                                 .count = count,
                                 .least = x[i],
                                 .most = x[count / 2],
                                 .at = ids[0],
                                 .values = values[0]};
        int32_t found = ref_sample_ops.list(&list);
        list.at = ids[1];
        list.values = values[1];
        assert_int_equal(ops->list(&list), found);
        assert_memory_equal(ids[0], ids[1], sizeof(int32_t) * (size_t)found);
        assert_memory_equal(values[0], values[1], sizeof(float) * (size_t)found);
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
        cmocka_unit_test(chances_are_the_same_everywhere),
        cmocka_unit_test(who_reaches_the_limit_has_a_chance),
        cmocka_unit_test(the_peaks_are_found),
        cmocka_unit_test(peaks_stand_where_their_ids_are),
        cmocka_unit_test(passes_over_logits_are_the_same_everywhere),
        cmocka_unit_test(weights_are_powers_in_exact_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
