/* How gRPC writes a status message and a time limit in headers. */
#ifndef MOEBIUS_RUNTIME_RPC_TEXT_H
#define MOEBIUS_RUNTIME_RPC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Percent-encodes `text` (what is not printable ASCII, and '%') into out [size], cut to fit at a
 * whole character and NUL-terminated; returns its length. `size` at least 1. Local. */
size_t rpc_text_encode_message(const char *text, char *out, size_t size);

/* The reverse, in place; a '%' without two hex digits stands for itself. Local. */
void rpc_text_decode_message(char *text);

/* Reads a grpc-timeout ("100m": one to eight digits and one of H M S m u n). false: it is none.
 * Local. */
bool rpc_text_parse_timeout(const char *text, int64_t *timeout_ns);

#define RPC_TEXT_TIMEOUT_SIZE 12

/* Writes `timeout_ns` (negative: 0) in the finest unit that fits, rounded up. Local. */
void rpc_text_format_timeout(int64_t timeout_ns, char out[RPC_TEXT_TIMEOUT_SIZE]);

/* Whether `value` names gRPC's content type: "application/grpc", alone or with "+proto" or ";...".
 * Local. */
bool rpc_text_is_grpc(const char *value);

#endif
