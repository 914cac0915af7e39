/* What this rank may use of its machine: the CPUs that mpirun or Slurm left to it, the caches and
 * memory nodes around them, the GPUs, and whether that makes sense for the threads that will run
 * there. The only file besides launcher/ that knows hwloc. */
#ifndef MOEBIUS_COMM_TOPOLOGY_H
#define MOEBIUS_COMM_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

#define TOPOLOGY_CPUS_MAX 1024
#define TOPOLOGY_NUMA_MAX 32
#define TOPOLOGY_GPUS_MAX 32

/* One bit a CPU (hardware thread), by the system's number; numbers from TOPOLOGY_CPUS_MAX on are
 * counted elsewhere, not kept here. */
struct topology_cpus {
    uint64_t bits[TOPOLOGY_CPUS_MAX / 64];
};

/* Whether a set has a CPU (>= 0); how many it has. Local. */
bool topology_has_cpu(const struct topology_cpus *cpus, int32_t cpu);
int32_t topology_count_cpus(const struct topology_cpus *cpus);

/* The caches of one level that the allowed CPUs use. */
struct topology_cache {
    int32_t count;
    int64_t bytes; /* of one of them; 0: unknown */
};

struct topology_gpu {
    char name[24];     /* "cuda0" */
    int32_t numa_node; /* the system's number, or -1 */
    bool is_near;      /* shares a memory node or package with the allowed CPUs */
};

/* Plain bytes: it may travel between ranks of one build. */
struct topology {
    struct topology_cpus cpus;     /* allowed */
    struct topology_cpus cores;    /* around those: of each core its lowest CPU, allowed or not */
    int32_t cpu_count, core_count; /* allowed */
    int32_t machine_cpu_count, machine_core_count; /* all that the machine shows */
    int32_t numa_count, machine_numa_count;        /* nodes around the allowed CPUs; all */
    int32_t numa_nodes[TOPOLOGY_NUMA_MAX];         /* their numbers */
    struct topology_cache l2, l3;
    int32_t gpu_count;
    struct topology_gpu gpus[TOPOLOGY_GPUS_MAX];
};

/* This machine, with the binding of this process. STATUS_UNSUPPORTED or STATUS_NO_MEMORY (logged)
 * when the machine cannot be read. Local. */
enum status topology_load(struct topology *topology);

/* Only the CPUs and their cores, as the kernel tells them: cpus, cores, cpu_count, core_count and
 * machine_cpu_count. Quick, for every start. STATUS_UNSUPPORTED (logged). Local. */
enum status topology_load_cpus(struct topology *topology);

/* A made-up machine ("pack:2 [numa] l3:1 core:4 pu:1"), or one that was saved as XML. binding: the
 * CPUs allowed to the rank ("0-3,8"); NULL: all. STATUS_USAGE (a bad description or binding) or
 * STATUS_IO (no or bad XML), logged. Local. */
enum status topology_load_synthetic(const char *description, const char *binding,
                                    struct topology *topology);
enum status topology_load_xml(const char *path, const char *binding, struct topology *topology);

/* One line: "4 of 8 cores (CPUs 0-3), NUMA node 0 of 2, L2 4 x 1 MiB, L3 1 x 32 MiB, GPUs near:
 * cuda0 cuda1, far: cuda2". Writes text[size] and returns it. Local. */
const char *topology_summarize(const struct topology *topology, char *text, size_t size);

#endif
