/* kernels/base: the ground that every other file stands on. */
#define _XOPEN_SOURCE 700

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "kernels/base/status.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

static void exit_codes_are_distinct(void **state) {
    (void)state;
    for (int a = 0; a < STATUS_COUNT; a++) {
        for (int b = 0; b < a; b++)
            assert_int_not_equal(status_exit_code((enum status)a),
                                 status_exit_code((enum status)b));
        assert_int_not_equal(status_exit_code((enum status)a), 1);
        assert_non_null(status_name((enum status)a));
    }
}

static void arena_measures_what_it_takes(void **state) {
    (void)state;
    struct arena measure = {0};
    for (size_t size = 1; size < 300; size += 37)
        assert_null(arena_take(&measure, size));
    void *region = NULL;
    assert_int_equal(memory_acquire("test", measure.used, &region), STATUS_OK);
    struct arena real = {.base = region, .capacity = measure.used};
    char *last_end = region;
    for (size_t size = 1; size < 300; size += 37) {
        char *taken = arena_take(&real, size);
        assert_true(taken >= last_end);
        assert_int_equal((uintptr_t)taken % MEMORY_ALIGNMENT, 0);
        last_end = taken + size;
    }
    assert_int_equal(real.used, measure.used);
    memory_release(region, measure.used);
}

static void sizes_that_overflow_are_refused(void **state) {
    (void)state;
    int64_t result = 7;
    assert_int_equal(memory_multiply(INT64_MAX, 2, &result), STATUS_LIMIT);
    assert_int_equal(memory_add(INT64_MAX, 1, &result), STATUS_LIMIT);
    assert_int_equal(result, 7);
    assert_int_equal(memory_multiply(1 << 20, 1 << 20, &result), STATUS_OK);
    assert_int_equal(result, INT64_C(1) << 40);
    void *region = NULL;
    log_setup(LOG_LEVEL_ERROR, 0);
    assert_int_equal(memory_acquire("an impossible region", SIZE_MAX / 2, &region),
                     STATUS_NO_MEMORY);
    assert_null(region);
}

static void clock_never_goes_back(void **state) {
    (void)state;
    int64_t before = clock_now_ns();
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_now_ns();
        assert_true(now >= before);
        before = now;
    }
}

/* Whatever is logged, a line of JSON is one object, and UTF-8. */
static void json_lines_hold_any_text(void **state) {
    (void)state;
    struct capture capture;
    log_setup(LOG_LEVEL_INFO, 3);
    log_set_json(true);
    capture_begin(&capture);
    LOG_INFO("%s", "a \"b\" \\ \n \xc3\xa4 \xff \xed\xa0\x80 \xc3");
    capture_end(&capture);
    const char *rest = strstr(capture.text, "Z\", \"rank\": 3, \"level\": \"info\", \"place\": "
                                            "\"test_base.c:");
    assert_non_null(rest);
    rest = strstr(rest, "\"text\": ");
    assert_non_null(rest);
    assert_string_equal(rest, "\"text\": \"a \\\"b\\\" \\\\ ? \xc3\xa4 ? ??? ?\"}\n");
    char quotes[2001];
    memset(quotes, '"', sizeof quotes - 1);
    quotes[sizeof quotes - 1] = '\0';
    capture_begin(&capture);
    LOG_INFO("%s", quotes);
    capture_end(&capture);
    log_set_json(false);
    assert_int_equal(strlen(strstr(capture.text, "\\\"")), 2 * (sizeof quotes - 1) + 3);
    capture_begin(&capture);
    LOG_INFO("plain");
    capture_end(&capture);
    assert_non_null(strstr(capture.text, " 3 info test_base.c:"));
}

static void lines_of_several_ranks_name_the_host(void **state) {
    (void)state;
    struct capture capture;
    log_setup(LOG_LEVEL_INFO, 3);
    log_set_host("node\"7");
    capture_begin(&capture);
    LOG_INFO("plain");
    capture_end(&capture);
    assert_non_null(strstr(capture.text, " 3@node\"7 info test_base.c:"));
    log_set_json(true);
    capture_begin(&capture);
    LOG_INFO("an object");
    capture_end(&capture);
    log_set_json(false);
    log_set_host("");
    assert_non_null(
        strstr(capture.text, "\"rank\": 3, \"host\": \"node\\\"7\", \"level\": \"info\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_codes_are_distinct),
        cmocka_unit_test(arena_measures_what_it_takes),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(clock_never_goes_back),
        cmocka_unit_test(json_lines_hold_any_text),
        cmocka_unit_test(lines_of_several_ranks_name_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
