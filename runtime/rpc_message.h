/* protobuf-c messages in and out of calls. */
#ifndef MOEBIUS_RUNTIME_RPC_MESSAGE_H
#define MOEBIUS_RUNTIME_RPC_MESSAGE_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/rpc_call.h"

/* Unpacks a request into the call's arena: *message is valid as long as the arena. When that fails,
 * ends the call (INVALID_ARGUMENT, or RESOURCE_EXHAUSTED at the arena's cap) and returns NULL.
 * `type`: &package__name__descriptor; it must not be recursive. Local. */
const ProtobufCMessage *rpc_message_unpack(struct rpc_call *call,
                                           const ProtobufCMessageDescriptor *type,
                                           const uint8_t *data, size_t size);

/* A string of ours (NULL: an empty one) as a field of a message that is packed before the string
 * could change. Local. */
ProtobufCBinaryData rpc_message_borrow(const char *text);

/* Packs into the call's queue. STATUS_LIMIT, STATUS_NO_MEMORY as rpc_call_send. Local. */
enum status rpc_message_send(struct rpc_call *call, const ProtobufCMessage *message);

/* rpc_message_send and rpc_call_finish(RPC_OK). `call` is dead afterwards. Local. */
void rpc_message_reply(struct rpc_call *call, const ProtobufCMessage *message);

#endif
