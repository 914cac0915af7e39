/* How a client gets to its server: address, key and TLS as the flags say. */
#ifndef MOEBIUS_LAUNCHER_CLIENT_CONNECTION_H
#define MOEBIUS_LAUNCHER_CLIENT_CONNECTION_H

#include "launcher/client_flags.h"
#include "runtime/rpc_client.h"

struct client_connection {
    const struct client_flags *flags;
    struct rpc_tls *tls; /* NULL: cleartext */
    char key[1024];      /* "": none */
};

/* Reads what the flags name; `flags` is kept. STATUS_USAGE, STATUS_IO, STATUS_BAD_CONFIG,
 * STATUS_NO_MEMORY (logged). Free with client_connection_deinit, also after an error. Local. */
enum status client_connection_init(struct client_connection *connection,
                                   const struct client_flags *flags);

/* After the clients that it made. Local. */
void client_connection_deinit(struct client_connection *connection);

/* One more client on `loop`. See rpc_client_create. Local. */
enum status client_connection_open(const struct client_connection *connection,
                                   struct rpc_loop *loop, struct rpc_client **client);

#endif
