/* A client from the inside: for rpc_client.c (the connection) and rpc_client_call.c (its calls). */
#ifndef MOEBIUS_RUNTIME_RPC_CLIENT_STATE_H
#define MOEBIUS_RUNTIME_RPC_CLIENT_STATE_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/rpc_buffer.h"
#include "runtime/rpc_client.h"
#include "runtime/rpc_deframer.h"
#include "runtime/rpc_loop.h"
#include "runtime/rpc_pipe.h"
#include "runtime/rpc_socket.h"

#define RPC_CLIENT_REASON_SIZE 256

struct rpc_client {
    struct rpc_loop *loop;
    struct rpc_client_options options;
    char *address, *authorization; /* NULL: no token */
    struct rpc_socket_addresses addresses;
    int32_t next_address;
    struct rpc_pipe pipe;
    bool has_pipe;            /* connecting or connected */
    nghttp2_session *nghttp2; /* NULL: not connected */
    bool is_established;      /* the server has spoken HTTP/2 */
    bool is_going; /* the server has said GOAWAY: new calls wait for the next connection */
    bool is_broken;
    struct rpc_loop_timer tick;
    struct rpc_loop_task fail_task;
    int64_t started_ns, ping_ns;               /* of connecting; of an unanswered ping, 0: none */
    char reason[RPC_CLIENT_REASON_SIZE];       /* why connecting failed */
    struct rpc_client_call *calls, *last_call; /* oldest first */
    int64_t call_count;
};

struct rpc_client_call {
    struct rpc_client *client;
    struct rpc_client_call *next, *previous;
    int32_t stream_id; /* 0: not begun on the wire */
    void *context;
    void (*on_message)(void *context, struct rpc_client_call *call, const uint8_t *data,
                       size_t size);
    void (*on_finish)(void *context, struct rpc_client_call *call, enum rpc_code code,
                      const char *message);
    char *path;
    struct rpc_buffer request;  /* the framed message, as far as it is not sent */
    struct rpc_buffer sent;     /* "name\0value\0" of the request's metadata */
    struct rpc_buffer metadata; /* the same of the answer */
    struct rpc_deframer deframer;
    int64_t deadline_ns;
    struct rpc_loop_timer deadline_timer;
    struct rpc_loop_task finish_task;
    bool is_over;
    enum rpc_code code;
    char *message; /* NULL: none */
};

/* Begins a call on the connected session, or ends it with UNAVAILABLE. Local. */
void rpc_client_call_submit(struct rpc_client_call *call);

/* Decides how a call ends, unless that is decided; on_finish comes as a task. Local. */
void rpc_client_call_end(struct rpc_client_call *call, enum rpc_code code, const char *message);

/* Without on_finish. Local. */
void rpc_client_call_destroy(struct rpc_client_call *call);

/* What comes for a call. Local. */
void rpc_client_call_add_metadata(struct rpc_client_call *call, const uint8_t *name,
                                  size_t name_size, const uint8_t *value, size_t value_size);
void rpc_client_call_receive(struct rpc_client_call *call, const uint8_t *data, size_t size);
void rpc_client_call_close(struct rpc_client_call *call, uint32_t http2_error);

#endif
