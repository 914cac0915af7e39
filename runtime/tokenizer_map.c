/* Open addressing with linear probing; grows by doubling while a tokenizer is loaded. */
#include "runtime/tokenizer_map.h"

#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

void tokenizer_map_deinit(struct tokenizer_map *map) {
    free(map->slots);
    *map = (struct tokenizer_map){0};
}

static void insert(struct tokenizer_map *map, uint64_t key, uint64_t value) {
    uint64_t at = tokenizer_map_hash(key) & map->mask;
    while (map->slots[at].key != TOKENIZER_MAP_EMPTY && map->slots[at].key != key)
        at = (at + 1) & map->mask;
    if (map->slots[at].key == TOKENIZER_MAP_EMPTY)
        map->count++;
    map->slots[at] = (struct tokenizer_map_slot){.key = key, .value = value};
}

enum status tokenizer_map_reserve(struct tokenizer_map *map, size_t count) {
    ASSERT(count < SIZE_MAX / 8 / sizeof map->slots[0]);
    size_t slots = 16;
    while (slots < 2 * count)
        slots *= 2;
    if (map->slots != NULL && slots <= map->mask + 1)
        return STATUS_OK;
    struct tokenizer_map grown = {.mask = slots - 1};
    grown.slots = malloc(slots * sizeof grown.slots[0]);
    if (grown.slots == NULL) {
        LOG_ERROR("tokenizer: cannot take memory for a table of %zu slots", slots);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < slots; i++)
        grown.slots[i].key = TOKENIZER_MAP_EMPTY;
    for (size_t i = 0; map->slots != NULL && i <= map->mask; i++)
        if (map->slots[i].key != TOKENIZER_MAP_EMPTY)
            insert(&grown, map->slots[i].key, map->slots[i].value);
    free(map->slots);
    *map = grown;
    return STATUS_OK;
}

enum status tokenizer_map_set(struct tokenizer_map *map, uint64_t key, uint64_t value) {
    ASSERT(key != TOKENIZER_MAP_EMPTY);
    RETURN_IF_ERROR(tokenizer_map_reserve(map, map->count + 1));
    insert(map, key, value);
    return STATUS_OK;
}
