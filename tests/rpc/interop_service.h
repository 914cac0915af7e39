/* grpc.testing.TestService: lets every public interop client test our server. */
#ifndef MOEBIUS_TESTS_RPC_INTEROP_SERVICE_H
#define MOEBIUS_TESTS_RPC_INTEROP_SERVICE_H

#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/rpc_loop.h"
#include "runtime/rpc_server.h"

/* What happened to the calls of a server; the test's clients ask by UnaryCall with fill_username:
 * the answer's username is "begun=%d cancelled=%d finished=%d". */
struct interop_service {
    struct rpc_loop *loop;
    int64_t answer_bytes_max;           /* what a client may ask for; more is refused */
    int64_t begun, cancelled, finished; /* streams of answers */
};

/* `service` is kept. Local. */
enum status interop_service_register(struct interop_service *service, struct rpc_server *server);

#endif
