/* Our client against a server with the interop test service, as a program: for tests of TLS and
 * tokens, and to measure. Asks for STREAMS streams of ANSWERS answers of SIZE bytes, INTERVAL
 * microseconds apart, over CONNECTIONS connections; prints what came and what it cost.
 *   interop_probe ADDRESS [--tls CA] [--identity CERTIFICATE KEY] [--token TOKEN] [--load
 * CONNECTIONS STREAMS ANSWERS SIZE INTERVAL] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "proto/interop/interop_test.pb-c.h"
#include "runtime/rpc_client.h"
#include "runtime/rpc_loop.h"
#include "runtime/rpc_tls.h"

#define TIMEOUT_NS INT64_C(120000000000)
#define CONNECTIONS_MAX 64

struct load {
    int connections, streams, answers, size, interval_us;
};

struct probe {
    struct rpc_loop *loop;
    struct rpc_client *clients[CONNECTIONS_MAX];
    int running;
    int64_t messages, failed;
};

static void on_message(void *context, struct rpc_client_call *call, const uint8_t *data,
                       size_t size) {
    (void)call;
    (void)data;
    (void)size;
    struct probe *probe = context;
    probe->messages++;
}

static void on_finish(void *context, struct rpc_client_call *call, enum rpc_code code,
                      const char *message) {
    (void)call;
    struct probe *probe = context;
    if (code != RPC_OK && probe->failed++ == 0)
        printf("%s %s\n", rpc_code_name(code), message);
    if (--probe->running == 0)
        rpc_loop_stop(probe->loop);
}

/* The packed request for a stream; freed by the caller. */
static uint8_t *pack_request(const struct load *load, size_t *size) {
    Grpc__Testing__ResponseParameters one = GRPC__TESTING__RESPONSE_PARAMETERS__INIT;
    Grpc__Testing__StreamingOutputCallRequest request =
        GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
    Grpc__Testing__ResponseParameters **list = calloc((size_t)load->answers, sizeof(*list));
    ASSERT(list != NULL);
    one.size = load->size;
    one.interval_us = load->interval_us;
    for (int i = 0; i < load->answers; i++)
        list[i] = &one;
    request.response_parameters = list;
    request.n_response_parameters = (size_t)load->answers;
    *size = protobuf_c_message_get_packed_size(&request.base);
    uint8_t *packed = malloc(*size + 1);
    ASSERT(packed != NULL);
    protobuf_c_message_pack(&request.base, packed);
    free(list);
    return packed;
}

static void run(struct probe *probe, const struct rpc_client_options *options,
                const struct load *load) {
    size_t size;
    uint8_t *packed = pack_request(load, &size);
    struct rpc_client_request request = {.path = "/grpc.testing.TestService/StreamingOutputCall",
                                         .message = packed,
                                         .message_size = size,
                                         .deadline_ns = clock_now_ns() + TIMEOUT_NS,
                                         .context = probe,
                                         .on_message = on_message,
                                         .on_finish = on_finish};
    for (int i = 0; i < load->connections; i++)
        ASSERT(rpc_client_create(probe->loop, options, &probe->clients[i]) == STATUS_OK);
    probe->running = load->streams;
    for (int i = 0; i < load->streams; i++) {
        struct rpc_client_call *call;
        ASSERT(rpc_client_call(probe->clients[i % load->connections], &request, &call) ==
               STATUS_OK);
    }
    free(packed);
    ASSERT(rpc_loop_run(probe->loop) == STATUS_OK);
    for (int i = 0; i < load->connections; i++)
        rpc_client_destroy(probe->clients[i]);
}

static void read_load(char **arguments, struct load *load) {
    int *const values[] = {&load->connections, &load->streams, &load->answers, &load->size,
                           &load->interval_us};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        *values[i] = (int)strtol(arguments[i], NULL, 10);
    ASSERT(load->connections >= 1 && load->connections <= CONNECTIONS_MAX && load->streams >= 1 &&
           load->answers >= 0);
}

int main(int argc, char **argv) {
    ASSERT(argc >= 2);
    struct rpc_client_options options;
    rpc_client_options_default(&options);
    options.address = argv[1];
    struct load load = {.connections = 1, .streams = 1, .answers = 1, .size = 1};
    struct rpc_tls_files files = {0};
    bool has_tls = false;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--tls") == 0 && i + 1 < argc) {
            has_tls = true;
            files.authorities = argv[++i];
        } else if (strcmp(argv[i], "--identity") == 0 && i + 2 < argc) {
            files.certificate = argv[++i];
            files.key = argv[++i];
        } else if (strcmp(argv[i], "--token") == 0 && i + 1 < argc) {
            options.token = argv[++i];
        } else if (strcmp(argv[i], "--load") == 0 && i + 5 < argc) {
            read_load(argv + i + 1, &load);
            i += 5;
        }
    }
    struct rpc_tls *tls = NULL;
    if (has_tls && rpc_tls_create_client(&files, &tls) != STATUS_OK)
        return 3;
    options.tls = tls;
    struct probe probe = {0};
    ASSERT(rpc_loop_create(&probe.loop) == STATUS_OK);
    int64_t start_ns = clock_now_ns();
    run(&probe, &options, &load);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    int64_t cpu_us = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000) +
                     usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    printf("messages %lld failed %lld wall_us %lld cpu_us %lld\n", (long long)probe.messages,
           (long long)probe.failed, (long long)(clock_now_ns() - start_ns) / 1000,
           (long long)cpu_us);
    rpc_loop_destroy(probe.loop);
    rpc_tls_destroy(tls);
    return probe.failed == 0 ? 0 : 1;
}
