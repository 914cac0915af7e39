/* The interop test service over rpc_call.h. It is also the smallest example of how a service uses
 * that interface: unary, streamed answers, streamed requests, both. */
#include "tests/rpc/interop_service.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/interop/interop_test.pb-c.h"
#include "runtime/rpc_arena.h"
#include "runtime/rpc_message.h"

#define NS_PER_US 1000

/* ---- unary ---- */

static void empty_call(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    (void)context;
    if (rpc_message_unpack(call, &grpc__testing__empty__descriptor, data, size) == NULL)
        return;
    Grpc__Testing__Empty answer = GRPC__TESTING__EMPTY__INIT;
    rpc_message_reply(call, &answer.base);
}

/* The case custom_metadata: a header and a trailer come back. */
static void echo_metadata(struct rpc_call *call) {
    const char *initial = rpc_call_metadata(call, "x-grpc-test-echo-initial");
    const char *trailing = rpc_call_metadata(call, "x-grpc-test-echo-trailing-bin");
    if (initial != NULL)
        (void)rpc_call_set_header(call, "x-grpc-test-echo-initial", initial);
    if (trailing != NULL)
        (void)rpc_call_set_trailer(call, "x-grpc-test-echo-trailing-bin", trailing);
}

/* Finishes the call with the status that the client wants to see; false: it wants none. */
static bool echo_status(struct rpc_call *call, const Grpc__Testing__EchoStatus *status) {
    if (status == NULL)
        return false;
    char text[256];
    size_t length = status->message.len < sizeof(text) - 1 ? status->message.len : sizeof(text) - 1;
    if (length > 0)
        memcpy(text, status->message.data, length);
    text[length] = 0;
    rpc_call_finish(call, (enum rpc_code)status->code, text);
    return true;
}

static void unary_call(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    const struct interop_service *service = context;
    const Grpc__Testing__SimpleRequest *request = (const void *)rpc_message_unpack(
        call, &grpc__testing__simple_request__descriptor, data, size);
    if (request == NULL)
        return;
    echo_metadata(call);
    if (echo_status(call, request->response_status))
        return;
    if (request->response_size < 0 || request->response_size > service->answer_bytes_max) {
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "response_size: not a size");
        return;
    }
    Grpc__Testing__SimpleResponse answer = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
    Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
    payload.body.len = (size_t)request->response_size;
    payload.body.data = rpc_arena_take(rpc_call_arena(call), payload.body.len);
    if (payload.body.data == NULL) {
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "response_size: too large");
        return;
    }
    answer.payload = &payload;
    char text[128];
    if (request->fill_username) {
        int length =
            snprintf(text, sizeof(text), "begun=%lld cancelled=%lld finished=%lld client=%s",
                     (long long)service->begun, (long long)service->cancelled,
                     (long long)service->finished, rpc_call_client(call));
        answer.username.data = (uint8_t *)text;
        answer.username.len = length < (int)sizeof(text) ? (size_t)length : sizeof(text) - 1;
    }
    rpc_message_reply(call, &answer.base);
}

/* ---- streams of answers ---- */

struct stream {
    struct interop_service *service;
    struct rpc_call *call;
    struct rpc_loop_timer timer;
    int64_t due_ns; /* when the next answer is due */
    int32_t *sizes, *intervals_us;
    size_t count, next;
    bool has_ended; /* the client asks for no more */
};

static void free_stream(struct stream *stream) {
    rpc_loop_timer_disarm(stream->service->loop, &stream->timer);
    free(stream->sizes);
    free(stream->intervals_us);
    free(stream);
}

static void finish_stream(struct stream *stream, enum rpc_code code, const char *message) {
    stream->service->finished++;
    rpc_call_finish(stream->call, code, message);
    free_stream(stream);
}

static void cancel_stream(void *context, struct rpc_call *call, enum rpc_code reason) {
    (void)context;
    (void)reason;
    struct stream *stream = rpc_call_data(call);
    if (stream == NULL)
        return;
    stream->service->cancelled++;
    free_stream(stream);
}

static enum status send_answer(struct stream *stream, size_t size) {
    Grpc__Testing__StreamingOutputCallResponse answer =
        GRPC__TESTING__STREAMING_OUTPUT_CALL_RESPONSE__INIT;
    Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
    payload.body.len = size;
    payload.body.data = calloc(1, size + 1);
    if (payload.body.data == NULL)
        return STATUS_NO_MEMORY;
    answer.payload = &payload;
    enum status status = rpc_message_send(stream->call, &answer.base);
    free(payload.body.data);
    return status;
}

/* Sends what is due, then waits for the next interval, or for room, or for the client. */
static void pump(void *context) {
    struct stream *stream = context;
    int64_t now_ns = rpc_loop_now_ns(stream->service->loop);
    while (stream->next < stream->count) {
        int64_t due_ns = stream->due_ns + (int64_t)stream->intervals_us[stream->next] * NS_PER_US;
        if (due_ns > now_ns) {
            rpc_loop_timer_arm(stream->service->loop, &stream->timer, due_ns, pump, stream);
            return;
        }
        enum status status = send_answer(stream, (size_t)stream->sizes[stream->next]);
        if (status == STATUS_LIMIT)
            return; /* on_writable goes on */
        if (status != STATUS_OK) {
            finish_stream(stream, RPC_RESOURCE_EXHAUSTED, "no memory");
            return;
        }
        stream->due_ns = due_ns;
        stream->next++;
    }
    if (stream->has_ended)
        finish_stream(stream, RPC_OK, NULL);
}

