/* runtime/stop_matcher.c, against a search over the whole text: whatever the cuts between pushes,
 * the same text comes out and the same string is found. */
#define _XOPEN_SOURCE 700

#include <string.h>

#include "runtime/stop_matcher.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

struct stop_case {
    const char *label, *text;
    const char *strings[4];
    int32_t count;
    const char *released; /* NULL: all of the text */
    int32_t matched;
};

static const struct stop_case cases[] = {
    {"none asked for", "some text", {0}, 0, NULL, -1},
    {"none found", "some text", {"exam", "texts"}, 2, NULL, -1},
    {"in the middle", "one STOP two", {"STOP"}, 1, "one ", 0},
    {"at the start", "STOP two", {"STOP"}, 1, "", 0},
    {"at the end", "one STOP", {"STOP"}, 1, "one ", 0},
    {"the earliest start", "a bc abc", {"abc", "bc"}, 2, "a ", 1},
    {"a longer one that starts earlier", "xabcd", {"bc", "abcd"}, 2, "x", 1},
    {"the longer one fails late", "xabcx", {"bc", "abcd"}, 2, "xa", 0},
    {"the longer one never gets its end", "xabc", {"bc", "abcd"}, 2, "xa", 0},
    {"same start: the shorter", "xabcd", {"abcd", "abc", "ab"}, 3, "x", 2},
    {"equal strings: the first", "xab", {"ab", "ab"}, 2, "x", 0},
    {"overlap with itself", "aabaaabx", {"aaab"}, 1, "aab", 0},
    {"a false start inside a start", "ababac", {"abac"}, 1, "ab", 0},
    {"end of text inside a start", "text ST", {"STOP"}, 1, NULL, -1},
    {"newlines", "a\n\nb", {"\n\n"}, 1, "a", 0},
    {"UTF-8", "caf\xc3\xa9 \xe2\x82\xac!", {"\xe2\x82\xac"}, 1, "caf\xc3\xa9 ", 0},
    {"one byte", "abc", {"c"}, 1, "ab", 0},
    {"the whole text", "abc", {"abc"}, 1, "", 0},
    {"longer than the text", "abc", {"abcabc"}, 1, NULL, -1},
};
#define CASES (sizeof cases / sizeof cases[0])

/* Pushes the text in pieces whose lengths are the digits of `cuts` in base 4 (0 pushes nothing),
 * and ends it with an empty push or with the last piece. */
static void run(const struct stop_case *test, uint32_t cuts, bool end_apart) {
    struct stop_matcher matcher;
    struct text_buffer released = {0};
    assert_int_equal(stop_matcher_init(&matcher, test->strings, test->count), STATUS_OK);
    size_t length = strlen(test->text), done = 0;
    while (done < length || end_apart) {
        size_t piece = cuts > 0 ? cuts % 4 : length - done;
        cuts /= 4;
        if (piece > length - done)
            piece = length - done;
        bool last = done + piece == length && !end_apart;
        assert_int_equal(stop_matcher_push(&matcher, test->text + done, piece, last, &released),
                         STATUS_OK);
        done += piece;
        if (done == length && end_apart)
            break;
    }
    if (end_apart)
        assert_int_equal(stop_matcher_push(&matcher, NULL, 0, true, &released), STATUS_OK);
    const char *want = test->released != NULL ? test->released : test->text;
    if (released.length != strlen(want) ||
        (released.length > 0 && memcmp(released.data, want, released.length) != 0))
        fail_msg("%s, cuts %u: released \"%.*s\", expected \"%s\"", test->label, cuts,
                 (int)released.length, released.data, want);
    if (matcher.matched != test->matched)
        fail_msg("%s, cuts %u: matched %d, expected %d", test->label, cuts, matcher.matched,
                 test->matched);
    text_buffer_deinit(&released);
    stop_matcher_deinit(&matcher);
}

static void any_cut_gives_the_same(void **state) {
    (void)state;
    for (size_t c = 0; c < CASES; c++)
        for (uint32_t cuts = 0; cuts < 4096; cuts++)
            run(&cases[c], cuts * 2654435761u >> (cuts % 3), cuts % 2 == 0);
    for (size_t c = 0; c < CASES; c++)
        run(&cases[c], 0x55555555u, true); /* byte by byte */
}

/* Text that cannot become a stop string is not held back. */
static void releases_at_once(void **state) {
    (void)state;
    static const char *const strings[] = {"\n\nUser:", "###"};
    struct stop_matcher matcher;
    struct text_buffer released = {0};
    assert_int_equal(stop_matcher_init(&matcher, strings, 2), STATUS_OK);
    assert_int_equal(stop_matcher_push(&matcher, "", 0, false, &released), STATUS_OK);
    assert_int_equal(stop_matcher_push(&matcher, "one#", 4, false, &released), STATUS_OK);
    assert_int_equal(released.length, 3);
    assert_int_equal(stop_matcher_push(&matcher, "# two\n", 6, false, &released), STATUS_OK);
    assert_int_equal(released.length, 9);
    assert_memory_equal(released.data, "one## two", 9);
    assert_int_equal(stop_matcher_push(&matcher, "\nUs", 3, false, &released), STATUS_OK);
    assert_int_equal(released.length, 9);
    assert_int_equal(stop_matcher_push(&matcher, "er: hi", 6, false, &released), STATUS_OK);
    assert_int_equal(matcher.matched, 0);
    assert_int_equal(stop_matcher_push(&matcher, "more", 4, true, &released), STATUS_OK);
    assert_int_equal(released.length, 9); /* nothing after a match */
    text_buffer_deinit(&released);
    stop_matcher_deinit(&matcher);
}

static void refuses(void **state) {
    (void)state;
    struct stop_matcher matcher;
    struct capture capture;
    const char *many[STOP_MATCHER_STRINGS_MAX + 1];
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
        many[i] = "x";
    assert_int_equal(stop_matcher_init(&matcher, many, STOP_MATCHER_STRINGS_MAX), STATUS_OK);
    stop_matcher_deinit(&matcher);
    capture_begin(&capture);
    enum status status = stop_matcher_init(&matcher, many, STOP_MATCHER_STRINGS_MAX + 1);
    capture_end(&capture);
    assert_int_equal(status, STATUS_BAD_REQUEST);
    capture_has(&capture, "too many", "expected at most 64 strings, got 65");
    many[2] = "";
    capture_begin(&capture);
    status = stop_matcher_init(&matcher, many, 3);
    capture_end(&capture);
    assert_int_equal(status, STATUS_BAD_REQUEST);
    capture_has(&capture, "empty", "string 2");
    assert_int_equal(capture_lines(&capture), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_cut_gives_the_same),
                                       cmocka_unit_test(releases_at_once),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
