/* launcher/bench_figures.c against figures worked out by hand, its text and its JSON; and the page
 * of launcher/bench_plot.c, as far as a program can look at it. */
#define _XOPEN_SOURCE 700
#include "launcher/bench_figures.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/bench_plot.h"
#include "tests/unit/unit_test.h"

static void expect_near(double got, double expected) {
    if (!(fabs(got - expected) <= 1e-9 * (1.0 + fabs(expected))))
        fail_msg("got %.12g, expected %.12g", got, expected);
}

/* Five requests: three answered, one refused, one lost.
 *
 *      start  first  end   tokens  gaps            TPOT
 *   0    0.0    0.1  0.5      5    4 x 0.1         0.4 / 4 = 0.1
 *   1    0.2    0.3  1.1      3    0.2, 0.6        0.8 / 2 = 0.4
 *   2    1.0    0.2  0.2      1    none            none
 *   3    0.3    -    0.1      -                    refused
 *   4    2.0    -    0.5      -                    lost */
static double gaps_0[] = {0.1, 0.1, 0.1, 0.1}, gaps_1[] = {0.2, 0.6};
static const struct bench_outcome outcomes[] = {
    {.succeeded = true,
     .start_s = 0.0,
     .first_token_s = 0.1,
     .end_s = 0.5,
     .prompt_tokens = 10,
     .output_tokens = 5,
     .cached_tokens = 8,
     .gaps_s = gaps_0,
     .gap_count = 4},
    {.succeeded = true,
     .start_s = 0.2,
     .first_token_s = 0.3,
     .end_s = 1.1,
     .prompt_tokens = 20,
     .output_tokens = 3,
     .gaps_s = gaps_1,
     .gap_count = 2},
    {.succeeded = true,
     .start_s = 1.0,
     .first_token_s = 0.2,
     .end_s = 0.2,
     .prompt_tokens = 30,
     .output_tokens = 1},
    {.start_s = 0.3, .end_s = 0.1, .code = RPC_RESOURCE_EXHAUSTED, .was_told = true},
    {.start_s = 2.0, .end_s = 0.5, .code = RPC_UNAVAILABLE},
};

static struct bench_figures figures_of(const struct bench_goals *goals) {
    struct bench_figures figures;
    assert_int_equal(bench_figures_of(outcomes, 5, goals, &figures), STATUS_OK);
    return figures;
}

static void sums(void **state) {
    (void)state;
    struct bench_figures figures = figures_of(&(struct bench_goals){0});
    assert_int_equal(figures.requests, 5);
    assert_int_equal(figures.succeeded, 3);
    assert_int_equal(figures.lost, 1);
    assert_int_equal(figures.failed_by_code[RPC_RESOURCE_EXHAUSTED], 1);
    assert_int_equal(figures.failed_by_code[RPC_UNAVAILABLE], 0);
    assert_int_equal(figures.prompt_tokens, 60);
    assert_int_equal(figures.output_tokens, 9);
    assert_int_equal(figures.cached_tokens, 8);
    assert_false(figures.has_goals);
    expect_near(figures.duration_s, 2.5);
    /* second 0: five of the first, two of the second; second 1: one of the second, the third */
    expect_near(figures.peak_tokens_s, 7.0);
    assert_int_equal(figures.peak_concurrent, 3); /* 0, 1 and 3 */
}

/* Percentiles as numpy's: place p (n - 1), linear between neighbours. */
static void spreads(void **state) {
    (void)state;
    struct bench_figures figures = figures_of(&(struct bench_goals){0});
    assert_int_equal(figures.ttft.count, 3); /* 0.1, 0.2, 0.3 */
    expect_near(figures.ttft.mean, 200.0);
    expect_near(figures.ttft.median, 200.0);
    expect_near(figures.ttft.sd, 100.0 * sqrt(2.0 / 3.0));
    expect_near(figures.ttft.p90, 280.0);
    expect_near(figures.ttft.p99, 298.0);
    assert_int_equal(figures.tpot.count, 2); /* 0.1, 0.4 */
    expect_near(figures.tpot.mean, 250.0);
    expect_near(figures.tpot.median, 250.0);
    expect_near(figures.tpot.p90, 370.0);
    assert_int_equal(figures.itl.count, 6); /* 4 x 0.1, 0.2, 0.6 */
    expect_near(figures.itl.mean, 200.0);
    expect_near(figures.itl.median, 100.0);
    expect_near(figures.itl.p90, 400.0);    /* place 4.5 */
    expect_near(figures.itl.p99, 580.0);    /* place 4.95 */
    assert_int_equal(figures.e2e.count, 3); /* 0.2, 0.5, 1.1 */
    expect_near(figures.e2e.mean, 600.0);
    expect_near(figures.e2e.median, 500.0);
}

static void goals(void **state) {
    (void)state;
    assert_int_equal(figures_of(&(struct bench_goals){.ttft_ms = 250}).good, 2);
    assert_int_equal(figures_of(&(struct bench_goals){.tpot_ms = 150}).good, 2);
    assert_int_equal(figures_of(&(struct bench_goals){.e2e_ms = 300}).good, 1);
    assert_int_equal(figures_of(&(struct bench_goals){.ttft_ms = 150, .tpot_ms = 150}).good, 1);
    assert_int_equal(figures_of(&(struct bench_goals){.ttft_ms = 1}).good, 0);
    assert_true(figures_of(&(struct bench_goals){.e2e_ms = 300}).has_goals);
}

