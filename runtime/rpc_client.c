/* A client's connection: made when a call wants it, shared by all its calls, made again after it
 * was lost. */
#define _GNU_SOURCE
#include "runtime/rpc_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/rpc_client_state.h"

#define NS_PER_MS INT64_C(1000000)
#define TICK_NS (100 * NS_PER_MS)
#define STREAM_WINDOW_BYTES (1024 * 1024)
#define CONNECTION_WINDOW_BYTES (16 * 1024 * 1024)

static void connect_next(struct rpc_client *client);

/* ---- nghttp2's callbacks ---- */

static struct rpc_client_call *call_of(nghttp2_session *nghttp2, int32_t stream_id) {
    return stream_id == 0 ? NULL : nghttp2_session_get_stream_user_data(nghttp2, stream_id);
}

static int on_header(nghttp2_session *nghttp2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context) {
    (void)flags;
    (void)context;
    struct rpc_client_call *call = call_of(nghttp2, frame->hd.stream_id);
    if (call != NULL)
        rpc_client_call_add_metadata(call, name, name_size, value, value_size);
    return 0;
}

static int on_data(nghttp2_session *nghttp2, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t size, void *context) {
    (void)flags;
    (void)context;
    struct rpc_client_call *call = call_of(nghttp2, stream_id);
    if (call != NULL)
        rpc_client_call_receive(call, data, size);
    return 0;
}

static int on_frame(nghttp2_session *nghttp2, const nghttp2_frame *frame, void *context) {
    (void)nghttp2;
    struct rpc_client *client = context;
    client->is_established = true; /* the first frame is the server's SETTINGS, by protocol */
    if (frame->hd.type == NGHTTP2_GOAWAY)
        client->is_going = true;
    return 0;
}

static int on_stream_close(nghttp2_session *nghttp2, int32_t stream_id, uint32_t error,
                           void *context) {
    (void)context;
    struct rpc_client_call *call = call_of(nghttp2, stream_id);
    if (call != NULL) {
        nghttp2_session_set_stream_user_data(nghttp2, stream_id, NULL);
        rpc_client_call_close(call, error);
    }
    return 0;
}

static enum status open_nghttp2(struct rpc_client *client) {
    nghttp2_session_callbacks *callbacks = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return STATUS_NO_MEMORY;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    int result = nghttp2_session_client_new(&client->nghttp2, callbacks, client);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
    };
    if (result == 0)
        result = nghttp2_submit_settings(client->nghttp2, NGHTTP2_FLAG_NONE, settings, 2);
    if (result == 0)
        result = nghttp2_session_set_local_window_size(client->nghttp2, NGHTTP2_FLAG_NONE, 0,
                                                       CONNECTION_WINDOW_BYTES);
    return result == 0 ? STATUS_OK : STATUS_NO_MEMORY;
}

/* ---- the pipe's owner ---- */

static void submit_waiting(struct rpc_client *client) {
    for (struct rpc_client_call *call = client->calls; call != NULL; call = call->next)
        if (call->stream_id == 0 && !call->is_over)
            rpc_client_call_submit(call);
}

static void on_open(void *context) {
    struct rpc_client *client = context;
    if (open_nghttp2(client) != STATUS_OK) {
        client->is_broken = true;
        return;
    }
    submit_waiting(client);
}

static bool receive(void *context, const uint8_t *data, size_t size) {
    struct rpc_client *client = context;
    client->ping_ns = 0;
    if (client->nghttp2 == NULL || client->is_broken)
        return false;
    if (nghttp2_session_mem_recv(client->nghttp2, data, size) < 0)
        client->is_broken = true;
    return !client->is_broken;
}

static size_t output(void *context, const uint8_t **data) {
    struct rpc_client *client = context;
    if (client->nghttp2 == NULL)
        return 0;
    ssize_t size = nghttp2_session_mem_send(client->nghttp2, data);
    if (size < 0)
        client->is_broken = true;
    return size > 0 ? (size_t)size : 0;
}

