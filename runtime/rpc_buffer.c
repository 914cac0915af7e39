/* The byte queue behind every call, every half-received message and every socket of the gRPC layer.
 */
#include "runtime/rpc_buffer.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"

#define FIRST_BYTES 512
#define KEPT_BYTES (128 * 1024) /* an empty buffer keeps no more than this */

void rpc_buffer_deinit(struct rpc_buffer *buffer) {
    free(buffer->data);
    *buffer = (struct rpc_buffer){0};
}

size_t rpc_buffer_size(const struct rpc_buffer *buffer) {
    return buffer->tail - buffer->head;
}

const uint8_t *rpc_buffer_head(const struct rpc_buffer *buffer) {
    return buffer->data != NULL ? buffer->data + buffer->head : NULL;
}

static enum status make_room(struct rpc_buffer *buffer, size_t size) {
    size_t used = rpc_buffer_size(buffer);
    /* Moved to the front only when that frees half of the memory, so that moving stays cheap. */
    if (buffer->data != NULL && buffer->head >= buffer->capacity / 2 &&
        used + size <= buffer->capacity) {
        memmove(buffer->data, buffer->data + buffer->head, used);
        buffer->head = 0;
        buffer->tail = used;
        return STATUS_OK;
    }
    if (size > SIZE_MAX / 4 || used > SIZE_MAX / 4)
        return STATUS_NO_MEMORY;
    size_t capacity = buffer->capacity == 0 ? FIRST_BYTES : buffer->capacity;
    while (capacity < used + size)
        capacity *= 2;
    if (capacity == buffer->capacity)
        capacity *= 2;
    uint8_t *data = malloc(capacity);
    if (data == NULL)
        return STATUS_NO_MEMORY;
    if (buffer->data != NULL)
        memcpy(data, buffer->data + buffer->head, used);
    free(buffer->data);
    *buffer = (struct rpc_buffer){.data = data, .tail = used, .capacity = capacity};
    return STATUS_OK;
}

enum status rpc_buffer_extend(struct rpc_buffer *buffer, size_t size, uint8_t **bytes) {
    if (buffer->data == NULL || buffer->capacity - buffer->tail < size)
        RETURN_IF_ERROR(make_room(buffer, size));
    *bytes = buffer->data + buffer->tail;
    buffer->tail += size;
    return STATUS_OK;
}

enum status rpc_buffer_append(struct rpc_buffer *buffer, const void *bytes, size_t size) {
    uint8_t *room;
    RETURN_IF_ERROR(rpc_buffer_extend(buffer, size, &room));
    if (size > 0)
        memcpy(room, bytes, size);
    return STATUS_OK;
}

void rpc_buffer_consume(struct rpc_buffer *buffer, size_t size) {
    ASSERT(size <= rpc_buffer_size(buffer));
    buffer->head += size;
    if (buffer->head < buffer->tail)
        return;
    buffer->head = buffer->tail = 0;
    if (buffer->capacity > KEPT_BYTES)
        rpc_buffer_deinit(buffer);
}
