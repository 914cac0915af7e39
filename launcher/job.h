/* One command on all ranks of the job: how it begins and how it ends. */
#ifndef MOEBIUS_LAUNCHER_JOB_H
#define MOEBIUS_LAUNCHER_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/rank_group.h"
#include "comm/traffic.h"

struct job_options {
    const char *command; /* its name */
    int32_t comm_timeout_ms;
    int32_t tensor_parallel_size, data_parallel_size; /* 0: default */
};

/* Joins the ranks that mpirun or srun started (or stands alone) and arranges them; sets the rank in
 * the log. STATUS_USAGE, STATUS_PEER, STATUS_NO_MEMORY (logged). Collective. */
enum status job_start(const struct job_options *options, struct rank_group *ranks);

/* Leaves with the others when all went well. When `status` is an error and there are others, ends
 * them all at once with its exit code and does not return. Collective. */
void job_end(struct rank_group *ranks, enum status status);

/* Adds up the accounts of all ranks on the coordinator (into its own), and keeps how many (token,
 * expert) pairs each rank computed. Collective. */
struct job_load {
    int64_t computed[TRANSPORT_RANKS_MAX]; /* by rank */
    int64_t computed_max;
    double computed_mean;
};
enum status job_gather_traffic(const struct rank_group *ranks, struct traffic *traffic,
                               struct job_load *load);

#endif
