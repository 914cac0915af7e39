/* What stands behind a struct rpc_tls: for rpc_tls.c and rpc_channel.c only. */
#ifndef MOEBIUS_RUNTIME_RPC_TLS_CONTEXT_H
#define MOEBIUS_RUNTIME_RPC_TLS_CONTEXT_H

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <stdbool.h>

struct rpc_tls {
    SSL_CTX *context;
    BIO_METHOD *socket_method; /* a BIO whose data is a struct rpc_channel */
    bool is_server;
};

#endif
