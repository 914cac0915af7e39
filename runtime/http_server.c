/* The HTTP door: libmicrohttpd parses and writes, the rpc_loop tells it when. Requests go on in
 * http_exchange.c. */
#include "runtime/http_server.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "runtime/http_places.h"
#include "runtime/http_tls.h"
#include "runtime/rpc_loop.h"
#include "runtime/rpc_socket.h"

#define CONNECTION_MEMORY (32 * 1024) /* of a request's line and headers */
#define PEM_BYTES_MAX (1 << 20)
#define NS_PER_S INT64_C(1000000000)
#define TURN_NS NS_PER_S /* without events */
#define CLOSING_MAX 64   /* connections that we have shut down and the library has not closed yet */

struct http_server {
    struct http_door door; /* first: a door is its server */
    struct http_server_options options;
    struct MHD_Daemon *daemon;
    struct rpc_loop_watch watch;
    struct rpc_loop_timer timer;
    struct rpc_loop_task turn;
    struct http_places places;
    int64_t sweep_ns; /* when the places are looked at next */
    char *pem[3];     /* certificate, key, authorities */
};

struct http_server_options http_server_options_default(void) {
    return (struct http_server_options){.connections_max = 1024,
                                        .body_bytes_max = 4 << 20,
                                        .all_bodies_bytes_max = 256 << 20,
                                        .queue_bytes_max = 256 << 10,
                                        .silent_s = 10,
                                        .request_s = 60,
                                        .idle_s = 120};
}

/* ---- when the library runs ---- */

/* The library's word for when it wants its next turn is not enough: at its limit of connections, or
 * of descriptors, it takes the listening socket out of epoll, and says that it waits for nothing
 * once the last connection is closed. */
static void take_turn(void *context) {
    struct http_server *server = context;
    MHD_run(server->daemon);
    int64_t now_ns = clock_now_ns();
    if (now_ns >= server->sweep_ns) {
        http_places_sweep(&server->places, now_ns);
        server->sweep_ns = now_ns + TURN_NS;
    }
    MHD_UNSIGNED_LONG_LONG wait_ms;
    int64_t deadline = server->sweep_ns;
    if (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES &&
        wait_ms < (MHD_UNSIGNED_LONG_LONG)(TURN_NS / 1000000) &&
        now_ns + (int64_t)wait_ms * 1000000 < deadline)
        deadline = now_ns + (int64_t)wait_ms * 1000000;
    rpc_loop_timer_arm(server->door.loop, &server->timer, deadline, take_turn, server);
}

static void see_sockets(void *context, uint32_t events) {
    (void)events;
    take_turn(context);
}

static void want_turn(struct http_door *door) {
    struct http_server *server = (struct http_server *)door;
    rpc_loop_task_defer(door->loop, &server->turn, take_turn, server);
}

/* ---- connections and requests ---- */

static enum MHD_Result admit(void *context, const struct sockaddr *address, socklen_t size) {
    struct http_server *server = context;
    (void)address, (void)size;
    return http_places_admit(&server->places, clock_now_ns()) ? MHD_YES : MHD_NO;
}

static void see_connection(void *context, struct MHD_Connection *connection, void **place,
                           enum MHD_ConnectionNotificationCode what) {
    struct http_server *server = context;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        http_places_close(&server->places, *place);
        *place = NULL;
        return;
    }
    int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    *place = http_places_open(&server->places, fd, clock_now_ns());
    if (server->pem[2] != NULL && !http_tls_require(connection))
        shutdown(fd, SHUT_RDWR);
}

static void move_place(struct http_server *server, struct MHD_Connection *connection,
                       enum http_place_state state) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info != NULL && info->socket_context != NULL)
        http_places_move(&server->places, info->socket_context, state, clock_now_ns());
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_bytes, void **data) {
    struct http_server *server = context;
    (void)version;
    if (*data != NULL) {
        if (*upload_bytes == 0)
            move_place(server, connection, HTTP_PLACE_BUSY);
        return http_exchange_take(*data, url, method, upload, upload_bytes);
    }
    move_place(server, connection, HTTP_PLACE_READING);
    *data = http_exchange_create(&server->door, connection);
    return *data != NULL ? MHD_YES : MHD_NO;
}

static void forget(void *context, struct MHD_Connection *connection, void **data,
                   enum MHD_RequestTerminationCode why) {
    (void)why;
    http_exchange_destroy(*data);
    *data = NULL;
    move_place(context, connection, HTTP_PLACE_KEPT);
}

/* ---- start and end ---- */

