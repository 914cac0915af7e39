/* The choice of a token: ties, shards, and that what is drawn is the softmax. The chi-square test
 * is itself tested: unfair samplers must fail it. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/memory.h"
#include "runtime/sampler.h"
#include "runtime/sampler_logprobs.h"
#include "runtime/sampler_noise.h"
#include "tests/unit/kernel_test.h"
#include "tests/unit/unit_test.h"

#define SMALL 40
#define LARGE 5003
#define DRAWS_COUNT 200000
#define SIGMAS 5.0

static void *scratch;                /* for LARGE ids; taken by the group's setup */
static const struct sample_ops *ops; /* the fastest that run here */

static struct sampling_params warm(float temperature, int32_t top_k, float top_p, float min_p) {
    struct sampling_params params = sampling_params_default();
    params.temperature = temperature;
    params.top_k = top_k;
    params.top_p = top_p;
    params.min_p = min_p;
    return params;
}

static enum status choose_row(const struct sampling_params *params,
                              const struct sampler_state *counts, const struct sampler_row *row,
                              int32_t *token) {
    struct sampler_scan scan = sampler_prepare(params, counts, row, scratch);
    return sampler_choose(params, &scan, row->position, scratch, token);
}

static int32_t choose(const struct sampling_params *params, const float *logits, int32_t count,
                      int64_t position) {
    struct sampler_row row = {.logits = logits, .count = count, .position = position, .ops = ops};
    int32_t token = -1;
    assert_int_equal(choose_row(params, NULL, &row, &token), STATUS_OK);
    return token;
}

static struct sampler_border border_of(const struct sampling_params *params, const float *logits,
                                       int32_t count) {
    static float memory[3 * LARGE];
    struct sampler_row row = {.logits = logits, .count = count};
    struct sampler_scan scan = sampler_prepare(NULL, NULL, &row, scratch);
    struct sampler_list list = {
        .ids = (int32_t *)(void *)memory, .logits = memory + LARGE, .weights = memory + 2 * LARGE};
    return sampler_support_border(params, &scan, &list);
}

static float next_uniform(uint64_t *random) {
    *random = *random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (float)(*random >> 40) * 0x1p-24f;
}

static void fill(float *logits, int32_t count, uint64_t seed, float width) {
    for (int32_t i = 0; i < count; i++)
        logits[i] = (next_uniform(&seed) - 0.5f) * width;
}

static void greedy_takes_the_greatest_and_the_lower_id(void **state) {
    (void)state;
    struct sampling_params greedy = sampling_params_default();
    const float tied[] = {1, 5, 2, 5, 5};
    assert_int_equal(choose(&greedy, tied, 5, 0), 1);
    const float zeros[] = {-1, -0.0f, 0.0f};
    assert_int_equal(choose(&greedy, zeros, 3, 0), 1);
    const float holes[] = {NAN, -INFINITY, -7, NAN, -7};
    assert_int_equal(choose(&greedy, holes, 5, 0), 2);
    const float infinite[] = {3, INFINITY, INFINITY};
    assert_int_equal(choose(&greedy, infinite, 3, 0), 1);
    greedy.banned_count = 1;
    greedy.banned[0] = 1;
    assert_int_equal(choose(&greedy, tied, 5, 0), 3);
    greedy.bias_count = 1;
    greedy.bias[0] = (struct sampling_bias){.id = 2, .bias = 3.5f};
    assert_int_equal(choose(&greedy, tied, 5, 0), 2);
    greedy.seed = 99; /* changes nothing */
    assert_int_equal(choose(&greedy, tied, 5, 77), 2);
    struct sampling_params one = warm(1.5f, 1, 1, 0);
    for (int64_t position = 0; position < 100; position++)
        assert_int_equal(choose(&one, tied, 5, position), 1);
}

