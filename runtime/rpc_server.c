/* A gRPC door: its methods, its listeners, its connections. */
#define _GNU_SOURCE
#include "runtime/rpc_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/rpc_connection.h"
#include "runtime/rpc_door.h"
#include "runtime/rpc_socket.h"

#define LISTENERS_MAX 8
#define ACCEPTS_MAX 64 /* in one turn */
#define NS_PER_MS INT64_C(1000000)
#define PAUSE_MS 100 /* without accepting, when the process is out of descriptors */

struct listener {
    struct rpc_server *server;
    struct rpc_loop_watch watch;
    struct rpc_socket_bound bound;
};

struct rpc_server {
    struct rpc_door door;
    struct listener listeners[LISTENERS_MAX];
    int32_t listener_count;
    struct rpc_connection_list connections;
    struct rpc_loop_timer pause;
    bool is_short; /* of descriptors, and that has been logged; until the backlog is empty */
};

void rpc_server_options_default(struct rpc_server_options *options) {
    *options = (struct rpc_server_options){
        .message_bytes_max = INT64_C(4) << 20,
        .buffer_bytes_max = INT64_C(256) << 20,
        .queue_bytes_max = INT64_C(256) << 10,
        .arena_bytes_max = INT64_C(64) << 20,
        .header_bytes_max = 16 << 10,
        .connections_max = 4096,
        .streams_max = 1024,
        .handshake_ms = 10000,
        .idle_ms = 3600000,
        .request_ms = 60000,
        .stall_ms = 30000,
        .keepalive_ms = 60000,
        .keepalive_timeout_ms = 20000,
    };
}

enum status rpc_server_create(struct rpc_loop *loop, const struct rpc_server_options *options,
                              struct rpc_server **server) {
    struct rpc_server *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->door.loop = loop;
    made->door.options = *options;
    *server = made;
    return STATUS_OK;
}

/* ---- listeners ---- */

static void close_listeners(struct rpc_server *server) {
    rpc_loop_timer_disarm(server->door.loop, &server->pause);
    for (int32_t i = 0; i < server->listener_count; i++) {
        struct listener *listener = &server->listeners[i];
        rpc_loop_watch_remove(server->door.loop, &listener->watch);
        rpc_socket_unbind(&listener->bound);
    }
    server->listener_count = 0;
}

static void watch_listeners(void *context) {
    struct rpc_server *server = context;
    for (int32_t i = 0; i < server->listener_count; i++)
        rpc_loop_watch_change(server->door.loop, &server->listeners[i].watch, EPOLLIN);
}

/* No descriptor is free: the connections in the backlog wait, and epoll must not report them all
 * the time. */
static void pause_listeners(struct rpc_server *server) {
    if (!server->is_short)
        LOG_WARN("accept: %s; no new connections until some are closed", strerror(errno));
    server->is_short = true;
    for (int32_t i = 0; i < server->listener_count; i++)
        rpc_loop_watch_change(server->door.loop, &server->listeners[i].watch, 0);
    rpc_loop_timer_arm(server->door.loop, &server->pause,
                       rpc_loop_now_ns(server->door.loop) + PAUSE_MS * NS_PER_MS, watch_listeners,
                       server);
}

static void welcome(struct rpc_server *server, int fd, const struct sockaddr_storage *from) {
    struct rpc_server_stats *stats = &server->door.stats;
    if (stats->connections >= server->door.options.connections_max &&
        !rpc_connection_close_silent(&server->connections)) {
        stats->connections_refused++;
        close(fd);
        return;
    }
    char peer[RPC_SOCKET_TEXT_SIZE];
    char host[RPC_SOCKET_TEXT_SIZE];
    rpc_socket_peer(from, peer, host);
    if (rpc_connection_open(&server->door, &server->connections, fd, peer, host) != STATUS_OK)
        stats->connections_refused++;
}

