/* Growable bytes for the tokenizer and the detokeniser: doubles, so that appending is linear. */
#include "runtime/text_buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"

void text_buffer_deinit(struct text_buffer *buffer) {
    if (buffer == NULL)
        return;
    free(buffer->data);
    *buffer = (struct text_buffer){0};
}

enum status text_buffer_reserve(struct text_buffer *buffer, size_t bytes) {
    if (bytes <= buffer->capacity - buffer->length)
        return STATUS_OK;
    size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
    while (capacity - buffer->length < bytes && capacity <= SIZE_MAX / 4)
        capacity *= 2;
    char *data = capacity - buffer->length < bytes ? NULL : realloc(buffer->data, capacity);
    if (data == NULL) {
        LOG_ERROR("text buffer: cannot take %zu bytes of memory", bytes);
        return STATUS_NO_MEMORY;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return STATUS_OK;
}

enum status text_buffer_append(struct text_buffer *buffer, const char *bytes, size_t length) {
    if (length == 0)
        return STATUS_OK;
    RETURN_IF_ERROR(text_buffer_reserve(buffer, length));
    memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
    return STATUS_OK;
}
