/* runtime/metrics.c: values, buckets and the text that Prometheus reads. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/metrics.h"
#include "tests/unit/unit_test.h"

static bool says(const struct text_buffer *text, const char *line) {
    char *copy = calloc(text->length + 2, 1);
    assert_non_null(copy);
    memcpy(copy + 1, text->data, text->length);
    copy[0] = '\n';
    char wanted[256];
    snprintf(wanted, sizeof wanted, "\n%s\n", line);
    bool found = strstr(copy, wanted) != NULL;
    free(copy);
    return found;
}

static void values(void **state) {
    (void)state;
    struct metrics *metrics;
    struct metrics_snapshot snapshot;
    assert_int_equal(metrics_create(2, &metrics), STATUS_OK);
    metrics_add(metrics, METRICS_STEPS, 3);
    metrics_add(metrics, METRICS_STEPS, 4);
    metrics_set(metrics, METRICS_KV_CACHE_USAGE, 0.25);
    assert_int_equal(metrics_count(metrics, METRICS_STEPS), 7);
    assert_true(metrics_value(metrics, METRICS_KV_CACHE_USAGE) == 0.25);
    metrics_observe(metrics, METRICS_ITERATION_TOKENS, 1.0); /* on a bound: within */
    metrics_observe(metrics, METRICS_ITERATION_TOKENS, 1.5); /* above it */
    metrics_observe(metrics, METRICS_ITERATION_TOKENS, 1e9); /* above all */
    metrics_read(metrics, METRICS_ITERATION_TOKENS, &snapshot);
    assert_int_equal(snapshot.counts[0], 1);
    assert_int_equal(snapshot.counts[1], 1);
    assert_int_equal(snapshot.counts[snapshot.bound_count], 1);
    assert_true(snapshot.sum == 1e9 + 2.5);
    for (int histogram = 0; histogram < METRICS_HISTOGRAM_COUNT; histogram++) {
        metrics_read(metrics, (enum metrics_histogram)histogram, &snapshot);
        assert_true(snapshot.bound_count > 0 && snapshot.bound_count <= METRICS_BOUNDS_MAX);
        for (int32_t i = 1; i < snapshot.bound_count; i++)
            assert_true(snapshot.bounds[i] > snapshot.bounds[i - 1]);
    }
    metrics_destroy(metrics);
    metrics_destroy(NULL);
}

static void text(void **state) {
    (void)state;
    struct metrics *metrics;
    struct text_buffer out = {0};
    assert_int_equal(metrics_create(2, &metrics), STATUS_OK);
    metrics_add(metrics, METRICS_FINISHED_LENGTH, 2);
    metrics_observe(metrics, METRICS_TIME_TO_FIRST_TOKEN, 0.03);
    metrics_add(metrics, METRICS_ROUTED_PAIRS, 8);
    metrics_add(metrics, METRICS_LOCAL_PAIRS, 2);
    struct metrics_rank accounts = {.wait_ns = 1500000000, .computed_pairs = 6};
    accounts.sent[TRAFFIC_DISPATCH][TRAFFIC_REMOTE].bytes = 4096;
    metrics_set_rank(metrics, 1, &accounts);
    accounts.computed_pairs = 2;
    metrics_set_rank(metrics, 0, &accounts);
    assert_int_equal(metrics_write(metrics, "a\"b\\c", &out), STATUS_OK);
    assert_true(says(&out, "# TYPE moebius_request_success_total counter"));
    assert_true(says(&out, "moebius_request_success_total{model_name=\"a\\\"b\\\\c\","
                           "finished_reason=\"length\"} 2"));
    assert_true(says(&out, "# TYPE moebius_time_to_first_token_seconds histogram"));
    assert_true(says(&out, "moebius_time_to_first_token_seconds_bucket{model_name=\"a\\\"b\\\\c\","
                           "le=\"0.02\"} 0"));
    assert_true(says(&out, "moebius_time_to_first_token_seconds_bucket{model_name=\"a\\\"b\\\\c\","
                           "le=\"0.04\"} 1"));
    assert_true(says(&out, "moebius_time_to_first_token_seconds_bucket{model_name=\"a\\\"b\\\\c\","
                           "le=\"+Inf\"} 1"));
    assert_true(
        says(&out, "moebius_time_to_first_token_seconds_count{model_name=\"a\\\"b\\\\c\"} 1"));
    assert_true(says(&out, "moebius_local_activation_rate{model_name=\"a\\\"b\\\\c\"} 0.25"));
    assert_true(says(&out, "moebius_expert_load_max_over_mean{model_name=\"a\\\"b\\\\c\"} 1.5"));
    assert_true(
        says(&out, "moebius_rank_wait_seconds_total{model_name=\"a\\\"b\\\\c\",rank=\"1\"} 1.5"));
    assert_true(says(&out, "moebius_sent_bytes_total{model_name=\"a\\\"b\\\\c\",rank=\"1\","
                           "kind=\"dispatch\",distance=\"remote\"} 4096"));
    text_buffer_deinit(&out);
    metrics_destroy(metrics);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values), cmocka_unit_test(text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
