/* The service's news of one request as messages of the wire: chunks of a stream as they come, or
 * one whole response. Messages live in the call's arena. */
#ifndef MOEBIUS_RUNTIME_RPC_GENERATE_REPLY_H
#define MOEBIUS_RUNTIME_RPC_GENERATE_REPLY_H

#include "proto/moebius/v1/inference.pb-c.h"
#include "runtime/generation_service.h"
#include "runtime/rpc_arena.h"
#include "runtime/text_buffer.h"

/* What has come of one choice of a response that is sent as a whole. */
struct rpc_generate_choice {
    struct text_buffer text, ids; /* ids: uint32_t */
    struct text_buffer logprobs;  /* Moebius__V1__TokenLogprob * */
    Moebius__V1__GenerateChunk chunk;
};

struct rpc_generate_reply {
    const struct generation_service *service;
    struct rpc_arena *arena;                /* the call's */
    bool no_text, token_ids, echo, timings; /* wishes of the request */
    int32_t n, ended;
    bool head_sent; /* of a stream: what the first chunk alone has */
    Moebius__V1__GenerateChunk head;
    Moebius__V1__GenerateChunk last; /* of a stream: the last chunk waits for the timings */
    int32_t prompt_tokens, cached_tokens;
    struct rpc_generate_choice *choices; /* [n] of a whole response, else NULL */
};

/* For a request whose n is known to be in range; what it wants is copied. A reply that is no stream
 * collects; free with _deinit. STATUS_NO_MEMORY (logged). Local. */
enum status rpc_generate_reply_init(struct rpc_generate_reply *reply,
                                    const struct generation_service *service,
                                    struct rpc_arena *arena,
                                    const Moebius__V1__GenerateRequest *wire, bool streams);
void rpc_generate_reply_deinit(struct rpc_generate_reply *reply);

/* Takes what only the first chunk tells. This and all below: STATUS_LIMIT when the arena's cap is
 * reached, STATUS_NO_MEMORY. Local. */
enum status rpc_generate_reply_start(struct rpc_generate_reply *reply,
                                     const struct generation_start *start);

/* ---- a stream ---- */

/* The next chunk, in the arena; say rpc_generate_reply_sent once it is packed. Local. */
enum status rpc_generate_reply_delta(struct rpc_generate_reply *reply,
                                     const struct generation_delta *delta,
                                     Moebius__V1__GenerateChunk *chunk);
/* *is_last: the chunk is kept back for rpc_generate_reply_done, which adds the timings. Local. */
enum status rpc_generate_reply_end(struct rpc_generate_reply *reply,
                                   const struct generation_end_of_choice *end,
                                   Moebius__V1__GenerateChunk *chunk, bool *is_last);
enum status rpc_generate_reply_done(struct rpc_generate_reply *reply,
                                    const struct generation_usage *usage,
                                    Moebius__V1__GenerateChunk *chunk);
/* Lets the arena forget what nobody needs any more. Local. */
void rpc_generate_reply_sent(struct rpc_generate_reply *reply);

/* ---- a whole response ---- */

enum status rpc_generate_reply_collect(struct rpc_generate_reply *reply,
                                       const struct generation_delta *delta);
enum status rpc_generate_reply_collect_end(struct rpc_generate_reply *reply,
                                           const struct generation_end_of_choice *end);
enum status rpc_generate_reply_response(struct rpc_generate_reply *reply,
                                        const struct generation_usage *usage,
                                        Moebius__V1__GenerateResponse *response);

#endif
