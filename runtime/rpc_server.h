/* A gRPC door: HTTP/2 by nghttp2 over TCP (cleartext with prior knowledge, or TLS) and Unix
 * sockets, on one rpc_loop. A server has its own methods, keys and limits: the public port and the
 * admin socket are two servers on one loop. All functions belong to the loop's thread.
 *
 * A client can be slow, rude or gone: everything it can make the server hold is bounded by the
 * options, and every state in which the server waits for it has a time limit. */
#ifndef MOEBIUS_RUNTIME_RPC_SERVER_H
#define MOEBIUS_RUNTIME_RPC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/rpc_call.h"

struct rpc_keys;
struct rpc_loop;
struct rpc_server;
struct rpc_socket_bound;
struct rpc_tls;

struct rpc_server_options {
    int64_t message_bytes_max; /* of one request message; larger: RESOURCE_EXHAUSTED */
    int64_t buffer_bytes_max;  /* of all unfinished request messages of the server together */
    int64_t queue_bytes_max;   /* of messages that wait to be sent, per call */
    int64_t arena_bytes_max;   /* of what a call's messages are unpacked into */
    int32_t header_bytes_max;  /* of a request's header list (names, values, 32 each) */
    int32_t connections_max;
    int32_t streams_max;          /* concurrent calls of a connection */
    int64_t handshake_ms;         /* from accept to the client's first SETTINGS */
    int64_t idle_ms;              /* a connection without calls */
    int64_t request_ms;           /* from a call's headers to the end of its request */
    int64_t stall_ms;             /* a full queue, or a socket that takes nothing */
    int64_t keepalive_ms;         /* silence of the client until it is pinged */
    int64_t keepalive_timeout_ms; /* until it must have answered */
    const struct rpc_tls *tls;    /* NULL: cleartext. Kept */
    const struct rpc_keys *keys;  /* NULL: no bearer token asked for. Kept */
};

struct rpc_server_stats {
    int64_t connections, calls; /* now */
    int64_t connections_total, connections_refused, calls_total;
    int64_t bytes_received, bytes_sent, messages_sent;
};

/* 4 MiB messages, 256 MiB buffers, 256 KiB queues, 64 MiB arenas, 16 KiB headers, 4096 connections
 * of 1024 streams; 10 s handshake, 1 h idle, 60 s request, 30 s stall, 60 s keepalive with 20 s to
 * answer; cleartext, no keys. Local. */
void rpc_server_options_default(struct rpc_server_options *options);

/* STATUS_NO_MEMORY. `loop` is kept. Local. */
enum status rpc_server_create(struct rpc_loop *loop, const struct rpc_server_options *options,
                              struct rpc_server **server);

/* Cancels what runs (on_cancel with UNAVAILABLE) and closes everything at once; a Unix socket's
 * file is removed. NULL is allowed. Local. */
void rpc_server_destroy(struct rpc_server *server);

/* Adds methods; the array is copied, paths are kept. A path registered twice is our bug.
 * STATUS_NO_MEMORY. Local. */
enum status rpc_server_register(struct rpc_server *server, const struct rpc_method *methods,
                                size_t method_count);

/* The i-th registered method, NULL behind the last: for reflection. Local. */
const struct rpc_method *rpc_server_method(const struct rpc_server *server, size_t index);

/* Listens on what is bound already; `bound` is taken over, whatever is returned. STATUS_USAGE
 * (logged): more than 8; STATUS_IO (logged): somebody else does. Local. */
enum status rpc_server_listen_bound(struct rpc_server *server, struct rpc_socket_bound *bound);

/* Listens on "HOST:PORT" (a name or a number; "[::1]:50051"; port 0: any free one) or "unix:PATH".
 * May be called several times. STATUS_USAGE (logged): not such an address; STATUS_IO (logged):
 * cannot be bound. Local. */
enum status rpc_server_listen(struct rpc_server *server, const char *address);

/* The address of the last rpc_server_listen with the port that was given: "127.0.0.1:50051",
 * "unix:PATH". Local. */
const char *rpc_server_address(const struct rpc_server *server);

/* Begins to end: no new connections, GOAWAY to those there are; a new call on them is refused so
 * that a client may safely try elsewhere; calls that run go on to their end. Local. */
void rpc_server_drain(struct rpc_server *server);

/* Whether no connection is left. Local. */
bool rpc_server_is_idle(const struct rpc_server *server);

void rpc_server_stats(const struct rpc_server *server, struct rpc_server_stats *stats);

#endif
