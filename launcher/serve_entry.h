/* What the doors of a server need of the machine: ports, certificates, keys,
 * descriptors. Taken before the model
 * is loaded, so that what is wrong with them is told at once. */
#ifndef MOEBIUS_LAUNCHER_SERVE_ENTRY_H
#define MOEBIUS_LAUNCHER_SERVE_ENTRY_H

#include "launcher/serve_run.h"
#include "runtime/rpc_keys.h"
#include "runtime/rpc_socket.h"
#include "runtime/rpc_tls.h"

/* Zeroed: nothing is taken. */
struct serve_entry {
    struct rpc_tls *tls;                       /* NULL: cleartext */
    struct rpc_keys *keys;                     /* NULL: none asked for */
    struct rpc_keys *admin_keys;               /* NULL: the same */
    struct rpc_socket_bound grpc, admin, http; /* nobody can connect before a door listens */
    int32_t grpc_max, admin_max, http_max;     /* connections: there are descriptors for all */
};

/* STATUS_USAGE, STATUS_IO, STATUS_BAD_CONFIG, STATUS_NO_MEMORY (logged); what was taken until then
 * is the caller's to give back. Local. */
enum status serve_entry_take(const struct serve_flags *flags, struct serve_entry *entry);

/* Where clients come, before the doors take it over: "gRPC at 127.0.0.1:50051, HTTP at
 * http://127.0.0.1:8000, admin at unix:PATH"; "gRPC at node1:50051 with TLS, HTTP at
 * https://node1:8000" when this host, node1, listens on all of its addresses. Local. */
void serve_entry_tell(const struct serve_entry *entry, char *text, size_t size);

/* After the doors. Local. */
void serve_entry_give(struct serve_entry *entry);

#endif
