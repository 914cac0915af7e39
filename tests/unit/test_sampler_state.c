/* Token counts and penalties: hand-computed numbers, and that a path pushed and popped leaves no
 * trace. */

#include <math.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/sampler.h"
#include "tests/unit/unit_test.h"

#define VOCABULARY 40
#define CAPACITY 64
#define TOLERANCE 1e-6

static struct sampler_state *new_state(int32_t vocabulary, int32_t capacity) {
    struct sampler_state *counts = NULL;
    assert_int_equal(sampler_state_create(vocabulary, capacity, &counts), STATUS_OK);
    return counts;
}

static void assert_near(float got, double expected) {
    assert_true(fabs((double)got - expected) < TOLERANCE);
}

/* Prompt 0 1 3; output 2 3 2; penalties 1.2, 0.5, 0.25. */
static void penalties_match_hand_computed_numbers(void **state) {
    (void)state;
    struct sampler_state *counts = new_state(6, 8);
    const int32_t prompt[] = {0, 1, 3, 1};
    assert_int_equal(sampler_state_add_prompt(counts, prompt, 4), STATUS_OK);
    const int32_t output[] = {2, 3, 2};
    for (int i = 0; i < 3; i++)
        assert_int_equal(sampler_state_push(counts, output[i]), STATUS_OK);
    struct sampling_params params = sampling_params_default();
    params.repetition_penalty = 1.2f;
    params.frequency_penalty = 0.5f;
    params.presence_penalty = 0.25f;
    const float logits[] = {2.4f, -1.0f, 3.0f, -0.5f, 7.0f, 0.0f};
    struct sampler_row row = {.logits = logits, .count = 6};
    float adjusted[6];
    sampler_adjust(&params, counts, &row, adjusted);
    assert_near(adjusted[0], 2.0);   /* 2.4 / 1.2: prompt only */
    assert_near(adjusted[1], -1.2);  /* -1 * 1.2 */
    assert_near(adjusted[2], 1.25);  /* 3 / 1.2 - 2 * 0.5 - 0.25 */
    assert_near(adjusted[3], -1.35); /* -0.5 * 1.2 - 0.5 - 0.25 */
    assert_true(adjusted[4] == 7.0f && adjusted[5] == 0.0f);
    /* The bias comes before the penalties, the ban after: (2.4 + 1.2) / 1.2. */
    params.bias_count = 2;
    params.bias[0] = (struct sampling_bias){.id = 0, .bias = 1.2f};
    params.bias[1] = (struct sampling_bias){.id = 4, .bias = 100.0f};
    params.banned_count = 1;
    params.banned[0] = 4;
    sampler_adjust(&params, counts, &row, adjusted);
    assert_near(adjusted[0], 3.0);
    assert_true(isinf(adjusted[4]) && adjusted[4] < 0);
    /* A shard sees the part that is its own. */
    float shard[3];
    struct sampler_row part = {.logits = logits + 2, .first_id = 2, .count = 3};
    sampler_adjust(&params, counts, &part, shard);
    assert_memory_equal(shard, adjusted + 2, sizeof(shard));
    sampler_state_destroy(counts);
}

static void each_penalty_alone_is_off_at_its_default(void **state) {
    (void)state;
    struct sampler_state *counts = new_state(3, 8);
    const int32_t prompt[] = {0};
    sampler_state_add_prompt(counts, prompt, 1);
    sampler_state_push(counts, 1);
    sampler_state_push(counts, 1);
    const float logits[] = {1.0f, 1.0f, 1.0f};
    struct sampler_row row = {.logits = logits, .count = 3};
    float adjusted[3];
    struct sampling_params params = sampling_params_default();
    assert_false(sampler_adjusts(&params));
    params.frequency_penalty = 0.25f;
    assert_true(sampler_adjusts(&params));
    sampler_adjust(&params, counts, &row, adjusted);
    assert_memory_equal(adjusted, ((const float[]){1.0f, 0.5f, 1.0f}), sizeof(adjusted));
    params = sampling_params_default();
    params.presence_penalty = 0.25f;
    sampler_adjust(&params, counts, &row, adjusted);
    assert_memory_equal(adjusted, ((const float[]){1.0f, 0.75f, 1.0f}), sizeof(adjusted));
    params = sampling_params_default();
    params.repetition_penalty = 2.0f;
    sampler_adjust(&params, counts, &row, adjusted);
    assert_memory_equal(adjusted, ((const float[]){0.5f, 0.5f, 1.0f}), sizeof(adjusted));
    const float near_zero[] = {0.25f, -0.25f, 1.0f};
    row.logits = near_zero;
    sampler_adjust(&params, counts, &row, adjusted);
    assert_memory_equal(adjusted, ((const float[]){0.125f, -0.5f, 1.0f}), sizeof(adjusted));
    sampler_state_destroy(counts);
}

