/* One accepted connection of a server: a pipe, an HTTP/2 session, and the clocks that a client must
 * not outwait. */
#ifndef MOEBIUS_RUNTIME_RPC_CONNECTION_H
#define MOEBIUS_RUNTIME_RPC_CONNECTION_H

#include <stdbool.h>

#include "kernels/base/status.h"

struct rpc_connection;
struct rpc_door;

/* A server's connections, oldest first. */
struct rpc_connection_list {
    struct rpc_connection *first, *last;
};

/* Takes the descriptor over, also when it fails; the connection joins the list and leaves it when
 * it ends by itself. `peer` and `host` as rpc_socket_peer writes them, copied. STATUS_NO_MEMORY,
 * STATUS_IO. Local. */
enum status rpc_connection_open(struct rpc_door *door, struct rpc_connection_list *list, int fd,
                                const char *peer, const char *host);

/* Ends one at once; calls that run are cancelled. Local. */
void rpc_connection_close(struct rpc_connection *connection);

/* GOAWAY on all of them; those without calls end. Local. */
void rpc_connection_drain_all(struct rpc_connection_list *list);

/* Ends the oldest one whose client has not said anything sensible yet; false: there is none. Local.
 */
bool rpc_connection_close_silent(struct rpc_connection_list *list);

#endif
