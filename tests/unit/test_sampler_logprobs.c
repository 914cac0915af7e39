/* Log-probabilities against a long double softmax and a plain sort. */

#include <math.h>

#include "runtime/sampler_logprobs.h"
#include "tests/unit/unit_test.h"

#define VOCABULARY 3000

/* Quantised, so that there are many ties. */
static void fill(float *logits, int32_t count, uint32_t random, float step) {
    for (int32_t i = 0; i < count; i++) {
        random = random * 1664525 + 1013904223;
        logits[i] = (float)((int32_t)(random >> 20) % 400 - 200) * step;
    }
}

static long double log_sum_exp(const float *logits, int32_t count) {
    long double sum = 0;
    for (int32_t i = 0; i < count; i++)
        sum += expl((long double)logits[i]);
    return logl(sum);
}

static bool comes_before(const float *logits, int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

static int32_t naive_rank(const float *logits, int32_t count, int32_t id) {
    int32_t rank = 1;
    for (int32_t i = 0; i < count; i++)
        rank += comes_before(logits, i, id);
    return rank;
}

static void logprobs_at(const float *logits, int32_t count, int32_t id, int32_t top_count,
                        struct sampler_logprobs *result) {
    static float octets[VOCABULARY / 8 + 64], peaks[VOCABULARY / SAMPLE_GROUP + 1];
    struct sampler_scan scan = {.logits = logits, .count = count, .octets = octets, .peaks = peaks};
    sampler_scan_begin(&scan);
    sampler_logprobs(&scan, id, top_count, result);
}

static void logprobs_match_a_long_double_softmax(void **state) {
    (void)state;
    static float logits[VOCABULARY];
    for (uint32_t round = 0; round < 40; round++) {
        int32_t count = round % 4 == 0 ? 25 : VOCABULARY;
        fill(logits, count, round, round % 3 == 0 ? 0.125f : 0.0371f);
        long double normaliser = log_sum_exp(logits, count);
        int32_t id = (int32_t)(round * 577) % count, wanted = (int32_t)round % 21;
        struct sampler_logprobs result;
        logprobs_at(logits, count, id, wanted, &result);
        assert_int_equal(result.chosen.id, id);
        assert_true(fabsl((long double)result.chosen.logprob -
                          ((long double)logits[id] - normaliser)) < 3e-7L);
        assert_int_equal(result.rank, naive_rank(logits, count, id));
        assert_int_equal(result.top_count, wanted);
        for (int32_t i = 0; i < wanted; i++) {
            assert_int_equal(naive_rank(logits, count, result.top[i].id), i + 1);
            assert_true(fabsl((long double)result.top[i].logprob -
                              ((long double)logits[result.top[i].id] - normaliser)) < 3e-7L);
        }
    }
}

static void odd_logits_have_defined_logprobs(void **state) {
    (void)state;
    struct sampler_logprobs result;
    const float holes[] = {NAN, 1.0f, -INFINITY, 1.0f, NAN};
    logprobs_at(holes, 5, 3, 20, &result);
    assert_true(fabs(result.chosen.logprob + log(2.0)) < 1e-15);
    assert_int_equal(result.rank, 2);
    assert_int_equal(result.top_count, 2);
    assert_int_equal(result.top[0].id, 1);
    assert_int_equal(result.top[1].id, 3);
    logprobs_at(holes, 5, 0, 1, &result);
    assert_true(isinf(result.chosen.logprob) && result.chosen.logprob < 0);
    const float infinite[] = {5.0f, INFINITY, INFINITY};
    logprobs_at(infinite, 3, 2, 3, &result);
    assert_true(fabs(result.chosen.logprob + log(2.0)) < 1e-15);
    assert_true(isinf(result.top[2].logprob));
    const float none[] = {NAN, -INFINITY};
    logprobs_at(none, 2, 1, 2, &result);
    assert_int_equal(result.top_count, 0);
    assert_true(isinf(result.chosen.logprob));
    const float one[] = {-1e30f};
    logprobs_at(one, 1, 0, 0, &result);
    assert_true(result.chosen.logprob == 0.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logprobs_match_a_long_double_softmax),
        cmocka_unit_test(odd_logits_have_defined_logprobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
