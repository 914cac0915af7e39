/* Looking things up in a serialized google.protobuf.FileDescriptorSet, for reflection. The set is
 * our own, made by protoc at build; it is read by its wire form because its message type is
 * recursive, which protobuf-c reads without a limit of depth. */
#ifndef MOEBIUS_RUNTIME_RPC_DESCRIPTOR_H
#define MOEBIUS_RUNTIME_RPC_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes somewhere in the set. */
struct rpc_descriptor {
    const uint8_t *data;
    size_t size;
};

/* Whether `set` is well-formed as far as it is used here. Local. */
bool rpc_descriptor_is_valid(struct rpc_descriptor set);

/* The serialized FileDescriptorProto of a file name ("moebius/v1/inference.proto"). false: there is
 * none. Local. */
bool rpc_descriptor_find_file(struct rpc_descriptor set, struct rpc_descriptor name,
                              struct rpc_descriptor *file);

/* The file that declares a full name: a message, enum, service, method, field. false: none. Local.
 */
bool rpc_descriptor_find_symbol(struct rpc_descriptor set, struct rpc_descriptor symbol,
                                struct rpc_descriptor *file);

#endif