struct picture {
    float adjusted[VOCABULARY];
    int32_t counts[VOCABULARY], output_count;
    bool prompt[VOCABULARY];
};

static void take_picture(const struct sampler_state *counts, struct picture *picture) {
    memset(picture, 0, sizeof(*picture));
    struct sampling_params params = sampling_params_default();
    params.repetition_penalty = 1.3f;
    params.frequency_penalty = 0.7f;
    params.presence_penalty = -0.4f;
    float logits[VOCABULARY];
    for (int32_t id = 0; id < VOCABULARY; id++) {
        logits[id] = (float)(id % 7) - 3.25f;
        picture->counts[id] = sampler_state_count_of(counts, id);
        picture->prompt[id] = sampler_state_in_prompt(counts, id);
    }
    picture->output_count = sampler_state_output_count(counts);
    struct sampler_row row = {.logits = logits, .count = VOCABULARY};
    sampler_adjust(&params, counts, &row, picture->adjusted);
}

/* A walk like a tree verifier's: paths of any length, pushed, looked at, popped, some kept. */
static void popping_a_path_leaves_no_trace(void **state) {
    (void)state;
    struct sampler_state *counts = new_state(VOCABULARY, CAPACITY);
    const int32_t prompt[] = {5, 6, 5, 39, 0};
    assert_int_equal(sampler_state_add_prompt(counts, prompt, 5), STATUS_OK);
    struct picture before, during, after;
    uint32_t random = 1;
    for (int round = 0; round < 2000; round++) {
        take_picture(counts, &before);
        random = random * 1664525 + 1013904223;
        int32_t length = (int32_t)(random >> 28) % 9 + 1;
        for (int32_t i = 0; i < length; i++) {
            random = random * 1664525 + 1013904223;
            assert_int_equal(sampler_state_push(counts, (int32_t)(random >> 16) % VOCABULARY),
                             STATUS_OK);
        }
        take_picture(counts, &during);
        assert_memory_not_equal(&before, &during, sizeof(before));
        sampler_state_pop(counts, length);
        take_picture(counts, &after);
        assert_memory_equal(&before, &after, sizeof(before));
        int32_t held = sampler_state_output_count(counts);
        if (held > 40)
            sampler_state_pop(counts, held - 3);
        else
            assert_int_equal(sampler_state_push(counts, round % VOCABULARY), STATUS_OK);
    }
    sampler_state_reset(counts);
    struct sampler_state *fresh = new_state(VOCABULARY, CAPACITY);
    take_picture(counts, &after);
    take_picture(fresh, &before);
    assert_memory_equal(&before, &after, sizeof(before));
    sampler_state_destroy(fresh);
    sampler_state_destroy(counts);
}

static void too_many_tokens_and_strange_ids_are_refused(void **state) {
    (void)state;
    struct sampler_state *counts = new_state(10, 3);
    const int32_t bad[] = {1, 10}, negative[] = {-1}, many[] = {1, 2, 3, 4};
    assert_int_equal(sampler_state_add_prompt(counts, bad, 2), STATUS_BAD_REQUEST);
    assert_int_equal(sampler_state_add_prompt(counts, negative, 1), STATUS_BAD_REQUEST);
    assert_int_equal(sampler_state_add_prompt(counts, many, 4), STATUS_LIMIT);
    assert_false(sampler_state_in_prompt(counts, 1)); /* all or nothing */
    assert_int_equal(sampler_state_add_prompt(counts, many, 2), STATUS_OK);
    assert_int_equal(sampler_state_push(counts, 10), STATUS_BAD_REQUEST);
    assert_int_equal(sampler_state_push(counts, 9), STATUS_OK);
    assert_int_equal(sampler_state_push(counts, 9), STATUS_LIMIT);
    assert_int_equal(sampler_state_count_of(counts, 9), 1);
    sampler_state_pop(counts, 1);
    assert_int_equal(sampler_state_push(counts, 8), STATUS_OK);
    sampler_state_destroy(counts);
    sampler_state_destroy(NULL);
}

