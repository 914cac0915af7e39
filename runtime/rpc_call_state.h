/* A call from the inside: for rpc_http2.c (frames), rpc_request.c (what comes from the client),
 * rpc_response.c (what goes to it) and rpc_call.c (what a service sees). */
#ifndef MOEBIUS_RUNTIME_RPC_CALL_STATE_H
#define MOEBIUS_RUNTIME_RPC_CALL_STATE_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/rpc_arena.h"
#include "runtime/rpc_buffer.h"
#include "runtime/rpc_call.h"
#include "runtime/rpc_deframer.h"
#include "runtime/rpc_door.h"
#include "runtime/rpc_http2.h"

struct rpc_http2 {
    struct rpc_door *door;
    nghttp2_session *nghttp2;
    rpc_loop_handler *on_output;
    void *context;
    char *client;
    struct rpc_call *calls; /* all streams, also those that only wait to be closed */
    int64_t call_count;
    int64_t patience;    /* frames that the client may still send without sense, see rpc_http2.c */
    int64_t patience_ns; /* when it was counted last */
    bool is_established, is_draining, is_broken;
};

struct rpc_call {
    struct rpc_http2 *session;
    struct rpc_call *next, *previous;
    int32_t stream_id;
    const struct rpc_method *method; /* NULL until the headers have been judged */
    void *data;
    bool is_live;     /* the service knows it */
    bool is_over;     /* its status stands: by the service, or by us */
    bool has_message; /* a request message has come */
    bool has_ended;   /* the client sends no more */

    int64_t discarded;        /* bytes that came for a call that is over */
    bool is_sent, is_stopped; /* the answer to its end; the client was told to stop */

    struct rpc_buffer metadata; /* "name\0value\0" of each request header */
    int64_t header_bytes;       /* as RFC 9113, 6.5.2 counts them */
    struct rpc_deframer deframer;
    int64_t held_bytes; /* of it in door->buffered_bytes */
    struct rpc_arena arena;
    char client[16]; /* "key:N", or empty: the session's */
    int64_t deadline_ns;
    struct rpc_loop_timer deadline_timer;
    struct rpc_loop_timer patience_timer; /* for the request's end, then for a full queue */

    struct rpc_buffer queue; /* framed messages that nghttp2 has not taken */
    struct rpc_loop_task writable_task;
    bool was_refused; /* rpc_call_send has answered STATUS_LIMIT; on_writable is due */
    bool has_response, is_deferred, has_trailers;
    char *headers[RPC_CALL_METADATA_MAX], *trailers[RPC_CALL_METADATA_MAX]; /* "name\0value" */
    size_t header_count, trailer_count;
    enum rpc_code code;
    char *message; /* percent-encoded; NULL: none */
};

/* A new stream's call, in the session's list. NULL: no memory. Local. */
struct rpc_call *rpc_call_create(struct rpc_http2 *session, int32_t stream_id);

/* The stream is closed: a live call's service hears `reason`. Local. */
void rpc_call_destroy(struct rpc_call *call, enum rpc_code reason);

#endif
