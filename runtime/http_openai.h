/* The OpenAI-compatible door: /v1/completions, /v1/chat/completions (whole or as server-sent
 * events), /v1/models, and for operators /health, /ready, /version and /metrics. */
#ifndef MOEBIUS_RUNTIME_HTTP_OPENAI_H
#define MOEBIUS_RUNTIME_HTTP_OPENAI_H

#include "kernels/base/status.h"
#include "runtime/generation_service.h"
#include "runtime/http_server.h"

struct http_openai;
struct rpc_keys;

struct http_openai_options {
    struct generation_service *service; /* borrowed, like all of these */
    const struct metrics *metrics;
    const struct rpc_keys *keys; /* asked for on /v1/...; NULL: none */
    const char *version;
};

/* Opens the door: makes the HTTP server with its routes on the loop. The loop must call
 * generation_service_poll too. Errors of http_server_create. Local. */
enum status http_openai_create(struct rpc_loop *loop, const struct http_server_options *server,
                               const struct http_openai_options *options,
                               struct http_openai **openai);
void http_openai_destroy(struct http_openai *openai); /* NULL allowed; ends what runs */

/* Whether no request is being answered. Local. */
bool http_openai_is_idle(const struct http_openai *openai);

#endif
