/* moebius.v1.Inference: the methods of the public port, over the service that all doors share. */
#ifndef MOEBIUS_RUNTIME_RPC_INFERENCE_H
#define MOEBIUS_RUNTIME_RPC_INFERENCE_H

#include "kernels/base/status.h"
#include "runtime/generation_service.h"
#include "runtime/rpc_server.h"

/* Adds the methods to a server. `service` is kept and must outlive the server; whoever owns it
 * calls generation_service_poll when its event says so. STATUS_NO_MEMORY. Local. */
enum status rpc_inference_register(struct generation_service *service, struct rpc_server *server);

#endif
