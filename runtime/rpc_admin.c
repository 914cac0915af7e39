/* The operators' methods. WatchStats and Drain send a message at intervals, by a timer each; the
 * others answer at once. Everything runs on the network thread. */
#include "runtime/rpc_admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "proto/moebius/v1/admin.pb-c.h"
#include "runtime/rpc_arena.h"
#include "runtime/rpc_message.h"
#include "runtime/rpc_stats.h"

#define NS_PER_MS INT64_C(1000000)
#define INTERVAL_MS_DEFAULT 1000
#define INTERVAL_MS_MIN 100
#define DRAIN_INTERVAL_MS 1000
#define DRAIN_LOOK_MS 50 /* how soon the last message follows the last request's end */

struct rpc_admin {
    struct rpc_admin_options options;
    char mpi[64]; /* its name and version; asked at start, by the thread that may ask */
};

/* A call that tells something again and again. */
struct admin_watch {
    struct rpc_admin *admin;
    struct rpc_call *call;
    struct rpc_loop_timer timer;
    int64_t interval_ns, due_ns; /* of the next message */
    int64_t give_up_ns;          /* Drain: when what still runs is aborted; 0: never */
    bool per_rank, exit_when_done;
};

static void end_for_memory(struct rpc_call *call) {
    rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED,
                    "the answer: expected one that fits the memory of a request, got more");
}

static Moebius__V1__ServerState state_of(const struct rpc_admin *admin) {
    switch (generation_service_state(admin->options.service)) {
    case GENERATION_STATE_SERVING:
        return MOEBIUS__V1__SERVER_STATE__SERVER_STATE_SERVING;
    case GENERATION_STATE_DRAINING:
        return MOEBIUS__V1__SERVER_STATE__SERVER_STATE_DRAINING;
    case GENERATION_STATE_DRAINED:
        return MOEBIUS__V1__SERVER_STATE__SERVER_STATE_DRAINED;
    case GENERATION_STATE_STALLED:
    case GENERATION_STATE_FAILED:
        break;
    }
    return MOEBIUS__V1__SERVER_STATE__SERVER_STATE_FAILED;
}

/* ---- server info ---- */

static int32_t local_rank(const struct transport *ranks, int32_t rank) {
    int32_t before = 0;
    for (int32_t i = 0; i < rank; i++)
        before += ranks->node_of[i] == ranks->node_of[rank] ? 1 : 0;
    return before;
}

static bool fill_ranks(const struct transport *ranks, struct rpc_arena *arena,
                       Moebius__V1__GetServerInfoResponse *info) {
    size_t size = (size_t)ranks->size;
    Moebius__V1__RankInfo *rank = rpc_arena_take(arena, size * sizeof *rank);
    info->ranks = rpc_arena_take(arena, size * sizeof *info->ranks);
    if (rank == NULL || info->ranks == NULL)
        return false;
    for (int32_t i = 0; i < ranks->size; i++) {
        moebius__v1__rank_info__init(&rank[i]);
        rank[i].rank = (uint32_t)i;
        rank[i].host = rpc_message_borrow(ranks->host_of[i]);
        rank[i].local_rank = (uint32_t)local_rank(ranks, i);
        rank[i].device = rpc_message_borrow("cpu");
        rank[i].role = rpc_message_borrow(i == 0 ? "coordinator" : "worker");
        info->ranks[i] = &rank[i];
    }
    info->n_ranks = size;
    return true;
}

static void reply_info(struct rpc_admin *admin, struct rpc_call *call) {
    Moebius__V1__GetServerInfoResponse info = MOEBIUS__V1__GET_SERVER_INFO_RESPONSE__INIT;
    info.version = rpc_message_borrow(admin->options.version);
    info.state = state_of(admin);
    info.uptime_us = (uint64_t)(clock_now_ns() - admin->options.start_ns) / 1000;
    info.mpi = rpc_message_borrow(admin->mpi);
    if (fill_ranks(admin->options.ranks->transport, rpc_call_arena(call), &info))
        rpc_message_reply(call, &info.base);
    else
        end_for_memory(call);
}

static void on_server_info(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    if (rpc_message_unpack(call, &moebius__v1__get_server_info_request__descriptor, data, size) !=
        NULL)
        reply_info(context, call);
}

