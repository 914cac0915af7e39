/* The ranks around a command. */
#include "launcher/job.h"

#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "kernels/base/log.h"
#include "launcher/config.h"
#include "runtime/start_agreement.h"

/* A launcher that the MPI library does not know starts every rank alone: each would believe that it
 * is the coordinator. */
static enum status check_launcher(const struct rank_group *ranks) {
    int32_t started = config_processes();
    if (started <= ranks->size) /* 1: it does not say */
        return STATUS_OK;
    char version[64];
    const char *thread_level;
    rank_group_describe_mpi(ranks, version, sizeof version, &thread_level);
    LOG_ERROR("ranks: the launcher started %d, MPI knows of %d: expected the mpirun of %s, or srun "
              "--mpi=pmix",
              started, ranks->size, version);
    return STATUS_PEER;
}

enum status job_start(const struct job_options *options, struct rank_group *ranks) {
    struct rank_group_options group = {.under_launcher = config_under_launcher(),
                                       .timeout_ms = options->comm_timeout_ms,
                                       .command = options->command};
    RETURN_IF_ERROR(rank_group_start(&group, ranks));
    RETURN_IF_ERROR(check_launcher(ranks)); /* says which one it is of those that were started */
    log_set_rank(ranks->rank);
    struct log_diverted said;
    log_divert_begin(&said);
    enum status status =
        rank_group_shape(ranks, options->tensor_parallel_size, options->data_parallel_size);
    log_divert_end();
    return start_agreement_said(ranks, status, &said);
}

void job_end(struct rank_group *ranks, enum status status) {
    if (status != STATUS_OK && ranks->size > 1)
        rank_group_abort(ranks, status_exit_code(status));
    rank_group_finish(ranks);
}

/* The accounts as one message: the sums, then the cells. */
static int64_t traffic_bytes(const struct traffic *traffic) {
    return (int64_t)(sizeof *traffic + (size_t)(traffic->layers + 1) * TRAFFIC_KIND_COUNT *
                                           TRAFFIC_DISTANCE_COUNT * sizeof *traffic->cells);
}

static void write_traffic(const struct traffic *traffic, char *bytes) {
    memcpy(bytes, traffic, sizeof *traffic);
    memcpy(bytes + sizeof *traffic, traffic->cells,
           (size_t)traffic_bytes(traffic) - sizeof *traffic);
}

enum status job_gather_traffic(const struct rank_group *ranks, struct traffic *traffic,
                               struct job_load *load) {
    int32_t members[TRANSPORT_RANKS_MAX];
    int64_t sizes[TRANSPORT_RANKS_MAX], bytes = traffic_bytes(traffic);
    void *into[TRANSPORT_RANKS_MAX];
    RETURN_IF_ERROR(transport_reserve(ranks->transport, bytes));
    char *messages = malloc((size_t)bytes * (size_t)(ranks->size + 1));
    if (messages == NULL) {
        LOG_ERROR("traffic: cannot take the accounts of %d ranks", ranks->size);
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < ranks->size; i++) {
        members[i] = i;
        into[i] = messages + (size_t)bytes * (size_t)i;
    }
    char *own = messages + (size_t)bytes * (size_t)ranks->size;
    write_traffic(traffic, own);
    struct collective_group world = {.transport = ranks->transport,
                                     .members = members,
                                     .count = ranks->size,
                                     .self = ranks->rank};
    struct transport_scope scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};
    ranks->transport->traffic = NULL; /* the accounts are closed */
    enum status status = STATUS_OK;
    if (ranks->size > 1)
        status = collective_gather(&world, &scope, own, bytes, into, bytes, sizes);
    *load = (struct job_load){.computed = {traffic->computed_pairs},
                              .computed_max = traffic->computed_pairs,
                              .computed_mean = (double)traffic->computed_pairs};
    for (int32_t i = 1; status == STATUS_OK && ranks->rank == 0 && i < ranks->size; i++) {
        struct traffic other;
        memcpy(&other, into[i], sizeof other);
        other.cells = (struct traffic_cell *)(void *)((char *)into[i] + sizeof other);
        if (other.computed_pairs > load->computed_max)
            load->computed_max = other.computed_pairs;
        load->computed[i] = other.computed_pairs;
        load->computed_mean += (double)other.computed_pairs;
        traffic_add(traffic, &other);
    }
    load->computed_mean /= ranks->size;
    free(messages);
    return status;
}
