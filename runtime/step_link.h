/* Between the coordinator and the other ranks, twice a step: the plan goes out, each rank's status
 * and what it found out come back. */
#ifndef MOEBIUS_RUNTIME_STEP_LINK_H
#define MOEBIUS_RUNTIME_STEP_LINK_H

#include "comm/collective.h"
#include "comm/rank_group.h"
#include "runtime/step_plan.h"
#include "runtime/step_verify.h"

struct step_link_options {
    const struct rank_group *ranks; /* borrowed */
    struct step_limits plan;
    int64_t payload_bytes; /* of one rank's message, at most */
    bool verify;           /* ranks send their digests too */
};

struct step_link {
    const struct rank_group *ranks;
    struct collective_group world;
    int32_t *members; /* [size]: 0 .. size - 1 */
    char *plan_bytes;
    int64_t plan_capacity;
    char *results;  /* coordinator: [size] messages; others: one */
    char **into;    /* [size] */
    int64_t *sizes; /* [size] */
    int64_t result_capacity, head_bytes;
    bool verify;
    int64_t spoken_ns; /* coordinator: when the others last heard of it */
    void *region;
    size_t region_bytes;
};

/* Bytes that init takes on this rank. STATUS_NO_MEMORY (logged) when the longest message is longer
 * than MPI can say (INT_MAX). Local. */
enum status step_link_memory_bytes(const struct step_link_options *options, int64_t *bytes);

/* Takes the buffers, the transport's too. STATUS_NO_MEMORY, STATUS_LIMIT (logged). Local. */
enum status step_link_init(struct step_link *link, const struct step_link_options *options);
void step_link_deinit(struct step_link *link);

/* The coordinator's plan to every rank; the others wait for it asleep, answer the heartbeats that
 * come before it, and decode it into *plan. STATUS_PEER. Collective. */
enum status step_link_share(struct step_link *link, struct step_plan *plan);

/* What the coordinator does while there is no plan to share: when the others have heard nothing of
 * it for a third of the transport's timeout, it tells them that it is there and waits until each
 * has answered. *wait_ms: call it again within that time (INT32_MAX on one rank: never).
 * STATUS_PEER (logged). Collective with step_link_share. */
enum status step_link_idle(struct step_link *link, int32_t *wait_ms);

/* Where this rank's payload is to be written, aligned to 8 bytes. Local. */
char *step_link_payload(const struct step_link *link);

/* This rank's status and payload to the coordinator. There, *agreed is the worst status of all
 * ranks (elsewhere `mine`), and with `verify` STATUS_INTERNAL (logged: rank, step, what differs)
 * when the digests of two ranks differ that must not. STATUS_PEER. Collective. */
struct step_report {
    int64_t step;
    enum status mine;
    int64_t bytes; /* of the payload */
    struct step_digests digests;
};
enum status step_link_collect(struct step_link *link, const struct step_report *report,
                              enum status *agreed);

/* On the coordinator, what rank `rank` sent; valid until the next step_link_payload is written.
 * Local. */
const char *step_link_received(const struct step_link *link, int32_t rank, int64_t *bytes);

#endif