static void on_resume(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    struct rpc_admin *admin = context;
    if (rpc_message_unpack(call, &moebius__v1__resume_request__descriptor, data, size) == NULL)
        return;
    if (!generation_service_resume(admin->options.service)) {
        rpc_call_finish(call, RPC_FAILED_PRECONDITION,
                        "Resume: expected a server that goes on, got one that is ending");
        return;
    }
    admin->options.changed(admin->options.context);
    LOG_INFO("admin: resumed by %s", rpc_call_client(call));
    reply_info(admin, call);
}

/* ---- statistics ---- */

static const struct metrics *metrics_of(const struct rpc_admin *admin) {
    return generation_service_options(admin->options.service)->metrics;
}

static void on_stats(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    struct rpc_admin *admin = context;
    const Moebius__V1__GetStatsRequest *wire = (const void *)rpc_message_unpack(
        call, &moebius__v1__get_stats_request__descriptor, data, size);
    if (wire == NULL)
        return;
    Moebius__V1__GetStatsResponse stats = MOEBIUS__V1__GET_STATS_RESPONSE__INIT;
    if (rpc_stats_fill(metrics_of(admin), admin->options.start_ns, wire->per_rank,
                       rpc_call_arena(call), &stats))
        rpc_message_reply(call, &stats.base);
    else
        end_for_memory(call);
}

/* ---- calls that go on ---- */

static void forget(struct admin_watch *watch) {
    rpc_loop_timer_disarm(watch->admin->options.loop, &watch->timer);
    free(watch);
}

static void on_cancel(void *context, struct rpc_call *call, enum rpc_code reason) {
    (void)context, (void)reason;
    if (rpc_call_data(call) != NULL)
        forget(rpc_call_data(call));
}

/* A watch that is armed for its first message now. NULL: the call has been ended. */
static struct admin_watch *begin(struct rpc_admin *admin, struct rpc_call *call,
                                 rpc_loop_handler *tick) {
    struct admin_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL) {
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "the server is out of memory");
        return NULL;
    }
    watch->admin = admin;
    watch->call = call;
    watch->due_ns = clock_now_ns();
    rpc_call_set_data(call, watch);
    rpc_loop_timer_arm(admin->options.loop, &watch->timer, watch->due_ns, tick, watch);
    return watch;
}

/* Sends a message; a reader that has not taken the last ones misses this one. false: the call has
 * been ended and the watch is gone. */
static bool tell(struct admin_watch *watch, const ProtobufCMessage *message) {
    enum status status = rpc_message_send(watch->call, message);
    if (status == STATUS_OK || status == STATUS_LIMIT)
        return true;
    end_for_memory(watch->call);
    forget(watch);
    return false;
}

static void tick_stats(void *context) {
    struct admin_watch *watch = context;
    struct rpc_admin *admin = watch->admin;
    struct rpc_arena *arena = rpc_call_arena(watch->call);
    Moebius__V1__GetStatsResponse stats = MOEBIUS__V1__GET_STATS_RESPONSE__INIT;
    rpc_arena_reset(arena);
    if (!rpc_stats_fill(metrics_of(admin), admin->options.start_ns, watch->per_rank, arena,
                        &stats)) {
        end_for_memory(watch->call);
        forget(watch);
        return;
    }
    if (!tell(watch, &stats.base))
        return;
    watch->due_ns += watch->interval_ns;
    int64_t now_ns = clock_now_ns();
    if (watch->due_ns < now_ns)
        watch->due_ns = now_ns; /* missed ones are not made up for */
    rpc_loop_timer_arm(admin->options.loop, &watch->timer, watch->due_ns, tick_stats, watch);
}

static void on_watch_stats(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    const Moebius__V1__GetStatsRequest *wire = (const void *)rpc_message_unpack(
        call, &moebius__v1__get_stats_request__descriptor, data, size);
    if (wire == NULL)
        return;
    uint32_t interval_ms = wire->interval_ms > 0 ? wire->interval_ms : INTERVAL_MS_DEFAULT;
    bool per_rank = wire->per_rank;
    if (interval_ms < INTERVAL_MS_MIN) {
        rpc_call_finish(call, RPC_INVALID_ARGUMENT,
                        "interval_ms: expected 0 or at least 100, got less");
        return;
    }
    struct admin_watch *watch = begin(context, call, tick_stats);
    if (watch == NULL)
        return;
    watch->interval_ns = interval_ms * NS_PER_MS;
    watch->per_rank = per_rank;
}

/* ---- drain ---- */

