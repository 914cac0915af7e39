/* runtime/json_writer.c: exact text for small documents, and a real parser reads back every byte
 * and every float that was written. */
#define _XOPEN_SOURCE 700

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/json_writer.h"
#include "tests/unit/unit_test.h"

struct document {
    struct json_writer writer;
    char *text;
    size_t size;
};

static void begin(struct document *document) {
    *document = (struct document){0};
    FILE *out = open_memstream(&document->text, &document->size);
    assert_non_null(out);
    document->writer.out = out;
}

static json_t *end(struct document *document) {
    assert_int_equal(document->writer.depth, 0);
    assert_int_equal(fclose(document->writer.out), 0);
    json_error_t error;
    json_t *root = json_loadb(document->text, document->size, JSON_ALLOW_NUL, &error);
    if (root == NULL)
        fail_msg("%s in: %s", error.text, document->text);
    return root;
}

static void exact_text(void **state) {
    (void)state;
    static const int32_t ids[] = {1, -2, INT32_MAX, INT32_MIN};
    struct document document;
    begin(&document);
    struct json_writer *writer = &document.writer;
    json_writer_begin_object(writer, NULL);
    json_writer_integers(writer, "ids", ids, 4);
    json_writer_integers(writer, "none", ids, 0);
    json_writer_text(writer, "text", "a\"b\\c\n\t\x01\x7f/");
    json_writer_begin_array(writer, "list");
    json_writer_begin_object(writer, NULL);
    json_writer_end_object(writer);
    json_writer_begin_array(writer, NULL);
    json_writer_end_array(writer);
    json_writer_null(writer, NULL);
    json_writer_end_array(writer);
    json_writer_boolean(writer, "yes", true);
    json_writer_boolean(writer, "no", false);
    json_writer_integer(writer, "big", INT64_MIN);
    json_writer_number(writer, "half", 0.5);
    json_writer_number(writer, "nan", (double)NAN);
    json_writer_number(writer, "infinite", -(double)INFINITY);
    json_writer_null(writer, "null");
    json_writer_end_object(writer);
    json_decref(end(&document));
    assert_string_equal(document.text,
                        "{\"ids\": [1, -2, 2147483647, -2147483648], \"none\": [], "
                        "\"text\": \"a\\\"b\\\\c\\n\\u0009\\u0001\\u007f/\", "
                        "\"list\": [{}, [], null], \"yes\": true, \"no\": false, "
                        "\"big\": -9223372036854775808, \"half\": 0.5, \"nan\": null, "
                        "\"infinite\": null, \"null\": null}");
    free(document.text);
}

static void strings_come_back(void **state) {
    (void)state;
    char text[260];
    size_t length = 0;
    for (int byte = 0; byte < 128; byte++)
        text[length++] = (char)byte; /* NUL and control characters too */
    memcpy(text + length, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\x9f\xbf\xf4\x8f\xbf\xbf", 16);
    length += 16;
    struct document document;
    begin(&document);
    json_writer_begin_object(&document.writer, NULL);
    json_writer_string(&document.writer, "key \"\n\xc3\xa9", text, length);
    json_writer_end_object(&document.writer);
    json_t *root = end(&document);
    json_t *value = json_object_get(root, "key \"\n\xc3\xa9");
    assert_non_null(value);
    assert_int_equal(json_string_length(value), length);
    assert_memory_equal(json_string_value(value), text, length);
    json_decref(root);
    free(document.text);
}

struct broken {
    const char *text;
    size_t length;
    const char *expected;
};

/* Each byte that belongs to no well-formed sequence becomes one U+FFFD. */
static void broken_utf8(void **state) {
    (void)state;
#define R "\xef\xbf\xbd"
    static const struct broken cases[] = {
        {"\x80", 1, R},
        {"a\xff\xfe z", 5, "a" R R " z"},
        {"\xc3", 1, R},
        {"\xe2\x82", 2, R R},
        {"\xc0\xaf", 2, R R},
        {"\xed\xa0\x80", 3, R R R}, /* a surrogate */
        {"\xe0\x9f\xbf", 3, R R R},
        {"\xf0\x8f\xbf\xbf", 4, R R R R},
        {"\xf4\x90\x80\x80", 4, R R R R},
        {"\xf5\x80\x80\x80", 4, R R R R},
        {"\xc3(", 2, R "("},
        {"\xe2\x82\xc3\xa9", 4, R R "\xc3\xa9"},
    };
#undef R
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct document document;
        begin(&document);
        json_writer_begin_array(&document.writer, NULL);
        json_writer_string(&document.writer, NULL, cases[i].text, cases[i].length);
        json_writer_end_array(&document.writer);
        json_t *root = end(&document);
        assert_string_equal(json_string_value(json_array_get(root, 0)), cases[i].expected);
        json_decref(root);
        free(document.text);
    }
}

