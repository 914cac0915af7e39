/* runtime/tokenizer: every committed vector exact. With directories as arguments it checks the
 * vectors of those instead (tokenizer.json, vectors.jsonl, and streams.jsonl and
 * llama_cpp_cases.jsonl where there are any) and prints how many there were. */
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "runtime/detokenizer.h"
#include "runtime/tokenizer.h"
#include "tests/support/log_capture.h"
#include "tests/unit/unit_test.h"

#define DATA "tests/data/tokenizers/"

/* One folder's tokenizer and what was found in it. */
struct folder {
    const char *path;
    struct tokenizer *tokenizer;
    int vectors;
    int streams;
    int published; /* llama.cpp's cases */
    int kept_more; /* streams of which the stream keeps characters that the whole drops */
    int wrong;
};

static void complain(struct folder *folder, const char *file, int line, const char *what) {
    if (folder->wrong++ < 20)
        fprintf(stderr, "%s/%s:%d: %s differs\n", folder->path, file, line, what);
}

static bool ids_equal(const struct token_list *ids, const json_t *expected) {
    if ((size_t)ids->count != json_array_size(expected))
        return false;
    for (size_t i = 0; i < json_array_size(expected); i++)
        if (ids->ids[i] != json_integer_value(json_array_get(expected, i)))
            return false;
    return true;
}

static bool text_equal(const struct text_buffer *text, const json_t *expected) {
    return text->length == json_string_length(expected) &&
           (text->length == 0 ||
            memcmp(text->data, json_string_value(expected), text->length) == 0);
}

static void read_ids(const json_t *array, struct token_list *ids) {
    for (size_t i = 0; i < json_array_size(array); i++)
        assert_int_equal(
            token_list_append(ids, (int32_t)json_integer_value(json_array_get(array, i))),
            STATUS_OK);
}

/* Whether encoding `text` gives `expected` (appended to nothing). */
static bool encodes(const struct folder *folder, const json_t *text, unsigned flags,
                    const json_t *expected) {
    struct token_list ids = {0};
    bool good = tokenizer_encode(folder->tokenizer, json_string_value(text),
                                 json_string_length(text), flags, &ids) == STATUS_OK &&
                ids_equal(&ids, expected);
    token_list_deinit(&ids);
    return good;
}

static bool decodes(const struct folder *folder, const struct token_list *ids, int64_t count,
                    bool skip_special, const json_t *expected) {
    struct text_buffer text = {0};
    bool good =
        tokenizer_decode(folder->tokenizer, ids->ids, count, skip_special, &text) == STATUS_OK &&
        text_equal(&text, expected);
    text_buffer_deinit(&text);
    return good;
}

static void check_vector(struct folder *folder, const char *file, int line, const json_t *row) {
    const json_t *text = json_object_get(row, "text");
    struct token_list ids = {0};
    read_ids(json_object_get(row, "ids"), &ids);
    if (!encodes(folder, text, 0, json_object_get(row, "ids")))
        complain(folder, file, line, "ids");
    if (!encodes(folder, text, TOKENIZER_ADD_SPECIAL, json_object_get(row, "ids_with_special")))
        complain(folder, file, line, "ids_with_special");
    if (!decodes(folder, &ids, ids.count, false, json_object_get(row, "decoded")))
        complain(folder, file, line, "decoded");
    if (!decodes(folder, &ids, ids.count, true, json_object_get(row, "decoded_skip_special")))
        complain(folder, file, line, "decoded_skip_special");
    token_list_deinit(&ids);
    folder->vectors++;
}

static void check_published(struct folder *folder, const char *file, int line, const json_t *row) {
    if (!encodes(folder, json_object_get(row, "text"), 0, json_object_get(row, "ids")))
        complain(folder, file, line, "ids");
    folder->published++;
}

/* Whether U+FFFD stands somewhere in the text (which may hold NUL). */
static bool has_replacement(const json_t *text) {
    const char *at = json_string_value(text);
    size_t length = json_string_length(text);
    for (size_t i = 0; i + 3 <= length; i++)
        if (memcmp(at + i, "\xef\xbf\xbd", 3) == 0)
            return true;
    return false;
}

static const char replacement[] = "\xef\xbf\xbd";

static bool has_byte_fallback(const struct folder *folder) {
    return tokenizer_token_id(folder->tokenizer, "<0x0A>") >= 0;
}

/* Without the characters U+FFFD at the end: what a stream can know of a text so far. */
static size_t certain_length(const json_t *text) {
    size_t length = json_string_length(text);
    while (length >= 3 && memcmp(json_string_value(text) + length - 3, replacement, 3) == 0)
        length -= 3;
    return length;
}

