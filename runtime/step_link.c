/* The two messages of a step outside the layers. */
#include "runtime/step_link.h"

#include <limits.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"

/* What goes before a payload; the digests follow where they are wanted. */
struct result_head {
    int64_t status;
};

static int64_t head_bytes(bool verify) {
    return (int64_t)(sizeof(struct result_head) + (verify ? sizeof(struct step_digests) : 0));
}

/* Takes everything from an arena, or measures it. One rank alone has a payload and nobody to send
 * it to. */
static void lay_out(struct step_link *link, struct arena *arena) {
    size_t size = (size_t)link->ranks->size, messages = link->ranks->rank == 0 ? size : 1;
    link->members = arena_take(arena, size * sizeof *link->members);
    link->into = arena_take(arena, size * sizeof *link->into);
    link->sizes = arena_take(arena, size * sizeof *link->sizes);
    link->results = arena_take(arena, messages * (size_t)link->result_capacity);
    link->plan_bytes = arena_take(arena, size > 1 ? (size_t)link->plan_capacity : 0);
}

static int64_t longest_message(const struct step_link *link) {
    return link->result_capacity > link->plan_capacity ? link->result_capacity
                                                       : link->plan_capacity;
}

/* Sizes without memory. */
static enum status describe(const struct step_link_options *options, struct step_link *link) {
    int64_t results = head_bytes(options->verify) + options->payload_bytes;
    *link = (struct step_link){.ranks = options->ranks,
                               .verify = options->verify,
                               .head_bytes = head_bytes(options->verify),
                               .plan_capacity = step_plan_bytes_max(&options->plan),
                               .result_capacity = (results + 7) / 8 * 8};
    if (options->ranks->size == 1 || longest_message(link) <= INT_MAX)
        return STATUS_OK;
    LOG_ERROR(
        "ranks: expected messages of at most %d bytes, got plans of %lld and results of %lld: "
        "take fewer --max-num-batched-tokens or --max-num-seqs",
        INT_MAX, (long long)link->plan_capacity, (long long)link->result_capacity);
    return STATUS_NO_MEMORY;
}

enum status step_link_memory_bytes(const struct step_link_options *options, int64_t *bytes) {
    struct step_link link;
    RETURN_IF_ERROR(describe(options, &link));
    struct arena measure = {0};
    lay_out(&link, &measure);
    *bytes = (int64_t)measure.used;
    return STATUS_OK;
}

enum status step_link_init(struct step_link *link, const struct step_link_options *options) {
    RETURN_IF_ERROR(describe(options, link));
    struct arena arena = {0};
    lay_out(link, &arena);
    link->region_bytes = arena.used;
    RETURN_IF_ERROR(memory_acquire("messages of a step", link->region_bytes, &link->region));
    arena = (struct arena){.base = link->region, .capacity = link->region_bytes};
    lay_out(link, &arena);
    const struct rank_group *ranks = options->ranks;
    int32_t messages = ranks->rank == 0 ? ranks->size : 1;
    for (int32_t i = 0; i < ranks->size; i++) {
        link->members[i] = i;
        link->into[i] = link->results + (i < messages ? i : 0) * link->result_capacity;
    }
    link->world = (struct collective_group){.transport = ranks->transport,
                                            .members = link->members,
                                            .count = ranks->size,
                                            .self = ranks->rank};
    link->spoken_ns = clock_now_ns();
    if (ranks->size == 1)
        return STATUS_OK; /* there may be no transport */
    return transport_reserve(ranks->transport, longest_message(link));
}

void step_link_deinit(struct step_link *link) {
    memory_release(link->region, link->region_bytes);
    *link = (struct step_link){0};
}

/* The others do not know the step's number before they have the plan: it stands in the plan. */
static const struct transport_scope plan_scope = {.step = 0, .layer = -1, .kind = TRAFFIC_PLAN};
static const struct transport_scope beat_scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};

/* A heartbeat is a plan of no bytes; its answer says nothing but that somebody is there. */
static enum status answer_heartbeats(struct step_link *link) {
    void *into[TRANSPORT_RANKS_MAX] = {NULL};
    int64_t sizes[TRANSPORT_RANKS_MAX];
    return collective_gather(&link->world, &beat_scope, NULL, 0, into, 0, sizes);
}

