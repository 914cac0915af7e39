/* A hash map from 64-bit keys to 64-bit values: merges, joints and tries of the tokenizer. Filled
 * at load, read by any number of threads after. */
#ifndef MOEBIUS_RUNTIME_TOKENIZER_MAP_H
#define MOEBIUS_RUNTIME_TOKENIZER_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

struct tokenizer_map_slot {
    uint64_t key; /* TOKENIZER_MAP_EMPTY: a free slot */
    uint64_t value;
};

/* {0} is an empty map. */
struct tokenizer_map {
    struct tokenizer_map_slot *slots; /* a power of two of them, at most half in use */
    uint64_t mask;
    size_t count;
};

#define TOKENIZER_MAP_EMPTY UINT64_MAX

/* Makes room for `count` keys at once. STATUS_NO_MEMORY leaves the map as it was. Local. */
enum status tokenizer_map_reserve(struct tokenizer_map *map, size_t count);

void tokenizer_map_deinit(struct tokenizer_map *map);

/* Sets the value of `key` (any but TOKENIZER_MAP_EMPTY), new or not. Local. */
enum status tokenizer_map_set(struct tokenizer_map *map, uint64_t key, uint64_t value);

/* A well mixed hash of 64 bits. Local. */
static inline uint64_t tokenizer_map_hash(uint64_t key) {
    key ^= key >> 32;
    key *= UINT64_C(0x9e3779b97f4a7c15);
    return key ^ key >> 29;
}

/* The value of `key`, or `missing` if there is none. Local. */
static inline uint64_t tokenizer_map_get(const struct tokenizer_map *map, uint64_t key,
                                         uint64_t missing) {
    if (map->slots == NULL)
        return missing;
    uint64_t at = tokenizer_map_hash(key) & map->mask;
    while (map->slots[at].key != key) {
        if (map->slots[at].key == TOKENIZER_MAP_EMPTY)
            return missing;
        at = (at + 1) & map->mask;
    }
    return map->slots[at].value;
}

#endif