/* One id of a stream whose whole text has no U+FFFD: what came so far is what the ids so far decode
 * to, but for the part of a character at the end. Under ByteFallback a part of a character takes
 * the whole characters of its run away from a prefix, but not from a stream. */
static bool stream_is_certain(const struct text_buffer *joined, const json_t *prefix,
                              bool is_byte_fallback) {
    size_t certain = certain_length(prefix);
    if (is_byte_fallback ? joined->length < certain : joined->length != certain)
        return false;
    return certain == 0 || memcmp(joined->data, json_string_value(prefix), certain) == 0;
}

/* Feeds the ids one at a time; the deltas, joined, in `joined`. */
static void run_stream(struct folder *folder, const char *file, int line, const json_t *row,
                       const struct token_list *ids, struct text_buffer *joined) {
    const json_t *prefixes = json_object_get(row, "prefix");
    const json_t *all = json_array_get(prefixes, json_array_size(prefixes) - 1);
    bool is_whole = !has_replacement(all);
    struct detokenizer stream;
    detokenizer_init(&stream, folder->tokenizer, false);
    char *delta = malloc(detokenizer_delta_bytes_max(folder->tokenizer));
    for (int64_t i = 0; i < ids->count; i++) {
        size_t length = detokenizer_push(&stream, ids->ids[i], delta);
        text_buffer_append(joined, delta, length);
        const json_t *prefix = json_array_get(prefixes, (size_t)i);
        if (!decodes(folder, ids, i + 1, false, prefix))
            complain(folder, file, line, "prefix");
        if (is_whole && !stream_is_certain(joined, prefix, has_byte_fallback(folder)))
            complain(folder, file, line, "stream");
        json_t *checked = json_stringn(delta, length); /* NULL if it is not UTF-8 */
        if (checked == NULL)
            complain(folder, file, line, "delta's UTF-8");
        json_decref(checked);
    }
    text_buffer_append(joined, delta, detokenizer_finish(&stream, delta));
    free(delta);
}

/* The text that Hugging Face's stream hands out, joined. */
static void check_hf_stream(struct folder *folder, const char *file, int line, const json_t *row,
                            const struct text_buffer *joined) {
    const json_t *chunks = json_object_get(row, "hf_stream");
    struct text_buffer text = {0};
    for (size_t i = 0; i < json_array_size(chunks); i++) {
        const json_t *chunk = json_array_get(chunks, i);
        text_buffer_append(&text, json_string_value(chunk), json_string_length(chunk));
    }
    if (text.length != joined->length ||
        (text.data != NULL && memcmp(text.data, joined->data, text.length) != 0))
        complain(folder, file, line, "hf_stream");
    text_buffer_deinit(&text);
}

static void check_stream(struct folder *folder, const char *file, int line, const json_t *row) {
    const json_t *prefixes = json_object_get(row, "prefix");
    const json_t *all = json_array_get(prefixes, json_array_size(prefixes) - 1);
    if (all == NULL)
        return; /* no ids: nothing was to be encoded */
    struct token_list ids = {0};
    struct text_buffer joined = {0};
    read_ids(json_object_get(row, "ids"), &ids);
    run_stream(folder, file, line, row, &ids, &joined);
    bool has_broken = has_replacement(all);
    if (!text_equal(&joined, all)) {
        if (has_broken && has_byte_fallback(folder))
            folder->kept_more++;
        else
            complain(folder, file, line, "joined stream");
    }
    if (!has_broken && json_object_get(row, "hf_stream") != NULL)
        check_hf_stream(folder, file, line, row, &joined);
    text_buffer_deinit(&joined);
    token_list_deinit(&ids);
    folder->streams++;
}

/* Calls `check` for every line of a file of JSON lines; a file that is not there has none. */
static void each_line(struct folder *folder, const char *file,
                      void (*check)(struct folder *, const char *, int, const json_t *)) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder->path, file);
    FILE *stream = fopen(path, "rb");
    if (stream == NULL)
        return;
    json_error_t error;
    int line = 0;
    for (;;) {
        json_t *row =
            json_loadf(stream, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
        if (row == NULL)
            break;
        check(folder, file, ++line, row);
        json_decref(row);
    }
    assert_true(feof(stream));
    fclose(stream);
}

