/* gRPC's length-prefixed messages, cut out of the DATA frames of a stream in either direction. */
#include "runtime/rpc_deframer.h"

#include <string.h>

void rpc_deframer_write_prefix(size_t size, uint8_t prefix[RPC_DEFRAMER_PREFIX_BYTES]) {
    prefix[0] = 0;
    for (int i = 0; i < 4; i++)
        prefix[1 + i] = (uint8_t)(size >> (24 - 8 * i));
}

/* Completes the prefix; MESSAGE: it stands and is fine. */
static enum rpc_deframer_event take_prefix(struct rpc_deframer *deframer, const uint8_t *data,
                                           size_t size, size_t *at) {
    if (deframer->prefix_count == RPC_DEFRAMER_PREFIX_BYTES)
        return RPC_DEFRAMER_MESSAGE;
    while (deframer->prefix_count < RPC_DEFRAMER_PREFIX_BYTES && *at < size)
        deframer->prefix[deframer->prefix_count++] = data[(*at)++];
    if (deframer->prefix_count < RPC_DEFRAMER_PREFIX_BYTES)
        return RPC_DEFRAMER_MORE;
    size_t length = 0;
    for (int i = 1; i < RPC_DEFRAMER_PREFIX_BYTES; i++)
        length = length << 8 | deframer->prefix[i];
    deframer->message_size = length;
    if (deframer->prefix[0] > 1)
        return RPC_DEFRAMER_BAD_FLAG;
    if (length > deframer->bytes_max)
        return RPC_DEFRAMER_TOO_LARGE;
    return deframer->prefix[0] == 1 ? RPC_DEFRAMER_COMPRESSED : RPC_DEFRAMER_MESSAGE;
}

enum rpc_deframer_event rpc_deframer_next(struct rpc_deframer *deframer, const uint8_t *data,
                                          size_t size, size_t *at, const uint8_t **message,
                                          size_t *message_size) {
    rpc_buffer_consume(&deframer->body, deframer->yielded);
    deframer->yielded = 0;
    enum rpc_deframer_event event = take_prefix(deframer, data, size, at);
    if (event != RPC_DEFRAMER_MESSAGE)
        return event;
    size_t held = rpc_buffer_size(&deframer->body);
    size_t here = size - *at;
    size_t wanted = deframer->message_size - held;
    if (held == 0 && here >= wanted) { /* whole in the input: no copy */
        *message = data + *at;
    } else {
        size_t taken = here < wanted ? here : wanted;
        if (rpc_buffer_append(&deframer->body, data + *at, taken) != STATUS_OK)
            return RPC_DEFRAMER_NO_MEMORY;
        if (taken < wanted) {
            *at = size;
            return RPC_DEFRAMER_MORE;
        }
        deframer->yielded = deframer->message_size;
        *message = rpc_buffer_head(&deframer->body);
    }
    *at += wanted;
    *message_size = deframer->message_size;
    deframer->prefix_count = 0;
    return RPC_DEFRAMER_MESSAGE;
}

size_t rpc_deframer_held(const struct rpc_deframer *deframer) {
    return rpc_buffer_size(&deframer->body) - deframer->yielded;
}

void rpc_deframer_deinit(struct rpc_deframer *deframer) {
    rpc_buffer_deinit(&deframer->body);
    deframer->yielded = 0;
}
