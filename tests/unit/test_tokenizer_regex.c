/* runtime/tokenizer_regex: patterns mean in PCRE2 what they mean in Oniguruma (Ruby's syntax). */
#include <stdio.h>
#include <string.h>

#include "runtime/tokenizer_regex.h"
#include "tests/support/log_capture.h"
#include "tests/unit/unit_test.h"

/* Where a pattern first matches; start -1: nowhere. */
static const struct {
    const char *pattern;
    const char *text;
    int start;
    int end;
} cases[] = {
    {"\\s", "a\xe1\xa0\x8e", -1, 0},   /* U+180E is no white space */
    {"[\\s]", "a\xe1\xa0\x8e", -1, 0}, /* nor in a class */
    {"\\S", " \xe1\xa0\x8e", 1, 4},    /* but something else */
    {"[\\Sx]", " \xe1\xa0\x8e", 1, 4}, /* in a class, too */
    {"\\s", "a\xc2\x85", 1, 3},        /* U+0085 is */
    {"\\s", "a\xe3\x80\x80", 1, 4},    /* and U+3000 */
    {"\\s", "\x1c", -1, 0},            /* a file separator is not */
    {"[^\\s]", " \n\x1c", 2, 3},
    {"^b", "a\nb", 2, 3}, /* ^ and $ are those of lines */
    {"a$", "a\nb", 0, 1},
    {"a.b", "a\nb", -1, 0}, /* and . is no line feed */
    {"a.b", "a\rb", 0, 3},
    {"\\d", "a\xd9\xa3", 1, 3},             /* any script's digit */
    {"\\w+", "-\xc3\xa9_1\xcc\x81-", 1, 7}, /* letter, connector, digit, mark */
    {"\\W", "\xc3\xa9-", 2, 3},
    {"\\p{Han}", "\xe3\x80\x81\xe6\xbc\xa2", 3, 6}, /* U+3001 has Han only as an extension */
    {"\\p{^L}", "a1", 1, 2},
    {"\\P{L}", "a1", 1, 2},
    {"\\u4e00", "\xe4\xb8\x80", 0, 3},
    {"\\x{1F600}", "\xf0\x9f\x98\x80", 0, 4},
    {"\\x41", "A", 0, 1},
    {"\\v", "\xe2\x80\xa8\x0b", 3, 4}, /* the vertical tab alone */
    {"x{a", "x{a", 0, 3},              /* a brace that is no quantifier */
    {"x{2}", "xxx", 0, 2},
    {"\\{", "{", 0, 1},
    {"(?i:'s)", "'\xc5\xbf", 0, 3}, /* long s is an s without case */
    {"(?i)K", "\xe2\x84\xaa", 0, 3},
    {"a++b|c", "aac", 2, 3},
    {"\\s+(?!\\S)", "   x", 0, 2},
    {"\\s+$", "a  \n x ", 1, 3}, /* the hand-made one: before the last line feed */
    {"\\s+$", "a  x \t", 4, 6},
    {"\\s+$", "\n", 0, 1},
    {"\\s+$", " \n\n ", 0, 4},
    {"\\s+$", "  a", -1, 0},
    {"(?:\\s+)$", "a  \n x ", 1, 3}, /* the same by PCRE2 */
    {"(?:\\s+)$", "a  x \t", 4, 6},
    {"(?:\\s+)$", "\n", 0, 1},
    {"(?:\\s+)$", " \n\n ", 0, 4},
    {"(?:\\s+)$", "  a", -1, 0},
};

static void patterns_match_where_oniguruma_has_them(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tokenizer_regex regex = {0};
        struct tokenizer_regex_scratch scratch = {0};
        size_t length = strlen(cases[i].text);
        size_t start;
        size_t end;
        assert_int_equal(
            tokenizer_regex_init(&regex, "test", cases[i].pattern, strlen(cases[i].pattern)),
            STATUS_OK);
        assert_int_equal(
            tokenizer_regex_search(&regex, &scratch, cases[i].text, length, 0, &start, &end),
            STATUS_OK);
        int got_start = start > length ? -1 : (int)start;
        int got_end = start > length ? 0 : (int)end;
        if (got_start != cases[i].start || got_end != cases[i].end)
            fail_msg("case %zu, %s: expected [%d, %d), got [%d, %d)", i, cases[i].pattern,
                     cases[i].start, cases[i].end, got_start, got_end);
        tokenizer_regex_scratch_deinit(&scratch);
        tokenizer_regex_deinit(&regex);
    }
}

/* A group that backtracks on every character of a megabyte: more than the JIT's stack holds. */
static void a_deep_backtrack_falls_back_to_the_heap(void **state) {
    (void)state;
    static char text[1 << 20];
    memset(text, 'a', sizeof text);
    struct tokenizer_regex regex = {0};
    struct tokenizer_regex_scratch scratch = {0};
    size_t start;
    size_t end;
    assert_int_equal(tokenizer_regex_init(&regex, "test", "(?:a|b)+", 8), STATUS_OK);
    assert_int_equal(tokenizer_regex_search(&regex, &scratch, text, sizeof text, 0, &start, &end),
                     STATUS_OK);
    assert_int_equal(start, 0);
    assert_int_equal(end, sizeof text);
    tokenizer_regex_deinit(&regex);
    /* One that never comes to an end is an error, not an endless wait. */
    assert_int_equal(tokenizer_regex_init(&regex, "test", "(?:a|a)+[bc]", 12), STATUS_OK);
    struct log_capture capture;
    char said[512];
    log_capture_begin(&capture);
    enum status status = tokenizer_regex_search(&regex, &scratch, text, 64, 0, &start, &end);
    assert_int_equal(log_capture_end(&capture, said, sizeof said), 1);
    assert_int_equal(status, STATUS_LIMIT);
    tokenizer_regex_deinit(&regex);
    tokenizer_regex_scratch_deinit(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_where_oniguruma_has_them),
        cmocka_unit_test(a_deep_backtrack_falls_back_to_the_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
