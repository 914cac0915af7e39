/* An HTTP/1.1 door: libmicrohttpd driven from an rpc_loop, so that it shares the network thread
 * with the gRPC doors. Routes get whole requests; answers are one body, or a stream that is written
 * to as tokens come. All functions belong to the loop's thread.
 *
 * A client can be slow, rude or gone: everything it can make the server hold is bounded by the
 * options, and every state in which the server waits for it has a time limit. */
#ifndef MOEBIUS_RUNTIME_HTTP_SERVER_H
#define MOEBIUS_RUNTIME_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/http_exchange.h"

struct rpc_loop;
struct rpc_socket_bound;
struct http_server;

struct http_server_options {
    struct rpc_socket_bound *bound; /* where it listens; taken over */
    const char *certificate, *key;  /* PEM files; NULL: cleartext */
    const char *authorities; /* PEM file: who may sign a client's certificate, without which it is
                                refused then, whatever it asks; NULL: none asked for */
    int32_t connections_max; /* when all are taken, one that waits for a request gives way */
    int64_t body_bytes_max;  /* of one request; larger: 413 */
    int64_t all_bodies_bytes_max; /* of all unfinished requests together; more: 503 */
    int64_t queue_bytes_max;      /* of a stream: above it http_exchange_is_full */
    int32_t silent_s;             /* from accept to the end of the first request's headers */
    int32_t request_s;            /* from there to the end of a request's body */
    int32_t idle_s;               /* a connection on which nothing moves, or between two requests */
};

/* Cleartext, no socket yet; 1024 connections, 4 MiB bodies and 256 MiB of them, 256 KiB
 * queues, 10 s silent, 60 s a request, 120 s idle. Local. */
struct http_server_options http_server_options_default(void);

/* Listens at once. `routes` are kept. STATUS_IO (logged): cannot listen, a PEM file that
 * cannot be read; STATUS_NO_MEMORY (logged). Local. */
enum status http_server_create(struct rpc_loop *loop, const struct http_server_options *options,
                               const struct http_route *routes, int32_t route_count,
                               struct http_server **server);

/* Ends what runs (on_gone) and closes all connections. NULL is allowed. Local. */
void http_server_destroy(struct http_server *server);

/* Whether no request has been begun and not yet been answered to its last byte. Local. */
bool http_server_is_idle(const struct http_server *server);

#endif