static int check_folder(struct folder *folder) {
    char path[512];
    bool is_demo = strcmp(folder->path, DATA "demo-moe") == 0; /* the model's own file */
    snprintf(path, sizeof path, "%s/tokenizer.json", is_demo ? "launcher/demo-moe" : folder->path);
    if (tokenizer_load(path, &folder->tokenizer) != STATUS_OK)
        return folder->wrong = 1;
    each_line(folder, "vectors.jsonl", check_vector);
    each_line(folder, "streams.jsonl", check_stream);
    each_line(folder, "llama_cpp_cases.jsonl", check_published);
    return folder->wrong;
}

static int check_arguments(int count, char **paths) {
    int wrong = 0;
    for (int i = 0; i < count; i++) {
        struct folder folder = {.path = paths[i]};
        int64_t start = clock_now_ns();
        wrong += check_folder(&folder);
        printf("%s: %d vectors, %d streams (%d keep more), %d published cases, %d wrong, %.0f ms\n",
               paths[i], folder.vectors, folder.streams, folder.kept_more, folder.published,
               folder.wrong, (double)(clock_now_ns() - start) / 1e6);
        tokenizer_destroy(folder.tokenizer);
    }
    return wrong > 0;
}

/* The committed folders; demo-moe's tokenizer is the demo model's own. */
static const char *const folders[] = {
    DATA "minimind",
    DATA "mixtral",
    DATA "demo-moe",
    DATA "forms/added-nfc",
    DATA "forms/added-spm",
    DATA "forms/deepseek-v3",
    DATA "forms/digits-prefix-nfkc",
    DATA "forms/llama-3",
    DATA "forms/metaspace-always",
    DATA "forms/metaspace-first-split",
    DATA "forms/metaspace-never-split",
    DATA "forms/nfd-lowercase",
    DATA "forms/no-decoder",
    DATA "forms/o200k",
    DATA "forms/replace-regex",
    DATA "forms/split-contiguous",
    DATA "forms/split-empty",
    DATA "forms/split-merged_with_next-inverted",
    DATA "forms/split-merged_with_previous",
    DATA "forms/split-removed",
    DATA "forms/spm-dropped",
    DATA "forms/spm-unk",
    DATA "forms/spm-unk-fused",
    DATA "forms/word-class",
};

static struct tokenizer *load(const char *path) {
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(tokenizer_load(path, &tokenizer), STATUS_OK);
    return tokenizer;
}

static void vectors_are_exact(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        struct folder folder = {.path = folders[i]};
        assert_int_equal(check_folder(&folder), 0);
        assert_true(folder.vectors >= 40);
        tokenizer_destroy(folder.tokenizer);
    }
}

static void a_wrong_vector_is_seen(void **state) {
    (void)state;
    struct folder folder = {.path = "control", .tokenizer = load(DATA "minimind/tokenizer.json")};
    json_t *row = json_pack("{s:s, s:[i], s:[i], s:s, s:s}", "text", "hello", "ids", 9,
                            "ids_with_special", 9, "decoded", "x", "decoded_skip_special", "x");
    assert_non_null(row);
    folder.wrong = 100; /* nothing printed */
    check_vector(&folder, "none", 1, row);
    assert_int_equal(folder.wrong, 104);
    json_decref(row);
    tokenizer_destroy(folder.tokenizer);
}

static void text_that_is_not_utf8_is_refused_with_its_offset(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t length;
        const char *says;
    } cases[] = {
        {"abc\xff", 4, "byte 3: expected UTF-8, got 0xff"},
        {"\xc0\x80", 2, "byte 0: expected UTF-8, got 0xc0"},             /* an overlong NUL */
        {"0123456789\xe4\xbd", 12, "byte 10: expected UTF-8, got 0xe4"}, /* breaks off */
        {"\xed\xa0\x80", 3, "byte 0: expected UTF-8, got 0xed"},         /* a surrogate */
        {"\xf4\x90\x80\x80", 4, "byte 0: expected UTF-8, got 0xf4"},     /* above U+10FFFF */
        {"a\x80", 2, "byte 1: expected UTF-8, got 0x80"},
    };
    struct tokenizer *tokenizer = load(DATA "minimind/tokenizer.json");
    struct token_list ids = {0};
    assert_int_equal(token_list_append(&ids, 7), STATUS_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct log_capture capture;
        char said[512];
        log_capture_begin(&capture);
        enum status status = tokenizer_encode(tokenizer, cases[i].text, cases[i].length, 0, &ids);
        assert_int_equal(log_capture_end(&capture, said, sizeof said), 1);
        assert_int_equal(status, STATUS_BAD_REQUEST);
        assert_non_null(strstr(said, cases[i].says));
        assert_int_equal(ids.count, 1);
    }
    token_list_deinit(&ids);
    tokenizer_destroy(tokenizer);
}

