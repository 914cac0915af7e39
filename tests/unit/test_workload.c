/* runtime/workload.c: every format as its publishers write it, the same prompts every time, shared
 * blocks where the file says so, and each broken line refused with its number. */
#define _XOPEN_SOURCE 700
#include "runtime/workload.h"

#include "kernels/base/log.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

#define DATA "tests/data/workloads/"

static void load(const char *path, int32_t most, struct workload *workload, int32_t count) {
    assert_int_equal(workload_load(path, most, workload), STATUS_OK);
    assert_int_equal(workload->count, count);
}

static void expect_item(const struct workload_item *item, int64_t arrival_ns, int32_t prompt,
                        int32_t output) {
    assert_int_equal(item->arrival_ns, arrival_ns);
    assert_int_equal(item->prompt_tokens, prompt);
    assert_int_equal(item->output_tokens, output);
}

static void azure(void **state) {
    (void)state;
    struct workload workload;
    load(DATA "azure.csv", 0, &workload, 2);
    expect_item(&workload.items[0], 0, 7, 3);
    expect_item(&workload.items[1], 250000000, 600, 1); /* over midnight; no empty answers */
    assert_null(workload.items[1].text);
    workload_deinit(&workload);
    load(DATA "azure-2024.csv", 0, &workload, 2);
    expect_item(&workload.items[0], 0, 21, 5);
    expect_item(&workload.items[1], 1000000000, 4, 9);
    workload_deinit(&workload);
}

static void mooncake(void **state) {
    (void)state;
    struct workload workload;
    static int32_t ids[3][1100], again[1100];
    load(DATA "mooncake.jsonl", 0, &workload, 3); /* the empty line is none */
    expect_item(&workload.items[0], 0, 600, 5);
    expect_item(&workload.items[1], 0, 520, 6);
    expect_item(&workload.items[2], 1500000000, 1100, 7);
    for (int32_t i = 0; i < 3; i++)
        workload_make_ids(&workload.items[i], i, 1, 4096, ids[i]);
    /* block 0 is shared, what follows is not */
    assert_memory_equal(ids[0], ids[1], WORKLOAD_HASH_TOKENS * sizeof(int32_t));
    assert_memory_not_equal(&ids[0][WORKLOAD_HASH_TOKENS], &ids[1][WORKLOAD_HASH_TOKENS],
                            8 * sizeof(int32_t));
    assert_memory_not_equal(ids[0], ids[2], 8 * sizeof(int32_t));
    /* past its hashes the third goes on with tokens of its own, no two blocks alike */
    assert_memory_not_equal(&ids[2][512], &ids[2][1024], 64 * sizeof(int32_t));
    workload_make_ids(&workload.items[2], 2, 2, 4096, again); /* another seed */
    assert_memory_equal(ids[2], again, WORKLOAD_HASH_TOKENS * sizeof(int32_t));
    assert_memory_not_equal(&ids[2][512], &again[512], 64 * sizeof(int32_t));
    for (int32_t i = 0; i < 1100; i++)
        assert_in_range(ids[2][i], 0, 4095);
    workload_deinit(&workload);
}

static void token_ids(void **state) {
    (void)state;
    struct workload workload;
    int32_t ids[3];
    static const int32_t whole[] = {5, 70000, 9}, folded[] = {5, 70000 % 4096, 9};
    load(DATA "sharegpt-ids.jsonl", 0, &workload, 2);
    expect_item(&workload.items[0], 0, 3, 4);
    expect_item(&workload.items[1], 2500, 2, 1);
    workload_make_ids(&workload.items[0], 0, 1, 100000, ids);
    assert_memory_equal(ids, whole, sizeof ids);
    workload_make_ids(&workload.items[0], 7, 2, 4096, ids);
    assert_memory_equal(ids, folded, sizeof ids);
    workload_deinit(&workload);
}

static void texts(void **state) {
    (void)state;
    struct workload workload;
    load(DATA "questions.jsonl", 0, &workload, 4);
    assert_string_equal(workload.items[0].text, "Write a line about the sea.");
    assert_string_equal(workload.items[1].text, "How many legs have two cows?");
    assert_string_equal(workload.items[2].text, "def add(a, b):\n    \"\"\"Größe\"\"\"\n");
    assert_string_equal(workload.items[3].text, "It was a cold evening");
    for (int32_t i = 0; i < 4; i++)
        expect_item(&workload.items[i], -1, 0, 0);
    workload_deinit(&workload);
    load(DATA "questions.jsonl", 3, &workload, 3);
    workload_deinit(&workload);
}

/* Made-up prompts: the same for the same seed and number, different otherwise, spread over the
 * vocabulary. */
