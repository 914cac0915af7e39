/* The way out of a call: response headers once, the queue as DATA frames whenever nghttp2 may send,
 * trailers with the status last. A call that ends without a message is one HEADERS frame
 * ("trailers only"). */
#include "runtime/rpc_response.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/rpc_call_state.h"
#include "runtime/rpc_text.h"

#define NS_PER_MS INT64_C(1000000)
#define FIXED_HEADERS 3
#define STATUS_TRAILERS 2
#define PAIRS_MAX (FIXED_HEADERS + STATUS_TRAILERS + 2 * RPC_CALL_METADATA_MAX)
#define MESSAGE_BYTES_MAX 1024 /* of a status message as it travels */
#define UPLOAD_GRACE_NS (1000 * NS_PER_MS)
#define UPLOAD_BYTES_MAX (64 * 1024) /* of a request that was answered before its end */
#define DRAIN_BYTES_PER_MS 16        /* a finished call's queue must leave at least this fast */

/* Header fields to send; nghttp2 copies them. */
struct fields {
    nghttp2_nv list[PAIRS_MAX];
    size_t count;
    char code[4];
};

static void add_field(struct fields *fields, const char *name, const char *value) {
    ASSERT(fields->count < PAIRS_MAX);
    fields->list[fields->count++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                                                 .value = (uint8_t *)(uintptr_t)value,
                                                 .namelen = strlen(name),
                                                 .valuelen = strlen(value)};
}

static void add_pairs(struct fields *fields, char *const *pairs, size_t count) {
    for (size_t i = 0; i < count; i++)
        add_field(fields, pairs[i], pairs[i] + strlen(pairs[i]) + 1);
}

static void add_headers(struct fields *fields, const struct rpc_call *call) {
    add_field(fields, ":status", "200");
    add_field(fields, "content-type", "application/grpc");
    add_field(fields, "grpc-accept-encoding", "identity");
    add_pairs(fields, call->headers, call->header_count);
}

static void add_trailers(struct fields *fields, const struct rpc_call *call) {
    snprintf(fields->code, sizeof(fields->code), "%u", (unsigned)call->code % 100);
    add_field(fields, "grpc-status", fields->code);
    if (call->message != NULL)
        add_field(fields, "grpc-message", call->message);
    add_pairs(fields, call->trailers, call->trailer_count);
}

/* nghttp2 could not take something: only for lack of memory. The stream is given up. */
static void check_submitted(struct rpc_call *call, int result) {
    if (result < 0) {
        LOG_WARN("answer of a call: %s", nghttp2_strerror(result));
        nghttp2_submit_rst_stream(call->session->nghttp2, NGHTTP2_FLAG_NONE, call->stream_id,
                                  NGHTTP2_INTERNAL_ERROR);
    }
}

static void submit_trailers(struct rpc_call *call) {
    struct fields fields = {.count = 0};
    add_trailers(&fields, call);
    call->has_trailers = true;
    check_submitted(call, nghttp2_submit_trailer(call->session->nghttp2, call->stream_id,
                                                 fields.list, fields.count));
}

static void tell_writable(void *context) {
    struct rpc_call *call = context;
    if (call->is_live && call->method->on_writable != NULL)
        call->method->on_writable(call->method->context, call);
}

/* After bytes have left the queue: a service that was refused may go on at half. */
static void note_progress(struct rpc_call *call) {
    struct rpc_door *door = call->session->door;
    if (!call->was_refused || call->is_over ||
        rpc_buffer_size(&call->queue) > (size_t)door->options.queue_bytes_max / 2)
        return;
    call->was_refused = false;
    rpc_loop_timer_disarm(door->loop, &call->patience_timer);
    rpc_loop_task_defer(door->loop, &call->writable_task, tell_writable, call);
}

/* nghttp2 asks for bytes of a stream. */
static ssize_t read_queue(nghttp2_session *nghttp2, int32_t stream_id, uint8_t *out, size_t size,
                          uint32_t *flags, nghttp2_data_source *source, void *context) {
    (void)nghttp2;
    (void)stream_id;
    (void)context;
    struct rpc_call *call = source->ptr;
    size_t queued = rpc_buffer_size(&call->queue);
    size_t count = queued < size ? queued : size;
    if ((count == 0 && !call->is_over) || call->has_trailers) {
        call->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (count > 0) {
        memcpy(out, rpc_buffer_head(&call->queue), count);
        rpc_buffer_consume(&call->queue, count);
        note_progress(call);
    }
    if (count == queued && call->is_over) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        submit_trailers(call);
    }
    return (ssize_t)count;
}

static void submit_headers(struct rpc_call *call) {
    struct fields fields = {.count = 0};
    add_headers(&fields, call);
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_queue};
    call->has_response = true;
    check_submitted(call, nghttp2_submit_response(call->session->nghttp2, call->stream_id,
                                                  fields.list, fields.count, &provider));
}

