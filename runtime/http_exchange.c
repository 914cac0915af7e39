/* One request on its way through the HTTP door. An exchange is suspended (not polled by the
 * library) while its route has nothing to say; a watch of our own notices meanwhile that the client
 * has gone. http_server.c hands them in; what the routes do stands in http_openai.c. */
#define _GNU_SOURCE /* EPOLLRDHUP */

#include "runtime/http_exchange.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/http_tls.h"
#include "runtime/rpc_socket.h"
#include "runtime/text_buffer.h"

#define HEADERS_MAX 3

struct http_exchange {
    struct http_door *door;
    const struct http_route *route;
    const char *path; /* the library's, while the route looks at the request */
    struct MHD_Connection *connection;
    struct http_exchange *next, *previous; /* among those whose route is at work */
    struct text_buffer body;
    int32_t refusal;   /* code for a body that is not taken; 0: it is */
    bool is_open;      /* the route is at work on it */
    bool is_gone;      /* the client has closed its end */
    bool is_suspended; /* by us, in libmicrohttpd */
    bool was_full;
    void *data;
    char peer[RPC_SOCKET_TEXT_SIZE];
    struct {
        char name[32], value[136];
    } headers[HEADERS_MAX];
    int32_t header_count, code;
    struct MHD_Response *response; /* made, not queued yet */
    /* A stream: bytes [sent, queue.length) wait. */
    struct text_buffer queue;
    size_t sent;
    bool is_stream, is_finished;
    struct rpc_loop_watch hangup;
    struct rpc_loop_task writable;
};

static void suspend(struct http_exchange *exchange) {
    exchange->is_suspended = true;
    MHD_suspend_connection(exchange->connection);
}

static void resume(struct http_exchange *exchange) {
    if (!exchange->is_suspended)
        return;
    exchange->is_suspended = false;
    MHD_resume_connection(exchange->connection);
    exchange->door->want_turn(exchange->door);
}

/* ---- an exchange's life ---- */

static void open_exchange(struct http_exchange *exchange) {
    struct http_door *door = exchange->door;
    exchange->is_open = true;
    exchange->previous = NULL;
    exchange->next = door->open;
    if (door->open != NULL)
        door->open->previous = exchange;
    door->open = exchange;
}

/* The route has done with it, or is told that it is gone. */
static void close_exchange(struct http_exchange *exchange) {
    struct http_door *door = exchange->door;
    exchange->is_open = false;
    rpc_loop_watch_remove(door->loop, &exchange->hangup);
    rpc_loop_task_cancel(door->loop, &exchange->writable);
    if (exchange->previous != NULL)
        exchange->previous->next = exchange->next;
    else
        door->open = exchange->next;
    if (exchange->next != NULL)
        exchange->next->previous = exchange->previous;
}

static void tell_gone(struct http_exchange *exchange) {
    if (!exchange->is_open)
        return;
    close_exchange(exchange);
    if (exchange->route->on_gone != NULL)
        exchange->route->on_gone(exchange->route->context, exchange);
}

/* The client has closed while the route was at work. */
static void see_hangup(void *context, uint32_t events) {
    struct http_exchange *exchange = context;
    (void)events;
    exchange->is_gone = true;
    tell_gone(exchange);
    resume(exchange);
}

static void watch_hangup(struct http_exchange *exchange) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info != NULL)
        rpc_loop_watch_add(exchange->door->loop, &exchange->hangup, info->connect_fd, EPOLLRDHUP,
                           see_hangup, exchange); /* without it, idle_s and writing tell */
}

/* As the gRPC door names its clients. */
static void find_peer(struct http_exchange *exchange) {
    char name[128], peer[RPC_SOCKET_TEXT_SIZE];
    if (http_tls_peer_name(exchange->connection, name, sizeof name)) {
        snprintf(exchange->peer, sizeof exchange->peer, "cert:%s", name);
        return;
    }
    struct sockaddr_storage address = {0};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info != NULL)
        memcpy(&address, info->client_addr,
               info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                        : sizeof(struct sockaddr_in));
    rpc_socket_peer(&address, peer, exchange->peer);
}

struct http_exchange *http_exchange_create(struct http_door *door,
                                           struct MHD_Connection *connection) {
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL) {
        LOG_ERROR("http: cannot take memory for a request");
        return NULL;
    }
    exchange->door = door;
    exchange->connection = connection;
    door->exchange_count++;
    find_peer(exchange);
    return exchange;
}

static void drop_body(struct http_exchange *exchange) {
    exchange->door->body_bytes -= (int64_t)exchange->body.length;
    text_buffer_deinit(&exchange->body);
}

