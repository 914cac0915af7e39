/* The border of top-k, top-p and min-p: hand-made ties, and a plain sort in long double. */

#include <math.h>
#include <stdlib.h>

#include "kernels/base/memory.h"
#include "runtime/sampler_support.h"
#include "tests/unit/unit_test.h"

#define VOCABULARY 3000

static struct sampling_params warm(int32_t top_k, float top_p, float min_p) {
    struct sampling_params params = sampling_params_default();
    params.temperature = 1.0f;
    params.top_k = top_k;
    params.top_p = top_p;
    params.min_p = min_p;
    return params;
}

static struct sampler_border border_of(const struct sampling_params *params, const float *logits,
                                       int32_t count) {
    static float octets[VOCABULARY / 8 + 64], peaks[VOCABULARY / SAMPLE_GROUP + 1];
    size_t bytes = sampler_reach_bytes(count);
    void *memory = NULL;
    assert_int_equal(memory_acquire("list", bytes, &memory), STATUS_OK);
    struct sampler_scan scan = {.logits = logits, .count = count, .octets = octets, .peaks = peaks};
    struct sampler_list list = sampler_reach_list(memory, count);
    sampler_scan_begin(&scan);
    struct sampler_border border = sampler_support_border(params, &scan, &list);
    memory_release(memory, bytes);
    return border;
}

static bool within(struct sampler_border border, const float *logits, int32_t id) {
    return logits[id] > border.value || (logits[id] == border.value && id <= border.id);
}

/* `members` is a string of '1' and '0', one an id. */
static void assert_support(struct sampling_params params, const float *logits,
                           const char *members) {
    int32_t count = 0;
    while (members[count])
        count++;
    struct sampler_border border = border_of(&params, logits, count);
    for (int32_t id = 0; id < count; id++)
        assert_int_equal(within(border, logits, id), members[id] == '1');
}

static void ties_at_a_border_go_to_the_lower_id(void **state) {
    (void)state;
    const float tied[] = {1, 3, 3, 3, 2};
    assert_support(warm(2, 1, 0), tied, "01100");
    assert_support(warm(1, 1, 0), tied, "01000");
    assert_support(warm(4, 1, 0), tied, "01111");
    assert_support(warm(5, 1, 0), tied, "11111");
    assert_support(warm(900, 1, 0), tied, "11111");
    const float even[] = {7, 7, 7, 7};
    assert_support(warm(0, 0.5f, 0), even, "1100"); /* exactly half is reached by two */
    assert_support(warm(0, 0.51f, 0), even, "1110");
    assert_support(warm(0, 1e-6f, 0), even, "1000");
    assert_support(warm(0, 0.999f, 0), even, "1111");
    assert_support(warm(3, 0.5f, 0), even, "1100");
    assert_support(warm(0, 1, 1), tied, "01110"); /* min-p keeps all that tie with the greatest */
    const float zeros[] = {-0.0f, 0.0f, -0.0f, -1};
    assert_support(warm(2, 1, 0), zeros, "1100");
    assert_support(warm(0, 0.5f, 0), zeros, "1100");
    assert_support(warm(0, 1, 1), zeros, "1110");
}

/* Probabilities 0.4 0.3 0.2 0.1. */
static void restrictions_act_in_order(void **state) {
    (void)state;
    const float logits[] = {logf(1), logf(3), logf(4), logf(2)};
    assert_support(warm(0, 0.5f, 0), logits, "0110");
    assert_support(warm(2, 0.5f, 0), logits, "0010"); /* top-p of the 4/7, 3/7 left by top-k */
    assert_support(warm(3, 0.7f, 0), logits, "0110");
    assert_support(warm(0, 0.69f, 0), logits, "0110");
    assert_support(warm(0, 0.71f, 0), logits, "0111");
    assert_support(warm(0, 1, 0.49f), logits, "0111");
    assert_support(warm(0, 1, 0.51f), logits, "0110");
    assert_support(warm(0, 0.71f, 0.6f), logits, "0110"); /* top-p would keep three */
    assert_support(warm(1, 1, 0.6f), logits, "0010");
    struct sampling_params cold = warm(0, 1, 0.49f);
    cold.temperature = 0.5f; /* 16 9 4 1: half of 16 is 8 */
    assert_support(cold, logits, "0110");
    cold.min_p = 0;
    cold.top_p = 0.5f; /* 16 / 30 */
    assert_support(cold, logits, "0010");
}

