/* The HTTP/2 session of one accepted connection, by nghttp2: bytes in, bytes out, calls in between.
 * It knows no socket: a connection or a test carries the bytes. */
#ifndef MOEBIUS_RUNTIME_RPC_HTTP2_H
#define MOEBIUS_RUNTIME_RPC_HTTP2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/rpc_code.h"
#include "runtime/rpc_loop.h"

struct rpc_door;
struct rpc_http2;

/* `client` as in rpc_call.h, copied. on_output(context) says that there is something to
 * send; it may be called from anywhere and must only note that. STATUS_NO_MEMORY. Local. */
enum status rpc_http2_create(struct rpc_door *door, const char *client, rpc_loop_handler *on_output,
                             void *context, struct rpc_http2 **session);

/* Calls that run are cancelled with UNAVAILABLE. NULL is allowed. Local. */
void rpc_http2_destroy(struct rpc_http2 *session);

/* Takes bytes of the client. false: it broke the protocol; what rpc_http2_output still has may be
 * sent, then the connection must end. Local. */
bool rpc_http2_receive(struct rpc_http2 *session, const uint8_t *data, size_t size);

/* The next bytes to send, valid until the next call; 0: none. Local. */
size_t rpc_http2_output(struct rpc_http2 *session, const uint8_t **data);

/* Whether the session is over: nothing more will be sent or wanted. Local. */
bool rpc_http2_is_done(const struct rpc_http2 *session);

/* Whether it was drained, has no calls any more, and the client was not rude. Local. */
bool rpc_http2_is_drained(const struct rpc_http2 *session);

/* Whether the client has said its first SETTINGS. Local. */
bool rpc_http2_is_established(const struct rpc_http2 *session);

int64_t rpc_http2_call_count(const struct rpc_http2 *session);

/* GOAWAY: calls that run go on, new ones are not taken. Local. */
void rpc_http2_drain(struct rpc_http2 *session);

/* Sends a PING; its answer comes as bytes. Local. */
void rpc_http2_ping(struct rpc_http2 *session);

#endif
