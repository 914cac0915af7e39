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
    if (text.length != joined->length || memcmp(text.data, joined->data, text.length) != 0)
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
    snprintf(path, sizeof path, "%s/tokenizer.json", folder->path);
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

int main(int argc, char **argv) {
    if (argc > 1)
        return check_arguments(argc - 1, argv + 1);
    return 0;
}
