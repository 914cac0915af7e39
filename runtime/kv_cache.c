/* The pool of KV blocks. The plan names the blocks of a step, the attention kernels write and read
 * them during it, nothing is taken from the system after start. */
#include "runtime/kv_cache.h"

#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/memory.h"

size_t kv_cache_block_bytes(const struct kv_shape *shape, int32_t layers) {
    return kv_block_bytes(shape) * (size_t)layers;
}

enum status kv_cache_init(struct kv_cache *cache, const struct kv_shape *shape, int32_t layers,
                          int32_t block_count) {
    ASSERT(layers > 0 && block_count > 0);
    size_t bytes = kv_cache_block_bytes(shape, layers) * (size_t)block_count;
    void *base;
    RETURN_IF_ERROR(memory_acquire("KV cache", bytes, &base));
    *cache = (struct kv_cache){.shape = *shape,
                               .layers = layers,
                               .block_count = block_count,
                               .base = base,
                               .bytes = bytes};
    return STATUS_OK;
}

void kv_cache_deinit(struct kv_cache *cache) {
    memory_release(cache->base, cache->bytes);
    *cache = (struct kv_cache){0};
}

char *kv_cache_layer(const struct kv_cache *cache, int32_t layer) {
    return cache->base + (size_t)layer * (size_t)cache->block_count * kv_block_bytes(&cache->shape);
}

/* One slot's keys and values within one layer; `element` is 2 or 4 bytes. */
static void copy_slot_in_layer(const struct kv_shape *shape, const char *from, int32_t from_offset,
                               char *to, int32_t to_offset) {
    size_t element = (size_t)dtype_bytes(shape->dtype);
    for (int32_t head = 0; head < shape->kv_heads; head++) {
        for (int32_t dim = 0; dim < shape->head_dim; dim++) {
            memcpy(to + (size_t)kv_key_index(shape, head, to_offset, dim) * element,
                   from + (size_t)kv_key_index(shape, head, from_offset, dim) * element, element);
            memcpy(to + (size_t)kv_value_index(shape, head, to_offset, dim) * element,
                   from + (size_t)kv_value_index(shape, head, from_offset, dim) * element, element);
        }
    }
}

void kv_cache_copy_slot(struct kv_cache *cache, int32_t from_block, int32_t from_offset,
                        int32_t to_block, int32_t to_offset) {
    size_t bytes = kv_block_bytes(&cache->shape);
    for (int32_t layer = 0; layer < cache->layers; layer++) {
        char *blocks = kv_cache_layer(cache, layer);
        copy_slot_in_layer(&cache->shape, blocks + (size_t)from_block * bytes, from_offset,
                           blocks + (size_t)to_block * bytes, to_offset);
    }
}
