/* The debug mode that proves promise 2: every step, every rank says in a few numbers what it
 * executed, and the coordinator holds the ranks against each other. */
#ifndef MOEBIUS_RUNTIME_STEP_VERIFY_H
#define MOEBIUS_RUNTIME_STEP_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "comm/rank_group.h"
#include "kernels/base/status.h"
#include "runtime/sequence.h"
#include "runtime/step_plan.h"

/* Equal numbers: equal but for a chance of 2^-64. */
struct step_digests {
    uint64_t plan;     /* what was decoded: the same on all ranks */
    uint64_t tables;   /* block tables and lengths of all places: the same on all ranks */
    uint64_t residual; /* of the rows that ran: the same within a data-parallel group */
};

/* Goes on from `digest` with `bytes` bytes. Local. */
uint64_t step_verify_hash(uint64_t digest, const void *data, size_t bytes);

uint64_t step_verify_plan(const struct step_plan *plan);
uint64_t step_verify_tables(const struct sequence *sequences, int32_t count);

/* The comparison, rank by rank from 0 on. STATUS_INTERNAL (logged: step, rank, host, what differs,
 * from which rank) when one differs. Local. */
struct step_verify {
    const struct rank_group *ranks;
    int64_t step;
    struct step_digests first; /* rank 0's */
    struct step_digests group; /* of the last group's first rank */
};
enum status step_verify_rank(struct step_verify *verify, int32_t rank,
                             const struct step_digests *digests);

#endif