/* The server ends if that was asked for, unless somebody has resumed it meanwhile. */
static void finish_drain(struct admin_watch *watch, enum generation_state state) {
    struct rpc_admin *admin = watch->admin;
    bool exits = watch->exit_when_done && state != GENERATION_STATE_SERVING;
    rpc_call_finish(watch->call, RPC_OK, NULL);
    forget(watch);
    if (exits)
        admin->options.end(admin->options.context);
}

static void tick_drain(void *context) {
    struct admin_watch *watch = context;
    struct rpc_admin *admin = watch->admin;
    struct generation_service *service = admin->options.service;
    int64_t now_ns = clock_now_ns();
    enum generation_state state = generation_service_state(service);
    bool is_over = state != GENERATION_STATE_DRAINING && state != GENERATION_STATE_STALLED;
    if (!is_over && watch->give_up_ns != 0 && now_ns >= watch->give_up_ns) {
        int32_t aborted = generation_service_abort(service, NULL);
        if (aborted > 0)
            LOG_WARN("admin: drain: %d requests aborted after their time", aborted);
        watch->give_up_ns = 0;
    }
    if (is_over || now_ns >= watch->due_ns) {
        Moebius__V1__DrainProgress progress = MOEBIUS__V1__DRAIN_PROGRESS__INIT;
        progress.state = state_of(admin);
        progress.running = (uint32_t)metrics_value(metrics_of(admin), METRICS_REQUESTS_RUNNING);
        progress.waiting = (uint32_t)metrics_value(metrics_of(admin), METRICS_REQUESTS_WAITING);
        watch->due_ns = now_ns + DRAIN_INTERVAL_MS * NS_PER_MS;
        if (!tell(watch, &progress.base))
            return;
    }
    if (is_over)
        finish_drain(watch, state);
    else
        rpc_loop_timer_arm(admin->options.loop, &watch->timer, now_ns + DRAIN_LOOK_MS * NS_PER_MS,
                           tick_drain, watch);
}

static void on_drain(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    struct rpc_admin *admin = context;
    const Moebius__V1__DrainRequest *wire =
        (const void *)rpc_message_unpack(call, &moebius__v1__drain_request__descriptor, data, size);
    if (wire == NULL)
        return;
    int64_t timeout_ns = wire->timeout_ms * NS_PER_MS;
    bool exits = wire->exit_when_done;
    struct admin_watch *watch = begin(admin, call, tick_drain);
    if (watch == NULL)
        return;
    watch->give_up_ns = timeout_ns > 0 ? clock_now_ns() + timeout_ns : 0;
    watch->exit_when_done = exits;
    LOG_INFO("admin: %s asks to drain: %d requests open", rpc_call_client(call),
             generation_service_open(admin->options.service));
    generation_service_drain(admin->options.service, false);
    admin->options.changed(admin->options.context);
}

/* ---- experts ---- */

/* The layers that a request means, held against those there are. false: the call has been ended. */
static bool choose_layers(const struct rpc_admin *admin, struct rpc_call *call, uint32_t first,
                          uint32_t wanted, int32_t *count) {
    uint32_t layers = (uint32_t)rank_accounts_layers(admin->options.accounts);
    if (first > layers || wanted > layers - first) {
        char text[128];
        snprintf(text, sizeof text,
                 "first_layer, layers: expected some of %u MoE layers, got %u and %u", layers,
                 first, wanted);
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, text);
        return false;
    }
    *count = (int32_t)(wanted > 0 ? wanted : layers - first);
    return true;
}

/* From the start to when the ranks last told. */
static uint64_t window_us(const struct rpc_admin *admin) {
    int64_t told_ns = rank_accounts_told_ns(admin->options.accounts);
    return told_ns > admin->options.start_ns ? (uint64_t)(told_ns - admin->options.start_ns) / 1000
                                             : 0;
}

static void on_expert_load(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    struct rpc_admin *admin = context;
    const Moebius__V1__GetExpertLoadRequest *wire = (const void *)rpc_message_unpack(
        call, &moebius__v1__get_expert_load_request__descriptor, data, size);
    if (wire == NULL)
        return;
    if (wire->reset || wire->prefill_only || wire->decode_only) {
        rpc_call_finish(call, RPC_UNIMPLEMENTED,
                        "reset, prefill_only, decode_only: this server does not know them");
        return;
    }
    int32_t count;
    if (!choose_layers(admin, call, wire->first_layer, wire->layers, &count))
        return;
    Moebius__V1__GetExpertLoadResponse load = MOEBIUS__V1__GET_EXPERT_LOAD_RESPONSE__INIT;
    load.window_us = window_us(admin);
    if (rpc_stats_load(admin->options.accounts, (int32_t)wire->first_layer, count, wire->by_rank,
                       rpc_call_arena(call), &load))
        rpc_message_reply(call, &load.base);
    else
        end_for_memory(call);
}

