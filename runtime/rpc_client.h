/* A gRPC client on an rpc_loop: one connection (TCP, TLS or Unix socket), any number of concurrent
 * calls on it, unary or with streamed answers. Many connections = many clients on one loop. All
 * functions belong to the loop's thread.
 *
 * The connection is made by the first call and made anew by the first call after it was lost; a
 * lost connection ends its calls with UNAVAILABLE. */
#ifndef MOEBIUS_RUNTIME_RPC_CLIENT_H
#define MOEBIUS_RUNTIME_RPC_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/rpc_code.h"

struct rpc_client;
struct rpc_client_call;
struct rpc_loop;
struct rpc_tls;

struct rpc_client_options {
    const char *address; /* "HOST:PORT" or "unix:PATH", copied; names are looked up (blocking) by
                            rpc_client_create */
    const char *token;   /* sent as "authorization: Bearer TOKEN"; NULL: none. Copied */
    const struct rpc_tls *tls; /* NULL: cleartext. Kept */
    int64_t connect_ms;        /* until it is connected and the server has spoken HTTP/2 */
    int64_t keepalive_ms;      /* silence of the server, while calls run, until it is pinged */
    int64_t keepalive_timeout_ms;
    int64_t message_bytes_max; /* of one answer message; larger: RESOURCE_EXHAUSTED */
};

struct rpc_client_metadata {
    const char *name, *value; /* lower-case name */
};

struct rpc_client_request {
    const char *path;       /* "/package.Service/Method" */
    const uint8_t *message; /* one request message; copied */
    size_t message_size;
    int64_t deadline_ns; /* CLOCK_MONOTONIC; RPC_LOOP_NEVER: none. Sent as grpc-timeout, and kept
                            here too */
    const struct rpc_client_metadata *metadata;
    size_t metadata_count;
    void *context; /* for the handlers */
    /* A message of the answer; the bytes are valid during the call of the handler only. */
    void (*on_message)(void *context, struct rpc_client_call *call, const uint8_t *data,
                       size_t size);
    /* The end, exactly once for each call that was begun, never from within rpc_client_call or
     * rpc_client_call_cancel; `message` is "" when the server sent none. The call is dead when it
     * returns. */
    void (*on_finish)(void *context, struct rpc_client_call *call, enum rpc_code code,
                      const char *message);
};

/* No address, token or TLS; 10 s to connect, 60 s keepalive with 20 s to answer, 64 MiB messages.
 * Local. */
void rpc_client_options_default(struct rpc_client_options *options);

/* STATUS_USAGE (logged): not an address, or a host that has none; STATUS_NO_MEMORY. `loop` is kept.
 * Local. */
enum status rpc_client_create(struct rpc_loop *loop, const struct rpc_client_options *options,
                              struct rpc_client **client);

/* Ends all calls without on_finish. Not from a handler of this client. NULL is allowed. Local. */
void rpc_client_destroy(struct rpc_client *client);

/* Begins a call. The strings of the request are copied. Failures of the network come by on_finish.
 * STATUS_NO_MEMORY. Local. */
enum status rpc_client_call(struct rpc_client *client, const struct rpc_client_request *request,
                            struct rpc_client_call **call);

/* Gives a call up: the server is told, on_finish comes with CANCELLED. Local. */
void rpc_client_call_cancel(struct rpc_client_call *call);

/* Metadata of the answer (headers and trailers; lower-case name) as far as it has come; NULL: there
 * is none. Valid until the call's on_finish returns. Local. */
const char *rpc_client_call_metadata(const struct rpc_client_call *call, const char *name);

#endif
