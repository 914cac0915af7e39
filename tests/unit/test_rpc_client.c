/* The client against the interop test service, both on one loop: answers, streams, deadlines,
 * cancels, metadata, lost connections. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/base/clock.h"
#include "proto/interop/interop_test.pb-c.h"
#include "runtime/rpc_client.h"
#include "runtime/rpc_loop.h"
#include "runtime/rpc_server.h"
#include "runtime/rpc_socket.h"
#include "tests/rpc/interop_service.h"

#define NS_PER_MS INT64_C(1000000)
#define TEST_NS (30000 * NS_PER_MS)

struct bench {
    struct rpc_loop *loop;
    struct rpc_server *server;
    struct interop_service service;
    struct rpc_client *client;
    char address[128];
};

/* What a call has brought. */
struct result {
    bool is_finished;
    enum rpc_code code;
    char message[200], echo[64];
    int message_count;
    size_t byte_count;
    int cancel_after; /* cancels the call at that message; 0: never */
};

static void start_server(struct bench *bench, const char *address) {
    struct rpc_server_options options;
    rpc_server_options_default(&options);
    assert_int_equal(rpc_server_create(bench->loop, &options, &bench->server), STATUS_OK);
    assert_int_equal(interop_service_register(&bench->service, bench->server), STATUS_OK);
    assert_int_equal(rpc_server_listen(bench->server, address), STATUS_OK);
    snprintf(bench->address, sizeof(bench->address), "%s", rpc_server_address(bench->server));
}

static void start_client(struct bench *bench, const char *address) {
    struct rpc_client_options options;
    rpc_client_options_default(&options);
    options.address = address;
    options.message_bytes_max = 1 << 20;
    assert_int_equal(rpc_client_create(bench->loop, &options, &bench->client), STATUS_OK);
}

static void start(struct bench *bench, const char *address) {
    memset(bench, 0, sizeof(*bench));
    assert_int_equal(rpc_loop_create(&bench->loop), STATUS_OK);
    bench->service.loop = bench->loop;
    bench->service.answer_bytes_max = 64 << 20;
    start_server(bench, address);
    start_client(bench, bench->address);
}

static void stop(struct bench *bench) {
    rpc_client_destroy(bench->client);
    rpc_server_destroy(bench->server);
    rpc_loop_destroy(bench->loop);
}

static void on_message(void *context, struct rpc_client_call *call, const uint8_t *data,
                       size_t size) {
    (void)data;
    struct result *result = context;
    result->message_count++;
    result->byte_count += size;
    if (result->message_count == result->cancel_after)
        rpc_client_call_cancel(call);
}

static void on_finish(void *context, struct rpc_client_call *call, enum rpc_code code,
                      const char *message) {
    struct result *result = context;
    assert_false(result->is_finished);
    result->is_finished = true;
    result->code = code;
    snprintf(result->message, sizeof(result->message), "%s", message);
    const char *echo = rpc_client_call_metadata(call, "x-grpc-test-echo-initial");
    snprintf(result->echo, sizeof(result->echo), "%s", echo != NULL ? echo : "");
}

/* Begins a call; the request's message is packed here. */
static struct rpc_client_call *begin(struct bench *bench, const char *method,
                                     const ProtobufCMessage *message, int64_t timeout_ms,
                                     struct result *result) {
    static const struct rpc_client_metadata metadata[] = {{"x-grpc-test-echo-initial", "hello"}};
    char path[128];
    snprintf(path, sizeof(path), "/grpc.testing.TestService/%s", method);
    uint8_t packed[4096];
    assert_true(protobuf_c_message_get_packed_size(message) <= sizeof(packed));
    struct rpc_client_request request = {
        .path = path,
        .message = packed,
        .message_size = protobuf_c_message_pack(message, packed),
        .deadline_ns = timeout_ms > 0 ? clock_now_ns() + timeout_ms * NS_PER_MS : RPC_LOOP_NEVER,
        .metadata = metadata,
        .metadata_count = 1,
        .context = result,
        .on_message = on_message,
        .on_finish = on_finish};
    struct rpc_client_call *call;
    assert_int_equal(rpc_client_call(bench->client, &request, &call), STATUS_OK);
    assert_false(result->is_finished);
    return call;
}

static void wait_for(struct bench *bench, const struct result *result) {
    int64_t end_ns = clock_now_ns() + TEST_NS;
    while (!result->is_finished && clock_now_ns() < end_ns)
        assert_int_equal(rpc_loop_turn(bench->loop, end_ns), STATUS_OK);
    assert_true(result->is_finished);
}

static struct rpc_client_call *begin_unary(struct bench *bench, int32_t size,
                                           struct result *result) {
    Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
    request.response_size = size;
    return begin(bench, "UnaryCall", &request.base, 10000, result);
}

#define ANSWERS_MAX 50