static bool is_done(void *context) {
    struct rpc_client *client = context;
    return client->is_broken || (nghttp2_session_want_read(client->nghttp2) == 0 &&
                                 nghttp2_session_want_write(client->nghttp2) == 0);
}

/* Ends the calls that the lost connection carried, or all of them. */
static void end_calls(struct rpc_client *client, bool also_waiting) {
    for (struct rpc_client_call *call = client->calls; call != NULL; call = call->next) {
        if (call->stream_id == 0 && !also_waiting)
            continue;
        call->stream_id = 0; /* there is no stream any more to leave */
        rpc_client_call_end(call, RPC_UNAVAILABLE, client->reason);
    }
}

static bool has_waiting(const struct rpc_client *client) {
    for (const struct rpc_client_call *call = client->calls; call != NULL; call = call->next)
        if (call->stream_id == 0 && !call->is_over)
            return true;
    return false;
}

static void disconnect(struct rpc_client *client) {
    rpc_loop_timer_disarm(client->loop, &client->tick);
    rpc_pipe_close(&client->pipe);
    nghttp2_session_del(client->nghttp2);
    client->nghttp2 = NULL;
    client->has_pipe = client->is_established = client->is_going = client->is_broken = false;
    client->ping_ns = 0;
}

static void on_closed(void *context, const char *reason) {
    struct rpc_client *client = context;
    bool was_connected = client->nghttp2 != NULL;
    bool was_going = client->is_going;
    disconnect(client);
    snprintf(client->reason, sizeof(client->reason), "%s: %s", client->address, reason);
    if (!was_connected) {
        connect_next(client); /* the next of the host's addresses, or the end */
        return;
    }
    end_calls(client, !was_going);
    client->next_address = 0;
    if (has_waiting(client))
        connect_next(client);
}

static bool lingers(void *context) {
    (void)context;
    return false; /* nothing more is expected */
}

static const struct rpc_pipe_owner owner = {.on_open = on_open,
                                            .receive = receive,
                                            .output = output,
                                            .is_done = is_done,
                                            .lingers = lingers,
                                            .on_closed = on_closed};

/* ---- clocks ---- */

static void look_at_clocks(void *context) {
    struct rpc_client *client = context;
    const struct rpc_client_options *options = &client->options;
    int64_t now_ns = rpc_loop_now_ns(client->loop);
    if (!client->is_established) {
        if (now_ns - client->started_ns > options->connect_ms * NS_PER_MS) {
            on_closed(client, client->nghttp2 == NULL ? "no connection in time"
                                                      : "no word of HTTP/2 in time");
            return;
        }
    } else if (client->ping_ns > 0) {
        if (now_ns - client->ping_ns > options->keepalive_timeout_ms * NS_PER_MS) {
            on_closed(client, "no answer to a keepalive ping");
            return;
        }
    } else if (client->call_count > 0 &&
               now_ns - client->pipe.last_received_ns > options->keepalive_ms * NS_PER_MS) {
        client->ping_ns = now_ns;
        nghttp2_submit_ping(client->nghttp2, NGHTTP2_FLAG_NONE, NULL);
        rpc_pipe_flush_later(&client->pipe);
    }
    rpc_loop_timer_arm(client->loop, &client->tick, now_ns + TICK_NS, look_at_clocks, client);
}

/* ---- connecting ---- */

static void fail_waiting(void *context) {
    struct rpc_client *client = context;
    client->next_address = 0;
    end_calls(client, true);
}

/* Tries the addresses from next_address on; behind the last one all calls fail. */
static void connect_next(struct rpc_client *client) {
    while (client->next_address < client->addresses.count) {
        int fd = -1;
        if (rpc_socket_connect(&client->addresses, client->next_address++, &fd) != STATUS_OK) {
            snprintf(client->reason, sizeof(client->reason), "%s: cannot connect", client->address);
            continue;
        }
        client->pipe = (struct rpc_pipe){.loop = client->loop, .owner = &owner, .context = client};
        if (rpc_pipe_open(&client->pipe, fd, true, client->options.tls, client->addresses.host) !=
            STATUS_OK)
            continue;
        client->has_pipe = true;
        client->started_ns = rpc_loop_now_ns(client->loop);
        rpc_loop_timer_arm(client->loop, &client->tick, client->started_ns + TICK_NS,
                           look_at_clocks, client);
        return;
    }
    rpc_loop_task_defer(client->loop, &client->fail_task, fail_waiting, client);
}

