/* A GenerateRequest of the wire as the service's request. What the wire can say and the service
 * cannot (text that is not UTF-8, numbers that do not fit, features that are not built) is refused
 * here; ranges and the vocabulary are the service's to check. */
#ifndef MOEBIUS_RUNTIME_RPC_GENERATE_REQUEST_H
#define MOEBIUS_RUNTIME_RPC_GENERATE_REQUEST_H

#include "proto/moebius/v1/inference.pb-c.h"
#include "runtime/generation_service.h"
#include "runtime/rpc_arena.h"

#define RPC_GENERATE_REQUEST_ID_MAX 128

/* Fills *request, whose deadline and client are the caller's to add. It points into `wire` and the
 * arena and is valid as long as both. Otherwise *message says in one line which field, what was
 * expected and what was found: INVALID, UNSUPPORTED, or FULL when the arena's cap is reached.
 * Local. */
enum generation_error rpc_generate_request_map(const Moebius__V1__GenerateRequest *wire,
                                               struct rpc_arena *arena,
                                               struct generation_request *request,
                                               struct generation_message *message);

/* UTF-8 of the wire as a C string in the arena; *text is NULL for an empty field. INVALID (with
 * `field` in the message): not UTF-8, or with a NUL character. FULL: the arena's cap. Local. */
enum generation_error rpc_generate_request_text(const ProtobufCBinaryData *bytes, const char *field,
                                                struct rpc_arena *arena, const char **text,
                                                struct generation_message *message);

/* Ids of the wire in the arena, *ids NULL if there are none. INVALID: one is above 2^31 - 1. FULL.
 * Local. */
enum generation_error rpc_generate_request_ids(const uint32_t *wire, size_t count,
                                               const char *field, struct rpc_arena *arena,
                                               const int32_t **ids,
                                               struct generation_message *message);

#endif
