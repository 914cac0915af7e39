/* Joins the job and tells each rank its place: world, node, tensor- and data-parallel group. */
#define _GNU_SOURCE
#include "comm/rank_group.h"

#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/collective.h"
#include "comm/transport_mpi.h"
#include "kernels/base/build_id.h"
#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"

#define PATIENCE_TIMEOUTS 6
#define PATIENCE_MS_LEAST (60 * 1000)
#define TRY_DOORBELLS_MS 200 /* where nothing gets through, every start takes this long */
#define LATE_COORDINATOR_MS (30 * 60 * 1000) /* it may have gigabytes to write */

static enum status start_alone(struct rank_group *group) {
    RETURN_IF_ERROR(transport_self_create(&group->transport));
    group->size = group->node_size = group->lane_size = 1;
    return STATUS_OK;
}

/* Nodes are told apart by host name and numbered by their lowest rank. */
static void number_nodes(struct rank_group *group) {
    for (int32_t rank = 0, count = 0; rank < group->size; rank++) {
        int32_t twin = 0;
        while (strcmp(group->host_of[twin], group->host_of[rank]) != 0)
            twin++;
        group->node_of[rank] = twin == rank ? count++ : group->node_of[twin];
    }
    group->node = group->node_of[group->rank];
    for (int32_t rank = 0; rank < group->size; rank++) {
        if (group->node_of[rank] != group->node)
            continue;
        group->node_rank += rank < group->rank ? 1 : 0;
        group->node_members[group->node_size++] = rank;
    }
}

/* The ranks of this node that hold the same part of every tensor-parallel tensor. */
static void number_lane(struct rank_group *group) {
    group->lane_rank = group->lane_size = 0;
    for (int32_t i = 0; i < group->node_size; i++) {
        int32_t rank = group->node_members[i];
        if (rank % group->tp_size != group->tp_rank)
            continue;
        group->lane_rank += rank < group->rank ? 1 : 0;
        group->lane_members[group->lane_size++] = rank;
    }
}

/* What every rank tells first. Its size is part of what builds must agree about: MPI itself ends a
 * job in which a rank brings another one. */
struct introduction {
    char host[64], build[BUILD_ID_SIZE], command[32];
};

/* One of the texts that have to be the same on all ranks. Only the coordinator says it, and nobody
 * goes on to end the job before it has. */
static enum status compare(const struct introduction *all, const struct rank_group *group,
                           const char *what, size_t offset) {
    const char *expected = (const char *)all + offset;
    int32_t first = 0, count = 0;
    for (int32_t other = group->size - 1; other > 0; other--) {
        if (strcmp((const char *)&all[other] + offset, expected) == 0)
            continue;
        first = other;
        count++;
    }
    if (count == 0)
        return STATUS_OK;
    if (group->rank == 0)
        LOG_ERROR("rank %d on %s: %s: expected %s as on rank 0 on %s, got %s; "
                  "%d of %d ranks run another than rank 0",
                  first, all[first].host, what, expected, all[0].host,
                  (const char *)&all[first] + offset, count, group->size);
    MPI_Barrier(MPI_COMM_WORLD);
    return STATUS_PEER;
}

/* Who is where, and that all are the same program: before anything travels whose form another build
 * may have changed. */
static enum status introduce(struct rank_group *group, const char *command) {
    struct introduction own = {.host = ""};
    if (gethostname(own.host, sizeof own.host - 1) != 0)
        snprintf(own.host, sizeof own.host, "rank%d", group->rank);
    build_id_write(own.build);
    snprintf(own.command, sizeof own.command, "%s", command);
    struct introduction *all = calloc((size_t)group->size, sizeof *all);
    if (all == NULL) {
        LOG_ERROR("ranks: cannot take the table of %d ranks", group->size);
        return STATUS_NO_MEMORY;
    }
    MPI_Allgather(&own, sizeof own, MPI_CHAR, all, sizeof own, MPI_CHAR, MPI_COMM_WORLD);
    for (int32_t rank = 0; rank < group->size; rank++)
        memcpy(group->host_of[rank], all[rank].host, sizeof all[rank].host);
    enum status status =
        compare(all, group, "build of the program", offsetof(struct introduction, build));
    if (status == STATUS_OK)
        status = compare(all, group, "command", offsetof(struct introduction, command));
    free(all);
    return status;
}

