/* GetModelInfo from the client's side: what a client must know to make prompts for a model. */
#ifndef MOEBIUS_RUNTIME_RPC_MODEL_CLIENT_H
#define MOEBIUS_RUNTIME_RPC_MODEL_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/rpc_client.h"

/* One question. Lives until is_done. */
struct rpc_model_client {
    bool is_done;
    enum rpc_code code; /* when done; RPC_OK: the members below count */
    char message[256];  /* the server's words, otherwise */
    char model[128], architecture[32], dtype[32];
    int32_t vocabulary, positions; /* ids; longest sequence */
};

/* Asks for `model` (NULL: whichever is served) until `deadline_ns` (clock_now_ns);
 * answer->is_done is set by a turn of the client's loop. STATUS_NO_MEMORY (logged). Local. */
enum status rpc_model_client_ask(struct rpc_client *client, const char *model, int64_t deadline_ns,
                                 struct rpc_model_client *answer);

#endif
