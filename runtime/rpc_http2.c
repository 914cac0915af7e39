/* The HTTP/2 session of one connection: nghttp2 parses and writes the frames, this file ties them
 * to calls and keeps count of a client's rudeness.
 *
 * Rudeness: each frame that makes work without bringing a request or data costs patience; patience
 * grows slowly with time and with each frame of data that we send (those the client answers with
 * WINDOW_UPDATE and PING). At the end of it the session ends with ENHANCE_YOUR_CALM. nghttp2 itself
 * limits resets by the client (CVE-2023-44487), CONTINUATION frames, queued PING and SETTINGS
 * acknowledgements and entries of SETTINGS. */
#define _GNU_SOURCE
#include "runtime/rpc_http2.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/rpc_call_state.h"
#include "runtime/rpc_request.h"
#include "runtime/rpc_response.h"

#define NS_PER_S INT64_C(1000000000)
#define STREAM_WINDOW_BYTES (1024 * 1024)
#define CONNECTION_WINDOW_BYTES (4 * 1024 * 1024)
#define PATIENCE_MAX 10000
#define PATIENCE_PER_S 1000
#define PATIENCE_PER_FRAME_SENT 4
#define COST_OF_FRAME 1
#define COST_OF_FAULT 20 /* a frame that made us reset a stream */
#define RESETS_BURST 1000
#define RESETS_PER_S 100
#define CONTINUATIONS_MAX 8

/* ---- patience ---- */

