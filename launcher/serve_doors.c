/* One thread, one epoll loop: whatever comes from clients, from the engine thread, from signals and
 * from the clock is handled here, one thing after another. */
#define _GNU_SOURCE
#include "launcher/serve_doors.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "launcher/serve_status.h"
#include "runtime/http_openai.h"
#include "runtime/rpc_doors.h"
#include "runtime/rpc_loop.h"

#define TICK_NS INT64_C(100000000)
#define STATUS_NS INT64_C(10000000000)
#define FLUSH_NS INT64_C(2000000000) /* what clients have to take their last messages */
#define FORCE_NS INT64_C(1000000000) /* what a step has to end after a second signal */

struct serve_doors {
    struct serve_doors_options options;
    struct rpc_loop *loop;
    struct rpc_doors *rpc;
    struct http_openai *http; /* NULL: no HTTP door */
    struct rpc_loop_watch news, signals;
    struct rpc_loop_timer tick;
    struct serve_status status_line;
    int64_t status_ns; /* of the next line */
    int64_t drain_ns;  /* when draining ends; 0: not draining */
    bool is_stopped;   /* the engine loop has been told to end */
    int64_t cpu_ns;    /* of this thread, as metrics were told last */
    int64_t force_ns;  /* when the process ends, step or no step; 0: not asked for */
    int64_t flush_ns;  /* when the loop ends; 0: the engine loop runs */
    enum generation_state told_state;
    char told[1200];
    pthread_t thread;
    bool started;
    enum status ended;
};

/* ---- life ---- */

static void tell_health(void *context) {
    struct serve_doors *doors = context;
    enum generation_state state = generation_service_state(doors->options.service);
    if (state == doors->told_state)
        return;
    if (state == GENERATION_STATE_STALLED)
        LOG_WARN("a step has been running for %.1f s: not serving until it ends",
                 (double)engine_loop_step_age_ns(doors->options.loop, clock_now_ns()) * 1e-9);
    else if (doors->told_state == GENERATION_STATE_STALLED && state == GENERATION_STATE_SERVING)
        LOG_INFO("the step has ended: serving again");
    doors->told_state = state;
    rpc_doors_set_serving(doors->rpc, state == GENERATION_STATE_SERVING);
}

/* All doors stay open until the engine loop ends: whoever comes meanwhile is told why not, and
 * operators reach what they may need. */
static void begin_drain(struct serve_doors *doors) {
    int32_t seconds = doors->options.flags->shutdown_timeout_s;
    doors->drain_ns = clock_now_ns() + seconds * INT64_C(1000000000);
    LOG_INFO("draining: %d requests open, at most %d s; a second signal ends at once",
             generation_service_open(doors->options.service), seconds);
    generation_service_drain(doors->options.service, true);
    tell_health(doors);
}

static void stop(struct serve_doors *doors) {
    doors->is_stopped = true;
    engine_loop_stop(doors->options.loop);
}

/* Whether what was to be drained is drained, or has had its time. */
static void check_drain(struct serve_doors *doors, int64_t now_ns) {
    if (doors->drain_ns == 0 || doors->is_stopped)
        return;
    int32_t open = generation_service_open(doors->options.service);
    if (open > 0 && now_ns < doors->drain_ns)
        return;
    if (open > 0)
        LOG_WARN("shutdown: %d requests were not done in time and end now", open);
    stop(doors);
}

/* The engine loop is gone and all clients have been told: they get a moment to read it. */
static void check_end(struct serve_doors *doors, int64_t now_ns) {
    if (engine_loop_state(doors->options.loop) != ENGINE_LOOP_ENDED)
        return;
    if (doors->flush_ns == 0) {
        doors->flush_ns = now_ns + FLUSH_NS;
        rpc_doors_drain(doors->rpc);
    }
    bool is_idle =
        rpc_doors_is_idle(doors->rpc) && (doors->http == NULL || http_openai_is_idle(doors->http));
    if (is_idle || now_ns >= doors->flush_ns)
        rpc_loop_stop(doors->loop);
}

/* This is the network thread. */
static void tell_cpu_time(struct serve_doors *doors) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    int64_t used_ns = (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
    metrics_add(doors->options.metrics, METRICS_NETWORK_CPU_NS, used_ns - doors->cpu_ns);
    doors->cpu_ns = used_ns;
}

/* Two signals, and the engine thread hangs: in a step, or waiting for a rank. Nothing else can be
 * done about that, so the process ends here, and the launcher ends the other ranks. */
static void check_force(const struct serve_doors *doors, int64_t now_ns) {
    const struct transport *ranks = doors->options.ranks->transport;
    char whom[128] = "";
    if (doors->force_ns == 0 || now_ns < doors->force_ns ||
        engine_loop_state(doors->options.loop) == ENGINE_LOOP_ENDED)
        return;
    int32_t peer = atomic_load_explicit(&ranks->waited_for, memory_order_relaxed) - 1;
    if (peer >= 0)
        snprintf(whom, sizeof whom, ", waiting for rank %d on %s", peer, ranks->host_of[peer]);
    LOG_WARN("the step in progress does not end%s: ending without it", whom);
    _exit(status_exit_code(STATUS_INTERRUPTED));
}

static void on_tick(void *context) {
    struct serve_doors *doors = context;
    int64_t now_ns = clock_now_ns();
    metrics_set(doors->options.metrics, METRICS_STEP_AGE_SECONDS,
                (double)engine_loop_step_age_ns(doors->options.loop, now_ns) * 1e-9);
    tell_cpu_time(doors);
    tell_health(doors);
    check_drain(doors, now_ns);
    check_force(doors, now_ns);
    check_end(doors, now_ns);
    if (now_ns >= doors->status_ns) {
        serve_status_tell(&doors->status_line, now_ns);
        doors->status_ns = now_ns + STATUS_NS;
    }
    rpc_loop_timer_arm(doors->loop, &doors->tick, now_ns + TICK_NS, on_tick, doors);
}

