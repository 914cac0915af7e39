/* runtime/tensor_shard.c: parts cover the whole, once; what does not divide is refused with what
 * does.
 */
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/tensor_shard.h"
#include "tests/support/log_capture.h"
#include "tests/unit/unit_test.h"

static struct model_spec spec_of(int32_t heads, int32_t kv_heads, int32_t vocabulary) {
    struct model_spec spec = {.vocabulary = vocabulary};
    spec.attention = (struct attention_spec){.heads = heads, .kv_heads = kv_heads, .head_dim = 8};
    return spec;
}

static void parts_cover_the_whole(void **state) {
    (void)state;
    static const struct {
        int32_t heads, kv_heads, count, copies;
    } cases[] = {{8, 8, 1, 1}, {8, 8, 2, 1}, {8, 2, 2, 1}, {8, 2, 4, 2},
                 {8, 2, 8, 4}, {8, 1, 8, 8}, {6, 3, 3, 1}, {12, 3, 6, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t count = cases[i].count;
        struct model_spec spec = spec_of(cases[i].heads, cases[i].kv_heads, 1000);
        int32_t a_group = cases[i].heads / cases[i].kv_heads, heads = 0, ids = 0;
        assert_int_equal(tensor_shard_check(&spec, count, count), STATUS_OK);
        for (int32_t rank = 0; rank < count; rank++) {
            struct tensor_shard shard = tensor_shard_of(&spec, rank, count, 64);
            assert_int_equal(shard.first_head, heads);
            assert_int_equal(shard.first_id, ids);
            assert_int_equal(shard.kv_copies, cases[i].copies);
            /* Attention gives its head h the key/value head h / (heads / kv_heads). */
            for (int32_t h = 0; h < shard.heads; h++)
                assert_int_equal(shard.first_kv_head + h / (shard.heads / shard.kv_heads),
                                 (shard.first_head + h) / a_group);
            heads += shard.heads;
            ids += shard.ids;
            assert_true(rank == count - 1 || ids % 64 == 0);
        }
        assert_int_equal(heads, spec.attention.heads);
        assert_int_equal(ids, spec.vocabulary);
    }
}

/* More ranks than panels: the last ones have no ids. */
static void small_vocabularies(void **state) {
    (void)state;
    struct model_spec spec = spec_of(8, 8, 100);
    int32_t ids = 0, empty = 0;
    for (int32_t rank = 0; rank < 8; rank++) {
        struct tensor_shard shard = tensor_shard_of(&spec, rank, 8, 64);
        assert_int_equal(shard.first_id, ids);
        ids += shard.ids;
        empty += shard.ids == 0;
    }
    assert_int_equal(ids, 100);
    assert_int_equal(empty, 6);
}

static void what_does_not_divide_is_refused(void **state) {
    (void)state;
    struct model_spec spec = spec_of(12, 4, 1000);
    struct log_capture capture;
    char text[1000];
    log_capture_begin(&capture);
    assert_int_equal(tensor_shard_check(&spec, 3, 12), STATUS_USAGE);
    assert_int_equal(log_capture_end(&capture, text, sizeof text), 1);
    assert_non_null(strstr(text, "12 heads"));
    assert_non_null(strstr(text, "4 key/value heads, got 3; nearest for 12 ranks: 2 or 4"));
    log_capture_begin(&capture);
    assert_int_equal(tensor_shard_check(&spec, 5, 5), STATUS_USAGE);
    log_capture_end(&capture, text, sizeof text);
    assert_non_null(strstr(text, "nearest for 5 ranks: 1"));
    assert_null(strstr(text, " or 5"));
}

int main(void) {
    log_setup(LOG_LEVEL_ERROR, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_cover_the_whole),
        cmocka_unit_test(small_vocabularies),
        cmocka_unit_test(what_does_not_divide_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