static void spend_patience(struct rpc_http2 *session, int64_t cost) {
    int64_t now_ns = rpc_loop_now_ns(session->door->loop);
    int64_t elapsed_ns = now_ns - session->patience_ns;
    int64_t grown = elapsed_ns >= NS_PER_S * (PATIENCE_MAX / PATIENCE_PER_S)
                        ? PATIENCE_MAX
                        : elapsed_ns * PATIENCE_PER_S / NS_PER_S;
    if (grown > 0) {
        session->patience_ns = now_ns;
        session->patience += grown;
        if (session->patience > PATIENCE_MAX)
            session->patience = PATIENCE_MAX;
    }
    bool was_left = session->patience > 0;
    session->patience -= cost;
    if (was_left && session->patience <= 0)
        nghttp2_session_terminate_session(session->nghttp2, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* ---- nghttp2's callbacks ---- */

static struct rpc_call *call_of(struct rpc_http2 *session, int32_t stream_id) {
    return stream_id == 0 ? NULL
                          : nghttp2_session_get_stream_user_data(session->nghttp2, stream_id);
}

static int on_begin_frame(nghttp2_session *nghttp2, const nghttp2_frame_hd *head, void *context) {
    (void)nghttp2;
    bool is_data = head->type == NGHTTP2_DATA &&
                   (head->length > 0 || (head->flags & NGHTTP2_FLAG_END_STREAM) != 0);
    if (!is_data && head->type != NGHTTP2_HEADERS)
        spend_patience(context, COST_OF_FRAME);
    return 0;
}

static int on_invalid_frame(nghttp2_session *nghttp2, const nghttp2_frame *frame, int error,
                            void *context) {
    (void)nghttp2;
    (void)frame;
    (void)error;
    spend_patience(context, COST_OF_FAULT);
    return 0;
}

static int on_begin_headers(nghttp2_session *nghttp2, const nghttp2_frame *frame, void *context) {
    struct rpc_http2 *session = context;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct rpc_call *call =
        session->is_draining ? NULL : rpc_call_create(session, frame->hd.stream_id);
    if (call == NULL) { /* the client may safely try again elsewhere */
        nghttp2_submit_rst_stream(nghttp2, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    nghttp2_session_set_stream_user_data(nghttp2, frame->hd.stream_id, call);
    return 0;
}

static int on_header(nghttp2_session *nghttp2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context) {
    (void)nghttp2;
    (void)flags;
    struct rpc_call *call = call_of(context, frame->hd.stream_id);
    if (call == NULL || frame->hd.type != NGHTTP2_HEADERS ||
        frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0; /* trailers of a request mean nothing in gRPC */
    return rpc_request_add_header(call, name, name_size, value, value_size)
               ? 0
               : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_data(nghttp2_session *nghttp2, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t size, void *context) {
    (void)nghttp2;
    (void)flags;
    struct rpc_call *call = call_of(context, stream_id);
    if (call != NULL)
        rpc_request_receive(call, data, size);
    return 0;
}

static int on_frame(nghttp2_session *nghttp2, const nghttp2_frame *frame, void *context) {
    (void)nghttp2;
    struct rpc_http2 *session = context;
    if (frame->hd.type == NGHTTP2_SETTINGS) {
        session->is_established = true;
        return 0;
    }
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct rpc_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        rpc_request_begin(call);
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
        rpc_request_end(call);
    return 0;
}

static int on_frame_sent(nghttp2_session *nghttp2, const nghttp2_frame *frame, void *context) {
    (void)nghttp2;
    struct rpc_http2 *session = context;
    bool has_ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)
        session->patience += PATIENCE_PER_FRAME_SENT;
    struct rpc_call *call = call_of(session, frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_HEADERS && has_ended && call != NULL)
        rpc_response_sent(call);
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR)
        spend_patience(session, COST_OF_FAULT);
    return 0;
}

static int on_stream_close(nghttp2_session *nghttp2, int32_t stream_id, uint32_t error,
                           void *context) {
    (void)error;
    struct rpc_call *call = call_of(context, stream_id);
    if (call == NULL)
        return 0;
    nghttp2_session_set_stream_user_data(nghttp2, stream_id, NULL);
    rpc_call_destroy(call, RPC_CANCELLED);
    return 0;
}

/* ---- the session ---- */

static nghttp2_session_callbacks *make_callbacks(void) {
    nghttp2_session_callbacks *callbacks = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return NULL;
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    return callbacks;
}

static enum status open_nghttp2(struct rpc_http2 *session) {
    nghttp2_session_callbacks *callbacks = make_callbacks();
    nghttp2_option *option = NULL;
    int result = callbacks != NULL ? nghttp2_option_new(&option) : NGHTTP2_ERR_NOMEM;
    if (result == 0) {
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_stream_reset_rate_limit(option, RESETS_BURST, RESETS_PER_S);
        nghttp2_option_set_max_continuations(option, CONTINUATIONS_MAX);
        result = nghttp2_session_server_new2(&session->nghttp2, callbacks, session, option);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return result == 0 ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status say_settings(struct rpc_http2 *session) {
    const struct rpc_server_options *options = &session->door->options;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)options->streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)options->header_bytes_max},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    if (nghttp2_submit_settings(session->nghttp2, NGHTTP2_FLAG_NONE, settings,
                                sizeof(settings) / sizeof(settings[0])) != 0 ||
        nghttp2_session_set_local_window_size(session->nghttp2, NGHTTP2_FLAG_NONE, 0,
                                              CONNECTION_WINDOW_BYTES) != 0)
        return STATUS_NO_MEMORY;
    return STATUS_OK;
}

enum status rpc_http2_create(struct rpc_door *door, const char *client, rpc_loop_handler *on_output,
                             void *context, struct rpc_http2 **session) {
    struct rpc_http2 *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->door = door;
    made->on_output = on_output;
    made->context = context;
    made->patience = PATIENCE_MAX;
    made->patience_ns = rpc_loop_now_ns(door->loop);
    made->client = strdup(client);
    enum status status = STATUS_NO_MEMORY;
    if (made->client != NULL)
        status = open_nghttp2(made);
    if (status == STATUS_OK)
        status = say_settings(made);
    if (status == STATUS_OK)
        *session = made;
    else
        rpc_http2_destroy(made);
    return status;
}

void rpc_http2_destroy(struct rpc_http2 *session) {
    if (session == NULL)
        return;
    while (session->calls != NULL)
        rpc_call_destroy(session->calls, RPC_UNAVAILABLE);
    nghttp2_session_del(session->nghttp2);
    free(session->client);
    free(session);
}

bool rpc_http2_receive(struct rpc_http2 *session, const uint8_t *data, size_t size) {
    if (session->is_broken)
        return false;
    ssize_t taken = nghttp2_session_mem_recv(session->nghttp2, data, size);
    if (taken < 0)
        session->is_broken = true;
    session->on_output(session->context);
    return taken >= 0;
}

size_t rpc_http2_output(struct rpc_http2 *session, const uint8_t **data) {
    ssize_t size = nghttp2_session_mem_send(session->nghttp2, data);
    if (size < 0)
        session->is_broken = true;
    return size > 0 ? (size_t)size : 0;
}

bool rpc_http2_is_done(const struct rpc_http2 *session) {
    return session->is_broken || (nghttp2_session_want_read(session->nghttp2) == 0 &&
                                  nghttp2_session_want_write(session->nghttp2) == 0);
}

bool rpc_http2_is_drained(const struct rpc_http2 *session) {
    return session->is_draining && session->calls == NULL && !session->is_broken &&
           session->patience > 0;
}

bool rpc_http2_is_established(const struct rpc_http2 *session) {
    return session->is_established;
}

int64_t rpc_http2_call_count(const struct rpc_http2 *session) {
    return session->call_count;
}

void rpc_http2_drain(struct rpc_http2 *session) {
    if (session->is_draining)
        return;
    session->is_draining = true;
    int32_t last = nghttp2_session_get_last_proc_stream_id(session->nghttp2);
    nghttp2_submit_goaway(session->nghttp2, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0);
    session->on_output(session->context);
}

void rpc_http2_ping(struct rpc_http2 *session) {
    nghttp2_submit_ping(session->nghttp2, NGHTTP2_FLAG_NONE, NULL);
    session->on_output(session->context);
}
