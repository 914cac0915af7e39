/* One call of a client: request headers and message out, headers, messages and status in. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/rpc_client_state.h"
#include "runtime/rpc_text.h"

#define FIELDS_MAX 64
#define METADATA_BYTES_MAX (64 * 1024) /* of an answer; more is dropped */

/* ---- out ---- */

static ssize_t read_request(nghttp2_session *nghttp2, int32_t stream_id, uint8_t *out, size_t size,
                            uint32_t *flags, nghttp2_data_source *source, void *context) {
    (void)source;
    (void)context;
    struct rpc_client_call *call = nghttp2_session_get_stream_user_data(nghttp2, stream_id);
    if (call == NULL) /* it has ended on this side: the stream is being reset */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t left = rpc_buffer_size(&call->request);
    size_t count = left < size ? left : size;
    memcpy(out, rpc_buffer_head(&call->request), count);
    rpc_buffer_consume(&call->request, count);
    if (count == left)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)count;
}

static nghttp2_nv field(const char *name, const char *value) {
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value)};
}

/* The request's headers, into `fields`; returns their count. `timeout` is kept by pointer. */
static size_t make_fields(const struct rpc_client_call *call, const char *timeout,
                          nghttp2_nv fields[FIELDS_MAX]) {
    const struct rpc_client *client = call->client;
    bool is_unix = strncmp(client->address, "unix:", 5) == 0;
    size_t count = 0;
    fields[count++] = field(":method", "POST");
    fields[count++] = field(":scheme", client->options.tls != NULL ? "https" : "http");
    fields[count++] = field(":path", call->path);
    fields[count++] = field(":authority", is_unix ? "localhost" : client->address);
    fields[count++] = field("te", "trailers");
    fields[count++] = field("content-type", "application/grpc");
    fields[count++] = field("user-agent", "moebius");
    fields[count++] = field("grpc-accept-encoding", "identity");
    if (timeout[0] != 0)
        fields[count++] = field("grpc-timeout", timeout);
    if (client->authorization != NULL)
        fields[count++] = field("authorization", client->authorization);
    const char *at = (const char *)rpc_buffer_head(&call->sent);
    const char *end = at != NULL ? at + rpc_buffer_size(&call->sent) : NULL;
    while (at < end && count < FIELDS_MAX) {
        const char *value = at + strlen(at) + 1;
        fields[count++] = field(at, value);
        at = value + strlen(value) + 1;
    }
    return count;
}

void rpc_client_call_submit(struct rpc_client_call *call) {
    struct rpc_client *client = call->client;
    char timeout[RPC_TEXT_TIMEOUT_SIZE] = "";
    if (call->deadline_ns != RPC_LOOP_NEVER)
        rpc_text_format_timeout(call->deadline_ns - rpc_loop_now_ns(client->loop), timeout);
    nghttp2_nv fields[FIELDS_MAX];
    size_t count = make_fields(call, timeout, fields);
    nghttp2_data_provider provider = {.read_callback = read_request};
    int32_t id = nghttp2_submit_request(client->nghttp2, NULL, fields, count, &provider, call);
    if (id < 0) {
        rpc_client_call_end(call, RPC_UNAVAILABLE, nghttp2_strerror(id));
        return;
    }
    call->stream_id = id;
    rpc_pipe_flush_later(&client->pipe);
}

/* ---- the end ---- */

void rpc_client_call_destroy(struct rpc_client_call *call) {
    struct rpc_client *client = call->client;
    rpc_loop_timer_disarm(client->loop, &call->deadline_timer);
    rpc_loop_task_cancel(client->loop, &call->finish_task);
    if (call->previous != NULL)
        call->previous->next = call->next;
    else
        client->calls = call->next;
    if (call->next != NULL)
        call->next->previous = call->previous;
    else
        client->last_call = call->previous;
    client->call_count--;
    rpc_buffer_deinit(&call->request);
    rpc_buffer_deinit(&call->sent);
    rpc_buffer_deinit(&call->metadata);
    rpc_deframer_deinit(&call->deframer);
    free(call->path);
    free(call->message);
    free(call);
}

static void tell_finish(void *context) {
    struct rpc_client_call *call = context;
    call->on_finish(call->context, call, call->code, call->message != NULL ? call->message : "");
    rpc_client_call_destroy(call);
}

