/* TLS contexts (OpenSSL): TLS 1.2 or later, ALPN "h2". */
#ifndef MOEBIUS_RUNTIME_RPC_TLS_H
#define MOEBIUS_RUNTIME_RPC_TLS_H

#include "kernels/base/status.h"

struct rpc_tls;

struct rpc_tls_files {
    const char *certificate; /* PEM: own certificate with its chain; client: NULL for none */
    const char *key;         /* PEM: its private key */
    const char *authorities; /* PEM: who may sign the peer's certificate. Server: NULL asks for no
                                client certificate, otherwise one is required (mutual TLS). Client:
                                NULL means the system's authorities */
};

/* STATUS_IO (logged, names the file): cannot be read or makes no sense; STATUS_NO_MEMORY. Local. */
enum status rpc_tls_create_server(const struct rpc_tls_files *files, struct rpc_tls **tls);

/* The server's certificate must be for the host of the client's address. Errors as above. Local. */
enum status rpc_tls_create_client(const struct rpc_tls_files *files, struct rpc_tls **tls);

/* After all servers and clients that use it; NULL is allowed. Local. */
void rpc_tls_destroy(struct rpc_tls *tls);

#endif
