/* The two messages of a step outside the layers. */
#include "runtime/step_link.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"

/* What goes before the logits. */
struct result_head {
    int32_t status, rows;
};

enum status step_link_init(struct step_link *link, const struct rank_group *ranks,
                           const struct step_plan *plan, int32_t logit_rows, int32_t vocabulary) {
    size_t size = (size_t)ranks->size, messages = ranks->rank == 0 ? size : 1;
    *link = (struct step_link){.ranks = ranks,
                               .plan_capacity = step_plan_bytes_max(plan),
                               .vocabulary = (size_t)vocabulary};
    if (size == 1)
        return STATUS_OK; /* nobody to talk to */
    link->result_capacity = (int64_t)(sizeof(struct result_head) +
                                      (size_t)logit_rows * link->vocabulary * sizeof(float));
    link->members = malloc(sizeof *link->members * size);
    link->plan_bytes = malloc((size_t)link->plan_capacity);
    link->results = malloc(messages * (size_t)link->result_capacity);
    link->into = malloc(sizeof *link->into * size);
    link->sizes = malloc(sizeof *link->sizes * size);
    if (!link->members || !link->plan_bytes || !link->results || !link->into || !link->sizes) {
        LOG_ERROR("ranks: cannot take buffers for plans of %lld and results of %lld bytes",
                  (long long)link->plan_capacity, (long long)link->result_capacity);
        step_link_deinit(link);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < size; i++) {
        link->members[i] = (int32_t)i;
        link->into[i] = link->results + (i < messages ? i : 0) * (size_t)link->result_capacity;
    }
    link->world = (struct collective_group){.transport = ranks->transport,
                                            .members = link->members,
                                            .count = ranks->size,
                                            .self = ranks->rank};
    link->spoken_ns = clock_now_ns();
    return transport_reserve(ranks->transport, link->plan_capacity > link->result_capacity
                                                   ? link->plan_capacity
                                                   : link->result_capacity);
}

void step_link_deinit(struct step_link *link) {
    free(link->members);
    free(link->plan_bytes);
    free(link->results);
    free(link->into);
    free(link->sizes);
    *link = (struct step_link){0};
}

/* The others do not know the step's number before they have the plan: it stands in the plan. */
static const struct transport_scope plan_scope = {.step = 0, .layer = -1, .kind = TRAFFIC_PLAN};
static const struct transport_scope beat_scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};

/* A heartbeat is a plan of no bytes; its answer says nothing but that somebody is there. */
static enum status answer_heartbeats(struct step_link *link) {
    int32_t beats[TRANSPORT_RANKS_MAX] = {0};
    void *into[TRANSPORT_RANKS_MAX];
    int64_t sizes[TRANSPORT_RANKS_MAX];
    for (int32_t i = 0; i < link->ranks->size; i++)
        into[i] = &beats[i];
    return collective_gather(&link->world, &beat_scope, &beats[link->ranks->rank], sizeof *beats,
                             into, sizeof *beats, sizes);
}

static enum status send_plan(struct step_link *link, int64_t bytes) {
    link->spoken_ns = clock_now_ns();
    return collective_broadcast(&link->world, &plan_scope, false, link->plan_bytes,
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

/* How many rows of logits the plan asks of a rank: the first of each group answers for it. */
static int32_t rows_expected(const struct step_link *link, const struct step_plan *plan,
                             int32_t rank) {
    int32_t rows = 0;
    if (rank % link->ranks->tp_size != 0)
        return 0;
    for (int32_t i = 0; i < plan->entries; i++)
        if (plan->entry[i].group == rank / link->ranks->tp_size)
            rows += step_plan_logit_rows(&plan->entry[i]);
    return rows;
}

/* Takes rank's message apart. */
static enum status read_result(const struct step_link *link, const struct transport_scope *scope,
                               int32_t rank, const struct step_plan *plan, const float **rows,
                               enum status *agreed) {
    struct result_head head;
    memcpy(&head, link->into[rank], sizeof head);
    if (link->sizes[rank] < (int64_t)sizeof head || head.status < 0 ||
        head.status >= STATUS_COUNT ||
        (head.status == STATUS_OK && head.rows != rows_expected(link, plan, rank)) ||
        head.rows < 0 ||
        link->sizes[rank] !=
            (int64_t)(sizeof head + (size_t)head.rows * link->vocabulary * sizeof(float)))
        return transport_garbled(link->ranks->transport, scope, rank, link->sizes[rank]);
    if (head.status > (int32_t)*agreed)
        *agreed = (enum status)head.status;
    rows[rank] = (const float *)(const void *)(link->into[rank] + sizeof head);
    return STATUS_OK;
}

enum status step_link_collect(struct step_link *link, const struct step_plan *plan,
                              enum status mine, const float *logits, int32_t count,
                              const float **rows, enum status *agreed) {
    *agreed = mine;
    if (link->ranks->size == 1) {
        rows[0] = logits;
        return STATUS_OK;
    }
    struct transport_scope scope = {.step = plan->step, .layer = -1, .kind = TRAFFIC_ROWS};
    int32_t sent = mine == STATUS_OK ? count : 0;
    struct result_head head = {.status = (int32_t)mine, .rows = sent};
    size_t bytes = (size_t)sent * link->vocabulary * sizeof(float);
    char *own = link->into[link->ranks->rank];
    memcpy(own, &head, sizeof head);
    if (bytes > 0)
        memcpy(own + sizeof head, logits, bytes);
    RETURN_IF_ERROR(collective_gather(&link->world, &scope, own, (int64_t)(sizeof head + bytes),
                                      (void *const *)link->into, link->result_capacity,
                                      link->sizes));
    for (int32_t rank = 0; link->ranks->rank == 0 && rank < link->ranks->size; rank++)
        RETURN_IF_ERROR(read_result(link, &scope, rank, plan, rows, agreed));
    return STATUS_OK;
}
