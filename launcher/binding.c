/* Which ranks of a machine may use which CPUs, told by all to all at start: the default number of
 * threads follows from it, and a warning when it makes no sense. */
#include "launcher/binding.h"

#include <stdlib.h>

#include "comm/collective.h"
#include "comm/topology_binding.h"
#include "kernels/base/log.h"
#include "kernels/thread_pool.h"

/* One rank's word. */
struct bound_rank {
    struct topology_cpus cpus, cores;
    int32_t cpu_count, core_count, machine_cpu_count;
    int32_t wanted; /* threads; 0: its share */
};

static enum status share_words(const struct rank_group *ranks, const struct bound_rank *mine,
                               struct bound_rank *all) {
    if (ranks->size == 1) {
        *all = *mine;
        return STATUS_OK;
    }
    int32_t members[TRANSPORT_RANKS_MAX];
    for (int32_t i = 0; i < ranks->size; i++)
        members[i] = i;
    struct collective_group world = {.transport = ranks->transport,
                                     .members = members,
                                     .count = ranks->size,
                                     .self = ranks->rank};
    struct transport_scope scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};
    return collective_share(&world, &scope, mine, sizeof *mine, (char *)(void *)all);
}

/* What the words say of all ranks together. */
static void judge(const struct rank_group *ranks, const struct bound_rank *all, bool warns,
                  struct topology *topologies, struct topology_place *places, int32_t *threads) {
    char warning[400];
    for (int32_t i = 0; i < ranks->size; i++) {
        topologies[i] = (struct topology){.cpus = all[i].cpus,
                                          .cores = all[i].cores,
                                          .cpu_count = all[i].cpu_count,
                                          .core_count = all[i].core_count,
                                          .machine_cpu_count = all[i].machine_cpu_count};
        places[i] = (struct topology_place){.node = ranks->transport->node_of[i],
                                            .host = ranks->transport->host_of[i],
                                            .topology = &topologies[i]};
    }
    for (int32_t i = 0; i < ranks->size; i++) {
        int32_t share = topology_binding_share(places, ranks->size, i);
        share = share < THREAD_POOL_THREADS_MAX ? share : THREAD_POOL_THREADS_MAX;
        places[i].threads = all[i].wanted > 0 ? all[i].wanted : share;
    }
    *threads = places[ranks->rank].threads;
    if (warns && ranks->rank == 0 &&
        !topology_binding_check(places, ranks->size, warning, sizeof warning))
        LOG_WARN("%s", warning);
}

enum status binding_settle(const struct rank_group *ranks, int32_t wanted, bool warns,
                           int32_t *threads) {
    struct topology own;
    RETURN_IF_ERROR(topology_load_cpus(&own));
    struct bound_rank mine = {.cpus = own.cpus,
                              .cores = own.cores,
                              .core_count = own.core_count,
                              .cpu_count = own.cpu_count,
                              .machine_cpu_count = own.machine_cpu_count,
                              .wanted = wanted};
    size_t count = (size_t)ranks->size;
    struct bound_rank *all = calloc(count, sizeof *all);
    struct topology *topologies = calloc(count, sizeof *topologies);
    struct topology_place *places = calloc(count, sizeof *places);
    enum status status = STATUS_NO_MEMORY;
    if (all != NULL && topologies != NULL && places != NULL)
        status = share_words(ranks, &mine, all);
    else
        LOG_ERROR("binding: cannot take the CPUs of %d ranks", ranks->size);
    if (status == STATUS_OK)
        judge(ranks, all, warns, topologies, places, threads);
    free(places);
    free(topologies);
    free(all);
    return status;
}
