/* All gRPC doors of a server, assembled: the public port with inference, health and reflection, and
 * the admin address with administration, health and reflection. All functions belong to the loop's
 * thread. */
#ifndef MOEBIUS_RUNTIME_RPC_DOORS_H
#define MOEBIUS_RUNTIME_RPC_DOORS_H

#include <stdbool.h>

#include "runtime/generation_service.h"
#include "runtime/rpc_admin.h"
#include "runtime/rpc_keys.h"
#include "runtime/rpc_loop.h"
#include "runtime/rpc_socket.h"
#include "runtime/rpc_tls.h"

struct rpc_doors;

struct rpc_doors_options {
    struct rpc_loop *loop;                /* kept */
    struct generation_service *service;   /* kept */
    struct rpc_socket_bound *bound;       /* taken over, as the next */
    struct rpc_socket_bound *admin_bound; /* "unix:...": no TLS, no token; none: no admin door */
    const struct rpc_keys *keys;          /* NULL: no token asked for; kept, as the next two */
    const struct rpc_keys *admin_keys;    /* of the admin door; NULL: the same */
    const struct rpc_tls *tls;            /* NULL: cleartext */
    int32_t connections_max, admin_connections_max;
    struct rpc_admin_options admin; /* of the admin door; loop and service are filled in */
};

/* Listens. STATUS_USAGE, STATUS_IO, STATUS_BAD_CONFIG, STATUS_NO_MEMORY (logged). Local. */
enum status rpc_doors_create(const struct rpc_doors_options *options, struct rpc_doors **doors);

/* Closes everything at once. NULL allowed. Local. */
void rpc_doors_destroy(struct rpc_doors *doors);

/* What health says of the server and of inference, at all doors; of administration it says at its
 * own door that it is serving, to the end. Local. */
void rpc_doors_set_serving(struct rpc_doors *doors, bool is_serving);

/* No new connections; those there are end with their calls. Local. */
void rpc_doors_drain(struct rpc_doors *doors);
bool rpc_doors_is_idle(const struct rpc_doors *doors);

#endif
