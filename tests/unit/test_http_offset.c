/* runtime/http_offset.c: where the tokens of an echoed prompt stand in its text. */
#include <string.h>

#include "runtime/http_offset.h"
#include "tests/unit/unit_test.h"

struct token {
    const char *bytes;
    bool is_special;
    int32_t begin; /* expected */
};

struct text_case {
    const char *label, *text;
    struct token tokens[6]; /* up to NULL */
    int32_t end;            /* characters behind the last */
};

static const struct text_case cases[] = {
    {"words", "one two", {{"one", false, 0}, {" two", false, 3}}, 7},
    {"a BOS that was added",
     "one two",
     {{"<s>", true, 0}, {"one", false, 0}, {" two", false, 3}},
     7},
    {"one that the client wrote", "<s>one", {{"<s>", true, 0}, {"one", false, 3}}, 6},
    {"a space that the tokenizer added",
     "one<s>two three",
     {{" one", false, 0}, {"<s>", true, 3}, {" two", false, 6}, {" three", false, 9}},
     15},
    {"a space of the client's", " one", {{" one", false, 0}}, 4},
    {"a character of two tokens",
     "a\xc3\xa9z",
     {{"a", false, 0}, {"\xc3", false, 1}, {"\xa9", false, 1}, {"z", false, 2}},
     3},
    {"a token that ends in a character",
     "a\xc3\xa9z",
     {{"a\xc3", false, 0}, {"\xa9z", false, 1}},
     3},
    {"bytes of no character", "\xef\xbf\xbdz", {{"\xc3", false, 0}, {"z", false, 1}}, 2},
    {"other letters, as many", "ONE two", {{"one", false, 0}, {" two", false, 3}}, 7},
    {"more than there is", "one", {{"only", false, 0}, {" two", false, 3}}, 3},
    {"no text", "", {{"", false, 0}, {"<s>", true, 0}, {"one", false, 0}}, 0},
};

static void tokens_lie_along_the_text(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_offset offset = {.text = cases[i].text, .bytes = strlen(cases[i].text)};
        for (const struct token *token = cases[i].tokens; token->bytes != NULL; token++) {
            size_t length = strlen(token->bytes);
            int32_t begin = http_offset_begin(offset.characters, token->bytes, length);
            if (begin != token->begin)
                fail_msg("%s: %s: expected %d, got %d", cases[i].label, token->bytes, token->begin,
                         begin);
            http_offset_pass(&offset, token->bytes, length, token->is_special);
        }
        if (offset.characters != cases[i].end)
            fail_msg("%s: expected %d, got %d", cases[i].label, cases[i].end, offset.characters);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_lie_along_the_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
