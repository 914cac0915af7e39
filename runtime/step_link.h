/* Between the coordinator and the other ranks, twice a step: the plan goes out, row results come
 * back with each rank's status. */
#ifndef MOEBIUS_RUNTIME_STEP_LINK_H
#define MOEBIUS_RUNTIME_STEP_LINK_H

#include "comm/collective.h"
#include "comm/rank_group.h"
#include "runtime/step_plan.h"

struct step_link {
    const struct rank_group *ranks; /* borrowed */
    struct collective_group world;
    int32_t *members; /* [size]: 0 .. size - 1 */
    char *plan_bytes;
    int64_t plan_capacity;
    char *results;  /* coordinator: [size] messages; others: one */
    char **into;    /* [size] */
    int64_t *sizes; /* [size] */
    int64_t result_capacity;
    size_t vocabulary;
    int64_t spoken_ns; /* coordinator: when the others last heard of it */
};

/* Takes the buffers, the transport's too: plans like `plan`, up to `logit_rows` rows of logits from
 * each rank. STATUS_NO_MEMORY, STATUS_LIMIT (logged). Local. */
enum status step_link_init(struct step_link *link, const struct rank_group *ranks,
                           const struct step_plan *plan, int32_t logit_rows, int32_t vocabulary);
void step_link_deinit(struct step_link *link);

/* The coordinator's plan to every rank; the others wait for it asleep, answer the heartbeats that
 * come before it, and decode it into *plan. STATUS_PEER. Collective. */
enum status step_link_share(struct step_link *link, struct step_plan *plan);

/* What the coordinator does while there is no plan to share: when the others have heard nothing of
 * it for a third of the transport's timeout, it tells them that it is there and waits until each
 * has answered. *wait_ms: call it again within that time (INT32_MAX on one rank: never).
 * STATUS_PEER (logged). Collective with step_link_share. */
enum status step_link_idle(struct step_link *link, int32_t *wait_ms);

/* This rank's rows of logits and status to the coordinator. There, rows[r] is rank r's logits
 * (valid until the next call) and *agreed the worst status of all. `rows` is unused elsewhere, and
 * *agreed is `mine`. STATUS_PEER. Collective. */
enum status step_link_collect(struct step_link *link, const struct step_plan *plan,
                              enum status mine, const float *logits, int32_t count,
                              const float **rows, enum status *agreed);

#endif
