/* What a client sends in one call. For rpc_http2.c. */
#ifndef MOEBIUS_RUNTIME_RPC_REQUEST_H
#define MOEBIUS_RUNTIME_RPC_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rpc_call;

/* Keeps a request header; false: there is no memory for it. What is more than header_bytes_max is
 * counted but not kept. Local. */
bool rpc_request_add_header(struct rpc_call *call, const uint8_t *name, size_t name_size,
                            const uint8_t *value, size_t value_size);

/* All headers are there: judges them and arms the timers, or answers with an error. Local. */
void rpc_request_begin(struct rpc_call *call);

/* Bytes of the request, and its end. Local. */
void rpc_request_receive(struct rpc_call *call, const uint8_t *data, size_t size);
void rpc_request_end(struct rpc_call *call);

#endif
