/* The methods Generate and GenerateStream of moebius.v1.Inference, as handlers of an rpc_method
 * whose context is the generation_service. */
#ifndef MOEBIUS_RUNTIME_RPC_GENERATE_H
#define MOEBIUS_RUNTIME_RPC_GENERATE_H

#include "runtime/generation_service.h"
#include "runtime/rpc_call.h"

void rpc_generate_whole(void *context, struct rpc_call *call, const uint8_t *data, size_t size);
void rpc_generate_stream(void *context, struct rpc_call *call, const uint8_t *data, size_t size);
void rpc_generate_on_cancel(void *context, struct rpc_call *call, enum rpc_code reason);
void rpc_generate_on_writable(void *context, struct rpc_call *call);

/* Ends a call with an error of the service (and what its trailers say: see inference.proto). Local.
 */
void rpc_generate_refuse(struct rpc_call *call, enum generation_error error,
                         const struct generation_message *message);

#endif