/* Every rank goes on trying until all have heard whom they expect, or have given up. */
static void try_doorbells(struct doorbell *bell) {
    MPI_Request all = MPI_REQUEST_NULL;
    int64_t start = clock_now_ns();
    bool is_content = false;
    int are_content = 0;
    while (!are_content) {
        if (!is_content) {
            is_content = doorbell_try(bell, 1) ||
                         clock_now_ns() - start > TRY_DOORBELLS_MS * INT64_C(1000000);
            if (is_content)
                MPI_Ibarrier(MPI_COMM_WORLD, &all);
        } else {
            doorbell_try(bell, 0);
            sched_yield(); /* ranks share cores */
        }
        if (is_content)
            MPI_Test(&all, &are_content, MPI_STATUS_IGNORE);
    }
}

/* For people who wonder what an idle server costs. */
static void tell_unreached(const struct rank_group *group) {
    int32_t count = 0, first = 0;
    for (int32_t rank = group->size - 1; rank > 0; rank--) {
        if (doorbell_reaches(group->doorbell, rank))
            continue;
        first = rank;
        count++;
    }
    if (count > 0)
        LOG_INFO("%d of %d ranks cannot be woken by UDP, first rank %d on %s: they poll while idle "
                 "(2 to 5 %% of a core each)",
                 count, group->size, first, group->host_of[first]);
}

/* Opens the own doorbell and finds out by which address rank 0 and each of the others reach each
 * other. */
static enum status hang_doorbells(struct rank_group *group) {
    struct doorbell_door own, *doors = calloc((size_t)group->size, sizeof *doors);
    int32_t told[TRANSPORT_RANKS_MAX];
    if (doors == NULL) {
        LOG_ERROR("ranks: cannot take the doors of %d ranks", group->size);
        return STATUS_NO_MEMORY;
    }
    enum status status = doorbell_create(group->rank, group->size, &group->doorbell, &own);
    if (status == STATUS_OK) {
        MPI_Allgather(&own, sizeof own, MPI_CHAR, doors, sizeof own, MPI_CHAR, MPI_COMM_WORLD);
        doorbell_meet(group->doorbell, doors);
        try_doorbells(group->doorbell);
        const int32_t *heard = doorbell_heard(group->doorbell);
        int32_t of_zero = -1;
        MPI_Gather(heard, 1, MPI_INT32_T, told, 1, MPI_INT32_T, 0, MPI_COMM_WORLD);
        MPI_Scatter(heard, 1, MPI_INT32_T, &of_zero, 1, MPI_INT32_T, 0, MPI_COMM_WORLD);
        if (group->rank != 0)
            told[0] = of_zero;
        doorbell_settle(group->doorbell, told);
        if (group->rank == 0)
            tell_unreached(group);
    }
    free(doors);
    return status;
}

static enum status start_with_mpi(const struct rank_group_options *options,
                                  struct rank_group *group) {
    int provided, rank, size;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    group->rank = rank;
    group->size = size;
    if (provided < MPI_THREAD_FUNNELED || size > TRANSPORT_RANKS_MAX) {
        LOG_ERROR("MPI: expected thread level funneled and at most %d ranks, got level %d and %d",
                  TRANSPORT_RANKS_MAX, provided, size);
        return STATUS_PEER;
    }
    group->node_of = calloc((size_t)size, sizeof *group->node_of);
    group->host_of = calloc((size_t)size, sizeof *group->host_of);
    group->node_members = calloc((size_t)size, sizeof *group->node_members);
    group->lane_members = calloc((size_t)size, sizeof *group->lane_members);
    if (!group->node_of || !group->host_of || !group->node_members || !group->lane_members) {
        LOG_ERROR("ranks: cannot take the table of %d ranks", size);
        return STATUS_NO_MEMORY;
    }
    RETURN_IF_ERROR(introduce(group, options->command));
    number_nodes(group);
    RETURN_IF_ERROR(hang_doorbells(group));
    return transport_mpi_create(group->node_of, (const char(*)[64])group->host_of, group->doorbell,
                                options->timeout_ms, &group->transport);
}

int32_t rank_group_patience_ms(int32_t timeout_ms) {
    return timeout_ms > PATIENCE_MS_LEAST / PATIENCE_TIMEOUTS ? PATIENCE_TIMEOUTS * timeout_ms
                                                              : PATIENCE_MS_LEAST;
}

