/* Stream sockets by address text: "HOST:PORT", "[::1]:PORT", ":PORT" (all interfaces), "unix:PATH".
 */
#ifndef MOEBIUS_RUNTIME_RPC_SOCKET_H
#define MOEBIUS_RUNTIME_RPC_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "kernels/base/status.h"

#define RPC_SOCKET_TEXT_SIZE 320 /* of an address as text */
#define RPC_SOCKET_ADDRESSES_MAX 8

/* What an address text means: one Unix path, or what a host name resolves to. */
struct rpc_socket_addresses {
    int32_t count;
    socklen_t sizes[RPC_SOCKET_ADDRESSES_MAX];
    struct sockaddr_storage at[RPC_SOCKET_ADDRESSES_MAX];
    char host[RPC_SOCKET_TEXT_SIZE]; /* as it stands in the text; "localhost" for a Unix path */
};

/* Looks the address up (a host name: blocking). `to_listen`: an empty host is all interfaces.
 * STATUS_USAGE (logged): it is none. Local. */
enum status rpc_socket_resolve(const char *address, bool to_listen,
                               struct rpc_socket_addresses *addresses);

/* An address that is ours. Zeroed: none. */
struct rpc_socket_bound {
    bool is_bound;
    int fd;
    char address[RPC_SOCKET_TEXT_SIZE]; /* with the port that was given */
};

/* Takes the address; nobody can connect before rpc_socket_listen. Non-blocking. A Unix socket's
 * file is made for its owner only (0600), in place of one that nobody listens on. STATUS_USAGE,
 * STATUS_IO (logged). Local. */
enum status rpc_socket_bind(const char *address, struct rpc_socket_bound *bound);

/* STATUS_IO (logged): somebody who bound it at the same time was first. Local. */
enum status rpc_socket_listen(const struct rpc_socket_bound *bound);

/* Closes it and removes a Unix socket's file; nothing when there is none. Local. */
void rpc_socket_unbind(struct rpc_socket_bound *bound);

/* Begins to connect; the descriptor is writable when that has ended. STATUS_IO: refused at once
 * (not logged). Local. */
enum status rpc_socket_connect(const struct rpc_socket_addresses *addresses, int32_t index,
                               int *fd);

/* The error that a connect has ended with; 0: connected. Local. */
int rpc_socket_error(int fd);

/* gRPC's text of a peer: "ipv4:1.2.3.4:5", "ipv6:[::1]:5", "unix:"; `host` gets it without the
 * port. Both [RPC_SOCKET_TEXT_SIZE]. Local. */
void rpc_socket_peer(const struct sockaddr_storage *address, char *peer, char *host);

/* Small writes leave at once. Local. */
void rpc_socket_set_no_delay(int fd);

#endif
