/* The way into a call: headers judged (method, content type, token, time limit), messages cut out
 * of the stream and handed to the method. */
#include "runtime/rpc_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/rpc_call_state.h"
#include "runtime/rpc_keys.h"
#include "runtime/rpc_response.h"
#include "runtime/rpc_text.h"

#define NS_PER_MS INT64_C(1000000)
#define HEADER_OVERHEAD 32 /* RFC 9113, 6.5.2 */

bool rpc_request_add_header(struct rpc_call *call, const uint8_t *name, size_t name_size,
                            const uint8_t *value, size_t value_size) {
    call->header_bytes += (int64_t)(name_size + value_size + HEADER_OVERHEAD);
    if (call->header_bytes > call->session->door->options.header_bytes_max)
        return true; /* rpc_request_begin refuses the call */
    uint8_t *room;
    if (rpc_buffer_extend(&call->metadata, name_size + value_size + 2, &room) != STATUS_OK)
        return false;
    memcpy(room, name, name_size);
    room[name_size] = 0;
    memcpy(room + name_size + 1, value, value_size);
    room[name_size + 1 + value_size] = 0;
    return true;
}

static int compare_path(const void *path, const void *method) {
    return strcmp(path, (*(struct rpc_method *const *)method)->path);
}

static const struct rpc_method *find_method(const struct rpc_door *door, const char *path) {
    struct rpc_method **found =
        bsearch(path, door->methods, door->method_count, sizeof(struct rpc_method *), compare_path);
    return found != NULL ? *found : NULL;
}

static void end_at_deadline(void *context) {
    rpc_response_abort(context, RPC_DEADLINE_EXCEEDED, "deadline exceeded");
}

static void end_unfinished_request(void *context) {
    rpc_response_abort(context, RPC_DEADLINE_EXCEEDED, "the request did not come in time");
}

/* false: the call has been refused. */
static bool arm_timers(struct rpc_call *call) {
    struct rpc_door *door = call->session->door;
    int64_t now_ns = rpc_loop_now_ns(door->loop);
    const char *timeout = rpc_call_metadata(call, "grpc-timeout");
    if (timeout != NULL) {
        int64_t timeout_ns;
        if (!rpc_text_parse_timeout(timeout, &timeout_ns)) {
            rpc_response_abort(call, RPC_INVALID_ARGUMENT,
                               "grpc-timeout: expected 1 to 8 digits and a unit of HMSmun");
            return false;
        }
        call->deadline_ns = now_ns + timeout_ns;
        rpc_loop_timer_arm(door->loop, &call->deadline_timer, call->deadline_ns, end_at_deadline,
                           call);
    }
    if (!call->method->streams_requests)
        rpc_loop_timer_arm(door->loop, &call->patience_timer,
                           now_ns + door->options.request_ms * NS_PER_MS, end_unfinished_request,
                           call);
    return true;
}

static bool is_authorized(struct rpc_call *call) {
    const struct rpc_keys *keys = call->session->door->options.keys;
    if (keys == NULL)
        return true;
    int32_t key = rpc_keys_find(keys, rpc_call_metadata(call, "authorization"));
    if (key > 0)
        snprintf(call->client, sizeof(call->client), "key:%d", key);
    return key > 0 || call->method->is_open;
}

void rpc_request_begin(struct rpc_call *call) {
    const struct rpc_door *door = call->session->door;
    if (call->header_bytes > door->options.header_bytes_max) {
        rpc_response_abort(call, RPC_RESOURCE_EXHAUSTED, "the request's metadata is too large");
        return;
    }
    const char *http_method = rpc_call_metadata(call, ":method");
    const char *type = rpc_call_metadata(call, "content-type");
    const char *path = rpc_call_metadata(call, ":path");
    if (http_method == NULL || strcmp(http_method, "POST") != 0) {
        rpc_response_refuse(call, "405");
        return;
    }
    if (type == NULL || !rpc_text_is_grpc(type)) {
        rpc_response_refuse(call, "415");
        return;
    }
    call->method = path != NULL ? find_method(door, path) : NULL;
    if (call->method == NULL)
        rpc_response_abort(call, RPC_UNIMPLEMENTED, "unknown service or method");
    else if (!is_authorized(call))
        rpc_response_abort(call, RPC_UNAUTHENTICATED,
                           "expected a valid \"authorization: Bearer KEY\"");
    else
        arm_timers(call);
}