/* With a limit, what comes is all, or a beginning that is longer than the limit and ends soon. */
static void encoding_ends_early(void **state) {
    (void)state;
    static const char *const files[] = {DATA "minimind/tokenizer.json",
                                        "launcher/demo-moe/tokenizer.json"};
    static const char text[] = "It was a cold evening, <|im_end|> and the old man saw 7 cows.";
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        struct tokenizer *tokenizer = load(files[f]);
        struct token_list all = {0};
        assert_int_equal(tokenizer_encode(tokenizer, text, sizeof text - 1, 0, &all), STATUS_OK);
        for (int64_t most = 0; most < all.count + 3; most++) {
            struct token_list ids = {0};
            assert_int_equal(
                tokenizer_encode_at_most(tokenizer, text, sizeof text - 1, 0, most, &ids),
                STATUS_OK);
            if (most >= all.count)
                assert_int_equal(ids.count, all.count);
            else
                assert_in_range(ids.count, most + 1, most + 8);
            assert_memory_equal(ids.ids, all.ids, (size_t)ids.count * sizeof(int32_t));
            token_list_deinit(&ids);
        }
        token_list_deinit(&all);
        tokenizer_destroy(tokenizer);
    }
}

/* Encodes, and decodes again; the text must come back if `comes_back`. */
static int64_t encode_long(const struct tokenizer *tokenizer, const char *text, size_t length,
                           bool comes_back) {
    struct token_list ids = {0};
    struct text_buffer again = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text, length, 0, &ids), STATUS_OK);
    assert_int_equal(tokenizer_decode(tokenizer, ids.ids, ids.count, false, &again), STATUS_OK);
    if (comes_back) {
        assert_int_equal(again.length, length);
        assert_memory_equal(again.data, text, length);
    }
    int64_t count = ids.count;
    token_list_deinit(&ids);
    text_buffer_deinit(&again);
    return count;
}

/* A megabyte of one thing, with something else at the end: what is quadratic does not come back
 * from this. */
static void a_megabyte_without_a_place_to_cut(void **state) {
    (void)state;
    static const char *const units[] = {"a",   " ",        "\n", "7", "!", "ab", "\xf0\x9f\x98\x80",
                                        " \n", "\xc2\xa0", "'"};
    static const char *const files[] = {
        DATA "minimind/tokenizer.json", DATA "mixtral/tokenizer.json",
        "launcher/demo-moe/tokenizer.json", DATA "forms/nfd-lowercase/tokenizer.json",
        DATA "forms/deepseek-v3/tokenizer.json"};
    static const char *const ends[] = {"", "7", "x"};
    size_t length = 1 << 20;
    char *text = malloc(length + 1);
    assert_non_null(text);
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        struct tokenizer *tokenizer = load(files[f]);
        for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
            size_t size = strlen(units[u]);
            for (size_t i = 0; i < length; i += size)
                memcpy(text + i, units[u], size);
            size_t end = strlen(ends[u % 3]);
            memcpy(text + length, ends[u % 3], end);
            assert_true(encode_long(tokenizer, text, length + end, f != 3) >= 1 << 11);
        }
        tokenizer_destroy(tokenizer);
    }
    free(text);
}

/* Combining marks in the wrong order: sorting them must not be quadratic. */
static void a_megabyte_of_combining_marks(void **state) {
    (void)state;
    size_t length = 1 << 20;
    char *text = malloc(length);
    assert_non_null(text);
    for (size_t i = 0; i < length; i += 4)
        memcpy(text + i, i < length / 2 ? "\xcc\x81\xcc\x81" : "\xcc\xa3\xcc\xa3", 4);
    struct tokenizer *tokenizer = load("launcher/demo-moe/tokenizer.json");
    struct token_list ids = {0};
    struct text_buffer again = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text, length, 0, &ids), STATUS_OK);
    assert_int_equal(tokenizer_decode(tokenizer, ids.ids, ids.count, false, &again), STATUS_OK);
    assert_int_equal(again.length, length);
    for (size_t i = 0; i < length; i += 2) /* below before above */
        assert_memory_equal(again.data + i, i < length / 2 ? "\xcc\xa3" : "\xcc\x81", 2);
    token_list_deinit(&ids);
    text_buffer_deinit(&again);
    tokenizer_destroy(tokenizer);
    free(text);
}

