/* The ranks of this job and the groups that they form. Ranks come from MPI alone.
 *
 * World rank r = dp_rank * tp_size + tp_rank: the ranks of a tensor-parallel group are neighbours.
 * The expert-parallel group is the world. */
#ifndef MOEBIUS_COMM_RANK_GROUP_H
#define MOEBIUS_COMM_RANK_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/doorbell.h"
#include "comm/rank_watch.h"
#include "comm/transport.h"
#include "kernels/base/status.h"

struct rank_group {
    int32_t rank, size;       /* world */
    int32_t tp_rank, tp_size; /* inside the tensor-parallel group */
    int32_t dp_rank, dp_size;
    int32_t tp_first;             /* world rank of the group's first member: dp_rank * tp_size */
    int32_t node;                 /* the node this rank is on, numbered by lowest rank */
    int32_t node_rank, node_size; /* among the ranks of this node */
    int32_t lane_rank, lane_size; /* among those of them with the same tp_rank */
    int32_t *node_members;        /* [node_size]: world ranks */
    int32_t *lane_members;        /* [lane_size] */
    int32_t *node_of;             /* [size]; NULL: one rank without MPI */
    char (*host_of)[64];          /* [size] */
    struct doorbell *doorbell;    /* NULL: one rank without MPI */
    struct transport *transport;  /* of the world */
};

struct rank_group_options {
    bool under_launcher; /* mpirun or srun started us */
    int32_t timeout_ms;  /* of every wait for another rank; --comm-timeout */
    const char *command; /* what this rank is to do, for people; at most 31 bytes */
};

/* Joins the job: MPI_Init_thread (FUNNELED) under a launcher, else one rank without MPI. Tries who
 * can be woken by whom; rank 0 logs, in one line, which ranks cannot and will poll when idle.
 * STATUS_PEER (logged) when MPI does not give the thread level, or when a rank runs another build
 * of the program or another command than rank 0 (rank 0 logs it alone: rank, host, both).
 * STATUS_NO_MEMORY (logged). Ends the process as rank_watch_begin says when a rank is stopped, or
 * when not all have come within rank_group_patience_ms. tp_size is set by rank_group_shape.
 * Collective. */
enum status rank_group_start(const struct rank_group_options *options, struct rank_group *group);

/* How long ranks wait for each other to join and to leave: six times the timeout, since many start
 * at once from one file system, and a minute at least. Local. */
int32_t rank_group_patience_ms(int32_t timeout_ms);

/* Watches the other ranks through a phase in which they may be silent for long (rank_watch.h):
 * those of this host, and where UDP gets through those of others. Until rank_watch_end nothing may
 * be awaited (transport_ops). NULL when there are no others. Collective. */
struct rank_watch *rank_group_watch(const struct rank_group *group, const char *phase);

/* Arranges the world as dp_size x tp_size. 0 means not given: tp is size / dp where that is given,
 * else 1, and dp is size / tp. STATUS_USAGE (logged with the nearest possible combinations) when tp
 * * dp is not the number of ranks. Local, same result on all ranks. */
enum status rank_group_shape(struct rank_group *group, int32_t tp_size, int32_t dp_size);

/* From here on every `ranks_per_node` ranks of a host, in order of rank, count as a node of their
 * own in node_of: for distances, flows and accounts. What the ranks of a host share (node,
 * node_size, ...) stays as it is. Local, same result on all ranks. */
void rank_group_split_nodes(struct rank_group *group, int32_t ranks_per_node);

/* What MPI says about itself, for people: its name and version ("Open MPI v4.1.4") in
 * version[size], and the thread level that it granted ("funneled"; "not started" for one rank
 * without MPI) in *thread_level. Local. */
void rank_group_describe_mpi(const struct rank_group *group, char *version, size_t size,
                             const char **thread_level);

/* A plain MPI_Alltoallv, to compare with: sent_bytes [size] to each rank from `sent`, one behind
 * the other, and the same on arrival. Without deadline, not counted. STATUS_LIMIT (logged) for more
 * than MPI can count, STATUS_PEER. Collective; under MPI only. */
enum status rank_group_alltoallv(const struct rank_group *group, const void *sent,
                                 const int64_t *sent_bytes, void *received,
                                 const int64_t *received_bytes);

/* Leaves in good order (MPI_Finalize): when all others do. The coordinator may come late, with
 * something to write; another rank that does not come, or is stopped, ends the job with
 * STATUS_PEER's exit code (logged: rank, host). Collective. */
void rank_group_finish(struct rank_group *group);

/* Ends all ranks at once with this exit code (MPI_Abort); one rank: exits. Never returns. Local. */
_Noreturn void rank_group_abort(const struct rank_group *group, int exit_code);

#endif
