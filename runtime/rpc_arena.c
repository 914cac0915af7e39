/* The arena that a request's messages are unpacked into: a list of chunks, newest first. Freed as
 * a whole with the call. */
#include "runtime/rpc_arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 4096
#define KEPT_BYTES 65536 /* a larger chunk is not kept over a reset */
#define ALIGNMENT alignof(max_align_t)

struct rpc_arena_chunk {
    struct rpc_arena_chunk *next;
    size_t capacity;
    alignas(max_align_t) unsigned char bytes[];
};

static void *allocate(void *arena, size_t bytes) {
    return rpc_arena_take(arena, bytes);
}

static void release_nothing(void *arena, void *pointer) {
    (void)arena;
    (void)pointer;
}

void rpc_arena_init(struct rpc_arena *arena, size_t bytes_max) {
    *arena = (struct rpc_arena){.total_max = bytes_max};
    arena->allocator =
        (ProtobufCAllocator){.alloc = allocate, .free = release_nothing, .allocator_data = arena};
}

static void free_chunks(struct rpc_arena_chunk *chunk) {
    while (chunk != NULL) {
        struct rpc_arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void rpc_arena_deinit(struct rpc_arena *arena) {
    free_chunks(arena->chunks);
    arena->chunks = NULL;
    arena->used = arena->capacity = arena->total = 0;
}

void rpc_arena_reset(struct rpc_arena *arena) {
    arena->is_exhausted = false;
    struct rpc_arena_chunk *kept = arena->chunks;
    if (kept == NULL)
        return;
    if (kept->capacity > KEPT_BYTES) {
        rpc_arena_deinit(arena);
        return;
    }
    free_chunks(kept->next);
    kept->next = NULL;
    arena->total = kept->capacity;
    memset(kept->bytes, 0, arena->used);
    arena->used = 0;
}

static bool add_chunk(struct rpc_arena *arena, size_t bytes) {
    size_t room = arena->total_max - arena->total;
    if (bytes > room)
        return false;
    /* As large as all so far, so that there are few. */
    size_t capacity = arena->total < CHUNK_BYTES ? CHUNK_BYTES : arena->total;
    capacity = capacity < bytes ? bytes : capacity;
    capacity = capacity > room ? room : capacity;
    struct rpc_arena_chunk *chunk = calloc(1, sizeof(*chunk) + capacity);
    if (chunk == NULL)
        return false;
    chunk->capacity = capacity;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->total += capacity;
    arena->capacity = capacity;
    arena->used = 0;
    return true;
}

void *rpc_arena_take(struct rpc_arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 2) {
        arena->is_exhausted = true;
        return NULL;
    }
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (arena->chunks == NULL || arena->capacity - arena->used < rounded) {
        if (!add_chunk(arena, rounded)) {
            arena->is_exhausted = true;
            return NULL;
        }
    }
    void *taken = arena->chunks->bytes + arena->used;
    arena->used += rounded;
    return taken;
}