/* Nothing that MPI does in here has a deadline of its own. */
static enum status start_watched(const struct rank_group_options *options,
                                 struct rank_group *group) {
    struct rank_watch_options watched = {.phase = "MPI_Init",
                                         .timeout_ms = options->timeout_ms,
                                         .deadline_ms =
                                             rank_group_patience_ms(options->timeout_ms)};
    struct rank_watch *watch = rank_watch_begin(&watched);
    enum status status = start_with_mpi(options, group);
    rank_watch_end(watch);
    return status;
}

enum status rank_group_start(const struct rank_group_options *options, struct rank_group *group) {
    *group = (struct rank_group){.tp_size = 1, .dp_size = 1};
    enum status status =
        options->under_launcher ? start_watched(options, group) : start_alone(group);
    group->dp_size = group->size;
    group->dp_rank = group->tp_first = group->rank;
    return status;
}

static struct rank_watch *watch_phase(const struct rank_group *group, const char *phase,
                                      int32_t deadline_ms, const struct life_signs_options *signs) {
    struct rank_watch_options watched = {.phase = phase,
                                         .timeout_ms = group->transport->timeout_ms,
                                         .deadline_ms = deadline_ms,
                                         .host_of = (const char(*)[64])group->host_of,
                                         .signs = signs};
    return rank_watch_begin(&watched);
}

struct rank_watch *rank_group_watch(const struct rank_group *group, const char *phase) {
    if (group->size == 1)
        return NULL;
    struct life_signs_options signs = {.doorbell = group->doorbell,
                                       .phase = phase,
                                       .rank = group->rank,
                                       .size = group->size,
                                       .timeout_ms = group->transport->timeout_ms,
                                       .host_of = (const char(*)[64])group->host_of};
    return watch_phase(group, phase, 0, &signs);
}

/* "3", or "not given" for 0. */
static const char *describe_size(int32_t size, char *text, size_t bytes) {
    snprintf(text, bytes, "%d", size);
    return size > 0 ? text : "not given";
}

/* tp, dp: as given. */
static enum status refuse_shape(const struct rank_group *group, int32_t tp, int32_t dp) {
    int32_t size = group->size, wanted = tp > 0 ? tp : dp;
    int32_t below = 1, above = size; /* the nearest sizes that divide the ranks */
    for (int32_t divisor = 1; divisor <= size; divisor++) {
        if (size % divisor != 0)
            continue;
        below = divisor <= wanted ? divisor : below;
        above = divisor >= wanted && divisor < above ? divisor : above;
    }
    char tensor[16], data[16], other[48] = "";
    if (above != below)
        snprintf(other, sizeof other, " or %d x %d", tp > 0 ? above : size / above,
                 tp > 0 ? size / above : above);
    LOG_ERROR("--tensor-parallel-size %s, --data-parallel-size %s: expected a product of %d, the "
              "number of ranks; nearest: %d x %d%s",
              describe_size(tp, tensor, sizeof tensor), describe_size(dp, data, sizeof data), size,
              tp > 0 ? below : size / below, tp > 0 ? size / below : below, other);
    return STATUS_USAGE;
}

enum status rank_group_shape(struct rank_group *group, int32_t tp_size, int32_t dp_size) {
    int32_t tp = tp_size > 0 ? tp_size : 1;
    ASSERT(group->size >= 1);
    if (tp_size == 0 && dp_size > 0 && group->size % dp_size == 0)
        tp = group->size / dp_size;
    if (tp > group->size || group->size % tp != 0 || (dp_size > 0 && dp_size * tp != group->size))
        return refuse_shape(group, tp_size, dp_size);
    group->tp_size = tp;
    group->dp_size = group->size / tp;
    group->tp_rank = group->rank % tp;
    group->dp_rank = group->rank / tp;
    group->tp_first = group->dp_rank * tp;
    if (group->node_members != NULL)
        number_lane(group);
    return STATUS_OK;
}

void rank_group_split_nodes(struct rank_group *group, int32_t ranks_per_node) {
    int32_t count = 0;
    for (int32_t rank = 0; group->node_of != NULL && rank < group->size; rank++) {
        int32_t on_host = 0, twin = rank; /* ranks of this host before; the node's first rank */
        for (int32_t other = 0; other < rank; other++)
            if (strcmp(group->host_of[other], group->host_of[rank]) == 0 &&
                on_host++ % ranks_per_node == 0)
                twin = other;
        if (on_host % ranks_per_node == 0)
            twin = rank;
        group->node_of[rank] = twin == rank ? count++ : group->node_of[twin];
    }
}

