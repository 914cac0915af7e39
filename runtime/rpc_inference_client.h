/* GenerateStream from the client's side: a request in the service's own terms goes out, chunks come
 * back as plain data. */
#ifndef MOEBIUS_RUNTIME_RPC_INFERENCE_CLIENT_H
#define MOEBIUS_RUNTIME_RPC_INFERENCE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/generation_service.h"
#include "runtime/rpc_client.h"

/* News of one choice. Valid during the callback. */
struct rpc_inference_client_chunk {
    const char *request_id; /* "" but in the first chunk */
    int32_t index;
    const char *text; /* UTF-8 */
    size_t text_bytes;
    const uint32_t *ids; /* [id_count], when wanted or the server has no text */
    size_t id_count;
    const float *logprobs; /* [logprob_count], when wanted */
    size_t logprob_count;
    const char *finish; /* NULL: more to come; else "length", "eos", "stop", "stop-token",
                           "time-limit" or "aborted" */
    uint64_t seed;      /* of the last chunk, like those below */
    int32_t prompt_tokens, cached_tokens, completion_tokens;
    int64_t first_token_us, total_us; /* of the last chunk of all; 0 before */
};

struct rpc_inference_client_listener {
    void (*chunk)(void *context, const struct rpc_inference_client_chunk *chunk);
    /* The end, once; nothing comes after it. */
    void (*finish)(void *context, enum rpc_code code, const char *message);
    void *context;
};

struct rpc_inference_client;

/* One request at a time on `client`, which is kept. STATUS_NO_MEMORY (logged). Local. */
enum status rpc_inference_client_create(struct rpc_client *client,
                                        struct rpc_inference_client **inference);
void rpc_inference_client_destroy(struct rpc_inference_client *inference); /* NULL allowed */

/* What of an answer is wanted beside its text. */
struct rpc_inference_client_wishes {
    bool token_ids;
};

/* Sends it; the request's own `deadline_ns` and `client` are not used, `deadline_ns` beside it
 * (clock_now_ns; RPC_LOOP_NEVER: none) is. STATUS_NO_MEMORY. Local. */
enum status rpc_inference_client_start(struct rpc_inference_client *inference,
                                       const struct generation_request *request,
                                       const struct rpc_inference_client_wishes *wishes,
                                       int64_t deadline_ns,
                                       const struct rpc_inference_client_listener *listener);

/* Whether the last request's end was the server's own word, and not found out here (no connection,
 * a stream without a status, a deadline that passed on this side). For its finish. Local. */
bool rpc_inference_client_was_told(const struct rpc_inference_client *inference);

/* Whether the server refused the last request because prompt and answer do not fit. For its finish
 * and after it. Local. */
bool rpc_inference_client_was_too_long(const struct rpc_inference_client *inference);

/* Gives the running request up; its finish comes with RPC_CANCELLED. Local. */
void rpc_inference_client_cancel(struct rpc_inference_client *inference);

/* The exit of a program that a call ended so. Local. */
enum status rpc_inference_client_status(enum rpc_code code);

#endif
