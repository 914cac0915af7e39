/* runtime/json_lines.c: what a line holds is appended, what it does not hold is named, and the
 * text of a line never gets into a message. */
#define _XOPEN_SOURCE 700

#include <string.h>

#include "runtime/json_lines.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

struct line_case {
    const char *line;
    const char *got; /* part of the message */
};

static void texts(void **state) {
    (void)state;
    static const char *const lines[] = {"{\"text\": \"one\"}",
                                        " {\"other\": [{}], \"text\":\"\"} \r",
                                        "{\"text\": \"\\u00e9\\ud83d\\ude00\\u0000z\"}"};
    struct text_buffer text = {0};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(json_lines_text("in", 1, lines[i], strlen(lines[i]), &text), STATUS_OK);
    assert_int_equal(text.length, 3 + 2 + 4 + 2);
    assert_memory_equal(text.data, "one\xc3\xa9\xf0\x9f\x98\x80\0z", text.length);
    text_buffer_deinit(&text);
}

static void id_lists(void **state) {
    (void)state;
    static const char *const lines[] = {"{\"ids\": [0, 7, 2147483647]}", "{\"ids\": []}",
                                        "{\"text\": 3, \"ids\": [5]}"};
    static const int32_t want[] = {0, 7, INT32_MAX, 5};
    struct token_list ids = {0};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(json_lines_ids("in", 1, lines[i], strlen(lines[i]), &ids), STATUS_OK);
    assert_int_equal(ids.count, 4);
    assert_memory_equal(ids.ids, want, sizeof want);
    token_list_deinit(&ids);
}

static void check_message(const struct capture *capture, enum status status,
                          const struct line_case *test) {
    assert_int_equal(status, STATUS_BAD_REQUEST);
    capture_has(capture, test->line, "ORIGIN: line 41: expected ");
    capture_has(capture, test->line, test->got);
    assert_int_equal(capture_lines(capture), 1);
    if (strstr(capture->text, "secret") != NULL)
        fail_msg("the message repeats the line: %s", capture->text);
}

static void refused_texts(void **state) {
    (void)state;
    static const struct line_case cases[] = {
        {"", "one JSON object, got"},
        {"   ", "one JSON object, got"},
        {"secret", "one JSON object, got"},
        {"7", "one JSON object, got"},
        {"{\"text\": \"secret", "one JSON object, got"},
        {"{\"text\": \"secret\"} secret", "one JSON object, got"},
        {"{\"text\": secret}", "one JSON object, got"},
        {"{\"text\": \"secret\\ud83d\"}", "one JSON object, got"},
        {"{\"text\": \"secret\xff\"}", "one JSON object, got"},
        {"[\"secret\"]", "a member \"text\" with a string, got nothing"},
        {"{}", "a member \"text\" with a string, got nothing"},
        {"{\"Text\": \"secret\"}", "a member \"text\" with a string, got nothing"},
        {"{\"text\": null}", "a member \"text\" with a string, got null"},
        {"{\"text\": 3}", "a member \"text\" with a string, got an integer"},
        {"{\"text\": [\"secret\"]}", "a member \"text\" with a string, got an array"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct text_buffer text = {0};
        struct capture capture;
        capture_begin(&capture);
        enum status status =
            json_lines_text("ORIGIN", 41, cases[i].line, strlen(cases[i].line), &text);
        capture_end(&capture);
        check_message(&capture, status, &cases[i]);
        assert_int_equal(text.length, 0);
        text_buffer_deinit(&text);
    }
}

static void refused_ids(void **state) {
    (void)state;
    static const struct line_case cases[] = {
        {"{\"ids\": 3}", "a member \"ids\" with an array, got an integer"},
        {"{\"ids\": {}}", "a member \"ids\" with an array, got an object"},
        {"{\"id\": [1]}", "a member \"ids\" with an array, got nothing"},
        {"{\"ids\": [1, -1]}", "ids from 0 to 2147483647, got -1 at index 1"},
        {"{\"ids\": [2147483648]}", "ids from 0 to 2147483647, got 2147483648 at index 0"},
        {"{\"ids\": [1, 2, 3.0]}", "ids from 0 to 2147483647, got a real number at index 2"},
        {"{\"ids\": [\"secret\"]}", "ids from 0 to 2147483647, got a string at index 0"},
        {"{\"ids\": [99999999999999999999]}", "one JSON object, got"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct token_list ids = {0};
        struct capture capture;
        capture_begin(&capture);
        enum status status =
            json_lines_ids("ORIGIN", 41, cases[i].line, strlen(cases[i].line), &ids);
        capture_end(&capture);
        check_message(&capture, status, &cases[i]);
        token_list_deinit(&ids);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts), cmocka_unit_test(id_lists),
                                       cmocka_unit_test(refused_texts),
                                       cmocka_unit_test(refused_ids)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
