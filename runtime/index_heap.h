/* A binary heap of small numbers (handles) that knows where each stands, so that one whose key has
 * changed, or that leaves, is found at once. */
#ifndef MOEBIUS_RUNTIME_INDEX_HEAP_H
#define MOEBIUS_RUNTIME_INDEX_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* Whether a comes before b: a strict total order. */
typedef bool (*index_heap_before)(const void *context, int32_t a, int32_t b);

struct index_heap {
    int32_t *item;  /* [count], heap order */
    int32_t *where; /* [capacity] place in item, -1: not in the heap */
    int32_t count, capacity;
    index_heap_before before;
    const void *context; /* kept */
};

/* For items 0 .. capacity - 1. STATUS_NO_MEMORY (not logged: the owner knows what it is for). */
enum status index_heap_init(struct index_heap *heap, int32_t capacity, index_heap_before before,
                            const void *context);
void index_heap_deinit(struct index_heap *heap);

/* Puts an item in, or moves it to where its key says now. Local. */
void index_heap_put(struct index_heap *heap, int32_t item);

/* Takes an item out; nothing happens when it is not in. Local. */
void index_heap_remove(struct index_heap *heap, int32_t item);

/* The first item, -1: none. Local. */
int32_t index_heap_first(const struct index_heap *heap);

bool index_heap_has(const struct index_heap *heap, int32_t item);

#endif
