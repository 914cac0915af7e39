/* Messages out of a byte stream: each has a prefix of five bytes (compressed flag, length in big
 * endian), and may come in any pieces. */
#ifndef MOEBIUS_RUNTIME_RPC_DEFRAMER_H
#define MOEBIUS_RUNTIME_RPC_DEFRAMER_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/rpc_buffer.h"

#define RPC_DEFRAMER_PREFIX_BYTES 5

/* Zeroed ({0}) but for bytes_max before first use. */
struct rpc_deframer {
    size_t bytes_max; /* of one message */
    uint8_t prefix[RPC_DEFRAMER_PREFIX_BYTES];
    size_t prefix_count; /* bytes of it that have come */
    size_t message_size; /* known when the prefix is whole */
    struct rpc_buffer body;
    size_t yielded; /* bytes of `body` that were handed out as a message and can be dropped */
};

enum rpc_deframer_event {
    RPC_DEFRAMER_MORE,       /* the input is used up */
    RPC_DEFRAMER_MESSAGE,    /* *message, *message_size: valid until the next call */
    RPC_DEFRAMER_COMPRESSED, /* a message with the compressed flag; the stream cannot go on */
    RPC_DEFRAMER_TOO_LARGE,  /* longer than bytes_max; cannot go on */
    RPC_DEFRAMER_BAD_FLAG,   /* the flag is neither 0 nor 1; cannot go on */
    RPC_DEFRAMER_NO_MEMORY
};

/* Takes bytes from data [*at, size) and moves *at behind them, up to the next event. Memory grows
 * with what has come, never with what a prefix claims. Call until MORE. Local. */
enum rpc_deframer_event rpc_deframer_next(struct rpc_deframer *deframer, const uint8_t *data,
                                          size_t size, size_t *at, const uint8_t **message,
                                          size_t *message_size);

/* Bytes that are held of an unfinished message. Local. */
size_t rpc_deframer_held(const struct rpc_deframer *deframer);

void rpc_deframer_deinit(struct rpc_deframer *deframer);

/* Writes the prefix of a plain message of `size` bytes. Local. */
void rpc_deframer_write_prefix(size_t size, uint8_t prefix[RPC_DEFRAMER_PREFIX_BYTES]);

#endif
