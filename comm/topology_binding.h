/* What the bindings of all ranks together mean: how many threads each should run, and whether they
 * make sense. */
#ifndef MOEBIUS_COMM_TOPOLOGY_BINDING_H
#define MOEBIUS_COMM_TOPOLOGY_BINDING_H

#include "comm/topology.h"

/* One rank, for topology_binding_check. */
struct topology_place {
    int32_t node;     /* number of its host */
    const char *host; /* for the message */
    int32_t threads;  /* compute threads it will run */
    const struct topology *topology;
};

/* How many threads a rank should run: each core that it may use counts as one, divided by the ranks
 * of its node that may use it too; at least 1. Local. */
int32_t topology_binding_share(const struct topology_place *places, int32_t count, int32_t rank);

/* Whether the bindings of all ranks ([count], by rank) make sense together. If not, returns false
 * and writes one sentence on the first thing that does not: all ranks of a node on the same few
 * cores, a rank with more threads than CPUs, a node with more threads than CPUs. Local. */
bool topology_binding_check(const struct topology_place *places, int32_t count, char *warning,
                            size_t size);

#endif