static void assert_params(struct sampling_params params, enum status expected) {
    assert_int_equal(sampling_params_check(&params, 100), expected);
}

static void params_float_ranges(void **state) {
    (void)state;
    static const struct {
        size_t offset;
        float low, high, below, above;
    } fields[] = {
        {offsetof(struct sampling_params, temperature), 1e-5f, 1000.0f, 0.9e-5f, 1001.0f},
        {offsetof(struct sampling_params, top_p), 1e-6f, 1.0f, 0.0f, 1.0001f},
        {offsetof(struct sampling_params, min_p), 0.0f, 1.0f, -0.001f, 1.0001f},
        {offsetof(struct sampling_params, repetition_penalty), 0.01f, 100.0f, 0.0f, 100.1f},
        {offsetof(struct sampling_params, frequency_penalty), -100.0f, 100.0f, -100.1f, 100.1f},
        {offsetof(struct sampling_params, presence_penalty), -100.0f, 100.0f, -100.1f, 100.1f},
    };
    assert_params(sampling_params_default(), STATUS_OK);
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        const float bad[] = {fields[i].below, fields[i].above, NAN, INFINITY, -INFINITY};
        for (size_t j = 0; j < sizeof(bad) / sizeof(*bad); j++) {
            struct sampling_params params = sampling_params_default();
            memcpy((char *)&params + fields[i].offset, &bad[j], sizeof(float));
            assert_params(params, STATUS_BAD_REQUEST);
        }
        struct sampling_params params = sampling_params_default();
        memcpy((char *)&params + fields[i].offset, &fields[i].low, sizeof(float));
        assert_params(params, STATUS_OK);
        memcpy((char *)&params + fields[i].offset, &fields[i].high, sizeof(float));
        assert_params(params, STATUS_OK);
    }
}

static void params_integers_and_lists(void **state) {
    (void)state;
    static const struct {
        size_t offset;
        int32_t low, high;
    } fields[] = {
        {offsetof(struct sampling_params, logprobs), -1, SAMPLING_LOGPROBS_MAX},
        {offsetof(struct sampling_params, bias_count), 0, SAMPLING_BIAS_MAX},
        {offsetof(struct sampling_params, banned_count), 0, SAMPLING_BANNED_MAX},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        const int32_t values[] = {fields[i].low, fields[i].high, fields[i].low - 1,
                                  fields[i].high + 1};
        for (int j = 0; j < 4; j++) {
            struct sampling_params params = sampling_params_default();
            memcpy((char *)&params + fields[i].offset, &values[j], sizeof(int32_t));
            assert_params(params, j < 2 ? STATUS_OK : STATUS_BAD_REQUEST);
        }
    }
    struct sampling_params params = sampling_params_default();
    params.top_k = -1;
    assert_params(params, STATUS_BAD_REQUEST);
    const int32_t ids[] = {0, 99, -1, 100};
    for (int i = 0; i < 4; i++) {
        params = sampling_params_default();
        params.bias_count = 2;
        params.bias[1].id = ids[i];
        assert_params(params, i < 2 ? STATUS_OK : STATUS_BAD_REQUEST);
        params = sampling_params_default();
        params.banned_count = 2;
        params.banned[1] = ids[i];
        assert_params(params, i < 2 ? STATUS_OK : STATUS_BAD_REQUEST);
    }
    const float biases[] = {-100.0f, 100.0f, NAN, INFINITY, 100.1f};
    for (int i = 0; i < 5; i++) {
        params = sampling_params_default();
        params.bias_count = 1;
        params.bias[0] = (struct sampling_bias){.id = 1, .bias = biases[i]};
        assert_params(params, i < 2 ? STATUS_OK : STATUS_BAD_REQUEST);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(penalties_match_hand_computed_numbers),
        cmocka_unit_test(each_penalty_alone_is_off_at_its_default),
        cmocka_unit_test(popping_a_path_leaves_no_trace),
        cmocka_unit_test(too_many_tokens_and_strange_ids_are_refused),
        cmocka_unit_test(params_float_ranges),
        cmocka_unit_test(params_integers_and_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
