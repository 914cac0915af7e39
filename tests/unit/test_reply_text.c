/* runtime/reply_text.c: the deltas of a reply, joined, are the text of the whole, however tokens
 * are cut; a stop string is found across tokens, left out or included, and not looked for within
 * min_tokens. With the demo model's tokenizer, whose tokens may end within a character. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/reply_text.h"
#include "runtime/tokenizer.h"
#include "tests/unit/unit_test.h"

#define TOKENIZER "launcher/demo-moe/tokenizer.json"
#define IDS 60
#define ROUNDS 300

static struct tokenizer *tokenizer;
static char *scratch;

static int set_up(void **state) {
    (void)state;
    if (tokenizer_load(TOKENIZER, &tokenizer) != STATUS_OK)
        return -1;
    scratch = malloc(reply_text_scratch_bytes(tokenizer));
    return scratch != NULL ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    free(scratch);
    tokenizer_destroy(tokenizer);
    return 0;
}

/* The text up to the first stop string, by the simplest means. */
static size_t cut_at(const struct text_buffer *text, const char *stop, bool *found) {
    size_t length = strlen(stop);
    for (size_t i = 0; i + length <= text->length; i++)
        if (memcmp(text->data + i, stop, length) == 0) {
            *found = true;
            return i;
        }
    *found = false;
    return text->length;
}

static bool valid_utf8(const char *text, size_t length) {
    struct token_list ids = {0};
    bool valid = tokenizer_encode(tokenizer, text, length, 0, &ids) == STATUS_OK;
    token_list_deinit(&ids);
    return valid;
}

/* Feeds all ids; every delta is whole UTF-8. Returns tokens taken. */
static int32_t feed(struct reply_text *reply, const int32_t *ids, int32_t count,
                    struct text_buffer *all) {
    struct text_buffer delta = {0};
    int32_t taken = 0;
    while (taken < count && reply->stop.matched < 0) {
        delta.length = 0;
        assert_int_equal(reply_text_push(reply, ids[taken++], scratch, &delta), STATUS_OK);
        assert_true(valid_utf8(delta.data != NULL ? delta.data : "", delta.length));
        assert_int_equal(
            text_buffer_append(all, delta.data != NULL ? delta.data : "", delta.length), STATUS_OK);
    }
    assert_int_equal(reply_text_finish(reply, scratch, all), STATUS_OK);
    text_buffer_deinit(&delta);
    return taken;
}

static void random_ids(uint32_t *state, int32_t *ids) {
    int32_t count = tokenizer_vocab_count(tokenizer);
    for (int32_t i = 0; i < IDS; i++) {
        *state = *state * 1664525u + 1013904223u;
        uint32_t high = *state >> 8;
        /* Every other one from the single bytes, so that characters are often cut or broken. */
        ids[i] = (int32_t)(i % 2 == 0 ? high % 256u : high % (uint32_t)count);
    }
}

static void deltas_join(void **state) {
    (void)state;
    uint32_t seed = 5;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t ids[IDS];
        struct text_buffer whole = {0}, all = {0};
        struct reply_text reply;
        random_ids(&seed, ids);
        assert_int_equal(tokenizer_decode(tokenizer, ids, IDS, true, &whole), STATUS_OK);
        struct reply_text_options options = {.tokenizer = tokenizer};
        assert_int_equal(reply_text_init(&reply, &options), STATUS_OK);
        assert_int_equal(feed(&reply, ids, IDS, &all), IDS);
        assert_int_equal(all.length, whole.length);
        assert_memory_equal(all.data, whole.data, whole.length);
        reply_text_deinit(&reply);
        text_buffer_deinit(&whole);
        text_buffer_deinit(&all);
    }
}

/* The first place from `at` on where a character starts. */
static size_t to_character(const struct text_buffer *text, size_t at) {
    while (at < text->length && ((unsigned char)text->data[at] & 0xc0u) == 0x80u)
        at++;
    return at;
}

/* A piece of the text itself is the stop string, so that it stands across tokens as often as not.
 */
static void stops_across_tokens(void **state) {
    (void)state;
    uint32_t seed = 9;
    int crossed = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t ids[IDS];
        struct text_buffer whole = {0}, all = {0};
        struct reply_text reply;
        random_ids(&seed, ids);
        assert_int_equal(tokenizer_decode(tokenizer, ids, IDS, true, &whole), STATUS_OK);
        char stop[16] = {0};
        size_t at = to_character(&whole, whole.length / 3 + (size_t)round % 11);
        size_t length = to_character(&whole, at + 2 + (size_t)round % 5) - at;
        memcpy(stop, whole.data + at, length);
        if (strlen(stop) != length) {
            text_buffer_deinit(&whole);
            continue; /* a NUL byte is in it */
        }
        const char *stops[] = {stop};
        bool found, include = round % 2 == 0;
        size_t expected = cut_at(&whole, stop, &found) + (include ? length : 0);
        struct reply_text_options options = {
            .tokenizer = tokenizer, .stop = stops, .stop_count = 1, .include_stop = include};
        assert_true(found);
        assert_int_equal(reply_text_init(&reply, &options), STATUS_OK);
        int32_t taken = feed(&reply, ids, IDS, &all);
        crossed += taken < IDS;
        assert_int_equal(reply.stop.matched, 0);
        assert_int_equal(all.length, expected);
        assert_memory_equal(all.data, whole.data, expected);
        reply_text_deinit(&reply);
        text_buffer_deinit(&whole);
        text_buffer_deinit(&all);
    }
    assert_true(crossed > ROUNDS / 2);
}

static void min_tokens_come_first(void **state) {
    (void)state;
    struct token_list ids = {0};
    struct text_buffer all = {0};
    struct reply_text reply;
    const char *text = "one two one two one two", *stops[] = {"two"};
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), 0, &ids), STATUS_OK);
    struct reply_text_options options = {.tokenizer = tokenizer,
                                         .stop = stops,
                                         .stop_count = 1,
                                         .min_tokens = (int32_t)ids.count / 2};
    assert_int_equal(reply_text_init(&reply, &options), STATUS_OK);
    feed(&reply, ids.ids, (int32_t)ids.count, &all);
    assert_int_equal(reply.stop.matched, 0);
    assert_true(all.length > strlen("one two"));
    assert_memory_equal(all.data, "one two", 7);
    reply_text_deinit(&reply);
    text_buffer_deinit(&all);
    token_list_deinit(&ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(deltas_join),
                                       cmocka_unit_test(stops_across_tokens),
                                       cmocka_unit_test(min_tokens_come_first)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
