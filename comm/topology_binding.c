/* Adds up what the ranks of a node may use, and holds their threads against it. */
#include "comm/topology_binding.h"

#include <stdio.h>
#include <string.h>

/* What the ranks of one node have together. */
struct node_sum {
    int32_t ranks, threads;
    int32_t cpu_count, core_count; /* that at least one of them may use */
    int32_t machine_cpu_count;
    bool same_cpus; /* all may use just the same */
};

static struct node_sum sum_node(const struct topology_place *places, int32_t count, int32_t first) {
    struct node_sum sum = {.same_cpus = true};
    struct topology_cpus all = {{0}}, cores = {{0}};
    for (int32_t i = first; i < count; i++) {
        const struct topology *topology = places[i].topology;
        if (places[i].node != places[first].node)
            continue;
        sum.ranks++;
        sum.threads += places[i].threads;
        sum.machine_cpu_count = topology->machine_cpu_count;
        if (memcmp(&topology->cpus, &places[first].topology->cpus, sizeof topology->cpus) != 0)
            sum.same_cpus = false;
        for (int32_t word = 0; word < TOPOLOGY_CPUS_MAX / 64; word++) {
            all.bits[word] |= topology->cpus.bits[word];
            cores.bits[word] |= topology->cores.bits[word];
        }
    }
    sum.cpu_count = topology_count_cpus(&all);
    sum.core_count = topology_count_cpus(&cores);
    return sum;
}

/* Whether no rank before `rank` is on its node. */
static bool opens_node(const struct topology_place *places, int32_t rank) {
    for (int32_t i = 0; i < rank; i++)
        if (places[i].node == places[rank].node)
            return false;
    return true;
}

static bool check_node(const struct topology_place *places, int32_t count, int32_t first,
                       char *warning, size_t size) {
    struct node_sum sum = sum_node(places, count, first);
    const char *host = places[first].host;
    if (sum.ranks == 1 || sum.cpu_count == 0 || sum.threads <= sum.cpu_count)
        return true;
    if (sum.same_cpus && sum.cpu_count < sum.machine_cpu_count) {
        snprintf(warning, size,
                 "all %d ranks on %s are bound to the same %d of %d CPUs: let mpirun or srun bind "
                 "each rank to cores of its own",
                 sum.ranks, host, sum.cpu_count, sum.machine_cpu_count);
        return false;
    }
    int32_t fair = sum.core_count / sum.ranks;
    if (fair >= 1)
        snprintf(warning, size, "%d threads of %d ranks share %d CPUs on %s: give --threads %d",
                 sum.threads, sum.ranks, sum.cpu_count, host, fair);
    else
        snprintf(warning, size,
                 "%d threads of %d ranks share %d CPUs on %s: start fewer ranks there", sum.threads,
                 sum.ranks, sum.cpu_count, host);
    return false;
}

int32_t topology_binding_share(const struct topology_place *places, int32_t count, int32_t rank) {
    double share = 1e-6; /* three thirds are one */
    for (int32_t core = 0; core < TOPOLOGY_CPUS_MAX; core++) {
        int32_t users = 0;
        if (!topology_has_cpu(&places[rank].topology->cores, core))
            continue;
        for (int32_t i = 0; i < count; i++)
            users += places[i].node == places[rank].node &&
                     topology_has_cpu(&places[i].topology->cores, core);
        share += 1.0 / users;
    }
    return share >= 1.0 ? (int32_t)share : 1;
}

bool topology_binding_check(const struct topology_place *places, int32_t count, char *warning,
                            size_t size) {
    for (int32_t rank = 0; rank < count; rank++) {
        const struct topology_place *place = &places[rank];
        if (opens_node(places, rank) && !check_node(places, count, rank, warning, size))
            return false;
        if (place->threads > place->topology->cpu_count) {
            snprintf(warning, size,
                     "rank %d on %s runs %d threads on %d %s (%d CPUs): give "
                     "--threads %d, or bind the rank to more cores",
                     rank, place->host, place->threads, place->topology->core_count,
                     place->topology->core_count == 1 ? "core" : "cores",
                     place->topology->cpu_count, place->topology->core_count);
            return false;
        }
    }
    return true;
}