static void odd_logits_have_a_defined_support(void **state) {
    (void)state;
    const float holes[] = {NAN, 1, -INFINITY, 2, NAN, 0};
    assert_support(warm(0, 1, 0), holes, "010101");
    assert_support(warm(2, 1, 0), holes, "010100");
    assert_support(warm(5, 1, 0), holes, "010101"); /* fewer than top_k */
    assert_support(warm(0, 0.9f, 0), holes, "010100");
    assert_support(warm(0, 1, 0.9f), holes, "000100");
    const float infinite[] = {5, INFINITY, 3, INFINITY};
    assert_support(warm(0, 0.99f, 0), infinite, "0101");
    assert_support(warm(3, 0.99f, 0), infinite, "0101");
    assert_support(warm(0, 1, 0.1f), infinite, "0101");
    const float none[] = {NAN, -INFINITY, -INFINITY};
    assert_support(warm(2, 0.5f, 0.5f), none, "000");
    const float far[] = {3e38f, -3e38f, 0};
    assert_support(warm(0, 0.5f, 0), far, "100");
    assert_support(warm(2, 1, 0.5f), far, "100");
}

/* The floats next to the limit on either side: one is kept, the other is not. */
static void min_p_is_exact_to_the_last_float(void **state) {
    (void)state;
    for (int i = 1; i < 100; i++) {
        struct sampling_params params = warm(0, 1, (float)i * 0.01f);
        double limit = log((double)params.min_p);
        float logits[] = {nextafterf((float)limit, -INFINITY), (float)limit,
                          nextafterf((float)limit, INFINITY), 0};
        struct sampler_border border = border_of(&params, logits, 4);
        for (int32_t id = 0; id < 4; id++)
            assert_int_equal(within(border, logits, id), (double)logits[id] >= limit);
    }
}

struct entry {
    float logit;
    int32_t id;
};

static int compare_entries(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

/* The last member by the definition: sort everything, cut three times. */
static struct entry naive_last(const struct sampling_params *params, const float *logits,
                               int32_t vocabulary) {
    static struct entry sorted[VOCABULARY];
    for (int32_t i = 0; i < vocabulary; i++)
        sorted[i] = (struct entry){logits[i], i};
    qsort(sorted, (size_t)vocabulary, sizeof(*sorted), compare_entries);
    int32_t count = params->top_k > 0 && params->top_k < vocabulary ? params->top_k : vocabulary;
    long double t = (long double)params->temperature, total = 0, before = 0;
    for (int32_t i = 0; i < count; i++)
        total += expl(((long double)sorted[i].logit - (long double)sorted[0].logit) / t);
    int32_t kept = 0;
    for (; kept < count && (params->top_p == 1 || before < (long double)params->top_p * total);
         kept++)
        before += expl(((long double)sorted[kept].logit - (long double)sorted[0].logit) / t);
    while (kept > 1 && params->min_p > 0 &&
           expl(((long double)sorted[kept - 1].logit - (long double)sorted[0].logit) / t) <
               (long double)params->min_p)
        kept--;
    return sorted[kept - 1];
}

/* Sizes and temperatures that reach every path: short and long lists, flat and peaked rows. */
static void border_matches_a_plain_sort(void **state) {
    (void)state;
    static const int32_t top_ks[] = {0, 1, 20, 255, 256, 257, 1500};
    static const float top_ps[] = {1, 0.1f, 0.9f, 0.97f}, min_ps[] = {0, 0.003f, 0.2f};
    static const float temperatures[] = {0.1f, 1, 30};
    static float logits[VOCABULARY];
    uint64_t random = 1;
    for (int round = 0; round < 7 * 4 * 3 * 3 * 3; round++) {
        int32_t vocabulary = round % 2 ? VOCABULARY : 200 + round % 90;
        bool tied = round / 252 == 1; /* whole ranges of ids share a logit */
        for (int32_t i = 0; i < vocabulary; i++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            float uniform = (float)(random >> 40) * 0x1p-24f * 24.0f - 12.0f;
            logits[i] = tied ? floorf(uniform) : uniform;
        }
        struct sampling_params params =
            warm(top_ks[round % 7], top_ps[round / 7 % 4], min_ps[round / 28 % 3]);
        params.temperature = temperatures[round / 84 % 3];
        struct sampler_border border = border_of(&params, logits, vocabulary);
        struct entry last = naive_last(&params, logits, vocabulary);
        for (int32_t id = 0; id < vocabulary; id++) {
            struct entry entry = {logits[id], id};
            assert_int_equal(within(border, logits, id), compare_entries(&entry, &last) <= 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ties_at_a_border_go_to_the_lower_id),
        cmocka_unit_test(restrictions_act_in_order),
        cmocka_unit_test(odd_logits_have_a_defined_support),
        cmocka_unit_test(min_p_is_exact_to_the_last_float),
        cmocka_unit_test(border_matches_a_plain_sort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