static void nothing_succeeded(void **state) {
    (void)state;
    struct bench_figures figures;
    assert_int_equal(bench_figures_of(&outcomes[3], 2, &(struct bench_goals){0}, &figures),
                     STATUS_OK);
    assert_int_equal(figures.succeeded, 0);
    assert_int_equal(figures.ttft.count, 0);
    expect_near(figures.ttft.p99, 0.0);
}

/* Peaks of many requests, against counting them one by one. */
static void peaks(void **state) {
    (void)state;
    struct bench_outcome many[500] = {0};
    unsigned random = 1;
    int32_t most = 0;
    for (int i = 0; i < 500; i++) {
        random = random * 1103515245u + 12345u;
        many[i].start_s = (double)(random >> 16 & 1023) / 16.0;
        random = random * 1103515245u + 12345u;
        many[i].end_s = (double)(1 + (random >> 16 & 63)) / 16.0;
    }
    for (int i = 0; i < 500; i++) {
        int32_t open = 0;
        for (int k = 0; k < 500; k++)
            open += many[k].start_s <= many[i].start_s &&
                    many[i].start_s < many[k].start_s + many[k].end_s;
        most = open > most ? open : most;
    }
    struct bench_figures figures;
    assert_int_equal(bench_figures_of(many, 500, &(struct bench_goals){0}, &figures), STATUS_OK);
    assert_int_equal(figures.peak_concurrent, most);
}

static char *text_of(void (*write)(FILE *out, const struct bench_figures *figures),
                     const struct bench_figures *figures) {
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    write(out, figures);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void expect_part(const char *text, const char *part) {
    if (strstr(text, part) == NULL)
        fail_msg("no '%s' in:\n%s", part, text);
}

/* The lines that programs which read vLLM's block look for. */
static void block(void **state) {
    (void)state;
    static const char *const parts[] = {"============ Serving Benchmark Result ============\n",
                                        "Successful requests:                     3         \n",
                                        "Failed requests:                         2         \n",
                                        "  RESOURCE_EXHAUSTED:                    1         \n",
                                        "  without a status:                      1         \n",
                                        "Benchmark duration (s):                  2.50      \n",
                                        "Total input tokens:                      60        \n",
                                        "Total generated tokens:                  9         \n",
                                        "Request throughput (req/s):              1.20      \n",
                                        "Request goodput (req/s):                 0.80      \n",
                                        "Output token throughput (tok/s):         3.60      \n",
                                        "Total token throughput (tok/s):          27.60     \n",
                                        "---------------Time to First Token----------------\n",
                                        "Mean TTFT (ms):                          200.00    \n",
                                        "P99 TTFT (ms):                           298.00    \n",
                                        "-----Time per Output Token (excl. 1st token)------\n",
                                        "Median TPOT (ms):                        250.00    \n",
                                        "---------------Inter-token Latency----------------\n",
                                        "P90 ITL (ms):                            400.00    \n",
                                        "----------------End-to-end Latency----------------\n",
                                        "Mean E2EL (ms):                          600.00    \n",
                                        "==================================================\n"};
    struct bench_figures figures = figures_of(&(struct bench_goals){.ttft_ms = 250});
    char *text = text_of(bench_figures_print, &figures);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        expect_part(text, parts[i]);
    free(text);
}

static const char *const setup[][2] = {{"server", "a <b> & \"c\""}, {"num_prompts", "5"}};

static void write_json(FILE *out, const struct bench_figures *figures) {
    bench_figures_write_json(out, figures, setup, 2);
}

static void json(void **state) {
    (void)state;
    struct bench_figures figures = figures_of(&(struct bench_goals){.ttft_ms = 250});
    char *text = text_of(write_json, &figures);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "server")), "a <b> & \"c\"");
    assert_int_equal(json_integer_value(json_object_get(root, "completed")), 3);
    assert_int_equal(json_integer_value(json_object_get(root, "failed")), 2);
    assert_int_equal(json_integer_value(json_object_get(root, "failed_without_status")), 1);
    const json_t *by_status = json_object_get(root, "failed_by_status");
    assert_int_equal(json_object_size(by_status), 1);
    assert_int_equal(json_integer_value(json_object_get(by_status, "RESOURCE_EXHAUSTED")), 1);
    expect_near(json_number_value(json_object_get(root, "request_goodput")), 0.8);
    expect_near(json_number_value(json_object_get(json_object_get(root, "itl_ms"), "p99")), 580.0);
    json_decref(root);
    free(text);
}

static void write_page(FILE *out, const struct bench_figures *figures) {
    bench_plot_write(out, figures, outcomes, 5, setup, 2);
}

static void page(void **state) {
    (void)state;
    struct bench_figures figures = figures_of(&(struct bench_goals){0});
    char *text = text_of(write_page, &figures);
    int plots = 0;
    for (const char *at = text; (at = strstr(at, "<svg")) != NULL; at++)
        plots++;
    assert_int_equal(plots, 5);
    expect_part(text, "a &lt;b&gt; &amp; &quot;c&quot;");
    expect_part(text, "Serving Benchmark Result");
    expect_part(text, "</html>");
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    assert_null(strstr(text, "://")); /* nothing from elsewhere */
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums),  cmocka_unit_test(spreads),
                                       cmocka_unit_test(goals), cmocka_unit_test(nothing_succeeded),
                                       cmocka_unit_test(peaks), cmocka_unit_test(block),
                                       cmocka_unit_test(json),  cmocka_unit_test(page)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