void rpc_client_options_default(struct rpc_client_options *options) {
    *options = (struct rpc_client_options){.connect_ms = 10000,
                                           .keepalive_ms = 60000,
                                           .keepalive_timeout_ms = 20000,
                                           .message_bytes_max = INT64_C(64) << 20};
}

enum status rpc_client_create(struct rpc_loop *loop, const struct rpc_client_options *options,
                              struct rpc_client **client) {
    struct rpc_client *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->loop = loop;
    made->options = *options;
    made->address = strdup(options->address);
    bool has_memory = made->address != NULL;
    if (options->token != NULL && asprintf(&made->authorization, "Bearer %s", options->token) < 0) {
        made->authorization = NULL;
        has_memory = false;
    }
    enum status status = has_memory ? rpc_socket_resolve(options->address, false, &made->addresses)
                                    : STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        *client = made;
    else
        rpc_client_destroy(made);
    return status;
}

void rpc_client_destroy(struct rpc_client *client) {
    if (client == NULL)
        return;
    rpc_loop_task_cancel(client->loop, &client->fail_task);
    disconnect(client);
    while (client->calls != NULL)
        rpc_client_call_destroy(client->calls);
    free(client->address);
    free(client->authorization);
    free(client);
}

/* ---- calls ---- */

static void end_at_deadline(void *context) {
    rpc_client_call_end(context, RPC_DEADLINE_EXCEEDED, "deadline exceeded");
}

static enum status copy_request(struct rpc_client_call *call,
                                const struct rpc_client_request *request) {
    uint8_t prefix[RPC_DEFRAMER_PREFIX_BYTES];
    rpc_deframer_write_prefix(request->message_size, prefix);
    RETURN_IF_ERROR(rpc_buffer_append(&call->request, prefix, sizeof(prefix)));
    RETURN_IF_ERROR(rpc_buffer_append(&call->request, request->message, request->message_size));
    for (size_t i = 0; i < request->metadata_count; i++) {
        const struct rpc_client_metadata *pair = &request->metadata[i];
        RETURN_IF_ERROR(rpc_buffer_append(&call->sent, pair->name, strlen(pair->name) + 1));
        RETURN_IF_ERROR(rpc_buffer_append(&call->sent, pair->value, strlen(pair->value) + 1));
    }
    call->path = strdup(request->path);
    return call->path != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

static void join(struct rpc_client *client, struct rpc_client_call *call) {
    call->client = client;
    call->previous = client->last_call;
    if (call->previous != NULL)
        call->previous->next = call;
    else
        client->calls = call;
    client->last_call = call;
    client->call_count++;
}

enum status rpc_client_call(struct rpc_client *client, const struct rpc_client_request *request,
                            struct rpc_client_call **call) {
    ASSERT(request->on_finish != NULL && request->message_size <= UINT32_MAX);
    struct rpc_client_call *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    join(client, made);
    made->context = request->context;
    made->on_message = request->on_message;
    made->on_finish = request->on_finish;
    made->deadline_ns = request->deadline_ns;
    made->deframer.bytes_max = (size_t)client->options.message_bytes_max;
    enum status status = copy_request(made, request);
    if (status != STATUS_OK) {
        rpc_client_call_destroy(made);
        return status;
    }
    rpc_loop_timer_arm(client->loop, &made->deadline_timer, made->deadline_ns, end_at_deadline,
                       made);
    if (client->nghttp2 != NULL && !client->is_going)
        rpc_client_call_submit(made);
    else if (!client->has_pipe && !client->fail_task.is_deferred)
        connect_next(client);
    *call = made;
    return STATUS_OK;
}
