/* runtime/tokenizer_load: a corpus of broken and of unknown tokenizer.json files, each refused with
 * one line that names the file. The names say what is expected: good, bad-*, unsupported-*. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer.h"
#include "tests/support/log_capture.h"
#include "tests/unit/unit_test.h"

#define BROKEN "tests/data/tokenizers/broken"

/* Loads a file; what was logged in `said`. Returns the number of lines. */
static int load(const char *path, enum status *status, struct tokenizer **tokenizer, char *said,
                size_t size) {
    struct log_capture capture;
    log_capture_begin(&capture);
    *status = tokenizer_load(path, tokenizer);
    return log_capture_end(&capture, said, size);
}

static void check_refused(const char *name) {
    char path[512];
    char said[4096];
    enum status status;
    struct tokenizer *tokenizer = NULL;
    snprintf(path, sizeof path, BROKEN "/%s", name);
    int lines = load(path, &status, &tokenizer, said, sizeof said);
    enum status expected =
        strncmp(name, "bad-", 4) == 0 ? STATUS_BAD_TOKENIZER : STATUS_UNSUPPORTED;
    if (status != expected || lines != 1 || tokenizer != NULL || strstr(said, path) == NULL ||
        strstr(said, "expected") == NULL || strstr(said, "got") == NULL)
        fail_msg("%s: expected %s and one line, got %s and %d: %s", name, status_name(expected),
                 status_name(status), lines, said);
}

static void every_broken_file_is_refused(void **state) {
    (void)state;
    DIR *folder = opendir(BROKEN);
    assert_non_null(folder);
    int count = 0;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, "good", 4) == 0)
            continue;
        check_refused(entry->d_name);
        count++;
    }
    closedir(folder);
    assert_true(count >= 100);
}

static void check_good(const char *path) {
    char said[4096];
    enum status status;
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(load(path, &status, &tokenizer, said, sizeof said), 0);
    assert_int_equal(status, STATUS_OK);
    struct token_list ids = {0};
    assert_int_equal(tokenizer_encode(tokenizer, "abc<s>", 6, TOKENIZER_ADD_SPECIAL, &ids),
                     STATUS_OK);
    assert_int_equal(ids.count, 3);
    assert_int_equal(ids.ids[0], tokenizer_token_id(tokenizer, "<s>"));
    assert_int_equal(ids.ids[1], tokenizer_token_id(tokenizer, "abc"));
    assert_int_equal(ids.ids[2], ids.ids[0]);
    token_list_deinit(&ids);
    tokenizer_destroy(tokenizer);
}

/* The control: what the broken files were made from is fine, also with every character of it that
 * can be one as an escape. */
static void the_file_behind_them_is_good(void **state) {
    (void)state;
    check_good(BROKEN "/good.json");
    check_good(BROKEN "/good-escapes.json");
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(tokenizer_load(BROKEN "/good-escapes.json", &tokenizer), STATUS_OK);
    assert_int_equal(tokenizer_token_id(tokenizer, "\xf0\x9f\x98\x80\n\"/\\\t"), 30);
    tokenizer_destroy(tokenizer);
}

static size_t read_file(const char *path, char *bytes, size_t size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t length = fread(bytes, 1, size, file);
    fclose(file);
    return length;
}

/* Cut off anywhere, and with any one byte changed: never more than an error. */
static void damaged_anywhere(void **state) {
    (void)state;
    static char bytes[1 << 14];
    size_t length = read_file(BROKEN "/good.json", bytes, sizeof bytes);
    assert_true(length > 500 && length < sizeof bytes);
    struct log_capture capture;
    char said[256];
    log_capture_begin(&capture);
    int accepted = 0;
    for (size_t i = 0; i < length; i++) {
        struct tokenizer *tokenizer = NULL;
        accepted += tokenizer_load_memory("cut", bytes, i, &tokenizer) == STATUS_OK;
        tokenizer_destroy(tokenizer);
    }
    for (size_t i = 0; i < length; i++) {
        static const char changes[] = "\"{}[],:0-9\\x";
        char before = bytes[i];
        for (size_t c = 0; changes[c] != '\0'; c++) {
            struct tokenizer *tokenizer = NULL;
            bytes[i] = changes[c];
            (void)tokenizer_load_memory("changed", bytes, length, &tokenizer);
            tokenizer_destroy(tokenizer);
        }
        bytes[i] = before;
    }
    log_capture_end(&capture, said, sizeof said);
    assert_int_equal(accepted, 0);
}

static void a_missing_file_is_an_io_error(void **state) {
    (void)state;
    static const char *const paths[] = {BROKEN "/no such file.json", BROKEN};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char said[1024];
        enum status status;
        struct tokenizer *tokenizer = NULL;
        assert_int_equal(load(paths[i], &status, &tokenizer, said, sizeof said), 1);
        assert_int_equal(status, STATUS_IO);
        assert_null(tokenizer);
        assert_non_null(strstr(said, paths[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_broken_file_is_refused),
        cmocka_unit_test(the_file_behind_them_is_good),
        cmocka_unit_test(damaged_anywhere),
        cmocka_unit_test(a_missing_file_is_an_io_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