static void made_up(void **state) {
    (void)state;
    static int32_t ids[2000], other[2000];
    struct workload_item item = {.prompt_tokens = 2000};
    workload_make_ids(&item, 3, 9, 1000, ids);
    workload_make_ids(&item, 3, 9, 1000, other);
    assert_memory_equal(ids, other, sizeof ids);
    workload_make_ids(&item, 4, 9, 1000, other);
    assert_memory_not_equal(ids, other, 64);
    workload_make_ids(&item, 3, 10, 1000, other);
    assert_memory_not_equal(ids, other, 64);
    double sum = 0.0;
    for (int32_t i = 0; i < 2000; i++) {
        assert_in_range(ids[i], 0, 999);
        sum += ids[i];
    }
    assert_true(sum / 2000 > 460 && sum / 2000 < 540); /* 6 standard deviations */
}

#define HEADER "TIMESTAMP,ContextTokens,GeneratedTokens\n"
#define GOOD "2023-11-16 18:17:03.9,4808,10\n"

static const struct {
    const char *text, *line, *expected;
} broken[] = {
    {"", "line 0", "at least one request"},
    {HEADER, "line 1", "at least one request"},
    {HEADER GOOD "2023-11-16 18:17:03.9,4808\n", "line 3", "TIMESTAMP"},
    {HEADER GOOD "2023-11-16 18:17:03.9,0,1\n", "line 3", "TIMESTAMP"},
    {HEADER GOOD "2023-11-16 18:17:03.9,5,-1\n", "line 3", "TIMESTAMP"},
    {HEADER GOOD "2023-11-16 18:17:03.9,5,1,2\n", "line 3", "TIMESTAMP"},
    {HEADER GOOD "2023-11-16 18:17:03.9,99999999999,1\n", "line 3", "TIMESTAMP"},
    {HEADER GOOD "2023-11-16 18:17:1e99,5,1\n", "line 3", "TIMESTAMP"},
    {HEADER GOOD "2023-11-16 18:17:nan,5,1\n", "line 3", "TIMESTAMP"},
    {HEADER GOOD "9999-11-16 18:17:03,5,1\n", "line 3", "TIMESTAMP"},
    {HEADER "{\"text\": \"a\"}\n", "line 2", "TIMESTAMP"},
    {GOOD, "line 1", ""},
    {"{\"text\": \"a\"}\n{\"text\": \n", "line 2", ""},
    {"{\"text\": \"a\"}\n{\"turns\": []}\n", "line 2", "turns"},
    {"[1, 2]\n", "line 1", ""},
    {"{\"input_length\": 0}\n", "line 1", "input_length"},
    {"{\"input_length\": -4}\n", "line 1", "input_length"},
    {"{\"input_length\": 1e300}\n", "line 1", "input_length"},
    {"{\"input_length\": \"4\"}\n", "line 1", "input_length"},
    {"{\"input_length\": 4, \"timestamp\": \"now\"}\n", "line 1", "timestamp"},
    {"{\"input_length\": 4, \"output_length\": -1}\n", "line 1", "output_length"},
    {"{\"input_length\": 4, \"hash_ids\": [\"a\"]}\n", "line 1", "hash_ids"},
    {"{\"input_tok_ids\": [1, -2]}\n", "line 1", "input_tok_ids"},
    {"{\"input_tok_ids\": [1, 4294967296]}\n", "line 1", "input_tok_ids"},
    {"{\"input_tok_ids\": [1, 2.5]}\n", "line 1", "input_tok_ids"},
    {"{\"input_tok_ids\": []}\n", "line 1", "input_tok_ids"},
};

static void broken_files(void **state) {
    (void)state;
    struct scratch scratch;
    scratch_create(&scratch);
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct workload workload;
        struct capture capture;
        const char *path =
            scratch_write(&scratch, "broken", broken[i].text, strlen(broken[i].text));
        capture_begin(&capture);
        enum status status = workload_load(path, 0, &workload);
        workload_deinit(&workload);
        capture_end(&capture);
        if (status != STATUS_BAD_REQUEST || capture_lines(&capture) != 1)
            fail_msg("case %zu: status %d, log: %s", i, (int)status, capture.text);
        capture_has(&capture, broken[i].text, "broken");
        capture_has(&capture, broken[i].text, broken[i].line);
        capture_has(&capture, broken[i].text, broken[i].expected);
    }
    struct workload workload;
    struct capture capture;
    capture_begin(&capture);
    enum status status = workload_load(scratch_path(&scratch, "nothing"), 0, &workload);
    capture_end(&capture);
    assert_int_equal(status, STATUS_IO);
    capture_has(&capture, "no file", "nothing");
    scratch_destroy(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(azure),     cmocka_unit_test(mooncake),
                                       cmocka_unit_test(token_ids), cmocka_unit_test(texts),
                                       cmocka_unit_test(made_up),   cmocka_unit_test(broken_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