static void nothing_to_choose_is_a_status(void **state) {
    (void)state;
    const float none[] = {NAN, -INFINITY, NAN};
    struct sampler_row row = {.logits = none, .count = 3, .position = 12};
    struct sampling_params params = sampling_params_default();
    int32_t token = -1;
    assert_int_equal(choose_row(&params, NULL, &row, &token), STATUS_INTERNAL);
    assert_int_equal(token, 0);
    params = warm(1, 2, 0.5f, 0.1f);
    token = -1;
    assert_int_equal(choose_row(&params, NULL, &row, &token), STATUS_INTERNAL);
    assert_int_equal(token, 0);
    params = warm(1, 0, 1, 0);
    const float one[] = {NAN, NAN, -1e30f};
    for (int64_t position = 0; position < 50; position++)
        assert_int_equal(choose(&params, one, 3, position), 2);
    params.banned_count = 1;
    params.banned[0] = 2;
    row.logits = one;
    assert_int_equal(choose_row(&params, NULL, &row, &token), STATUS_INTERNAL);
}

/* The definition, with no id left out and ids walked backwards. */
static struct sampler_best naive_best(const struct sampling_params *params,
                                      struct sampler_border border, const float *logits,
                                      int32_t count, int64_t position) {
    struct sampler_best best = {.id = -1};
    for (int32_t id = count - 1; id >= 0; id--) {
        if (!(logits[id] > border.value || (logits[id] == border.value && id <= border.id)))
            continue;
        double value = (double)logits[id] * (1.0 / (double)params->temperature) +
                       sampler_noise_gumbel(sampler_noise_bits(params->seed, position, id));
        best = sampler_best_merge(best, (struct sampler_best){.value = value, .id = id});
    }
    return best;
}

static const float settings[][4] = {
    /* temperature, top_k, top_p, min_p */
    {1, 0, 1, 0},       {0.3f, 0, 1, 0},  {2.5f, 0, 1, 0},     {1, 7, 1, 0},
    {0.8f, 0, 0.9f, 0}, {1, 0, 1, 0.1f},  {1.3f, 20, 0.8f, 0}, {1.3f, 20, 0.95f, 0.05f},
    {0.7f, 1, 1, 0},    {1e-4f, 0, 1, 0}, {1000, 0, 1, 0},     {1.7f, 0, 0.5f, 0.01f},
};
#define SETTINGS_COUNT ((int)(sizeof(settings) / sizeof(*settings)))

static struct sampling_params setting(int i, uint64_t seed) {
    const float *s = settings[i];
    struct sampling_params params = warm(s[0], (int32_t)s[1], s[2], s[3]);
    params.seed = seed;
    return params;
}

/* Cuts [0, count) into `shards` uneven parts, adjusts and draws each alone, merges from the last to
 * the first. */
static int32_t choose_by_shards(const struct sampling_params *params,
                                const struct sampler_state *counts, struct sampler_border border,
                                const struct sampler_row *whole, int32_t shards) {
    struct sampler_best best = {.id = -1};
    for (int32_t shard = shards - 1; shard >= 0; shard--) {
        int32_t first = whole->count * shard / shards, last = whole->count * (shard + 1) / shards;
        struct sampler_row part = {.logits = whole->logits + first,
                                   .first_id = first,
                                   .count = last - first,
                                   .position = whole->position};
        struct sampler_scan scan = sampler_prepare(params, counts, &part, scratch);
        best = sampler_best_merge(sampler_best(params, border, &scan, part.position), best);
    }
    return best.id;
}

