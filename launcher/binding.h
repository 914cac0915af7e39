/* How many compute threads a rank runs, from the CPUs that mpirun or Slurm left to it and to the
 * others on its machine. */
#ifndef MOEBIUS_LAUNCHER_BINDING_H
#define MOEBIUS_LAUNCHER_BINDING_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/rank_group.h"

/* *threads: `wanted`, or when that is 0 this rank's share of the cores that it may use
 * (topology_binding_share). With `warns` the coordinator logs one warning when the bindings of all
 * ranks make no sense together. STATUS_UNSUPPORTED, STATUS_PEER, STATUS_NO_MEMORY (logged).
 * Collective.
 */
enum status binding_settle(const struct rank_group *ranks, int32_t wanted, bool warns,
                           int32_t *threads);

#endif
