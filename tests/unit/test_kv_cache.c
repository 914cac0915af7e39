/* runtime/kv_cache.c: the pool is as large as planned, and copies move exactly what was asked for,
 * in every layer. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/kv_cache.h"
#include "tests/unit/unit_test.h"

#define LAYERS 3
#define BLOCKS 5

/* Odd head_dim: bf16 keys then have a padding lane. */
static const struct kv_shape shapes[] = {
    {DTYPE_F32, 2, 5}, {DTYPE_BF16, 2, 5}, {DTYPE_F32, 1, 8}, {DTYPE_BF16, 3, 8}};
#define SHAPES (sizeof shapes / sizeof shapes[0])

static void fill(struct kv_cache *cache) {
    for (size_t i = 0; i < cache->bytes; i++)
        cache->base[i] = (char)(i * 131 + i / 251);
}

static void size_is_the_plans(void **state) {
    (void)state;
    for (size_t s = 0; s < SHAPES; s++) {
        struct kv_cache cache;
        assert_int_equal(kv_cache_init(&cache, &shapes[s], LAYERS, BLOCKS), STATUS_OK);
        assert_int_equal(cache.bytes, kv_cache_block_bytes(&shapes[s], LAYERS) * BLOCKS);
        for (size_t i = 0; i < cache.bytes; i++)
            assert_int_equal(cache.base[i], 0);
        assert_ptr_equal(kv_cache_layer(&cache, 0), cache.base);
        assert_ptr_equal(kv_cache_layer(&cache, LAYERS - 1) + BLOCKS * kv_block_bytes(&shapes[s]),
                         cache.base + cache.bytes);
        kv_cache_deinit(&cache);
    }
}

/* Whether byte `i` of a layer is part of the slot's keys or values. */
static bool in_slot(const struct kv_shape *shape, size_t i, int32_t block, int32_t slot) {
    size_t bytes = kv_block_bytes(shape), element = (size_t)dtype_bytes(shape->dtype);
    if (i / bytes != (size_t)block)
        return false;
    int64_t index = (int64_t)(i % bytes / element);
    for (int32_t head = 0; head < shape->kv_heads; head++)
        for (int32_t dim = 0; dim < shape->head_dim; dim++)
            if (kv_key_index(shape, head, slot, dim) == index ||
                kv_value_index(shape, head, slot, dim) == index)
                return true;
    return false;
}

static void copy_slot_moves_one_slot(const struct kv_shape *shape, int32_t from_block, int32_t from,
                                     int32_t to_block, int32_t to) {
    struct kv_cache cache;
    assert_int_equal(kv_cache_init(&cache, shape, LAYERS, BLOCKS), STATUS_OK);
    fill(&cache);
    char *before = malloc(cache.bytes + 1);
    assert_non_null(before);
    memcpy(before, cache.base, cache.bytes);
    kv_cache_copy_slot(&cache, from_block, from, to_block, to);
    size_t layer_bytes = cache.bytes / LAYERS, element = (size_t)dtype_bytes(shape->dtype);
    size_t bytes = kv_block_bytes(shape);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        const char *now = kv_cache_layer(&cache, layer), *old = before + layer * layer_bytes;
        for (size_t i = 0; i < layer_bytes; i++)
            if (!in_slot(shape, i, to_block, to))
                assert_int_equal(now[i], old[i]);
        for (int32_t head = 0; head < shape->kv_heads; head++)
            for (int32_t dim = 0; dim < shape->head_dim; dim++) {
                const char *source = old + (size_t)from_block * bytes;
                const char *target = now + (size_t)to_block * bytes;
                assert_memory_equal(target + (size_t)kv_key_index(shape, head, to, dim) * element,
                                    source + (size_t)kv_key_index(shape, head, from, dim) * element,
                                    element);
                assert_memory_equal(
                    target + (size_t)kv_value_index(shape, head, to, dim) * element,
                    source + (size_t)kv_value_index(shape, head, from, dim) * element, element);
            }
    }
    free(before);
    kv_cache_deinit(&cache);
}

static void copies_a_slot(void **state) {
    (void)state;
    for (size_t s = 0; s < SHAPES; s++) {
        copy_slot_moves_one_slot(&shapes[s], 2, 0, 2, 15);
        copy_slot_moves_one_slot(&shapes[s], 4, 7, 0, 6);
        copy_slot_moves_one_slot(&shapes[s], 1, 3, 3, 3);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_is_the_plans),
        cmocka_unit_test(copies_a_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
