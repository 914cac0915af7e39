/* grpc.reflection.v1 and v1alpha: lets tools such as grpcurl list and call a server's services. */
#ifndef MOEBIUS_RUNTIME_RPC_REFLECTION_H
#define MOEBIUS_RUNTIME_RPC_REFLECTION_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

struct rpc_reflection;
struct rpc_server;

/* `descriptors`: a serialized google.protobuf.FileDescriptorSet with all imports, kept: as embedded
 * by moebius_proto_library (proto/CMakeLists.txt). STATUS_INTERNAL (logged): it is none. Local. */
enum status rpc_reflection_create(const uint8_t *descriptors, size_t size,
                                  struct rpc_reflection **reflection);

/* After the servers; NULL is allowed. Local. */
void rpc_reflection_destroy(struct rpc_reflection *reflection);

/* Adds the reflection services to a server; they list the services whose methods are registered
 * there. Local. */
enum status rpc_reflection_register(struct rpc_reflection *reflection, struct rpc_server *server);

#endif
