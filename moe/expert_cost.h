/* How long a dispatch would take by each flow, reckoned from what all ranks know alike before a
 * step: how many rows each brings. Routing is taken as uniform: a token reaches a given set of m of
 * N ranks with probability 1 - (1 - m/N)^k. */
#ifndef MOEBIUS_MOE_EXPERT_COST_H
#define MOEBIUS_MOE_EXPERT_COST_H

#include <stdint.h>

#include "comm/link_probe.h"
#include "moe/expert_exchange.h"

/* What a dispatch is made of. */
struct expert_cost_shape {
    int32_t ranks, top_k;
    int64_t row_bytes;
    const struct expert_nodes *nodes;
    const int32_t *node_of; /* [ranks] */
    const int32_t *rows_of; /* [ranks] of the step */
};

/* Time in ns of one dispatch by a flow, on the rank for which it takes longest. Only flows that
 * EXPERT_FLOW_AUTO chooses among: a2a-dedup, allgather, hierarchical. Local, same on all ranks. */
double expert_cost_of(enum expert_flow flow, const struct expert_cost_shape *shape,
                      const struct link_costs *links);

/* The least of them; on a tie a2a-dedup. cost_ns [EXPERT_FLOW_COUNT] gets each (0: not a
 * candidate). Local, same on all ranks. */
enum expert_flow expert_cost_choose(const struct expert_cost_shape *shape,
                                    const struct link_costs *links, double *cost_ns);

#endif