static void ids_without_a_token_give_nothing(void **state) {
    (void)state;
    struct tokenizer *tokenizer = load(DATA "minimind/tokenizer.json");
    int32_t count = tokenizer_vocab_count(tokenizer);
    const int32_t ids[] = {-1, INT32_MIN, count, count + 1000, INT32_MAX};
    struct text_buffer text = {0};
    assert_int_equal(tokenizer_decode(tokenizer, ids, 5, false, &text), STATUS_OK);
    assert_int_equal(text.length, 0);
    struct detokenizer stream;
    detokenizer_init(&stream, tokenizer, false);
    char *delta = malloc(detokenizer_delta_bytes_max(tokenizer));
    for (int i = 0; i < 5; i++) {
        size_t length = 9;
        assert_int_equal(detokenizer_push(&stream, ids[i], delta), 0);
        assert_null(tokenizer_id_to_token(tokenizer, ids[i], &length));
        assert_int_equal(length, 0);
        tokenizer_id_to_bytes(tokenizer, ids[i], &length);
        assert_int_equal(length, 0);
        assert_false(tokenizer_is_special(tokenizer, ids[i]));
    }
    assert_int_equal(detokenizer_finish(&stream, delta), 0);
    free(delta);
    text_buffer_deinit(&text);
    tokenizer_destroy(tokenizer);
}

static void special_tokens_by_name_and_as_plain_text(void **state) {
    (void)state;
    struct tokenizer *tokenizer = load("launcher/demo-moe/tokenizer.json");
    assert_int_equal(tokenizer_token_id(tokenizer, "<|im_end|>"), 4095);
    assert_int_equal(tokenizer_token_id(tokenizer, "<|no such token|>"), -1);
    assert_int_equal(tokenizer_vocab_count(tokenizer), 4096);
    assert_true(tokenizer_is_special(tokenizer, 4095));
    assert_false(tokenizer_is_special(tokenizer, 17));
    size_t length;
    assert_memory_equal(tokenizer_id_to_token(tokenizer, 4095, &length), "<|im_end|>", 10);
    assert_int_equal(length, 10);
    struct token_list ids = {0};
    assert_int_equal(tokenizer_encode(tokenizer, "<|im_end|>", 10, 0, &ids), STATUS_OK);
    assert_int_equal(ids.count, 1);
    assert_int_equal(ids.ids[0], 4095);
    ids.count = 0;
    assert_int_equal(tokenizer_encode(tokenizer, "<|im_end|>", 10, TOKENIZER_PLAIN_SPECIAL, &ids),
                     STATUS_OK);
    assert_true(ids.count > 1);
    for (int64_t i = 0; i < ids.count; i++)
        assert_false(tokenizer_is_special(tokenizer, ids.ids[i]));
    struct text_buffer text = {0};
    assert_int_equal(tokenizer_decode(tokenizer, ids.ids, ids.count, true, &text), STATUS_OK);
    assert_int_equal(text.length, 10);
    assert_memory_equal(text.data, "<|im_end|>", 10);
    text_buffer_deinit(&text);
    token_list_deinit(&ids);
    tokenizer_destroy(tokenizer);
}

/* Checks all vectors of a folder with a tokenizer that other threads use, too. */
static void *check_in_thread(void *argument) {
    struct folder *folder = argument;
    each_line(folder, "vectors.jsonl", check_vector);
    each_line(folder, "streams.jsonl", check_stream);
    return NULL;
}

static void one_tokenizer_serves_several_threads(void **state) {
    (void)state;
    struct tokenizer *tokenizer = load(DATA "mixtral/tokenizer.json");
    struct folder users[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        users[i] = (struct folder){.path = DATA "mixtral", .tokenizer = tokenizer};
        assert_int_equal(pthread_create(&threads[i], NULL, check_in_thread, &users[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(users[i].wrong, 0);
        assert_int_equal(users[i].vectors, 200);
    }
    tokenizer_destroy(tokenizer);
}

int main(int argc, char **argv) {
    if (argc > 1)
        return check_arguments(argc - 1, argv + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_exact),
        cmocka_unit_test(a_wrong_vector_is_seen),
        cmocka_unit_test(text_that_is_not_utf8_is_refused_with_its_offset),
        cmocka_unit_test(encoding_ends_early),
        cmocka_unit_test(a_megabyte_without_a_place_to_cut),
        cmocka_unit_test(a_megabyte_of_combining_marks),
        cmocka_unit_test(ids_without_a_token_give_nothing),
        cmocka_unit_test(special_tokens_by_name_and_as_plain_text),
        cmocka_unit_test(one_tokenizer_serves_several_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