/* The stream goes on without us, to its reset. */
static void leave_stream(struct rpc_client_call *call) {
    nghttp2_session *nghttp2 = call->client->nghttp2;
    if (call->stream_id == 0 || nghttp2 == NULL)
        return;
    nghttp2_session_set_stream_user_data(nghttp2, call->stream_id, NULL);
    nghttp2_submit_rst_stream(nghttp2, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
    call->stream_id = 0;
    rpc_pipe_flush_later(&call->client->pipe);
}

void rpc_client_call_end(struct rpc_client_call *call, enum rpc_code code, const char *message) {
    if (call->is_over)
        return;
    call->is_over = true;
    call->code = code;
    if (message != NULL) {
        call->message = strdup(message);
        if (call->message != NULL)
            rpc_text_decode_message(call->message);
    }
    leave_stream(call);
    rpc_loop_timer_disarm(call->client->loop, &call->deadline_timer);
    rpc_loop_task_defer(call->client->loop, &call->finish_task, tell_finish, call);
}

void rpc_client_call_cancel(struct rpc_client_call *call) {
    rpc_client_call_end(call, RPC_CANCELLED, "cancelled by the caller");
}

/* ---- in ---- */

void rpc_client_call_add_metadata(struct rpc_client_call *call, const uint8_t *name,
                                  size_t name_size, const uint8_t *value, size_t value_size) {
    uint8_t *room;
    size_t size = name_size + value_size + 2;
    if (rpc_buffer_size(&call->metadata) + size > METADATA_BYTES_MAX ||
        rpc_buffer_extend(&call->metadata, size, &room) != STATUS_OK)
        return;
    memcpy(room, name, name_size);
    room[name_size] = 0;
    memcpy(room + name_size + 1, value, value_size);
    room[name_size + 1 + value_size] = 0;
}

const char *rpc_client_call_metadata(const struct rpc_client_call *call, const char *name) {
    const char *at = (const char *)rpc_buffer_head(&call->metadata);
    const char *end = at != NULL ? at + rpc_buffer_size(&call->metadata) : NULL;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

void rpc_client_call_receive(struct rpc_client_call *call, const uint8_t *data, size_t size) {
    size_t at = 0;
    while (!call->is_over) {
        const uint8_t *message;
        size_t message_size;
        enum rpc_deframer_event event =
            rpc_deframer_next(&call->deframer, data, size, &at, &message, &message_size);
        if (event == RPC_DEFRAMER_MORE)
            return;
        if (event == RPC_DEFRAMER_MESSAGE) {
            if (call->on_message != NULL)
                call->on_message(call->context, call, message, message_size);
        } else if (event == RPC_DEFRAMER_TOO_LARGE || event == RPC_DEFRAMER_NO_MEMORY) {
            rpc_client_call_end(call, RPC_RESOURCE_EXHAUSTED, "the answer is too large");
        } else {
            rpc_client_call_end(call, RPC_INTERNAL, "the answer is not what was asked for");
        }
    }
}

/* gRPC's table for answers that are HTTP only. */
static enum rpc_code code_of_http(const char *status) {
    static const struct {
        const char *status;
        enum rpc_code code;
    } codes[] = {{"400", RPC_INTERNAL},          {"401", RPC_UNAUTHENTICATED},
                 {"403", RPC_PERMISSION_DENIED}, {"404", RPC_UNIMPLEMENTED},
                 {"429", RPC_UNAVAILABLE},       {"502", RPC_UNAVAILABLE},
                 {"503", RPC_UNAVAILABLE},       {"504", RPC_UNAVAILABLE}};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strcmp(codes[i].status, status) == 0)
            return codes[i].code;
    return RPC_UNKNOWN;
}

/* gRPC's table for streams that were reset. */
static enum rpc_code code_of_reset(uint32_t error) {
    switch (error) {
    case NGHTTP2_REFUSED_STREAM:
        return RPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return RPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return RPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return RPC_PERMISSION_DENIED;
    default:
        return RPC_INTERNAL;
    }
}

void rpc_client_call_close(struct rpc_client_call *call, uint32_t http2_error) {
    call->stream_id = 0;
    const char *status = rpc_client_call_metadata(call, "grpc-status");
    const char *http = rpc_client_call_metadata(call, ":status");
    char text[96];
    if (status != NULL) {
        char *end;
        unsigned long code = strtoul(status, &end, 10);
        bool is_code = end != status && *end == 0 && code < RPC_CODE_COUNT;
        rpc_client_call_end(call, is_code ? (enum rpc_code)code : RPC_UNKNOWN,
                            rpc_client_call_metadata(call, "grpc-message"));
    } else if (http != NULL && strcmp(http, "200") != 0) {
        snprintf(text, sizeof(text), "the server answered HTTP status %.3s", http);
        rpc_client_call_end(call, code_of_http(http), text);
    } else {
        snprintf(text, sizeof(text), "the server ended the call without a status (HTTP/2 error %u)",
                 http2_error);
        rpc_client_call_end(call, code_of_reset(http2_error), text);
    }
}
