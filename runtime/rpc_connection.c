/* A server's side of one connection. A tick, four times in the shortest of the time limits, looks
 * at all clocks: handshake, idleness, a socket that takes nothing, silence while calls run. */
#include "runtime/rpc_connection.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/base/log.h"
#include "runtime/rpc_door.h"
#include "runtime/rpc_http2.h"
#include "runtime/rpc_pipe.h"
#include "runtime/rpc_socket.h"

#define NS_PER_MS INT64_C(1000000)
#define TICK_MS_MIN 10
#define TICK_MS_MAX 5000
#define LINGER_NS (500 * NS_PER_MS)

struct rpc_connection {
    struct rpc_door *door;
    struct rpc_connection_list *list;
    struct rpc_connection *next, *previous;
    struct rpc_pipe pipe;
    struct rpc_http2 *http2; /* NULL: handshake not done */
    struct rpc_loop_timer tick;
    int64_t opened_ns;
    int64_t busy_ns;        /* when there was a call last */
    int64_t ping_ns;        /* when the client was pinged and has been silent since; 0: no */
    int64_t received, sent; /* of the pipe, as far as the door's statistics have them */
    bool is_draining;
    char peer[RPC_SOCKET_TEXT_SIZE], client[RPC_SOCKET_TEXT_SIZE];
};

static void count_bytes(struct rpc_connection *connection) {
    struct rpc_server_stats *stats = &connection->door->stats;
    stats->bytes_received += connection->pipe.received - connection->received;
    stats->bytes_sent += connection->pipe.sent - connection->sent;
    connection->received = connection->pipe.received;
    connection->sent = connection->pipe.sent;
}

void rpc_connection_close(struct rpc_connection *connection) {
    struct rpc_connection_list *list = connection->list;
    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        list->first = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    else
        list->last = connection->previous;
    connection->door->stats.connections--;
    count_bytes(connection);
    rpc_loop_timer_disarm(connection->door->loop, &connection->tick);
    rpc_pipe_close(&connection->pipe);
    rpc_http2_destroy(connection->http2);
    free(connection);
}

/* ---- the pipe's owner ---- */

static void send_later(void *context) {
    struct rpc_connection *connection = context;
    rpc_pipe_flush_later(&connection->pipe);
}

static void on_open(void *context) {
    struct rpc_connection *connection = context;
    char name[128];
    if (rpc_channel_peer_name(&connection->pipe.channel, name, sizeof(name)))
        snprintf(connection->client, sizeof(connection->client), "cert:%s", name);
    /* Without memory there is no session: receive says that this is the end. */
    (void)rpc_http2_create(connection->door, connection->client, send_later, connection,
                           &connection->http2);
    if (connection->http2 != NULL && connection->is_draining)
        rpc_http2_drain(connection->http2);
}

static bool receive(void *context, const uint8_t *data, size_t size) {
    struct rpc_connection *connection = context;
    connection->ping_ns = 0;
    return connection->http2 != NULL && rpc_http2_receive(connection->http2, data, size);
}

static size_t output(void *context, const uint8_t **data) {
    struct rpc_connection *connection = context;
    return connection->http2 != NULL ? rpc_http2_output(connection->http2, data) : 0;
}

static bool is_done(void *context) {
    struct rpc_connection *connection = context;
    count_bytes(connection);
    return connection->http2 == NULL || rpc_http2_is_done(connection->http2);
}

/* Only a polite end: who was told to go away for an error has no time left. */
static bool lingers(void *context) {
    const struct rpc_connection *connection = context;
    return connection->http2 != NULL && rpc_http2_is_drained(connection->http2);
}

static void on_closed(void *context, const char *reason) {
    struct rpc_connection *connection = context;
    LOG_DEBUG("%s: %s", connection->peer, reason);
    rpc_connection_close(connection);
}

static const struct rpc_pipe_owner owner = {.on_open = on_open,
                                            .receive = receive,
                                            .output = output,
                                            .is_done = is_done,
                                            .lingers = lingers,
                                            .on_closed = on_closed};

/* ---- clocks ---- */