/* Asks for `count` answers of 100 bytes, `interval_us` apart. */
static struct rpc_client_call *begin_stream(struct bench *bench, size_t count, int32_t interval_us,
                                            int64_t timeout_ms, struct result *result) {
    Grpc__Testing__ResponseParameters parameters[ANSWERS_MAX];
    Grpc__Testing__ResponseParameters *list[ANSWERS_MAX];
    Grpc__Testing__StreamingOutputCallRequest request =
        GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
    for (size_t i = 0; i < count; i++) {
        grpc__testing__response_parameters__init(&parameters[i]);
        parameters[i].size = 100;
        parameters[i].interval_us = interval_us;
        list[i] = &parameters[i];
    }
    request.response_parameters = list;
    request.n_response_parameters = count;
    return begin(bench, "StreamingOutputCall", &request.base, timeout_ms, result);
}

static void check_answers(const char *address) {
    struct bench bench;
    start(&bench, address);
    struct result unary = {0};
    begin_unary(&bench, 300000, &unary);
    wait_for(&bench, &unary);
    assert_int_equal(unary.code, RPC_OK);
    assert_int_equal(unary.message_count, 1);
    assert_in_range(unary.byte_count, 300000, 300020);
    assert_string_equal(unary.echo, "hello");
    struct result stream = {0};
    begin_stream(&bench, ANSWERS_MAX, 100, 0, &stream);
    wait_for(&bench, &stream);
    assert_int_equal(stream.code, RPC_OK);
    assert_int_equal(stream.message_count, ANSWERS_MAX);
    stop(&bench);
}

static void test_answers_over_tcp(void **state) {
    (void)state;
    check_answers("127.0.0.1:0");
}

static void test_answers_over_a_unix_socket(void **state) {
    (void)state;
    char folder[] = "/tmp/moebius-client-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char address[64];
    snprintf(address, sizeof(address), "unix:%s/socket", folder);
    check_answers(address);
    assert_int_equal(rmdir(folder), 0);
}

/* More calls at once than the server takes streams of: all are answered. */
static void test_many_calls(void **state) {
    (void)state;
    enum { CALLS = 3000 };
    struct bench bench;
    start(&bench, "127.0.0.1:0");
    struct result *results = calloc(CALLS, sizeof(*results));
    for (int i = 0; i < CALLS; i++)
        begin_unary(&bench, i, &results[i]);
    for (int i = 0; i < CALLS; i++) {
        wait_for(&bench, &results[i]);
        assert_int_equal(results[i].code, RPC_OK);
        assert_in_range(results[i].byte_count, i, i + 20);
    }
    free(results);
    stop(&bench);
}

static void test_errors(void **state) {
    (void)state;
    struct bench bench;
    start(&bench, "127.0.0.1:0");
    Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
    Grpc__Testing__EchoStatus status = GRPC__TESTING__ECHO_STATUS__INIT;
    char text[] = "100 % \xe2\x98\xba\n";
    status.code = RPC_NOT_FOUND;
    status.message.data = (uint8_t *)text;
    status.message.len = strlen(text);
    request.response_status = &status;
    struct result result = {0};
    begin(&bench, "UnaryCall", &request.base, 0, &result);
    wait_for(&bench, &result);
    assert_int_equal(result.code, RPC_NOT_FOUND);
    assert_string_equal(result.message, text);
    struct result unknown = {0};
    begin(&bench, "UnimplementedCall", &request.base, 0, &unknown);
    wait_for(&bench, &unknown);
    assert_int_equal(unknown.code, RPC_UNIMPLEMENTED);
    struct result large = {0};
    begin_unary(&bench, 2 << 20, &large);
    wait_for(&bench, &large);
    assert_int_equal(large.code, RPC_RESOURCE_EXHAUSTED);
    struct result after = {0};
    begin_unary(&bench, 10, &after);
    wait_for(&bench, &after);
    assert_int_equal(after.code, RPC_OK);
    stop(&bench);
}

static void test_deadline_and_cancel(void **state) {
    (void)state;
    struct bench bench;
    start(&bench, "127.0.0.1:0");
    struct result late = {0};
    int64_t start_ns = clock_now_ns();
    begin_stream(&bench, 1, 20000000, 150, &late);
    wait_for(&bench, &late);
    assert_int_equal(late.code, RPC_DEADLINE_EXCEEDED);
    assert_in_range(clock_now_ns() - start_ns, 140 * NS_PER_MS, 5000 * NS_PER_MS);
    struct result cancelled = {.cancel_after = 3};
    begin_stream(&bench, ANSWERS_MAX, 1000, 0, &cancelled);
    wait_for(&bench, &cancelled);
    assert_int_equal(cancelled.code, RPC_CANCELLED);
    assert_int_equal(cancelled.message_count, 3);
    struct result at_once = {0};
    rpc_client_call_cancel(begin_unary(&bench, 10, &at_once));
    wait_for(&bench, &at_once);
    assert_int_equal(at_once.code, RPC_CANCELLED);
    int64_t end_ns = clock_now_ns() + TEST_NS;
    while (bench.service.cancelled < 2 && clock_now_ns() < end_ns)
        assert_int_equal(rpc_loop_turn(bench.loop, clock_now_ns() + 10 * NS_PER_MS), STATUS_OK);
    assert_int_equal(bench.service.cancelled, 2); /* the service has heard of both streams */
    stop(&bench);
}

