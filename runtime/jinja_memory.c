/* The arena of the template language: the parser keeps its nodes in one, each rendering has its
 * own. */
#include "runtime/jinja_memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"

#define CHUNK_BYTES ((size_t)16 << 10)
#define ALIGNMENT ((size_t)16)

struct jinja_chunk {
    struct jinja_chunk *next;
    size_t capacity;
    size_t used;
    _Alignas(16) char bytes[];
};

void jinja_memory_deinit(struct jinja_memory *memory) {
    struct jinja_chunk *chunk = memory->chunks;
    while (chunk != NULL) {
        struct jinja_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    memory->chunks = NULL;
}

/* A fresh chunk with at least `bytes` of room becomes the one that is taken from. `generous` asks
 * for twice that, for a string that may go on growing. */
static enum status add_chunk(struct jinja_memory *memory, size_t bytes, bool generous) {
    if (bytes > memory->bytes_left) {
        LOG_ERROR("%s: the template takes more memory than it may", memory->origin);
        return STATUS_LIMIT;
    }
    size_t capacity = generous && bytes <= memory->bytes_left / 2 ? 2 * bytes : bytes;
    if (capacity < CHUNK_BYTES && memory->bytes_left >= CHUNK_BYTES)
        capacity = CHUNK_BYTES;
    struct jinja_chunk *chunk = malloc(sizeof *chunk + capacity);
    if (chunk == NULL) {
        LOG_ERROR("%s: cannot take %zu bytes of memory", memory->origin, capacity);
        return STATUS_NO_MEMORY;
    }
    memory->bytes_left -= capacity;
    *chunk = (struct jinja_chunk){.next = memory->chunks, .capacity = capacity};
    memory->chunks = chunk;
    return STATUS_OK;
}

enum status jinja_memory_take(struct jinja_memory *memory, size_t bytes, void **taken) {
    struct jinja_chunk *chunk = memory->chunks;
    size_t start = 0;
    if (chunk != NULL)
        start = (chunk->used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (chunk == NULL || start > chunk->capacity || bytes > chunk->capacity - start) {
        RETURN_IF_ERROR(add_chunk(memory, bytes, false));
        chunk = memory->chunks;
        start = 0;
    }
    chunk->used = start + bytes;
    *taken = chunk->bytes + start;
    return STATUS_OK;
}

enum status jinja_memory_take_zeroed(struct jinja_memory *memory, size_t count, size_t size,
                                     void **taken) {
    if (count > SIZE_MAX / 2 / size) {
        LOG_ERROR("%s: the template takes more memory than it may", memory->origin);
        return STATUS_LIMIT;
    }
    RETURN_IF_ERROR(jinja_memory_take(memory, count * size, taken));
    memset(*taken, 0, count * size);
    return STATUS_OK;
}

enum status jinja_memory_copy(struct jinja_memory *memory, const char *text, size_t length,
                              struct jinja_string *copy) {
    void *bytes = NULL;
    RETURN_IF_ERROR(jinja_memory_take(memory, length, &bytes));
    if (length > 0)
        memcpy(bytes, text, length);
    *copy = (struct jinja_string){bytes, length};
    return STATUS_OK;
}

/* Strings are never changed, so a string at the arena's end may become the start of a longer one:
 * those who hold the shorter one see only their own length. */
static bool grow_in_place(struct jinja_memory *memory, struct jinja_string left,
                          struct jinja_string right) {
    struct jinja_chunk *chunk = memory->chunks;
    if (chunk == NULL || left.length == 0 || left.text + left.length != chunk->bytes + chunk->used)
        return false;
    if (left.length > chunk->used || right.length > chunk->capacity - chunk->used)
        return false;
    memcpy(chunk->bytes + chunk->used, right.text, right.length);
    chunk->used += right.length;
    return true;
}

enum status jinja_memory_join(struct jinja_memory *memory, struct jinja_string left,
                              struct jinja_string right, struct jinja_string *joined) {
    if (left.length == 0 || right.length == 0) {
        *joined = left.length == 0 ? right : left;
        return STATUS_OK;
    }
    size_t length = left.length + right.length;
    if (grow_in_place(memory, left, right)) {
        *joined = (struct jinja_string){left.text, length};
        return STATUS_OK;
    }
    struct jinja_chunk *chunk = memory->chunks;
    if (chunk == NULL || chunk->capacity - chunk->used < length + ALIGNMENT)
        RETURN_IF_ERROR(add_chunk(memory, length, true));
    void *bytes = NULL;
    RETURN_IF_ERROR(jinja_memory_take(memory, length, &bytes));
    memcpy(bytes, left.text, left.length);
    memcpy((char *)bytes + left.length, right.text, right.length);
    *joined = (struct jinja_string){bytes, length};
    return STATUS_OK;
}