static int64_t shorter(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t tick_ns(const struct rpc_server_options *options) {
    int64_t shortest_ms = shorter(shorter(options->handshake_ms, options->idle_ms),
                                  shorter(options->stall_ms, options->keepalive_timeout_ms));
    shortest_ms = shorter(shortest_ms, options->keepalive_ms) / 4;
    if (shortest_ms < TICK_MS_MIN)
        shortest_ms = TICK_MS_MIN;
    return shorter(shortest_ms, TICK_MS_MAX) * NS_PER_MS;
}

/* What a client has outwaited; NULL: nothing. */
static const char *find_overdue(struct rpc_connection *connection, int64_t now_ns) {
    const struct rpc_server_options *options = &connection->door->options;
    const struct rpc_pipe *pipe = &connection->pipe;
    bool is_established = connection->http2 != NULL && rpc_http2_is_established(connection->http2);
    if (!is_established)
        return now_ns - connection->opened_ns > options->handshake_ms * NS_PER_MS
                   ? "no HTTP/2 handshake in time"
                   : NULL;
    if (pipe->is_lingering)
        return now_ns - pipe->last_progress_ns > LINGER_NS ? "not closed by the client" : NULL;
    if (rpc_buffer_size(&pipe->out) > 0 &&
        now_ns - pipe->last_progress_ns > options->stall_ms * NS_PER_MS)
        return "the client takes no bytes";
    if (connection->ping_ns > 0 &&
        now_ns - connection->ping_ns > options->keepalive_timeout_ms * NS_PER_MS)
        return "no answer to a keepalive ping";
    return NULL;
}

static void look_at_clocks(void *context) {
    struct rpc_connection *connection = context;
    const struct rpc_server_options *options = &connection->door->options;
    int64_t now_ns = rpc_loop_now_ns(connection->door->loop);
    const char *overdue = find_overdue(connection, now_ns);
    if (overdue != NULL) {
        on_closed(connection, overdue);
        return;
    }
    if (connection->http2 != NULL) {
        if (rpc_http2_call_count(connection->http2) > 0)
            connection->busy_ns = now_ns;
        else if (now_ns - connection->busy_ns > options->idle_ms * NS_PER_MS)
            rpc_http2_drain(connection->http2);
        if (connection->busy_ns == now_ns && connection->ping_ns == 0 &&
            now_ns - connection->pipe.last_received_ns > options->keepalive_ms * NS_PER_MS) {
            connection->ping_ns = now_ns;
            rpc_http2_ping(connection->http2);
        }
    }
    rpc_loop_timer_arm(connection->door->loop, &connection->tick, now_ns + tick_ns(options),
                       look_at_clocks, connection);
}

/* ---- opening ---- */

static void join(struct rpc_connection *connection) {
    struct rpc_connection_list *list = connection->list;
    connection->previous = list->last;
    if (list->last != NULL)
        list->last->next = connection;
    else
        list->first = connection;
    list->last = connection;
    connection->door->stats.connections++;
    connection->door->stats.connections_total++;
}

enum status rpc_connection_open(struct rpc_door *door, struct rpc_connection_list *list, int fd,
                                const char *peer, const char *host) {
    struct rpc_connection *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        struct rpc_channel channel = {.fd = fd};
        rpc_channel_deinit(&channel);
        return STATUS_NO_MEMORY;
    }
    made->door = door;
    made->list = list;
    made->opened_ns = made->busy_ns = rpc_loop_now_ns(door->loop);
    snprintf(made->peer, sizeof(made->peer), "%s", peer);
    snprintf(made->client, sizeof(made->client), "%s", host);
    made->pipe.loop = door->loop;
    made->pipe.owner = &owner;
    made->pipe.context = made;
    enum status status = rpc_pipe_open(&made->pipe, fd, false, door->options.tls, NULL);
    if (status != STATUS_OK) {
        free(made);
        return status;
    }
    join(made);
    rpc_loop_timer_arm(door->loop, &made->tick, made->opened_ns + tick_ns(&door->options),
                       look_at_clocks, made);
    return STATUS_OK;
}

void rpc_connection_drain_all(struct rpc_connection_list *list) {
    for (struct rpc_connection *one = list->first; one != NULL; one = one->next) {
        one->is_draining = true;
        if (one->http2 != NULL)
            rpc_http2_drain(one->http2);
    }
}

bool rpc_connection_close_silent(struct rpc_connection_list *list) {
    for (struct rpc_connection *one = list->first; one != NULL; one = one->next) {
        if (one->http2 != NULL && rpc_http2_is_established(one->http2))
            continue;
        on_closed(one, "gives way to a new connection");
        return true;
    }
    return false;
}
