/* A connection's machinery, the same for a server's and a client's: reads the channel when it can,
 * writes what its owner has to send at the end of each turn of the loop, and ends. What the bytes
 * mean is the owner's business. */
#ifndef MOEBIUS_RUNTIME_RPC_PIPE_H
#define MOEBIUS_RUNTIME_RPC_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/rpc_buffer.h"
#include "runtime/rpc_channel.h"
#include "runtime/rpc_loop.h"

/* What the owner does; `context` is struct rpc_pipe's. */
struct rpc_pipe_owner {
    /* Connected, handshake done: bytes may flow. */
    void (*on_open)(void *context);
    /* Bytes have come. false: no more are wanted; what is to be sent goes out, then it ends. */
    bool (*receive)(void *context, const uint8_t *data, size_t size);
    /* The next bytes to send, valid until the next call; 0: none now. */
    size_t (*output)(void *context, const uint8_t **data);
    /* Whether the connection has served its purpose: it ends when all is sent. */
    bool (*is_done)(void *context);
    /* Whether what is done waits for the peer to close: closed under a peer that still writes, a
     * connection may be lost to it with what it has not read yet. The owner's clock limits it. */
    bool (*lingers)(void *context);
    /* The end; the owner may free the pipe. `reason` says what happened, for people. */
    void (*on_closed)(void *context, const char *reason);
};

enum rpc_pipe_state { RPC_PIPE_CONNECTING, RPC_PIPE_HANDSHAKE, RPC_PIPE_OPEN, RPC_PIPE_CLOSED };

/* Zeroed ({0}) before open. */
struct rpc_pipe {
    struct rpc_loop *loop;
    const struct rpc_pipe_owner *owner;
    void *context;
    struct rpc_channel channel;
    struct rpc_loop_watch watch;
    struct rpc_loop_task task;
    struct rpc_buffer out;
    enum rpc_pipe_state state;
    bool is_ending;           /* receive said so: nothing more is read */
    bool is_lingering;        /* all is sent: what comes is thrown away until the peer closes */
    int64_t last_received_ns; /* when bytes came last */
    int64_t last_progress_ns; /* when the socket took bytes last, or there were none to take */
    int64_t received, sent;   /* bytes so far */
};

/* Starts over a connected descriptor, or one that is connecting, which it takes over, also when it
 * fails; on_open comes later, from the loop. STATUS_NO_MEMORY, STATUS_IO. Local. */
enum status rpc_pipe_open(struct rpc_pipe *pipe, int fd, bool is_connecting,
                          const struct rpc_tls *tls, const char *host);

/* There is something to send: calls `output` at the end of the turn. May be called anywhere. Local.
 */
void rpc_pipe_flush_later(struct rpc_pipe *pipe);

/* Ends at once, without on_closed. Not from receive or output. Local. */
void rpc_pipe_close(struct rpc_pipe *pipe);

#endif
