/* A growable run of bytes, owned by the caller: where decoded and normalised text is put. */
#ifndef MOEBIUS_RUNTIME_TEXT_BUFFER_H
#define MOEBIUS_RUNTIME_TEXT_BUFFER_H

#include <stddef.h>

#include "kernels/base/status.h"

/* {0} is an empty buffer. The bytes are not NUL-terminated. */
struct text_buffer {
    char *data;
    size_t length;   /* bytes in use */
    size_t capacity; /* bytes taken */
};

/* Frees the bytes and leaves an empty buffer; NULL is allowed. Local. */
void text_buffer_deinit(struct text_buffer *buffer);

/* Makes room for `bytes` more than buffer->length. STATUS_NO_MEMORY leaves the buffer as it was.
 * Local. */
enum status text_buffer_reserve(struct text_buffer *buffer, size_t bytes);

/* Adds `length` bytes; `bytes` may not point into the buffer. STATUS_NO_MEMORY leaves the buffer as
 * it was. Local. */
enum status text_buffer_append(struct text_buffer *buffer, const char *bytes, size_t length);

#endif