static void on_news(void *context, uint32_t events) {
    struct serve_doors *doors = context;
    (void)events;
    generation_service_poll(doors->options.service);
    int64_t now_ns = clock_now_ns();
    check_drain(doors, now_ns);
    check_end(doors, now_ns);
}

static void on_signal(void *context, uint32_t events) {
    struct serve_doors *doors = context;
    struct signalfd_siginfo signal;
    (void)events;
    while (read(doors->options.signal_fd, &signal, sizeof signal) == (ssize_t)sizeof signal) {
        if (doors->drain_ns == 0) {
            begin_drain(doors);
        } else if (doors->force_ns == 0) {
            LOG_WARN("a second signal: ending at once");
            doors->force_ns = clock_now_ns() + FORCE_NS;
            stop(doors);
        }
    }
    check_drain(doors, clock_now_ns());
}

/* Drained by an operator who wants no more of us. */
static void end_server(void *context) {
    struct serve_doors *doors = context;
    if (doors->drain_ns == 0)
        begin_drain(doors);
    check_drain(doors, clock_now_ns());
}

/* ---- making ---- */

static enum status open_http(struct serve_doors *doors) {
    const struct serve_flags *flags = doors->options.flags;
    struct http_server_options server = http_server_options_default();
    server.bound = &doors->options.entry->http;
    server.connections_max = doors->options.entry->http_max;
    server.certificate = flags->ssl_certfile;
    server.key = flags->ssl_keyfile;
    server.authorities = flags->ssl_ca_certs;
    struct http_openai_options options = {.service = doors->options.service,
                                          .metrics = doors->options.metrics,
                                          .keys = doors->options.entry->keys,
                                          .version = MOEBIUS_VERSION};
    return http_openai_create(doors->loop, &server, &options, &doors->http);
}

static enum status open_doors(struct serve_doors *doors) {
    struct serve_entry *entry = doors->options.entry;
    struct rpc_doors_options rpc = {.loop = doors->loop,
                                    .service = doors->options.service,
                                    .bound = &entry->grpc,
                                    .admin_bound = &entry->admin,
                                    .keys = entry->keys,
                                    .admin_keys = entry->admin_keys,
                                    .tls = entry->tls,
                                    .connections_max = entry->grpc_max,
                                    .admin_connections_max = entry->admin_max,
                                    .admin = {.ranks = doors->options.ranks,
                                              .placement = doors->options.placement,
                                              .accounts = doors->options.accounts,
                                              .version = MOEBIUS_VERSION,
                                              .start_ns = doors->options.start_ns,
                                              .changed = tell_health,
                                              .end = end_server,
                                              .context = doors}};
    serve_entry_tell(entry, doors->told, sizeof doors->told);
    RETURN_IF_ERROR(rpc_doors_create(&rpc, &doors->rpc));
    return entry->http.is_bound ? open_http(doors) : STATUS_OK;
}

static enum status watch_all(struct serve_doors *doors) {
    RETURN_IF_ERROR(rpc_loop_watch_add(doors->loop, &doors->news,
                                       generation_service_event_fd(doors->options.service), EPOLLIN,
                                       on_news, doors));
    RETURN_IF_ERROR(rpc_loop_watch_add(doors->loop, &doors->signals, doors->options.signal_fd,
                                       EPOLLIN, on_signal, doors));
    int64_t now_ns = clock_now_ns();
    doors->status_ns = now_ns + STATUS_NS;
    serve_status_init(&doors->status_line, doors->options.metrics, now_ns);
    rpc_loop_timer_arm(doors->loop, &doors->tick, now_ns + TICK_NS, on_tick, doors);
    rpc_doors_set_serving(doors->rpc, true);
    return STATUS_OK;
}

enum status serve_doors_create(const struct serve_doors_options *options,
                               struct serve_doors **out) {
    struct serve_doors *doors = calloc(1, sizeof *doors);
    if (doors == NULL) {
        LOG_ERROR("serve: cannot take memory for the network thread");
        return STATUS_NO_MEMORY;
    }
    doors->options = *options;
    enum status status = rpc_loop_create(&doors->loop);
    if (status == STATUS_OK)
        status = open_doors(doors);
    if (status == STATUS_OK)
        status = watch_all(doors);
    if (status != STATUS_OK) {
        serve_doors_destroy(doors);
        return status;
    }
    *out = doors;
    return STATUS_OK;
}

const char *serve_doors_told(const struct serve_doors *doors) {
    return doors->told;
}

static void *run(void *context) {
    struct serve_doors *doors = context;
    doors->ended = rpc_loop_run(doors->loop);
    if (doors->ended != STATUS_OK)
        engine_loop_stop(doors->options.loop); /* nobody could be answered any more */
    return NULL;
}

enum status serve_doors_start(struct serve_doors *doors) {
    int error = pthread_create(&doors->thread, NULL, run, doors);
    if (error == 0) {
        doors->started = true;
        return STATUS_OK;
    }
    LOG_ERROR("serve: cannot start the network thread: %s", strerror(error));
    return STATUS_NO_MEMORY;
}

enum status serve_doors_join(struct serve_doors *doors) {
    if (!doors->started)
        return STATUS_OK;
    pthread_join(doors->thread, NULL);
    doors->started = false;
    return doors->ended;
}

void serve_doors_destroy(struct serve_doors *doors) {
    if (doors == NULL)
        return;
    http_openai_destroy(doors->http);
    rpc_doors_destroy(doors->rpc);
    rpc_loop_destroy(doors->loop);
    free(doors);
}
