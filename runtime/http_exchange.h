/* One HTTP request and its answer, as a route sees it. All functions belong to the loop's thread.
 */
#ifndef MOEBIUS_RUNTIME_HTTP_EXCHANGE_H
#define MOEBIUS_RUNTIME_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/rpc_loop.h"

struct http_exchange;

/* The exchange is the route's from on_request until it calls http_exchange_reply or
 * http_exchange_finish, or until on_gone returns; after that the pointer is dead. No function here
 * calls on_gone or on_writable: they come from the loop. */
struct http_route {
    /* "POST", "/v1/completions": kept, constants. A path with a slash at its end is that of all
     * below it; GET answers HEAD too. */
    const char *method, *path;
    void *context;
    void (*on_request)(void *context, struct http_exchange *exchange);
    /* The client has gone, or the server ends. NULL for routes that answer in on_request. */
    void (*on_gone)(void *context, struct http_exchange *exchange);
    /* A full stream's queue is half empty again. */
    void (*on_writable)(void *context, struct http_exchange *exchange);
};

/* The route's own pointer; NULL at first. Local. */
void http_exchange_set_data(struct http_exchange *exchange, void *data);
void *http_exchange_data(const struct http_exchange *exchange);

/* The request's body, NUL-terminated behind *length bytes. Valid during on_request. Local. */
const char *http_exchange_body(const struct http_exchange *exchange, size_t *length);

/* A request header's value (any case); NULL: there is none. Local. */
const char *http_exchange_header(const struct http_exchange *exchange, const char *name);

/* The request's path, decoded. Valid during on_request. Local. */
const char *http_exchange_path(const struct http_exchange *exchange);

/* Who asks, as at the gRPC door: "cert:NAME" of its certificate, or its address without the port,
 * "ipv4:127.0.0.1". Valid as long as the exchange. Local. */
const char *http_exchange_peer(const struct http_exchange *exchange);

/* A header of the answer, before http_exchange_reply or http_exchange_begin: at most three, of at
 * most 31 and 135 bytes (longer ones are cut). Local. */
void http_exchange_add_header(struct http_exchange *exchange, const char *name, const char *value);

/* The whole answer; the body is copied. The exchange is dead afterwards. Local. */
void http_exchange_reply(struct http_exchange *exchange, int32_t code, const char *content_type,
                         const char *body, size_t length);

/* An answer of unknown length with code 200: begin, write any number of times, finish. What is
 * written is copied. STATUS_NO_MEMORY (nothing is written then). Local. */
void http_exchange_begin(struct http_exchange *exchange, const char *content_type);
enum status http_exchange_write(struct http_exchange *exchange, const char *bytes, size_t length);
void http_exchange_finish(struct http_exchange *exchange);

/* Whether the reader is behind by more than queue_bytes_max: time to hold back until on_writable.
 */
bool http_exchange_is_full(struct http_exchange *exchange);

/* ---- for http_server.c ---- */

struct MHD_Connection;

/* What all exchanges of a server share. */
struct http_door {
    struct rpc_loop *loop;
    const struct http_route *routes; /* [route_count] */
    int32_t route_count;
    int64_t body_bytes_max, all_bodies_bytes_max, queue_bytes_max;
    int64_t body_bytes;         /* held of requests that no route has had yet */
    int32_t exchange_count;     /* from the first byte of a request to the last of its answer */
    struct http_exchange *open; /* list: those whose route is at work */
    void (*want_turn)(struct http_door *door); /* the library is to run soon */
};

/* NULL (logged): no memory. */
struct http_exchange *http_exchange_create(struct http_door *door,
                                           struct MHD_Connection *connection);

/* The next part of the request, or a turn after a suspension; an enum MHD_Result. */
int http_exchange_take(struct http_exchange *exchange, const char *url, const char *method,
                       const char *upload, size_t *upload_bytes);

/* The library has done with it. NULL allowed. */
void http_exchange_destroy(struct http_exchange *exchange);

/* Tells all routes at work that their clients are gone. */
void http_exchange_end_all(struct http_door *door);

#endif
