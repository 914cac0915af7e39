/* The methods Tokenize and Detokenize of moebius.v1.Inference, as handlers of an rpc_method whose
 * context is the generation_service. */
#ifndef MOEBIUS_RUNTIME_RPC_TOKENIZE_H
#define MOEBIUS_RUNTIME_RPC_TOKENIZE_H

#include "runtime/rpc_call.h"

void rpc_tokenize_text(void *context, struct rpc_call *call, const uint8_t *data, size_t size);
void rpc_tokenize_ids(void *context, struct rpc_call *call, const uint8_t *data, size_t size);
void rpc_tokenize_on_cancel(void *context, struct rpc_call *call, enum rpc_code reason);

#endif
