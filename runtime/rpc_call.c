/* A call as its service uses it (rpc_call.h), and its birth and end. */
#include "runtime/rpc_call.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "runtime/rpc_call_state.h"
#include "runtime/rpc_response.h"

#define NS_PER_MS INT64_C(1000000)

struct rpc_call *rpc_call_create(struct rpc_http2 *session, int32_t stream_id) {
    struct rpc_call *call = calloc(1, sizeof(*call));
    if (call == NULL)
        return NULL;
    const struct rpc_server_options *options = &session->door->options;
    call->session = session;
    call->stream_id = stream_id;
    call->deadline_ns = RPC_LOOP_NEVER;
    call->deframer.bytes_max = (size_t)options->message_bytes_max;
    rpc_arena_init(&call->arena, (size_t)options->arena_bytes_max);
    call->next = session->calls;
    if (call->next != NULL)
        call->next->previous = call;
    session->calls = call;
    session->call_count++;
    session->door->stats.calls++;
    session->door->stats.calls_total++;
    return call;
}

static void unlink_call(struct rpc_call *call) {
    if (call->previous != NULL)
        call->previous->next = call->next;
    else
        call->session->calls = call->next;
    if (call->next != NULL)
        call->next->previous = call->previous;
    call->session->call_count--;
    call->session->door->stats.calls--;
}

void rpc_call_destroy(struct rpc_call *call, enum rpc_code reason) {
    struct rpc_loop *loop = call->session->door->loop;
    rpc_loop_timer_disarm(loop, &call->deadline_timer);
    rpc_loop_timer_disarm(loop, &call->patience_timer);
    rpc_loop_task_cancel(loop, &call->writable_task);
    if (call->is_live) {
        call->is_live = false;
        call->is_over = true;
        if (call->method->on_cancel != NULL)
            call->method->on_cancel(call->method->context, call, reason);
    }
    unlink_call(call);
    call->session->door->buffered_bytes -= call->held_bytes;
    for (size_t i = 0; i < call->header_count; i++)
        free(call->headers[i]);
    for (size_t i = 0; i < call->trailer_count; i++)
        free(call->trailers[i]);
    free(call->message);
    rpc_buffer_deinit(&call->metadata);
    rpc_buffer_deinit(&call->queue);
    rpc_deframer_deinit(&call->deframer);
    rpc_arena_deinit(&call->arena);
    free(call);
}

void rpc_call_set_data(struct rpc_call *call, void *data) {
    call->data = data;
}

void *rpc_call_data(const struct rpc_call *call) {
    return call->data;
}

int64_t rpc_call_deadline_ns(const struct rpc_call *call) {
    return call->deadline_ns;
}

const char *rpc_call_client(const struct rpc_call *call) {
    return call->client[0] != 0 ? call->client : call->session->client;
}

struct rpc_arena *rpc_call_arena(struct rpc_call *call) {
    return &call->arena;
}

const char *rpc_call_metadata(const struct rpc_call *call, const char *name) {
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

/* Whether the queue takes `size` bytes more now. */
static bool is_writable(const struct rpc_call *call, size_t size) {
    size_t queued = rpc_buffer_size(&call->queue);
    if (queued == 0)
        return true;
    size_t limit = (size_t)call->session->door->options.queue_bytes_max;
    return queued < limit && size <= limit - queued;
}

/* The queue has been full for stall_ms. */
static void end_slow_reader(void *context) {
    rpc_response_abort(context, RPC_RESOURCE_EXHAUSTED, "the answer is read too slowly");
}

static void note_refusal(struct rpc_call *call) {
    if (call->was_refused)
        return;
    call->was_refused = true;
    struct rpc_loop *loop = call->session->door->loop;
    rpc_loop_timer_arm(loop, &call->patience_timer,
                       rpc_loop_now_ns(loop) + call->session->door->options.stall_ms * NS_PER_MS,
                       end_slow_reader, call);
}

enum status rpc_call_reserve(struct rpc_call *call, size_t size, uint8_t **data) {
    ASSERT(call->is_live);
    if (size > UINT32_MAX)
        return STATUS_LIMIT;
    if (!is_writable(call, size + RPC_DEFRAMER_PREFIX_BYTES)) {
        note_refusal(call);
        return STATUS_LIMIT;
    }
    uint8_t *room;
    RETURN_IF_ERROR(rpc_buffer_extend(&call->queue, size + RPC_DEFRAMER_PREFIX_BYTES, &room));
    rpc_deframer_write_prefix(size, room);
    *data = room + RPC_DEFRAMER_PREFIX_BYTES;
    call->session->door->stats.messages_sent++;
    rpc_response_send(call);
    return STATUS_OK;
}

enum status rpc_call_send(struct rpc_call *call, const uint8_t *data, size_t size) {
    uint8_t *room;
    RETURN_IF_ERROR(rpc_call_reserve(call, size, &room));
    if (size > 0)
        memcpy(room, data, size);
    return STATUS_OK;
}

void rpc_call_finish(struct rpc_call *call, enum rpc_code code, const char *message) {
    ASSERT(call->is_live);
    rpc_response_finish(call, code, message);
}

void rpc_call_reply(struct rpc_call *call, const uint8_t *data, size_t size) {
    if (rpc_call_send(call, data, size) == STATUS_OK)
        rpc_call_finish(call, RPC_OK, NULL);
    else
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "no room for the answer");
}

static enum status add_pair(char **pairs, size_t *count, const char *name, const char *value) {
    if (*count == RPC_CALL_METADATA_MAX)
        return STATUS_LIMIT;
    size_t name_size = strlen(name) + 1;
    size_t value_size = strlen(value) + 1;
    char *pair = malloc(name_size + value_size);
    if (pair == NULL)
        return STATUS_NO_MEMORY;
    memcpy(pair, name, name_size);
    memcpy(pair + name_size, value, value_size);
    pairs[(*count)++] = pair;
    return STATUS_OK;
}

enum status rpc_call_set_header(struct rpc_call *call, const char *name, const char *value) {
    if (call->has_response)
        return STATUS_LIMIT;
    return add_pair(call->headers, &call->header_count, name, value);
}

enum status rpc_call_set_trailer(struct rpc_call *call, const char *name, const char *value) {
    return add_pair(call->trailers, &call->trailer_count, name, value);
}
