/* A server with the interop test service, health and reflection, for clients that nobody here
 * wrote. Prints "listening on ADDRESS" and serves until SIGTERM (drains) or a second one.
 *   interop_server ADDRESS [--tls CERTIFICATE KEY] [--client-ca FILE] [--keys FILE] [--option NAME
 * VALUE]... */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "proto/moebius_proto_testing_descriptor_set.h"
#include "runtime/rpc_health.h"
#include "runtime/rpc_keys.h"
#include "runtime/rpc_loop.h"
#include "runtime/rpc_reflection.h"
#include "runtime/rpc_server.h"
#include "runtime/rpc_tls.h"
#include "tests/rpc/interop_service.h"

#define EXIT_BAD_FILE 3
#define NS_PER_MS INT64_C(1000000)

struct server {
    struct rpc_loop *loop;
    struct rpc_server *rpc;
    struct rpc_health *health;
    struct rpc_reflection *reflection;
    struct rpc_loop_event signalled;
    struct rpc_loop_timer check;
};

static struct rpc_loop_event *signal_event;

static void on_signal(int number) {
    (void)number;
    rpc_loop_event_signal(signal_event);
}

static void stop_when_idle(void *context) {
    struct server *server = context;
    if (rpc_server_is_idle(server->rpc))
        rpc_loop_stop(server->loop);
    else
        rpc_loop_timer_arm(server->loop, &server->check,
                           rpc_loop_now_ns(server->loop) + 10 * NS_PER_MS, stop_when_idle, server);
}

static void drain(void *context) {
    struct server *server = context;
    if (server->check.is_armed) {
        rpc_loop_stop(server->loop);
        return;
    }
    (void)rpc_health_set(server->health, "", false);
    (void)rpc_health_set(server->health, "grpc.testing.TestService", false);
    rpc_server_drain(server->rpc);
    stop_when_idle(server);
}

static _Noreturn void fail(const char *what, const char *got) {
    fprintf(stderr, "interop_server: no such %s: %s\n", what, got);
    exit(2);
}

static void set_option(struct rpc_server_options *options, const char *name, const char *value) {
    long long number = strtoll(value, NULL, 10);
    const struct {
        const char *name;
        int64_t *value;
    } wide[] = {{"message_bytes_max", &options->message_bytes_max},
                {"buffer_bytes_max", &options->buffer_bytes_max},
                {"queue_bytes_max", &options->queue_bytes_max},
                {"handshake_ms", &options->handshake_ms},
                {"idle_ms", &options->idle_ms},
                {"request_ms", &options->request_ms},
                {"stall_ms", &options->stall_ms},
                {"keepalive_ms", &options->keepalive_ms},
                {"keepalive_timeout_ms", &options->keepalive_timeout_ms}};
    for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++) {
        if (strcmp(name, wide[i].name) == 0) {
            *wide[i].value = number;
            return;
        }
    }
    if (strcmp(name, "connections_max") == 0)
        options->connections_max = (int32_t)number;
    else if (strcmp(name, "streams_max") == 0)
        options->streams_max = (int32_t)number;
    else
        fail("option", name);
}

static void parse(int count, char **arguments, struct rpc_server_options *options,
                  struct rpc_tls **tls, struct rpc_keys **keys) {
    struct rpc_tls_files files = {0};
    for (int i = 0; i < count; i++) {
        if (strcmp(arguments[i], "--tls") == 0 && i + 2 < count) {
            files.certificate = arguments[++i];
            files.key = arguments[++i];
        } else if (strcmp(arguments[i], "--client-ca") == 0 && i + 1 < count) {
            files.authorities = arguments[++i];
        } else if (strcmp(arguments[i], "--keys") == 0 && i + 1 < count) {
            ASSERT(rpc_keys_load(arguments[++i], keys) == STATUS_OK);
        } else if (strcmp(arguments[i], "--option") == 0 && i + 2 < count) {
            set_option(options, arguments[i + 1], arguments[i + 2]);
            i += 2;
        } else {
            fail("flag", arguments[i]);
        }
    }
    if (files.certificate != NULL && rpc_tls_create_server(&files, tls) != STATUS_OK)
        exit(EXIT_BAD_FILE);
    options->tls = *tls;
    options->keys = *keys;
}

/* Until a signal; returns the exit code. */
static int serve(struct server *server, const char *address) {
    if (rpc_server_listen(server->rpc, address) != STATUS_OK)
        return EXIT_BAD_FILE;
    printf("listening on %s\n", rpc_server_address(server->rpc));
    fflush(stdout);
    ASSERT(rpc_loop_run(server->loop) == STATUS_OK);
    struct rpc_server_stats stats;
    rpc_server_stats(server->rpc, &stats);
    printf("connections %lld calls %lld messages %lld\n", (long long)stats.connections_total,
           (long long)stats.calls_total, (long long)stats.messages_sent);
    return 0;
}

int main(int argc, char **argv) {
    ASSERT(argc >= 2);
    struct rpc_server_options options;
    rpc_server_options_default(&options);
    struct rpc_tls *tls = NULL;
    struct rpc_keys *keys = NULL;
    parse(argc - 2, argv + 2, &options, &tls, &keys);
    struct server server = {0};
    struct interop_service service = {.answer_bytes_max = 64 << 20};
    ASSERT(rpc_loop_create(&server.loop) == STATUS_OK);
    ASSERT(rpc_server_create(server.loop, &options, &server.rpc) == STATUS_OK);
    service.loop = server.loop;
    ASSERT(interop_service_register(&service, server.rpc) == STATUS_OK);
    ASSERT(rpc_health_create(&server.health) == STATUS_OK);
    ASSERT(rpc_health_register(server.health, server.rpc) == STATUS_OK);
    ASSERT(rpc_health_set(server.health, "", true) == STATUS_OK);
    ASSERT(rpc_health_set(server.health, "grpc.testing.TestService", true) == STATUS_OK);
    ASSERT(rpc_reflection_create(moebius_proto_testing_descriptor_set,
                                 moebius_proto_testing_descriptor_set_size,
                                 &server.reflection) == STATUS_OK);
    ASSERT(rpc_reflection_register(server.reflection, server.rpc) == STATUS_OK);
    ASSERT(rpc_loop_event_init(server.loop, &server.signalled, drain, &server) == STATUS_OK);
    signal_event = &server.signalled;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    int code = serve(&server, argv[1]);
    printf("cancelled %lld\n", (long long)service.cancelled);
    rpc_server_destroy(server.rpc);
    rpc_health_destroy(server.health);
    rpc_reflection_destroy(server.reflection);
    rpc_tls_destroy(tls);
    rpc_keys_destroy(keys);
    rpc_loop_event_deinit(server.loop, &server.signalled);
    rpc_loop_destroy(server.loop);
    return code;
}