static void shards_merge_to_the_choice_of_the_whole(void **state) {
    (void)state;
    static float logits[LARGE], adjusted[LARGE];
    struct sampler_state *counts = NULL;
    assert_int_equal(sampler_state_create(LARGE, 100, &counts), STATUS_OK);
    for (int32_t i = 0; i < 100; i++)
        assert_int_equal(sampler_state_push(counts, i * i % LARGE), STATUS_OK);
    for (int round = 0; round < 10 * (SETTINGS_COUNT + 1); round++) {
        int32_t count = round % 2 ? LARGE : 101;
        int which = round / 10;
        fill(logits, count, (uint64_t)round, round % 3 ? 12.0f : 2.0f);
        logits[count / 2] = NAN;
        struct sampling_params params = setting(which % SETTINGS_COUNT, (uint64_t)round << 30);
        if (which == SETTINGS_COUNT)
            params.temperature = 0;
        const struct sampler_state *used = round % 2 ? counts : NULL;
        params.presence_penalty = used ? 0.5f : 0.0f;
        params.bias_count = 1;
        params.bias[0] = (struct sampling_bias){.id = 50, .bias = 1.5f};
        params.banned_count = 1;
        params.banned[0] = 33;
        struct sampler_row row = {.logits = logits, .count = count, .position = round * 1000};
        int32_t token = -1;
        assert_int_equal(choose_row(&params, used, &row, &token), STATUS_OK);
        sampler_adjust(&params, used, &row, adjusted);
        struct sampler_border border = {.value = -INFINITY, .id = -1};
        if (params.temperature > 0) {
            border = border_of(&params, adjusted, count);
            assert_int_equal(naive_best(&params, border, adjusted, count, row.position).id, token);
        }
        static const int32_t shards[] = {1, 2, 3, 7, 101};
        for (int i = 0; i < 5; i++)
            assert_int_equal(choose_by_shards(&params, used, border, &row, shards[i]), token);
    }
    sampler_state_destroy(counts);
}

/* Tokens and log-probabilities are the reference's on every instruction set. */
static void every_instruction_set_chooses_the_same(void **state) {
    (void)state;
    static float logits[LARGE];
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        for (int round = 0; round < 20 * SETTINGS_COUNT; round++) {
            int32_t count = round % 2 ? LARGE : 77, tokens[2] = {-1, -1};
            fill(logits, count, (uint64_t)round, round % 3 ? 20.0f : 1.0f);
            for (int32_t i = 0; round % 5 == 0 && i < count; i++)
                logits[i] = i % 31 == 7 ? NAN : floorf(logits[i]); /* many ties */
            logits[count / 3] = round % 7 == 0 ? INFINITY : -INFINITY;
            struct sampling_params params = setting(round % SETTINGS_COUNT, (uint64_t)round);
            struct sampler_logprobs logprobs[2];
            memset(logprobs, 0, sizeof logprobs);
            for (int i = 0; i < 2; i++) {
                const struct sample_ops *used = i > 0 ? kernels.ops->sample : NULL;
                struct sampler_row row = {
                    .logits = logits, .count = count, .position = round, .ops = used};
                struct sampler_scan scan = sampler_prepare(&params, NULL, &row, scratch);
                assert_int_equal(sampler_choose(&params, &scan, round, scratch, &tokens[i]),
                                 STATUS_OK);
                sampler_logprobs(&scan, tokens[i], round % 21, &logprobs[i]);
            }
            assert_int_equal(tokens[0], tokens[1]);
            assert_memory_equal(&logprobs[0], &logprobs[1], sizeof *logprobs);
        }
        kernels_deinit(&kernels);
    }
}

static void merge_is_a_maximum_with_ties_to_the_lower_id(void **state) {
    (void)state;
    const struct sampler_best none = {.value = 9, .id = -1}, low = {.value = 1, .id = 4},
                              high = {.value = 2, .id = 9}, tied = {.value = 2, .id = 7};
    assert_int_equal(sampler_best_merge(low, high).id, 9);
    assert_int_equal(sampler_best_merge(high, low).id, 9);
    assert_int_equal(sampler_best_merge(high, tied).id, 7);
    assert_int_equal(sampler_best_merge(tied, high).id, 7);
    assert_int_equal(sampler_best_merge(none, low).id, 4);
    assert_int_equal(sampler_best_merge(low, none).id, 4);
    assert_int_equal(sampler_best_merge(none, none).id, -1);
}

static void choice_depends_on_seed_and_position_only(void **state) {
    (void)state;
    float logits[SMALL];
    fill(logits, SMALL, 5, 1.0f);
    int32_t forward[300];
    struct sampling_params params = warm(1, 0, 0.95f, 0);
    params.seed = 17;
    for (int i = 0; i < 300; i++)
        forward[i] = choose(&params, logits, SMALL, i);
    int32_t same = 0;
    for (int i = 299; i >= 0; i--) {
        params.seed = 18;
        same += choose(&params, logits, SMALL, i) == forward[i];
        params.seed = 17;
        assert_int_equal(choose(&params, logits, SMALL, i), forward[i]);
    }
    assert_true(same < 60); /* another seed is another answer */
}

