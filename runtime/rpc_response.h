/* What goes to the client in one call. For rpc_call.c, rpc_request.c and rpc_http2.c. */
#ifndef MOEBIUS_RUNTIME_RPC_RESPONSE_H
#define MOEBIUS_RUNTIME_RPC_RESPONSE_H

#include <stddef.h>

#include "kernels/base/status.h"
#include "runtime/rpc_code.h"

struct rpc_call;

/* Sees to it that what stands in the call's queue is sent. Local. */
void rpc_response_send(struct rpc_call *call);

/* The call is over: its status follows what is queued. `text` as in rpc_call_finish. Local. */
void rpc_response_finish(struct rpc_call *call, enum rpc_code code, const char *text);

/* Ends a call from our side: a live one's service hears on_cancel(code), what is queued is dropped,
 * the client gets code and text. Local. */
void rpc_response_abort(struct rpc_call *call, enum rpc_code code, const char *text);

/* Answers as HTTP does, without gRPC's status: not a gRPC request at all. Local. */
void rpc_response_refuse(struct rpc_call *call, const char *http_status);

/* The answer has been sent to its end. A request that has not ended gets a moment for that, and
 * may send a little more, which is dropped; then it is told to stop. Local. */
void rpc_response_sent(struct rpc_call *call);

/* `size` bytes of the request have come for an answered call. Local. */
void rpc_response_discard(struct rpc_call *call, size_t size);

#endif
