/* The two messages of a step outside the layers. */
#include "runtime/step_link.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
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
    return STATUS_OK;
}

void step_link_deinit(struct step_link *link) {
    free(link->members);
    free(link->plan_bytes);
    free(link->results);
    free(link->into);
    free(link->sizes);
    *link = (struct step_link){0};
}

enum status step_link_share(struct step_link *link, struct step_plan *plan) {
    if (link->ranks->size == 1)
        return STATUS_OK;
    /* The others do not know the step's number before they have the plan: it stands in the plan. */
    struct transport_scope scope = {.step = 0, .layer = -1, .kind = TRAFFIC_PLAN};
    int64_t bytes = 0;
    bool coordinator = link->ranks->rank == 0;
    if (coordinator)
        bytes = step_plan_encode(plan, link->plan_bytes);
    RETURN_IF_ERROR(collective_broadcast(&link->world, &scope, !coordinator, link->plan_bytes,
                                         link->plan_capacity, &bytes));
    return coordinator ? STATUS_OK : step_plan_decode(plan, link->plan_bytes, bytes);
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
