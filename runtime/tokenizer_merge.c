/* Byte-pair merging: parts that no merge can cross one by one, short parts by scanning, long ones
 * with a heap over a linked list. */
#include "runtime/tokenizer_merge.h"

#include <string.h>

#include "kernels/base/check.h"

#define SHORT_MAX 32
#define NO_PAIR UINT64_MAX

struct node {
    int32_t symbol; /* -1: merged into the one before */
    int32_t previous;
    int32_t next; /* -1: none */
};

/* A merge that was possible when it was found: key = rank << 32 | place, so that the order of keys
 * is the order of merges. */
struct candidate {
    uint64_t key;
    int32_t merged;
    int32_t unused;
};

struct heap {
    struct candidate *items;
    size_t count;
};

void tokenizer_merge_deinit(struct tokenizer_merge *merge) {
    tokenizer_map_deinit(&merge->pairs);
    tokenizer_map_deinit(&merge->joints);
}

void tokenizer_merge_scratch_deinit(struct tokenizer_merge_scratch *scratch) {
    text_buffer_deinit(&scratch->nodes);
    text_buffer_deinit(&scratch->heap);
}

static uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static uint64_t find(const struct tokenizer_merge *merge, int32_t left, int32_t right) {
    return tokenizer_map_get(&merge->pairs, pair_key(left, right), NO_PAIR);
}

/* Scans for the lowest rank again after every merge. Returns how many symbols are left. */
static size_t merge_short(const struct tokenizer_merge *merge, int32_t *symbols, size_t count) {
    uint64_t found[SHORT_MAX];
    for (size_t i = 0; i + 1 < count; i++)
        found[i] = find(merge, symbols[i], symbols[i + 1]);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (found[i] >> 32 < found[best] >> 32)
                best = i;
        if (found[best] == NO_PAIR)
            break;
        symbols[best] = (int32_t)(uint32_t)found[best];
        count--;
        memmove(symbols + best + 1, symbols + best + 2, (count - best - 1) * sizeof symbols[0]);
        memmove(found + best, found + best + 1, (count - best - 1) * sizeof found[0]);
        if (best > 0)
            found[best - 1] = find(merge, symbols[best - 1], symbols[best]);
        if (best + 1 < count)
            found[best] = find(merge, symbols[best], symbols[best + 1]);
    }
    return count;
}

static void sift_down(struct heap *heap, size_t at) {
    struct candidate item = heap->items[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->items[child + 1].key < heap->items[child].key)
            child++;
        if (heap->items[child].key >= item.key)
            break;
        heap->items[at] = heap->items[child];
        at = child;
    }
    heap->items[at] = item;
}

static void push(struct heap *heap, struct candidate item) {
    size_t at = heap->count++;
    while (at > 0 && heap->items[(at - 1) / 2].key > item.key) {
        heap->items[at] = heap->items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->items[at] = item;
}

static struct candidate pop(struct heap *heap) {
    struct candidate first = heap->items[0];
    heap->items[0] = heap->items[--heap->count];
    if (heap->count > 0)
        sift_down(heap, 0);
    return first;
}

/* The merge of the node at `place` with its right neighbour, if there is one. */
static int candidate_at(const struct tokenizer_merge *merge, const struct node *nodes,
                        int32_t place, struct candidate *candidate) {
    if (place < 0 || nodes[place].next < 0)
        return 0;
    uint64_t found = find(merge, nodes[place].symbol, nodes[nodes[place].next].symbol);
    if (found == NO_PAIR)
        return 0;
    candidate->key = (found & UINT64_C(0xffffffff00000000)) | (uint32_t)place;
    candidate->merged = (int32_t)(uint32_t)found;
    candidate->unused = 0;
    return 1;
}

static void push_at(const struct tokenizer_merge *merge, const struct node *nodes, int32_t place,
                    struct heap *heap) {
    struct candidate candidate;
    if (candidate_at(merge, nodes, place, &candidate))
        push(heap, candidate);
}

/* Carries out one candidate if the two symbols are still there. */
static void apply(const struct tokenizer_merge *merge, struct node *nodes, struct heap *heap,
                  const struct candidate *candidate) {
    int32_t place = (int32_t)(uint32_t)candidate->key;
    struct node *left = &nodes[place];
    if (left->symbol < 0 || left->next < 0)
        return;
    struct node *right = &nodes[left->next];
    uint64_t found = find(merge, left->symbol, right->symbol);
    if (found == NO_PAIR || (int32_t)(uint32_t)found != candidate->merged)
        return;
    left->symbol = candidate->merged;
    left->next = right->next;
    right->symbol = -1;
    if (left->next >= 0)
        nodes[left->next].previous = place;
    push_at(merge, nodes, left->previous, heap);
    push_at(merge, nodes, place, heap);
}

/* Each merge takes one candidate and one symbol away and adds at most two candidates: at most 2 n
 * in the heap. */
static enum status merge_long(const struct tokenizer_merge *merge,
                              struct tokenizer_merge_scratch *scratch, const int32_t *symbols,
                              size_t count, struct token_list *out) {
    ASSERT(count <= INT32_MAX);
    scratch->nodes.length = scratch->heap.length = 0;
    RETURN_IF_ERROR(text_buffer_reserve(&scratch->nodes, count * sizeof(struct node)));
    RETURN_IF_ERROR(text_buffer_reserve(&scratch->heap, 2 * count * sizeof(struct candidate)));
    struct node *nodes = (struct node *)(void *)scratch->nodes.data;
    struct heap heap = {.items = (struct candidate *)(void *)scratch->heap.data};
    for (size_t i = 0; i < count; i++)
        nodes[i] = (struct node){.symbol = symbols[i],
                                 .previous = (int32_t)i - 1,
                                 .next = i + 1 < count ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i < count; i++)
        if (candidate_at(merge, nodes, (int32_t)i, &heap.items[heap.count]))
            heap.count++;
    for (size_t i = heap.count / 2; i-- > 0;)
        sift_down(&heap, i);
    while (heap.count > 0) {
        struct candidate candidate = pop(&heap);
        apply(merge, nodes, &heap, &candidate);
    }
    for (int32_t at = 0; at >= 0; at = nodes[at].next)
        RETURN_IF_ERROR(token_list_append(out, nodes[at].symbol));
    return STATUS_OK;
}

static enum status merge_part(const struct tokenizer_merge *merge,
                              struct tokenizer_merge_scratch *scratch, int32_t *symbols,
                              size_t count, struct token_list *out) {
    if (count > SHORT_MAX)
        return merge_long(merge, scratch, symbols, count, out);
    count = merge_short(merge, symbols, count);
    RETURN_IF_ERROR(token_list_reserve(out, (int64_t)count));
    memcpy(out->ids + out->count, symbols, count * sizeof symbols[0]);
    out->count += (int64_t)count;
    return STATUS_OK;
}

enum status tokenizer_merge_run(const struct tokenizer_merge *merge,
                                struct tokenizer_merge_scratch *scratch, int32_t *symbols,
                                size_t count, struct token_list *out) {
    size_t start = 0;
    for (size_t i = 1; i <= count; i++) {
        if (i < count &&
            (!merge->cuts ||
             tokenizer_map_get(&merge->joints, pair_key(symbols[i - 1], symbols[i]), 0) != 0))
            continue;
        RETURN_IF_ERROR(merge_part(merge, scratch, symbols + start, i - start, out));
        start = i;
    }
    return STATUS_OK;
}