typedef int32_t (*draw_function)(const struct sampling_params *params, const float *logits,
                                 int64_t position);

static int32_t draw(const struct sampling_params *params, const float *logits, int64_t position) {
    return choose(params, logits, SMALL, position);
}

/* The seed varies, the position stands. */
static int32_t draw_over_seeds(const struct sampling_params *params, const float *logits,
                               int64_t position) {
    struct sampling_params other = *params;
    other.seed = (uint64_t)position;
    return choose(&other, logits, SMALL, 100);
}

/* Unfair: two neighbouring ids share their noise. */
static int32_t draw_with_shared_noise(const struct sampling_params *params, const float *logits,
                                      int64_t position) {
    struct sampler_best best = {.id = -1};
    for (int32_t id = 0; id < SMALL; id++) {
        double value = (double)logits[id] / (double)params->temperature +
                       sampler_noise_gumbel(sampler_noise_bits(params->seed, position, id / 2));
        best = sampler_best_merge(best, (struct sampler_best){.value = value, .id = id});
    }
    return best.id;
}

/* Draws from the support of `params`, made `extra` ids longer. */
static int32_t draw_with_extra(const struct sampling_params *params, const float *logits,
                               int64_t position, int32_t extra) {
    struct sampler_border border = border_of(params, logits, SMALL);
    struct sampling_params other = *params;
    other.top_p = 1.0f;
    other.top_k = extra;
    for (int32_t id = 0; id < SMALL; id++)
        other.top_k += logits[id] >= border.value;
    return choose(&other, logits, SMALL, position);
}

/* Unfair: top_p stops one id too early. */
static int32_t draw_one_short(const struct sampling_params *params, const float *logits,
                              int64_t position) {
    return draw_with_extra(params, logits, position, -1);
}

/* Unfair: top_p stops one id too late. */
static int32_t draw_one_over(const struct sampling_params *params, const float *logits,
                             int64_t position) {
    return draw_with_extra(params, logits, position, 1);
}

/* Unfair by 4 % of the temperature. */
static int32_t draw_warmer(const struct sampling_params *params, const float *logits,
                           int64_t position) {
    struct sampling_params other = *params;
    other.temperature *= 1.04f;
    return choose(&other, logits, SMALL, position);
}

/* Fair on average, but the draws are not independent. */
static int32_t draw_each_position_16_times(const struct sampling_params *params,
                                           const float *logits, int64_t position) {
    return choose(params, logits, SMALL, position / 16);
}