static void floats_come_back(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    static float values[COUNT];
    uint64_t seed = 1;
    for (int i = 0; i < COUNT; i++) {
        do {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint32_t bits = (uint32_t)(seed >> 32);
            memcpy(&values[i], &bits, sizeof bits);
        } while (!isfinite(values[i]));
    }
    struct document document;
    begin(&document);
    json_writer_begin_array(&document.writer, NULL);
    for (int i = 0; i < COUNT; i++)
        json_writer_number(&document.writer, NULL, (double)values[i]);
    json_writer_end_array(&document.writer);
    json_t *root = end(&document);
    assert_int_equal(json_array_size(root), COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_true((float)json_number_value(json_array_get(root, (size_t)i)) == values[i]);
    json_decref(root);
    free(document.text);
}

static void nests_to_its_limit(void **state) {
    (void)state;
    struct document document;
    begin(&document);
    for (int i = 0; i < JSON_WRITER_DEPTH_MAX - 1; i++)
        json_writer_begin_array(&document.writer, NULL);
    json_writer_integer(&document.writer, NULL, 7);
    for (int i = 0; i < JSON_WRITER_DEPTH_MAX - 1; i++)
        json_writer_end_array(&document.writer);
    json_decref(end(&document));
    free(document.text);
}

/* Keys are texts of any bytes; two are one key where they are written alike. */
static void keys_of_bytes(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        size_t a_length, b_length;
        bool is_same;
    } cases[] = {
        {"", "", 0, 0, true},
        {"ab", "ab", 2, 2, true},
        {"ab", "abc", 2, 3, false},
        {"ab", "ac", 2, 2, false},
        {"a\0b", "a\0c", 3, 3, false},
        {"\xe2\x80", "\xe2\x81", 2, 2, true},
        {"\xe2\x80", "\x99", 2, 1, false},
        {"\xc3\xa9", "\xc3\xa9", 2, 2, true},
        {"\xc3\xa9", "\xc3\x28", 2, 2, false},
        {"\xff"
         "a",
         "\xfe"
         "b",
         2, 2, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct document document;
        begin(&document);
        json_writer_begin_object(&document.writer, NULL);
        json_writer_number_of(&document.writer, cases[i].a, cases[i].a_length, 1.5);
        json_writer_number_of(&document.writer, cases[i].b, cases[i].b_length, 1.5);
        json_writer_end_object(&document.writer);
        assert_int_equal(fclose(document.writer.out), 0);
        char *first = strchr(document.text, '"'), *end = strstr(first, ": 1.5");
        char *second = strchr(end, '"');
        size_t length = (size_t)(end - first);
        bool alike = strncmp(first, second, length) == 0 && strcmp(second + length, ": 1.5}") == 0;
        assert_true(alike == cases[i].is_same);
        assert_true(json_writer_is_same(cases[i].a, cases[i].a_length, cases[i].b,
                                        cases[i].b_length) == cases[i].is_same);
        free(document.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_text),         cmocka_unit_test(strings_come_back),
        cmocka_unit_test(broken_utf8),        cmocka_unit_test(floats_come_back),
        cmocka_unit_test(nests_to_its_limit), cmocka_unit_test(keys_of_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