/* Hands a message to the method. */
static void deliver(struct rpc_call *call, const uint8_t *message, size_t size) {
    if (call->has_message && !call->method->streams_requests) {
        rpc_response_abort(call, RPC_INTERNAL, "expected one request message, got more");
        return;
    }
    if (call->has_message)
        rpc_arena_reset(&call->arena);
    call->has_message = call->is_live = true;
    if (!call->method->streams_requests)
        rpc_loop_timer_disarm(call->session->door->loop, &call->patience_timer);
    call->method->on_message(call->method->context, call, message, size);
}

/* The deframer cannot go on. */
static void refuse_message(struct rpc_call *call, enum rpc_deframer_event event) {
    if (event == RPC_DEFRAMER_TOO_LARGE) {
        char text[96];
        snprintf(text, sizeof(text), "expected a message of at most %lld bytes, got %zu",
                 (long long)call->deframer.bytes_max, call->deframer.message_size);
        rpc_response_abort(call, RPC_RESOURCE_EXHAUSTED, text);
    } else if (event == RPC_DEFRAMER_COMPRESSED && rpc_call_metadata(call, "grpc-encoding")) {
        rpc_response_abort(call, RPC_UNIMPLEMENTED, "compressed messages are not supported");
    } else if (event == RPC_DEFRAMER_NO_MEMORY) {
        rpc_response_abort(call, RPC_RESOURCE_EXHAUSTED, "no memory for the request");
    } else {
        rpc_response_abort(call, RPC_INTERNAL, "a message's prefix makes no sense");
    }
}

/* Counts what the call holds of an unfinished message among what the whole server holds. */
static void account_held(struct rpc_call *call) {
    struct rpc_door *door = call->session->door;
    int64_t held = (int64_t)rpc_deframer_held(&call->deframer);
    door->buffered_bytes += held - call->held_bytes;
    call->held_bytes = held;
    if (held > 0 && door->buffered_bytes > door->options.buffer_bytes_max)
        rpc_response_abort(call, RPC_RESOURCE_EXHAUSTED,
                           "too many unfinished requests, try again later");
}

static void drop_request(struct rpc_call *call) {
    rpc_deframer_deinit(&call->deframer);
    call->session->door->buffered_bytes -= call->held_bytes;
    call->held_bytes = 0;
}

void rpc_request_receive(struct rpc_call *call, const uint8_t *data, size_t size) {
    if (call->is_over) {
        rpc_response_discard(call, size);
        return;
    }
    size_t at = 0;
    while (!call->is_over) {
        const uint8_t *message;
        size_t message_size;
        enum rpc_deframer_event event =
            rpc_deframer_next(&call->deframer, data, size, &at, &message, &message_size);
        if (event == RPC_DEFRAMER_MORE)
            break;
        if (event == RPC_DEFRAMER_MESSAGE)
            deliver(call, message, message_size);
        else
            refuse_message(call, event);
    }
    if (!call->is_over)
        account_held(call);
    if (call->is_over)
        drop_request(call);
}

void rpc_request_end(struct rpc_call *call) {
    call->has_ended = true;
    if (call->is_over)
        return;
    if (call->deframer.prefix_count > 0 ||
        (!call->has_message && !call->method->streams_requests)) {
        rpc_response_abort(call, RPC_INTERNAL, "the request ends before its message does");
        return;
    }
    call->is_live = true;
    if (call->method->streams_requests && call->method->on_end != NULL)
        call->method->on_end(call->method->context, call);
}