void http_exchange_destroy(struct http_exchange *exchange) {
    if (exchange == NULL)
        return;
    tell_gone(exchange);
    rpc_loop_watch_remove(exchange->door->loop, &exchange->hangup);
    if (exchange->response != NULL)
        MHD_destroy_response(exchange->response);
    drop_body(exchange);
    text_buffer_deinit(&exchange->queue);
    exchange->door->exchange_count--;
    free(exchange);
}

/* ---- answers ---- */

static void prepare_response(struct http_exchange *exchange, int32_t code, const char *content_type,
                             struct MHD_Response *response) {
    ASSERT(exchange->response == NULL);
    exchange->code = code;
    exchange->response = response;
    if (response == NULL) {
        LOG_ERROR("http: cannot take memory for an answer");
        exchange->is_gone = true; /* the connection is closed */
        return;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    for (int32_t i = 0; i < exchange->header_count; i++)
        MHD_add_response_header(response, exchange->headers[i].name, exchange->headers[i].value);
}

void http_exchange_add_header(struct http_exchange *exchange, const char *name, const char *value) {
    ASSERT(exchange->header_count < HEADERS_MAX);
    int32_t i = exchange->header_count++;
    snprintf(exchange->headers[i].name, sizeof exchange->headers[i].name, "%s", name);
    snprintf(exchange->headers[i].value, sizeof exchange->headers[i].value, "%s", value);
}

void http_exchange_reply(struct http_exchange *exchange, int32_t code, const char *content_type,
                         const char *body, size_t length) {
    void *bytes = length > 0 ? malloc(length) : NULL;
    struct MHD_Response *response = NULL;
    if (length == 0 || bytes != NULL) {
        if (length > 0)
            memcpy(bytes, body, length);
        response = MHD_create_response_from_buffer(length, bytes, MHD_RESPMEM_MUST_FREE);
        if (response == NULL)
            free(bytes);
    }
    prepare_response(exchange, code, content_type, response);
    if (exchange->is_open)
        close_exchange(exchange);
    resume(exchange);
}

static void tell_writable(void *context) {
    struct http_exchange *exchange = context;
    if (exchange->route->on_writable != NULL)
        exchange->route->on_writable(exchange->route->context, exchange);
}

/* The library wants up to `space` bytes of a stream. */
static ssize_t read_stream(void *context, uint64_t position, char *into, size_t space) {
    struct http_exchange *exchange = context;
    struct http_door *door = exchange->door;
    (void)position;
    if (exchange->is_gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t waiting = exchange->queue.length - exchange->sent;
    if (waiting == 0 && exchange->is_finished)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (waiting == 0) {
        suspend(exchange);
        return 0;
    }
    size_t count = waiting < space ? waiting : space;
    memcpy(into, exchange->queue.data + exchange->sent, count);
    exchange->sent += count;
    if (exchange->sent == exchange->queue.length)
        exchange->queue.length = exchange->sent = 0;
    if (exchange->is_open && exchange->was_full &&
        (int64_t)(waiting - count) < door->queue_bytes_max / 2) {
        exchange->was_full = false;
        rpc_loop_task_defer(door->loop, &exchange->writable, tell_writable, exchange);
    }
    return (ssize_t)count;
}

void http_exchange_begin(struct http_exchange *exchange, const char *content_type) {
    exchange->is_stream = true;
    prepare_response(exchange, MHD_HTTP_OK, content_type,
                     MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16 * 1024, read_stream,
                                                       exchange, NULL));
    resume(exchange);
}

enum status http_exchange_write(struct http_exchange *exchange, const char *bytes, size_t length) {
    ASSERT(exchange->is_stream && !exchange->is_finished);
    if (exchange->sent > 0 && exchange->sent >= exchange->queue.length / 2) {
        exchange->queue.length -= exchange->sent;
        memmove(exchange->queue.data, exchange->queue.data + exchange->sent,
                exchange->queue.length);
        exchange->sent = 0;
    }
    RETURN_IF_ERROR(text_buffer_append(&exchange->queue, bytes, length));
    resume(exchange);
    return STATUS_OK;
}

bool http_exchange_is_full(struct http_exchange *exchange) {
    bool full =
        (int64_t)(exchange->queue.length - exchange->sent) > exchange->door->queue_bytes_max;
    exchange->was_full |= full;
    return full;
}

void http_exchange_finish(struct http_exchange *exchange) {
    exchange->is_finished = true;
    close_exchange(exchange);
    resume(exchange);
}

/* ---- requests ---- */

static const char not_found[] = "{\"error\": {\"message\": \"no such path\", \"type\": "
                                "\"invalid_request_error\", \"param\": null, \"code\": null}}\n";
static const char not_allowed[] =
    "{\"error\": {\"message\": \"the path is known, but not with this method\", \"type\": "
    "\"invalid_request_error\", \"param\": null, \"code\": null}}\n";
static const char too_many[] =
    "{\"error\": {\"message\": \"the server holds as much of unfinished requests as it may\", "
    "\"type\": \"service_unavailable_error\", \"param\": null, \"code\": null}}\n";
static const char too_large[] =
    "{\"error\": {\"message\": \"the request's body is larger than this server takes\", \"type\": "
    "\"invalid_request_error\", \"param\": null, \"code\": null}}\n";

static bool is_path_of(const struct http_route *route, const char *path) {
    size_t length = strlen(route->path);
    if (route->path[length - 1] != '/')
        return strcmp(route->path, path) == 0;
    return strncmp(route->path, path, length) == 0 && path[length] != '\0';
}

/* *allowed: a method with which the path is known; NULL: it is not. */
static const struct http_route *find_route(const struct http_door *door, const char *method,
                                           const char *path, const char **allowed) {
    *allowed = NULL;
    if (strcmp(method, "HEAD") == 0) /* the library leaves the body out */
        method = "GET";
    for (int32_t i = 0; i < door->route_count; i++) {
        if (!is_path_of(&door->routes[i], path))
            continue;
        *allowed = door->routes[i].method;
        if (strcmp(*allowed, method) == 0)
            return &door->routes[i];
    }
    return NULL;
}

/* The request is complete: the route's turn, or an error of our own. */
static void dispatch(struct http_exchange *exchange, const char *method, const char *path) {
    const char *allowed;
    exchange->route = find_route(exchange->door, method, path, &allowed);
    if (exchange->refusal != 0) {
        const char *body = exchange->refusal == MHD_HTTP_CONTENT_TOO_LARGE ? too_large : too_many;
        http_exchange_reply(exchange, exchange->refusal, "application/json", body, strlen(body));
    } else if (exchange->route == NULL) {
        const char *body = allowed != NULL ? not_allowed : not_found;
        int32_t code = allowed != NULL ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND;
        if (allowed != NULL)
            http_exchange_add_header(exchange, MHD_HTTP_HEADER_ALLOW, allowed);
        http_exchange_reply(exchange, code, "application/json", body, strlen(body));
    } else {
        exchange->path = path;
        open_exchange(exchange);
        watch_hangup(exchange);
        exchange->route->on_request(exchange->route->context, exchange);
        drop_body(exchange);
    }
}

static void take_body(struct http_exchange *exchange, const char *bytes, size_t length) {
    struct http_door *door = exchange->door;
    if (exchange->refusal != 0)
        return;
    if ((int64_t)(exchange->body.length + length) > door->body_bytes_max)
        exchange->refusal = MHD_HTTP_CONTENT_TOO_LARGE;
    else if (door->body_bytes + (int64_t)length > door->all_bodies_bytes_max ||
             text_buffer_reserve(&exchange->body, length + 1) != STATUS_OK)
        exchange->refusal = MHD_HTTP_SERVICE_UNAVAILABLE;
    if (exchange->refusal != 0) {
        drop_body(exchange);
        return;
    }
    door->body_bytes += (int64_t)length;
    memcpy(exchange->body.data + exchange->body.length, bytes, length);
    exchange->body.length += length;
    exchange->body.data[exchange->body.length] = '\0';
}

int http_exchange_take(struct http_exchange *exchange, const char *url, const char *method,
                       const char *upload, size_t *upload_bytes) {
    if (*upload_bytes > 0) {
        take_body(exchange, upload, *upload_bytes);
        *upload_bytes = 0;
        return MHD_YES;
    }
    if (exchange->route == NULL && exchange->response == NULL && !exchange->is_gone)
        dispatch(exchange, method, url);
    if (exchange->response != NULL) {
        enum MHD_Result queued =
            MHD_queue_response(exchange->connection, (unsigned)exchange->code, exchange->response);
        MHD_destroy_response(exchange->response); /* the connection holds it now */
        exchange->response = NULL;
        return queued;
    }
    if (exchange->is_gone)
        return MHD_NO;
    suspend(exchange);
    return MHD_YES;
}

void http_exchange_end_all(struct http_door *door) {
    while (door->open != NULL) {
        struct http_exchange *exchange = door->open;
        exchange->is_gone = true;
        tell_gone(exchange);
        resume(exchange); /* the library refuses to stop with suspended connections */
    }
}

const char *http_exchange_body(const struct http_exchange *exchange, size_t *length) {
    *length = exchange->body.length;
    return exchange->body.data != NULL ? exchange->body.data : "";
}

const char *http_exchange_header(const struct http_exchange *exchange, const char *name) {
    return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

const char *http_exchange_path(const struct http_exchange *exchange) {
    return exchange->path;
}

const char *http_exchange_peer(const struct http_exchange *exchange) {
    return exchange->peer;
}

void http_exchange_set_data(struct http_exchange *exchange, void *data) {
    exchange->data = data;
}

void *http_exchange_data(const struct http_exchange *exchange) {
    return exchange->data;
}
