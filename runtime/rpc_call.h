/* One gRPC call as its service sees it: a request of whole messages comes in, messages go out, and
 * a status ends it. All functions belong to the loop's thread.
 *
 * Life: the call is the service's from its first handler until the service calls rpc_call_finish
 * (or rpc_call_reply), or until the method's on_cancel returns, whichever comes first; after that
 * the pointer is dead. No function here calls a handler back: on_cancel always comes from the loop.
 *
 * Out: a message goes into the call's bounded queue (rpc_server_options.queue_bytes_max). When it
 * is full, rpc_call_send answers STATUS_LIMIT and takes nothing; the service then keeps what it has
 * (and may merge it with what comes later) until on_writable. An empty queue takes any message. A
 * queue that stays full for stall_ms ends the call: on_cancel(RPC_RESOURCE_EXHAUSTED). */
#ifndef MOEBIUS_RUNTIME_RPC_CALL_H
#define MOEBIUS_RUNTIME_RPC_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/rpc_code.h"

struct rpc_arena;
struct rpc_call;

/* A method of a service. Handlers get `context` as it stands here. NULL handlers are not called. */
struct rpc_method {
    const char *path;      /* "/package.Service/Method"; kept by pointer: a constant */
    bool streams_requests; /* client or bidirectional streaming: on_message once a message, then
                              on_end. Otherwise on_message once */
    bool is_open;          /* needs no bearer token: health */
    void *context;
    /* A request message: `size` bytes that are valid during the call of the handler only. */
    void (*on_message)(void *context, struct rpc_call *call, const uint8_t *data, size_t size);
    /* streams_requests only: the client sends no more messages. */
    void (*on_end)(void *context, struct rpc_call *call);
    /* The call is over without the service: `reason` is CANCELLED (by the client),
     * UNAVAILABLE (connection lost, server ends), DEADLINE_EXCEEDED, or RESOURCE_EXHAUSTED (slow
     * reader). The service forgets the call. */
    void (*on_cancel)(void *context, struct rpc_call *call, enum rpc_code reason);
    /* After rpc_call_send answered STATUS_LIMIT: half of the queue is free again. */
    void (*on_writable)(void *context, struct rpc_call *call);
};

/* The service's own pointer; NULL at first. Local. */
void rpc_call_set_data(struct rpc_call *call, void *data);
void *rpc_call_data(const struct rpc_call *call);

/* Queues one message, copied. STATUS_LIMIT: queue full, nothing taken. STATUS_NO_MEMORY. Local. */
enum status rpc_call_send(struct rpc_call *call, const uint8_t *data, size_t size);

/* The same without a copy: *data are `size` bytes in the queue which the caller must fill before
 * the next use of the call. Local. */
enum status rpc_call_reserve(struct rpc_call *call, size_t size, uint8_t **data);

/* Ends the call when its queue has been sent. `message` (UTF-8, for people; NULL: none) is copied.
 * `call` is dead afterwards. Local. */
void rpc_call_finish(struct rpc_call *call, enum rpc_code code, const char *message);

/* rpc_call_send and rpc_call_finish(RPC_OK): the whole answer of a unary method. A failed send ends
 * the call with RESOURCE_EXHAUSTED. Local. */
void rpc_call_reply(struct rpc_call *call, const uint8_t *data, size_t size);

/* Metadata of the answer: headers before the first message, trailers before rpc_call_finish. Names
 * are lower case; a "-bin" value is base64 already. Copied. STATUS_LIMIT: more than
 * RPC_CALL_METADATA_MAX of either, or headers have gone. Local. */
#define RPC_CALL_METADATA_MAX 8
enum status rpc_call_set_header(struct rpc_call *call, const char *name, const char *value);
enum status rpc_call_set_trailer(struct rpc_call *call, const char *name, const char *value);

/* The value of a request header (lower-case name), as it came; NULL: there is none. Valid as long
 * as the call. Local. */
const char *rpc_call_metadata(const struct rpc_call *call, const char *name);

/* When the client gives up (CLOCK_MONOTONIC ns; RPC_LOOP_NEVER: no grpc-timeout). The server ends
 * the call itself then; the service may plan with it. Local. */
int64_t rpc_call_deadline_ns(const struct rpc_call *call);

/* Who asks, for fairness among clients: "key:2" (the second bearer key of the file), "cert:NAME"
 * (the common name of a client certificate), or the peer's address without its port. Local. */
const char *rpc_call_client(const struct rpc_call *call);

/* Memory that lives as long as the call, with a cap: for what is unpacked from its messages.
 * Emptied after each message of a streams_requests method. Local. */
struct rpc_arena *rpc_call_arena(struct rpc_call *call);

#endif
