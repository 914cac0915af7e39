/* grpc.health.v1: Check and Watch. */
#ifndef MOEBIUS_RUNTIME_RPC_HEALTH_H
#define MOEBIUS_RUNTIME_RPC_HEALTH_H

#include <stdbool.h>

#include "kernels/base/status.h"

struct rpc_health;
struct rpc_server;

/* One health state may be told by several servers. STATUS_NO_MEMORY. Local. */
enum status rpc_health_create(struct rpc_health **health);

/* After the servers; NULL is allowed. Local. */
void rpc_health_destroy(struct rpc_health *health);

/* Adds the health service to a server; no bearer token is asked for. Local. */
enum status rpc_health_register(struct rpc_health *health, struct rpc_server *server);

/* Says whether `service` ("moebius.v1.Inference"; "" is the server as a whole) is serving; those
 * who watch it are told. A service that was never set is unknown (Check: NOT_FOUND).
 * STATUS_NO_MEMORY, STATUS_LIMIT (more than 16 services). Local. */
enum status rpc_health_set(struct rpc_health *health, const char *service, bool is_serving);

#endif