static int compare_doubles_down(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

/* The probabilities to be drawn from, by the definition and the C library; logits all differ, so a
 * member is one whose weight is at least that of the last kept. */
static void expected_probabilities(const struct sampling_params *params, const float *logits,
                                   double *probabilities) {
    double sorted[SMALL], greatest = -(double)INFINITY;
    for (int i = 0; i < SMALL; i++)
        greatest = fmax(greatest, (double)logits[i]);
    for (int i = 0; i < SMALL; i++)
        sorted[i] = probabilities[i] =
            exp(((double)logits[i] - greatest) / (double)params->temperature);
    qsort(sorted, SMALL, sizeof(*sorted), compare_doubles_down);
    int kept = params->top_k > 0 ? params->top_k : SMALL;
    double total = 0, sum = 0, last = 0;
    for (int i = 0; i < kept; i++)
        total += sorted[i];
    for (int i = 0; i < kept && sum < (double)params->top_p * total; i++) {
        last = sorted[i];
        sum += sorted[i];
    }
    last = fmax(last, (double)params->min_p);
    double members = 0;
    for (int i = 0; i < SMALL; i++)
        members += probabilities[i] >= last ? probabilities[i] : 0;
    for (int i = 0; i < SMALL; i++)
        probabilities[i] = probabilities[i] >= last ? probabilities[i] / members : 0;
}

/* Pearson's statistic of DRAWS_COUNT draws, as deviations from its mean; infinite if an id outside
 * the support was drawn. Ids expected less than 5 times are counted together. */
static double chi_square_sigmas(draw_function function, const struct sampling_params *params,
                                const float *logits) {
    double probabilities[SMALL];
    int32_t counts[SMALL] = {0};
    expected_probabilities(params, logits, probabilities);
    for (int64_t position = 0; position < DRAWS_COUNT; position++)
        counts[function(params, logits, position)]++;
    double chi_square = 0, rest_expected = 0, rest = 0;
    int bins = 0;
    for (int i = 0; i < SMALL; i++) {
        double expected = probabilities[i] * DRAWS_COUNT, got = counts[i];
        if (expected == 0 && got > 0)
            return (double)INFINITY;
        if (expected < 5) {
            rest_expected += expected;
            rest += got;
            continue;
        }
        chi_square += (got - expected) * (got - expected) / expected;
        bins++;
    }
    if (rest_expected > 0.5) {
        chi_square += (rest - rest_expected) * (rest - rest_expected) / rest_expected;
        bins++;
    }
    double df = bins > 1 ? bins - 1 : 1;
    return bins > 1 ? (chi_square - df) / sqrt(2 * df) : 0;
}

static void draws_follow_the_softmax(void **state) {
    (void)state;
    float logits[SMALL];
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        fill(logits, SMALL, (uint64_t)i + 40, 6.0f);
        struct sampling_params params = setting(i, (uint64_t)i * 1234567 + 1);
        double sigmas = chi_square_sigmas(draw, &params, logits);
        print_message("temperature %g top_k %d top_p %g min_p %g: %.2f sigmas\n",
                      (double)params.temperature, params.top_k, (double)params.top_p,
                      (double)params.min_p, sigmas);
        assert_true(fabs(sigmas) < SIGMAS);
    }
    struct sampling_params params = warm(1, 0, 0.95f, 0);
    assert_true(fabs(chi_square_sigmas(draw_over_seeds, &params, logits)) < SIGMAS);
}

static void unfair_samplers_are_caught(void **state) {
    (void)state;
    static const draw_function unfair[] = {draw_with_shared_noise, draw_one_short, draw_one_over,
                                           draw_warmer, draw_each_position_16_times};
    float logits[SMALL];
    fill(logits, SMALL, 41, 6.0f);
    struct sampling_params params = warm(1, 0, 0.9f, 0);
    params.seed = 3;
    assert_true(fabs(chi_square_sigmas(draw, &params, logits)) < SIGMAS);
    for (size_t i = 0; i < sizeof(unfair) / sizeof(*unfair); i++) {
        params.top_p = unfair[i] == draw_with_shared_noise ? 1.0f : 0.9f;
        double sigmas = chi_square_sigmas(unfair[i], &params, logits);
        print_message("unfair sampler %zu: %.2f sigmas\n", i, sigmas);
        assert_true(sigmas > 2 * SIGMAS);
    }
}

static int take_scratch(void **state) {
    (void)state;
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        ops = kernels.ops->sample;
        kernels_deinit(&kernels);
    }
    return memory_acquire("scratch", sampler_scratch_bytes(LARGE), &scratch) == STATUS_OK ? 0 : -1;
}

static int give_scratch_back(void **state) {
    (void)state;
    memory_release(scratch, sampler_scratch_bytes(LARGE));
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_greatest_and_the_lower_id),
        cmocka_unit_test(nothing_to_choose_is_a_status),
        cmocka_unit_test(shards_merge_to_the_choice_of_the_whole),
        cmocka_unit_test(every_instruction_set_chooses_the_same),
        cmocka_unit_test(merge_is_a_maximum_with_ties_to_the_lower_id),
        cmocka_unit_test(choice_depends_on_seed_and_position_only),
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(unfair_samplers_are_caught),
    };
    return cmocka_run_group_tests(tests, take_scratch, give_scratch_back);
}
