/* What the sessions of one server share. For the files of the server's side only. */
#ifndef MOEBIUS_RUNTIME_RPC_DOOR_H
#define MOEBIUS_RUNTIME_RPC_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/rpc_loop.h"
#include "runtime/rpc_server.h"

struct rpc_door {
    struct rpc_loop *loop;
    struct rpc_server_options options;
    struct rpc_method **methods; /* each on the heap, so that a call may point at it; by path */
    size_t method_count;
    int64_t buffered_bytes; /* of unfinished request messages */
    struct rpc_server_stats stats;
};

/* A server's door, for a test that carries a session's bytes itself. Local. */
struct rpc_door *rpc_server_door(struct rpc_server *server);

#endif