/* The server goes away and comes back: calls that ran fail, the next one connects again. */
static void test_reconnects(void **state) {
    (void)state;
    struct bench bench;
    start(&bench, "127.0.0.1:0");
    struct result first = {0}, running = {0}, refused = {0}, again = {0};
    begin_unary(&bench, 10, &first);
    wait_for(&bench, &first);
    assert_int_equal(first.code, RPC_OK);
    begin_stream(&bench, 2, 20000000, 0, &running);
    int64_t end_ns = clock_now_ns() + TEST_NS;
    while (bench.service.begun < 1 && clock_now_ns() < end_ns)
        assert_int_equal(rpc_loop_turn(bench.loop, clock_now_ns() + 10 * NS_PER_MS), STATUS_OK);
    rpc_server_destroy(bench.server);
    bench.server = NULL;
    wait_for(&bench, &running);
    assert_int_equal(running.code, RPC_UNAVAILABLE);
    assert_int_equal(bench.service.cancelled, 1);
    begin_unary(&bench, 10, &refused);
    wait_for(&bench, &refused);
    assert_int_equal(refused.code, RPC_UNAVAILABLE);
    assert_non_null(strstr(refused.message, "Connection refused"));
    char address[128];
    snprintf(address, sizeof(address), "%s", bench.address);
    start_server(&bench, address);
    begin_unary(&bench, 10, &again);
    wait_for(&bench, &again);
    assert_int_equal(again.code, RPC_OK);
    stop(&bench);
}

/* After GOAWAY a running stream ends well, and a new call waits for a new connection. */
static void test_goaway(void **state) {
    (void)state;
    struct bench bench;
    start(&bench, "127.0.0.1:0");
    struct result running = {0}, next = {0};
    begin_stream(&bench, 5, 30000, 0, &running);
    int64_t end_ns = clock_now_ns() + TEST_NS;
    while (running.message_count < 1 && clock_now_ns() < end_ns)
        assert_int_equal(rpc_loop_turn(bench.loop, end_ns), STATUS_OK);
    rpc_server_drain(bench.server);
    struct rpc_server *drained = bench.server;
    start_server(&bench, bench.address);
    while (running.message_count < 3 && clock_now_ns() < end_ns)
        assert_int_equal(rpc_loop_turn(bench.loop, end_ns), STATUS_OK);
    begin_unary(&bench, 10, &next);
    wait_for(&bench, &next);
    wait_for(&bench, &running);
    assert_int_equal(running.code, RPC_OK);
    assert_int_equal(running.message_count, 5);
    assert_int_equal(next.code, RPC_OK);
    while (!rpc_server_is_idle(drained) && clock_now_ns() < end_ns)
        assert_int_equal(rpc_loop_turn(bench.loop, clock_now_ns() + 10 * NS_PER_MS), STATUS_OK);
    assert_true(rpc_server_is_idle(drained));
    rpc_server_destroy(drained);
    stop(&bench);
}

/* Somebody listens, and never says a word. */
static void test_silence(void **state) {
    (void)state;
    struct bench bench = {0};
    struct rpc_socket_bound silent = {0};
    assert_int_equal(rpc_loop_create(&bench.loop), STATUS_OK);
    assert_int_equal(rpc_socket_bind("127.0.0.1:0", &silent), STATUS_OK);
    assert_int_equal(rpc_socket_listen(&silent), STATUS_OK);
    struct rpc_client_options options;
    rpc_client_options_default(&options);
    assert_in_range(options.connect_ms, 1000, 10000);
    options.address = silent.address;
    options.connect_ms = 200;
    assert_int_equal(rpc_client_create(bench.loop, &options, &bench.client), STATUS_OK);
    struct result result = {0};
    Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
    begin(&bench, "UnaryCall", &request.base, 0, &result);
    wait_for(&bench, &result);
    assert_int_equal(result.code, RPC_UNAVAILABLE);
    assert_non_null(strstr(result.message, silent.address));
    assert_non_null(strstr(result.message, "no word of HTTP/2 in time"));
    rpc_client_destroy(bench.client);
    rpc_loop_destroy(bench.loop);
    rpc_socket_unbind(&silent);
}

static void test_addresses(void **state) {
    (void)state;
    struct rpc_loop *loop;
    assert_int_equal(rpc_loop_create(&loop), STATUS_OK);
    struct rpc_client_options options;
    rpc_client_options_default(&options);
    static const char *const bad[] = {"",      "localhost", ":50051", "::1:50051", "localhost:http",
                                      "unix:", "localhost:"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rpc_client *client;
        options.address = bad[i];
        assert_int_equal(rpc_client_create(loop, &options, &client), STATUS_USAGE);
    }
    rpc_loop_destroy(loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_over_tcp),
        cmocka_unit_test(test_answers_over_a_unix_socket),
        cmocka_unit_test(test_many_calls),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_deadline_and_cancel),
        cmocka_unit_test(test_reconnects),
        cmocka_unit_test(test_goaway),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