static void pump_call(void *context, struct rpc_call *call) {
    (void)context;
    struct stream *stream = rpc_call_data(call);
    pump(stream);
}

/* Adds what a request asks for; false: it makes no sense, or no memory. */
static bool add_answers(struct stream *stream,
                        const Grpc__Testing__StreamingOutputCallRequest *request) {
    size_t total = stream->count + request->n_response_parameters;
    if (total == 0)
        return true;
    int32_t *sizes = realloc(stream->sizes, total * sizeof(*sizes));
    if (sizes == NULL)
        return false;
    stream->sizes = sizes;
    int32_t *intervals = realloc(stream->intervals_us, total * sizeof(*intervals));
    if (intervals == NULL)
        return false;
    stream->intervals_us = intervals;
    for (size_t i = 0; i < request->n_response_parameters; i++) {
        const Grpc__Testing__ResponseParameters *wanted = request->response_parameters[i];
        if (wanted->size < 0 || wanted->size > stream->service->answer_bytes_max ||
            wanted->interval_us < 0)
            return false;
        sizes[stream->count] = wanted->size;
        intervals[stream->count++] = wanted->interval_us;
    }
    return true;
}

/* The stream of a call, made by its first message. NULL: the call has been finished. */
static struct stream *stream_of(struct interop_service *service, struct rpc_call *call) {
    struct stream *stream = rpc_call_data(call);
    if (stream != NULL)
        return stream;
    stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory");
        return NULL;
    }
    stream->service = service;
    stream->call = call;
    stream->due_ns = rpc_loop_now_ns(service->loop);
    service->begun++;
    rpc_call_set_data(call, stream);
    echo_metadata(call);
    return stream;
}

static void add_request(struct interop_service *service, struct rpc_call *call, const uint8_t *data,
                        size_t size, bool has_ended) {
    const Grpc__Testing__StreamingOutputCallRequest *request = (const void *)rpc_message_unpack(
        call, &grpc__testing__streaming_output_call_request__descriptor, data, size);
    struct stream *stream = rpc_call_data(call);
    if (request == NULL) { /* the call is over */
        if (stream != NULL) {
            service->finished++;
            free_stream(stream);
        }
        return;
    }
    stream = stream_of(service, call);
    if (stream == NULL)
        return;
    stream->has_ended = has_ended;
    if (echo_status(call, request->response_status)) {
        service->finished++;
        free_stream(stream);
    } else if (!add_answers(stream, request)) {
        finish_stream(stream, RPC_INVALID_ARGUMENT, "response_parameters: not a size or interval");
    } else {
        pump(stream);
    }
}

static void streaming_output_call(void *context, struct rpc_call *call, const uint8_t *data,
                                  size_t size) {
    add_request(context, call, data, size, true);
}

static void full_duplex_call(void *context, struct rpc_call *call, const uint8_t *data,
                             size_t size) {
    add_request(context, call, data, size, false);
}

static void end_full_duplex(void *context, struct rpc_call *call) {
    struct stream *stream = stream_of(context, call);
    if (stream == NULL)
        return;
    stream->has_ended = true;
    pump(stream);
}

/* ---- a stream of requests ---- */

static void streaming_input_call(void *context, struct rpc_call *call, const uint8_t *data,
                                 size_t size) {
    (void)context;
    const Grpc__Testing__StreamingInputCallRequest *request = (const void *)rpc_message_unpack(
        call, &grpc__testing__streaming_input_call_request__descriptor, data, size);
    if (request == NULL)
        return;
    size_t length = request->payload != NULL ? request->payload->body.len : 0;
    /* The sum itself stands where other services have a pointer. */
    rpc_call_set_data(call, (void *)((uintptr_t)rpc_call_data(call) + length));
}

static void end_streaming_input(void *context, struct rpc_call *call) {
    (void)context;
    Grpc__Testing__StreamingInputCallResponse answer =
        GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;
    answer.aggregated_payload_size = (int32_t)(uintptr_t)rpc_call_data(call);
    rpc_message_reply(call, &answer.base);
}

enum status interop_service_register(struct interop_service *service, struct rpc_server *server) {
    const struct rpc_method methods[] = {
        {.path = "/grpc.testing.TestService/EmptyCall",
         .context = service,
         .on_message = empty_call},
        {.path = "/grpc.testing.TestService/UnaryCall",
         .context = service,
         .on_message = unary_call},
        {.path = "/grpc.testing.TestService/StreamingOutputCall",
         .context = service,
         .on_message = streaming_output_call,
         .on_cancel = cancel_stream,
         .on_writable = pump_call},
        {.path = "/grpc.testing.TestService/StreamingInputCall",
         .streams_requests = true,
         .context = service,
         .on_message = streaming_input_call,
         .on_end = end_streaming_input},
        {.path = "/grpc.testing.TestService/FullDuplexCall",
         .streams_requests = true,
         .context = service,
         .on_message = full_duplex_call,
         .on_end = end_full_duplex,
         .on_cancel = cancel_stream,
         .on_writable = pump_call},
    };
    return rpc_server_register(server, methods, sizeof(methods) / sizeof(methods[0]));
}