static void accept_some(void *context, uint32_t events) {
    (void)events;
    struct listener *listener = context;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        struct sockaddr_storage from = {.ss_family = AF_UNIX};
        socklen_t size = sizeof(from);
        int fd = accept4(listener->bound.fd, (struct sockaddr *)&from, &size,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(listener->server, fd, &from);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_listeners(listener->server);
        else if (errno == ECONNABORTED || errno == EINTR)
            continue;
        else
            listener->server->is_short = false;
        return;
    }
}

static enum status begin_to_listen(struct rpc_server *server, struct listener *listener) {
    RETURN_IF_ERROR(rpc_socket_listen(&listener->bound));
    return rpc_loop_watch_add(server->door.loop, &listener->watch, listener->bound.fd, EPOLLIN,
                              accept_some, listener);
}

enum status rpc_server_listen_bound(struct rpc_server *server, struct rpc_socket_bound *bound) {
    if (server->listener_count == LISTENERS_MAX) {
        LOG_ERROR("cannot listen on %s: expected at most %d addresses", bound->address,
                  LISTENERS_MAX);
        rpc_socket_unbind(bound);
        return STATUS_USAGE;
    }
    struct listener *listener = &server->listeners[server->listener_count];
    *listener = (struct listener){.server = server, .bound = *bound};
    bound->is_bound = false;
    enum status status = begin_to_listen(server, listener);
    if (status != STATUS_OK)
        rpc_socket_unbind(&listener->bound);
    else
        server->listener_count++;
    return status;
}

enum status rpc_server_listen(struct rpc_server *server, const char *address) {
    struct rpc_socket_bound bound = {.is_bound = false};
    RETURN_IF_ERROR(rpc_socket_bind(address, &bound));
    return rpc_server_listen_bound(server, &bound);
}

const char *rpc_server_address(const struct rpc_server *server) {
    return server->listener_count > 0 ? server->listeners[server->listener_count - 1].bound.address
                                      : "";
}

/* ---- methods ---- */

static int compare_methods(const void *a, const void *b) {
    return strcmp((*(struct rpc_method *const *)a)->path, (*(struct rpc_method *const *)b)->path);
}

enum status rpc_server_register(struct rpc_server *server, const struct rpc_method *methods,
                                size_t method_count) {
    struct rpc_door *door = &server->door;
    size_t total = door->method_count + method_count;
    struct rpc_method **grown =
        realloc(door->methods, (total > 0 ? total : 1) * sizeof(struct rpc_method *));
    if (grown == NULL)
        return STATUS_NO_MEMORY;
    door->methods = grown;
    for (size_t i = 0; i < method_count; i++) {
        struct rpc_method *copy = malloc(sizeof(*copy));
        if (copy == NULL)
            return STATUS_NO_MEMORY;
        *copy = methods[i];
        grown[door->method_count++] = copy;
    }
    qsort(grown, door->method_count, sizeof(struct rpc_method *), compare_methods);
    for (size_t i = 1; i < door->method_count; i++)
        ASSERT(strcmp(grown[i - 1]->path, grown[i]->path) != 0);
    return STATUS_OK;
}

const struct rpc_method *rpc_server_method(const struct rpc_server *server, size_t index) {
    return index < server->door.method_count ? server->door.methods[index] : NULL;
}

struct rpc_door *rpc_server_door(struct rpc_server *server) {
    return &server->door;
}

/* ---- end ---- */

void rpc_server_drain(struct rpc_server *server) {
    close_listeners(server);
    rpc_connection_drain_all(&server->connections);
}

bool rpc_server_is_idle(const struct rpc_server *server) {
    return server->connections.first == NULL;
}

void rpc_server_stats(const struct rpc_server *server, struct rpc_server_stats *stats) {
    *stats = server->door.stats;
}

void rpc_server_destroy(struct rpc_server *server) {
    if (server == NULL)
        return;
    close_listeners(server);
    while (server->connections.first != NULL)
        rpc_connection_close(server->connections.first);
    for (size_t i = 0; i < server->door.method_count; i++)
        free(server->door.methods[i]);
    free(server->door.methods);
    free(server);
}