void rank_group_describe_mpi(const struct rank_group *group, char *version, size_t size,
                             const char **thread_level) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0, level = MPI_THREAD_SINGLE;
    MPI_Get_library_version(text, &length); /* one of the few that need no MPI_Init */
    text[strcspn(text, ",\n")] = '\0';
    for (char *tab = strchr(text, '\t'); tab != NULL; tab = strchr(tab, '\t'))
        *tab = ' ';
    snprintf(version, size, "%s", text);
    *thread_level = "not started";
    if (group->node_of == NULL)
        return;
    MPI_Query_thread(&level);
    *thread_level = level == MPI_THREAD_SINGLE       ? "single"
                    : level == MPI_THREAD_FUNNELED   ? "funneled"
                    : level == MPI_THREAD_SERIALIZED ? "serialized"
                                                     : "multiple";
}

/* Counts and places as MPI wants them. */
static enum status lay_out(const int64_t *bytes, int32_t size, int *counts, int *places) {
    int64_t total = 0;
    for (int32_t rank = 0; rank < size; rank++) {
        if (bytes[rank] > INT_MAX - total) {
            LOG_ERROR("MPI_Alltoallv: expected at most %d bytes, got more", INT_MAX);
            return STATUS_LIMIT;
        }
        counts[rank] = (int)bytes[rank];
        places[rank] = (int)total;
        total += bytes[rank];
    }
    return STATUS_OK;
}

enum status rank_group_alltoallv(const struct rank_group *group, const void *sent,
                                 const int64_t *sent_bytes, void *received,
                                 const int64_t *received_bytes) {
    int counts[2][TRANSPORT_RANKS_MAX], places[2][TRANSPORT_RANKS_MAX];
    RETURN_IF_ERROR(lay_out(sent_bytes, group->size, counts[0], places[0]));
    RETURN_IF_ERROR(lay_out(received_bytes, group->size, counts[1], places[1]));
    int code = MPI_Alltoallv(sent, counts[0], places[0], MPI_BYTE, received, counts[1], places[1],
                             MPI_BYTE, MPI_COMM_WORLD);
    return code == MPI_SUCCESS ? STATUS_OK : STATUS_PEER;
}

/* The others tell the coordinator that they are here, and leave when it says so. */
static enum status take_leave(const struct rank_group *group) {
    struct transport_scope scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};
    int32_t members[TRANSPORT_RANKS_MAX];
    int64_t sizes[TRANSPORT_RANKS_MAX], bytes = 0;
    void *into[TRANSPORT_RANKS_MAX] = {NULL};
    for (int32_t i = 0; i < group->size; i++)
        members[i] = i;
    struct collective_group world = {.transport = group->transport,
                                     .members = members,
                                     .count = group->size,
                                     .self = group->rank};
    group->transport->traffic = NULL;
    group->transport->timeout_ms = rank_group_patience_ms(group->transport->timeout_ms);
    RETURN_IF_ERROR(collective_gather(&world, &scope, NULL, 0, into, 0, sizes));
    group->transport->timeout_ms = LATE_COORDINATOR_MS;
    return collective_broadcast(&world, &scope, true, NULL, 0, &bytes);
}

void rank_group_finish(struct rank_group *group) {
    bool with_mpi = group->node_of != NULL,
         with_others = with_mpi && group->transport != NULL && group->size > 1;
    struct rank_watch *watch = NULL;
    if (with_others) {
        int32_t timeout_ms = group->transport->timeout_ms;
        watch = watch_phase(group, "the end of the job", 0, NULL);
        if (take_leave(group) != STATUS_OK)
            rank_group_abort(group, status_exit_code(STATUS_PEER));
        rank_watch_end(watch);
        group->transport->timeout_ms = timeout_ms;
        watch = watch_phase(group, "MPI_Finalize", rank_group_patience_ms(timeout_ms), NULL);
    }
    if (group->transport != NULL)
        group->transport->ops->destroy(group->transport);
    doorbell_destroy(group->doorbell);
    if (with_mpi)
        MPI_Finalize();
    rank_watch_end(watch);
    free(group->node_members);
    free(group->lane_members);
    free(group->node_of);
    free(group->host_of);
    *group = (struct rank_group){0};
}

_Noreturn void rank_group_abort(const struct rank_group *group, int exit_code) {
    if (group->node_of != NULL)
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    _exit(exit_code);
}