static enum status send_plan(struct step_link *link, int64_t bytes) {
    link->spoken_ns = clock_now_ns();
    return collective_broadcast(&link->world, &plan_scope, true, link->plan_bytes,
                                link->plan_capacity, &bytes);
}

enum status step_link_share(struct step_link *link, struct step_plan *plan) {
    if (link->ranks->size == 1)
        return STATUS_OK;
    if (link->ranks->rank == 0)
        return send_plan(link, step_plan_encode(plan, link->plan_bytes));
    for (;;) {
        int64_t bytes = 0;
        RETURN_IF_ERROR(collective_broadcast(&link->world, &plan_scope, true, link->plan_bytes,
                                             link->plan_capacity, &bytes));
        if (bytes > 0)
            return step_plan_decode(plan, link->plan_bytes, bytes);
        RETURN_IF_ERROR(answer_heartbeats(link));
    }
}

enum status step_link_idle(struct step_link *link, int32_t *wait_ms) {
    *wait_ms = INT32_MAX;
    if (link->ranks->size == 1)
        return STATUS_OK;
    ASSERT(link->ranks->rank == 0);
    int64_t period_ns = (int64_t)link->ranks->transport->timeout_ms * 1000000 / 3;
    if (clock_now_ns() - link->spoken_ns >= period_ns) {
        RETURN_IF_ERROR(send_plan(link, 0));
        RETURN_IF_ERROR(answer_heartbeats(link));
    }
    int64_t left_ns = period_ns - (clock_now_ns() - link->spoken_ns);
    *wait_ms = left_ns > 0 ? (int32_t)(left_ns / 1000000) + 1 : 0;
    return STATUS_OK;
}

char *step_link_payload(const struct step_link *link) {
    return link->into[link->ranks->rank] + link->head_bytes;
}

/* Looks at rank's head and digests. */
static enum status read_head(const struct step_link *link, const struct transport_scope *scope,
                             int32_t rank, struct step_digests *digests, enum status *agreed) {
    struct result_head head;
    if (link->sizes[rank] < link->head_bytes)
        return transport_garbled(link->ranks->transport, scope, rank, link->sizes[rank]);
    memcpy(&head, link->into[rank], sizeof head);
    if (head.status < 0 || head.status >= STATUS_COUNT)
        return transport_garbled(link->ranks->transport, scope, rank, link->sizes[rank]);
    if (link->verify)
        memcpy(digests, link->into[rank] + sizeof head, sizeof *digests);
    if (head.status > (int64_t)*agreed)
        *agreed = (enum status)head.status;
    return STATUS_OK;
}

static enum status read_heads(const struct step_link *link, const struct transport_scope *scope,
                              enum status *agreed) {
    struct step_verify verify = {.ranks = link->ranks, .step = scope->step};
    for (int32_t rank = 0; rank < link->ranks->size; rank++) {
        struct step_digests digests = {0};
        RETURN_IF_ERROR(read_head(link, scope, rank, &digests, agreed));
        if (link->verify && step_verify_rank(&verify, rank, &digests) != STATUS_OK &&
            *agreed == STATUS_OK)
            *agreed = STATUS_INTERNAL;
    }
    return STATUS_OK;
}

enum status step_link_collect(struct step_link *link, const struct step_report *report,
                              enum status *agreed) {
    char *own = link->into[link->ranks->rank];
    int64_t bytes = link->head_bytes + (report->mine == STATUS_OK ? report->bytes : 0);
    *agreed = report->mine;
    ASSERT(bytes <= link->result_capacity);
    link->sizes[link->ranks->rank] = bytes;
    if (link->ranks->size == 1)
        return STATUS_OK;
    struct result_head head = {.status = (int64_t)report->mine};
    memcpy(own, &head, sizeof head);
    if (link->verify)
        memcpy(own + sizeof head, &report->digests, sizeof report->digests);
    struct transport_scope scope = {.step = report->step, .layer = -1, .kind = TRAFFIC_ROWS};
    RETURN_IF_ERROR(collective_gather(&link->world, &scope, own, bytes, (void *const *)link->into,
                                      link->result_capacity, link->sizes));
    return link->ranks->rank == 0 ? read_heads(link, &scope, agreed) : STATUS_OK;
}

const char *step_link_received(const struct step_link *link, int32_t rank, int64_t *bytes) {
    *bytes = link->sizes[rank] - link->head_bytes;
    return link->into[rank] + link->head_bytes;
}