static void submit_trailers_only(struct rpc_call *call) {
    struct fields fields = {.count = 0};
    add_headers(&fields, call);
    add_trailers(&fields, call);
    call->has_response = call->has_trailers = true;
    check_submitted(call, nghttp2_submit_response(call->session->nghttp2, call->stream_id,
                                                  fields.list, fields.count, NULL));
}

static void announce(struct rpc_call *call) {
    call->session->on_output(call->session->context);
}

void rpc_response_send(struct rpc_call *call) {
    if (!call->has_response) {
        submit_headers(call);
    } else if (call->is_deferred) {
        call->is_deferred = false;
        nghttp2_session_resume_data(call->session->nghttp2, call->stream_id);
    }
    announce(call);
}

static void set_status(struct rpc_call *call, enum rpc_code code, const char *text) {
    call->is_live = false;
    call->is_over = true;
    call->code = code;
    rpc_loop_timer_disarm(call->session->door->loop, &call->deadline_timer);
    rpc_loop_timer_disarm(call->session->door->loop, &call->patience_timer);
    if (text == NULL || text[0] == 0)
        return;
    char encoded[MESSAGE_BYTES_MAX];
    size_t length = rpc_text_encode_message(text, encoded, sizeof(encoded));
    call->message = malloc(length + 1); /* without memory it goes without words */
    if (call->message != NULL)
        memcpy(call->message, encoded, length + 1);
}

/* A finished call's rest has not been taken in time. */
static void give_up_rest(void *context) {
    struct rpc_call *call = context;
    rpc_buffer_deinit(&call->queue);
    nghttp2_submit_rst_stream(call->session->nghttp2, NGHTTP2_FLAG_NONE, call->stream_id,
                              NGHTTP2_CANCEL);
    announce(call);
}

void rpc_response_finish(struct rpc_call *call, enum rpc_code code, const char *text) {
    struct rpc_loop *loop = call->session->door->loop;
    set_status(call, code, text);
    size_t queued = rpc_buffer_size(&call->queue);
    if (!call->has_response) {
        submit_trailers_only(call);
        announce(call);
        return;
    }
    rpc_response_send(call);
    int64_t rest_ms = call->session->door->options.stall_ms + (int64_t)queued / DRAIN_BYTES_PER_MS;
    rpc_loop_timer_arm(loop, &call->patience_timer, rpc_loop_now_ns(loop) + rest_ms * NS_PER_MS,
                       give_up_rest, call);
}

void rpc_response_abort(struct rpc_call *call, enum rpc_code code, const char *text) {
    if (call->is_over)
        return;
    bool was_live = call->is_live;
    set_status(call, code, text);
    if (was_live && call->method->on_cancel != NULL)
        call->method->on_cancel(call->method->context, call, code);
    rpc_buffer_deinit(&call->queue);
    /* Trailers do not wait for the DATA before them, which flow control may hold for ever. */
    if (call->has_response)
        submit_trailers(call);
    else
        submit_trailers_only(call);
    announce(call);
}

void rpc_response_refuse(struct rpc_call *call, const char *http_status) {
    struct fields fields = {.count = 0};
    call->is_over = call->has_response = call->has_trailers = true;
    add_field(&fields, ":status", http_status);
    if (strcmp(http_status, "405") == 0)
        add_field(&fields, "allow", "POST");
    check_submitted(call, nghttp2_submit_response(call->session->nghttp2, call->stream_id,
                                                  fields.list, fields.count, NULL));
    announce(call);
}

/* NO_ERROR: the answer stands (RFC 9113, 8.1). Some clients throw it away nevertheless, which is
 * why this waits a moment. */
static void stop_upload(void *context) {
    struct rpc_call *call = context;
    nghttp2_submit_rst_stream(call->session->nghttp2, NGHTTP2_FLAG_NONE, call->stream_id,
                              NGHTTP2_NO_ERROR);
    announce(call);
}

/* Once, when the answer has been sent (a reset before that would overtake it) and too much comes.
 */
static void check_upload(struct rpc_call *call) {
    if (!call->is_sent || call->is_stopped || call->discarded <= UPLOAD_BYTES_MAX)
        return;
    call->is_stopped = true;
    stop_upload(call);
}

void rpc_response_sent(struct rpc_call *call) {
    if (call->has_ended)
        return;
    struct rpc_loop *loop = call->session->door->loop;
    call->is_sent = true;
    rpc_loop_timer_arm(loop, &call->patience_timer, rpc_loop_now_ns(loop) + UPLOAD_GRACE_NS,
                       stop_upload, call);
    check_upload(call);
}

void rpc_response_discard(struct rpc_call *call, size_t size) {
    call->discarded += (int64_t)size;
    check_upload(call);
}
