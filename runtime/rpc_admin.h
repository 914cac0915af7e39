/* moebius.v1.Admin: what operators may ask and do, on a door of their own. */
#ifndef MOEBIUS_RUNTIME_RPC_ADMIN_H
#define MOEBIUS_RUNTIME_RPC_ADMIN_H

#include "comm/rank_group.h"
#include "kernels/base/status.h"
#include "moe/placement.h"
#include "runtime/generation_service.h"
#include "runtime/rank_accounts.h"
#include "runtime/rpc_loop.h"
#include "runtime/rpc_server.h"

struct rpc_admin;

/* All borrowed. */
struct rpc_admin_options {
    struct rpc_loop *loop;
    struct generation_service *service;
    const struct rank_group *ranks;
    const struct placement *placement; /* NULL: one rank, or no experts */
    const struct rank_accounts *accounts;
    const char *version;            /* of the program */
    int64_t start_ns;               /* clock_now_ns */
    void (*changed)(void *context); /* after Drain and Resume: the service's state is another */
    void (*end)(void *context);     /* ends the server: DrainRequest.exit_when_done */
    void *context;                  /* of both */
};

/* STATUS_NO_MEMORY (logged). Local. */
enum status rpc_admin_create(const struct rpc_admin_options *options, struct rpc_admin **admin);

/* After the servers that it is registered with; NULL allowed. Local. */
void rpc_admin_destroy(struct rpc_admin *admin);

/* Adds the methods to a server. STATUS_NO_MEMORY. Local. */
enum status rpc_admin_register(struct rpc_admin *admin, struct rpc_server *server);

#endif