static void on_placement(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    struct rpc_admin *admin = context;
    const Moebius__V1__GetPlacementRequest *wire = (const void *)rpc_message_unpack(
        call, &moebius__v1__get_placement_request__descriptor, data, size);
    int32_t count;
    if (wire == NULL || !choose_layers(admin, call, wire->first_layer, wire->layers, &count))
        return;
    Moebius__V1__Placement placement = MOEBIUS__V1__PLACEMENT__INIT;
    placement.ranks = (uint32_t)admin->options.ranks->size;
    placement.nodes = (uint32_t)transport_node_count(admin->options.ranks->transport);
    if (rpc_stats_placement(admin->options.placement,
                            rank_accounts_experts(admin->options.accounts),
                            (int32_t)wire->first_layer, count, rpc_call_arena(call), &placement))
        rpc_message_reply(call, &placement.base);
    else
        end_for_memory(call);
}

static void on_traffic(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    struct rpc_admin *admin = context;
    const Moebius__V1__GetTrafficRequest *wire = (const void *)rpc_message_unpack(
        call, &moebius__v1__get_traffic_request__descriptor, data, size);
    if (wire == NULL)
        return;
    if (wire->reset) {
        rpc_call_finish(call, RPC_UNIMPLEMENTED, "reset: this server does not know it");
        return;
    }
    Moebius__V1__GetTrafficResponse traffic = MOEBIUS__V1__GET_TRAFFIC_RESPONSE__INIT;
    traffic.window_us = window_us(admin);
    if (rpc_stats_traffic(admin->options.accounts, admin->options.ranks, wire->by_node,
                          rpc_call_arena(call), &traffic))
        rpc_message_reply(call, &traffic.base);
    else
        end_for_memory(call);
}

static void on_reload_plan(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    (void)context, (void)data, (void)size;
    rpc_call_finish(call, RPC_UNIMPLEMENTED, "ReloadPlan: this server moves no experts");
}

/* ---- the service ---- */

enum status rpc_admin_create(const struct rpc_admin_options *options, struct rpc_admin **admin) {
    struct rpc_admin *created = calloc(1, sizeof *created);
    if (created == NULL) {
        LOG_ERROR("admin: cannot take memory for its state");
        return STATUS_NO_MEMORY;
    }
    created->options = *options;
    const char *thread_level;
    if (options->ranks->size > 1)
        rank_group_describe_mpi(options->ranks, created->mpi, sizeof created->mpi, &thread_level);
    *admin = created;
    return STATUS_OK;
}

void rpc_admin_destroy(struct rpc_admin *admin) {
    free(admin);
}

enum status rpc_admin_register(struct rpc_admin *admin, struct rpc_server *server) {
    const struct rpc_method methods[] = {
        {.path = "/moebius.v1.Admin/GetServerInfo", .on_message = on_server_info},
        {.path = "/moebius.v1.Admin/GetStats", .on_message = on_stats},
        {.path = "/moebius.v1.Admin/WatchStats",
         .on_message = on_watch_stats,
         .on_cancel = on_cancel},
        {.path = "/moebius.v1.Admin/GetExpertLoad", .on_message = on_expert_load},
        {.path = "/moebius.v1.Admin/GetPlacement", .on_message = on_placement},
        {.path = "/moebius.v1.Admin/GetTraffic", .on_message = on_traffic},
        {.path = "/moebius.v1.Admin/ReloadPlan", .on_message = on_reload_plan},
        {.path = "/moebius.v1.Admin/Drain", .on_message = on_drain, .on_cancel = on_cancel},
        {.path = "/moebius.v1.Admin/Resume", .on_message = on_resume},
    };
    struct rpc_method own[sizeof methods / sizeof methods[0]];
    memcpy(own, methods, sizeof methods);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        own[i].context = admin;
    return rpc_server_register(server, own, sizeof own / sizeof own[0]);
}
