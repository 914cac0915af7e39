/* The priority queue behind the scheduler's waiting requests and deadlines: O(log n) for whatever
 * changes between two steps. */
#include "runtime/index_heap.h"

#include <stdlib.h>

#include "kernels/base/check.h"

enum status index_heap_init(struct index_heap *heap, int32_t capacity, index_heap_before before,
                            const void *context) {
    *heap = (struct index_heap){.capacity = capacity, .before = before, .context = context};
    heap->item = malloc(sizeof *heap->item * (size_t)capacity);
    heap->where = malloc(sizeof *heap->where * (size_t)capacity);
    if (heap->item == NULL || heap->where == NULL)
        return STATUS_NO_MEMORY;
    for (int32_t i = 0; i < capacity; i++)
        heap->where[i] = -1;
    return STATUS_OK;
}

void index_heap_deinit(struct index_heap *heap) {
    free(heap->item);
    free(heap->where);
    *heap = (struct index_heap){0};
}

static void set(struct index_heap *heap, int32_t place, int32_t item) {
    heap->item[place] = item;
    heap->where[item] = place;
}

static bool before(const struct index_heap *heap, int32_t a, int32_t b) {
    return heap->before(heap->context, a, b);
}

/* Moves the item at `place` to where it belongs, up or down. */
static void sift(struct index_heap *heap, int32_t place) {
    int32_t item = heap->item[place];
    while (place > 0 && before(heap, item, heap->item[(place - 1) / 2])) {
        set(heap, place, heap->item[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (;;) {
        int32_t child = 2 * place + 1;
        if (child + 1 < heap->count && before(heap, heap->item[child + 1], heap->item[child]))
            child++;
        if (child >= heap->count || !before(heap, heap->item[child], item))
            break;
        set(heap, place, heap->item[child]);
        place = child;
    }
    set(heap, place, item);
}

void index_heap_put(struct index_heap *heap, int32_t item) {
    ASSERT(item >= 0 && item < heap->capacity);
    if (heap->where[item] < 0)
        set(heap, heap->count++, item);
    sift(heap, heap->where[item]);
}

void index_heap_remove(struct index_heap *heap, int32_t item) {
    ASSERT(item >= 0 && item < heap->capacity);
    int32_t place = heap->where[item];
    if (place < 0)
        return;
    heap->where[item] = -1;
    int32_t last = heap->item[--heap->count];
    if (last == item)
        return;
    set(heap, place, last);
    sift(heap, place);
}

int32_t index_heap_first(const struct index_heap *heap) {
    return heap->count > 0 ? heap->item[0] : -1;
}

bool index_heap_has(const struct index_heap *heap, int32_t item) {
    return heap->where[item] >= 0;
}
