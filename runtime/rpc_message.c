/* protobuf-c on both sides of a call: unpacked into its arena, packed into its queue. */
#include "runtime/rpc_message.h"

#include <string.h>

#include "runtime/rpc_arena.h"

const ProtobufCMessage *rpc_message_unpack(struct rpc_call *call,
                                           const ProtobufCMessageDescriptor *type,
                                           const uint8_t *data, size_t size) {
    struct rpc_arena *arena = rpc_call_arena(call);
    const ProtobufCMessage *message =
        protobuf_c_message_unpack(type, &arena->allocator, size, data);
    if (message != NULL)
        return message;
    if (arena->is_exhausted)
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "the request unpacks into too much memory");
    else
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "the request is not a message of its type");
    return NULL;
}

ProtobufCBinaryData rpc_message_borrow(const char *text) {
    ProtobufCBinaryData bytes = {text != NULL ? strlen(text) : 0, NULL};
    memcpy(&bytes.data, &text, sizeof text); /* the member is not const, but only read */
    return bytes;
}

enum status rpc_message_send(struct rpc_call *call, const ProtobufCMessage *message) {
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *data;
    RETURN_IF_ERROR(rpc_call_reserve(call, size, &data));
    protobuf_c_message_pack(message, data);
    return STATUS_OK;
}

void rpc_message_reply(struct rpc_call *call, const ProtobufCMessage *message) {
    if (rpc_message_send(call, message) == STATUS_OK)
        rpc_call_finish(call, RPC_OK, NULL);
    else
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "no room for the answer");
}
