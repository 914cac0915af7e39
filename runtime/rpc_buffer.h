/* A queue of bytes in one piece of memory: appended at the tail, taken from the head. */
#ifndef MOEBIUS_RUNTIME_RPC_BUFFER_H
#define MOEBIUS_RUNTIME_RPC_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* {0} is an empty buffer. The bytes are data [head, tail). */
struct rpc_buffer {
    uint8_t *data;
    size_t head, tail, capacity;
};

void rpc_buffer_deinit(struct rpc_buffer *buffer);

/* Bytes in the queue. Local. */
size_t rpc_buffer_size(const struct rpc_buffer *buffer);

/* The first of them. Local. */
const uint8_t *rpc_buffer_head(const struct rpc_buffer *buffer);

/* Adds `size` bytes that the caller fills: *bytes, valid until the buffer is used again.
 * STATUS_NO_MEMORY leaves the buffer as it was. Local. */
enum status rpc_buffer_extend(struct rpc_buffer *buffer, size_t size, uint8_t **bytes);

/* Adds `size` bytes, copied. Local. */
enum status rpc_buffer_append(struct rpc_buffer *buffer, const void *bytes, size_t size);

/* Takes `size` bytes (at most what is there) off the head. An empty buffer gives large memory back.
 * Local. */
void rpc_buffer_consume(struct rpc_buffer *buffer, size_t size);

#endif