static void log_library(void *context, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void log_library(void *context, const char *format, va_list arguments) {
    char line[256];
    (void)context;
    vsnprintf(line, sizeof line, format, arguments);
    line[strcspn(line, "\n")] = '\0';
    LOG_DEBUG("http: %s", line);
}

static enum status read_pem(const char *path, char **text) {
    FILE *file = fopen(path, "rb");
    char *bytes = malloc(PEM_BYTES_MAX + 1);
    size_t length = file != NULL && bytes != NULL ? fread(bytes, 1, PEM_BYTES_MAX + 1, file) : 0;
    bool good = length > 0 && length <= PEM_BYTES_MAX && ferror(file) == 0;
    if (file != NULL)
        fclose(file);
    if (!good) {
        LOG_ERROR("%s: expected a PEM file that can be read, of at most %d bytes", path,
                  PEM_BYTES_MAX);
        free(bytes);
        return STATUS_IO;
    }
    bytes[length] = '\0';
    *text = bytes;
    return STATUS_OK;
}

static enum status read_certificates(struct http_server *server) {
    const struct http_server_options *options = &server->options;
    if (options->certificate == NULL)
        return STATUS_OK;
    RETURN_IF_ERROR(read_pem(options->certificate, &server->pem[0]));
    RETURN_IF_ERROR(read_pem(options->key, &server->pem[1]));
    return options->authorities != NULL ? read_pem(options->authorities, &server->pem[2])
                                        : STATUS_OK;
}

/* The library's options for TLS, behind each other in `tls` [5]. */
static unsigned fill_tls(const struct http_server *server, struct MHD_OptionItem *tls) {
    tls[0] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    if (server->pem[0] == NULL)
        return 0;
    static char priorities[] = HTTP_TLS_PRIORITIES;
    tls[0] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, server->pem[0]};
    tls[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, server->pem[1]};
    tls[2] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, priorities};
    if (server->pem[2] != NULL)
        tls[3] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, server->pem[2]};
    return MHD_USE_TLS;
}

static enum status watch_daemon(struct http_server *server) {
    const union MHD_DaemonInfo *epoll =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (epoll == NULL) {
        LOG_ERROR("http: the library was built without epoll");
        return STATUS_IO;
    }
    RETURN_IF_ERROR(rpc_loop_watch_add(server->door.loop, &server->watch, epoll->epoll_fd, EPOLLIN,
                                       see_sockets, server));
    want_turn(&server->door);
    return STATUS_OK;
}

/* The socket is the library's from here on. */
static enum status start_daemon(struct http_server *server) {
    const struct http_server_options *options = &server->options;
    struct MHD_OptionItem tls[5] = {{MHD_OPTION_END, 0, NULL}};
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    flags |= fill_tls(server, tls);
    struct rpc_socket_bound *bound = server->options.bound;
    RETURN_IF_ERROR(rpc_socket_listen(bound));
    server->daemon = MHD_start_daemon(
        flags, 0, admit, server, answer, server, MHD_OPTION_EXTERNAL_LOGGER, log_library, NULL,
        MHD_OPTION_LISTEN_SOCKET, bound->fd, MHD_OPTION_NOTIFY_CONNECTION, see_connection, server,
        MHD_OPTION_NOTIFY_COMPLETED, forget, server, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)options->connections_max + CLOSING_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)options->idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (server->daemon == NULL) {
        LOG_ERROR("http: the library cannot serve %s%s", bound->address,
                  server->pem[0] != NULL ? " (or the PEM files make no sense to it)" : "");
        return STATUS_IO;
    }
    bound->is_bound = false;
    return watch_daemon(server);
}

enum status http_server_create(struct rpc_loop *loop, const struct http_server_options *options,
                               const struct http_route *routes, int32_t route_count,
                               struct http_server **server_out) {
    struct http_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        LOG_ERROR("http: cannot take memory for the server");
        return STATUS_NO_MEMORY;
    }
    server->options = *options;
    server->door = (struct http_door){.loop = loop,
                                      .routes = routes,
                                      .route_count = route_count,
                                      .body_bytes_max = options->body_bytes_max,
                                      .all_bodies_bytes_max = options->all_bodies_bytes_max,
                                      .queue_bytes_max = options->queue_bytes_max,
                                      .want_turn = want_turn};
    server->places =
        (struct http_places){.taken_max = options->connections_max,
                             .limit_ns = {[HTTP_PLACE_NEW] = options->silent_s * NS_PER_S,
                                          [HTTP_PLACE_READING] = options->request_s * NS_PER_S,
                                          [HTTP_PLACE_KEPT] = options->idle_s * NS_PER_S}};
    enum status status = read_certificates(server);
    if (status == STATUS_OK)
        status = start_daemon(server);
    if (status != STATUS_OK) {
        http_server_destroy(server);
        return status;
    }
    *server_out = server;
    return STATUS_OK;
}

void http_server_destroy(struct http_server *server) {
    if (server == NULL)
        return;
    http_exchange_end_all(&server->door);
    rpc_loop_watch_remove(server->door.loop, &server->watch);
    rpc_loop_timer_disarm(server->door.loop, &server->timer);
    if (server->daemon != NULL)
        MHD_stop_daemon(server->daemon);
    rpc_loop_task_cancel(server->door.loop, &server->turn);
    for (int i = 0; i < 3; i++)
        free(server->pem[i]);
    free(server);
}

bool http_server_is_idle(const struct http_server *server) {
    return server->door.exchange_count == 0;
}
