/* Reads the machine with hwloc, once at start, into a plain struct: nothing of hwloc leaves this
 * file. The launcher decides from it how many threads run where, and moebius doctor shows it. */
#define _GNU_SOURCE
#include "comm/topology.h"

#include <errno.h>
#include <hwloc.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/log.h"

/* ---- sets ---- */

static void set_cpu(struct topology_cpus *cpus, int32_t cpu) {
    if (cpu >= 0 && cpu < TOPOLOGY_CPUS_MAX)
        cpus->bits[cpu / 64] |= UINT64_C(1) << (cpu % 64);
}

bool topology_has_cpu(const struct topology_cpus *cpus, int32_t cpu) {
    return cpu < TOPOLOGY_CPUS_MAX && (cpus->bits[cpu / 64] >> (cpu % 64) & 1) != 0;
}

int32_t topology_count_cpus(const struct topology_cpus *cpus) {
    int32_t count = 0;
    for (int32_t i = 0; i < TOPOLOGY_CPUS_MAX / 64; i++)
        count += __builtin_popcountll(cpus->bits[i]);
    return count;
}

/* ---- reading ---- */

static int32_t count_all(hwloc_topology_t machine, hwloc_obj_type_t type) {
    int count = hwloc_get_nbobjs_by_type(machine, type);
    return count > 0 ? (int32_t)count : 0;
}

/* Objects of `type` that have at least one CPU of the set. */
static int32_t count_touched(hwloc_topology_t machine, hwloc_obj_type_t type,
                             hwloc_const_cpuset_t set) {
    int32_t count = 0;
    hwloc_obj_t object = NULL;
    while ((object = hwloc_get_next_obj_by_type(machine, type, object)) != NULL)
        count += object->cpuset != NULL && hwloc_bitmap_intersects(object->cpuset, set) ? 1 : 0;
    return count;
}

static struct topology_cache read_cache(hwloc_topology_t machine, hwloc_obj_type_t type,
                                        hwloc_const_cpuset_t set) {
    struct topology_cache cache = {.count = count_touched(machine, type, set)};
    hwloc_obj_t first = hwloc_get_next_obj_by_type(machine, type, NULL);
    if (first != NULL && first->attr != NULL)
        cache.bytes = (int64_t)first->attr->cache.size;
    return cache;
}

static void read_numa(hwloc_topology_t machine, hwloc_const_cpuset_t set,
                      struct topology *topology) {
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(machine, HWLOC_OBJ_NUMANODE, node)) != NULL) {
        if (node->cpuset == NULL || !hwloc_bitmap_intersects(node->cpuset, set))
            continue;
        if (topology->numa_count < TOPOLOGY_NUMA_MAX)
            topology->numa_nodes[topology->numa_count] = (int32_t)node->os_index;
        topology->numa_count++;
    }
    topology->machine_numa_count = count_all(machine, HWLOC_OBJ_NUMANODE);
}

/* A device is listed once for each library that knows it; these are asked in this order, and the
 * first that knows any device counts. */
static const char *const gpu_subtypes[] = {"CUDA", "NVML", "RSMI", "LevelZero"};

static void read_gpus_of(hwloc_topology_t machine, hwloc_const_cpuset_t set, const char *subtype,
                         struct topology *topology) {
    hwloc_obj_t device = NULL;
    while ((device = hwloc_get_next_osdev(machine, device)) != NULL) {
        if (device->subtype == NULL || strcmp(device->subtype, subtype) != 0 ||
            topology->gpu_count == TOPOLOGY_GPUS_MAX)
            continue;
        struct topology_gpu *gpu = &topology->gpus[topology->gpu_count++];
        snprintf(gpu->name, sizeof gpu->name, "%s", device->name != NULL ? device->name : "?");
        hwloc_obj_t around = hwloc_get_non_io_ancestor_obj(machine, device);
        int node =
            around != NULL && around->nodeset != NULL && hwloc_bitmap_weight(around->nodeset) == 1
                ? hwloc_bitmap_first(around->nodeset)
                : -1;
        gpu->numa_node = node;
        gpu->is_near = around != NULL && around->cpuset != NULL &&
                       hwloc_bitmap_intersects(around->cpuset, set);
    }
}

static void read_machine(hwloc_topology_t machine, hwloc_const_cpuset_t set,
                         struct topology *topology) {
    *topology = (struct topology){0};
    int cpu;
    hwloc_bitmap_foreach_begin(cpu, set) {
        set_cpu(&topology->cpus, cpu);
    }
    hwloc_bitmap_foreach_end();
    hwloc_obj_t core = NULL;
    while ((core = hwloc_get_next_obj_by_type(machine, HWLOC_OBJ_CORE, core)) != NULL)
        if (core->cpuset != NULL && hwloc_bitmap_intersects(core->cpuset, set))
            set_cpu(&topology->cores, hwloc_bitmap_first(core->cpuset));
    topology->cpu_count = hwloc_bitmap_weight(set);
    topology->machine_cpu_count = count_all(machine, HWLOC_OBJ_PU);
    topology->core_count = count_touched(machine, HWLOC_OBJ_CORE, set);
    topology->machine_core_count = count_all(machine, HWLOC_OBJ_CORE);
    if (topology->machine_core_count == 0) { /* a machine that shows no cores: each CPU is one */
        topology->cores = topology->cpus;
        topology->core_count = topology->cpu_count;
        topology->machine_core_count = topology->machine_cpu_count;
    }
    topology->l2 = read_cache(machine, HWLOC_OBJ_L2CACHE, set);
    topology->l3 = read_cache(machine, HWLOC_OBJ_L3CACHE, set);
    read_numa(machine, set, topology);
    for (size_t i = 0; i < sizeof gpu_subtypes / sizeof gpu_subtypes[0]; i++)
        if (topology->gpu_count == 0)
            read_gpus_of(machine, set, gpu_subtypes[i], topology);
}

/* The allowed CPUs: `binding` of a made-up machine, or that of this process. */
static enum status find_allowed(hwloc_topology_t machine, const char *binding, bool is_ours,
                                hwloc_bitmap_t set) {
    hwloc_const_cpuset_t all = hwloc_topology_get_topology_cpuset(machine);
    hwloc_bitmap_copy(set, all);
    if (is_ours && hwloc_get_cpubind(machine, set, HWLOC_CPUBIND_THREAD) != 0)
        hwloc_bitmap_copy(set, all); /* a system that does not bind */
    if (binding != NULL && hwloc_bitmap_list_sscanf(set, binding) < 0)
        hwloc_bitmap_zero(set);
    hwloc_bitmap_and(set, set, all);
    if (!hwloc_bitmap_iszero(set))
        return STATUS_OK;
    LOG_ERROR("binding: expected at least one CPU of this machine, got '%s'",
              binding != NULL ? binding : "none");
    return STATUS_USAGE;
}

/* Loads and reads what the caller has pointed `machine` at. */
static enum status finish(hwloc_topology_t machine, const char *binding, bool is_ours,
                          struct topology *topology) {
    hwloc_topology_set_io_types_filter(machine, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(machine) != 0) {
        LOG_ERROR("topology: the description of the machine cannot be loaded");
        return STATUS_UNSUPPORTED;
    }
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (set == NULL) {
        LOG_ERROR("topology: out of memory");
        return STATUS_NO_MEMORY;
    }
    enum status status = find_allowed(machine, binding, is_ours, set);
    if (status == STATUS_OK)
        read_machine(machine, set, topology);
    hwloc_bitmap_free(set);
    return status;
}

static enum status start(hwloc_topology_t *machine) {
    if (hwloc_topology_init(machine) == 0)
        return STATUS_OK;
    LOG_ERROR("topology: out of memory");
    return STATUS_NO_MEMORY;
}

/* What hwloc may not ask here: gl would open X displays and opencl would start drivers, on every
 * rank; pci loses memory at its end, and the kernel's own files tell the same. */
static const char *const unwanted[] = {"gl", "opencl", "pci"};

enum status topology_load(struct topology *topology) {
    hwloc_topology_t machine;
    RETURN_IF_ERROR(start(&machine));
    for (size_t i = 0; i < sizeof unwanted / sizeof unwanted[0]; i++)
        hwloc_topology_set_components(machine, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST,
                                      unwanted[i]);
    enum status status = finish(machine, NULL, true, topology);
    hwloc_topology_destroy(machine);
    return status;
}

/* The lowest CPU of the core around one; itself where the kernel does not tell. */
static int32_t core_of(int32_t cpu) {
    char text[96]; /* a path, then a list: "3,67" or "6-7" */
    snprintf(text, sizeof text, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(text, "re");
    if (file == NULL)
        return cpu;
    char *end = text;
    long lowest = fgets(text, sizeof text, file) != NULL ? strtol(text, &end, 10) : cpu;
    fclose(file);
    return end > text && lowest >= 0 && lowest < TOPOLOGY_CPUS_MAX ? (int32_t)lowest : cpu;
}

enum status topology_load_cpus(struct topology *topology) {
    cpu_set_t *set = CPU_ALLOC(TOPOLOGY_CPUS_MAX);
    size_t bytes = CPU_ALLOC_SIZE(TOPOLOGY_CPUS_MAX);
    *topology = (struct topology){.machine_cpu_count = (int32_t)sysconf(_SC_NPROCESSORS_ONLN)};
    if (set == NULL || sched_getaffinity(0, bytes, set) != 0) {
        LOG_ERROR("this machine: cannot read which CPUs this process may use: %s", strerror(errno));
        CPU_FREE(set);
        return STATUS_UNSUPPORTED;
    }
    for (int32_t cpu = 0; cpu < TOPOLOGY_CPUS_MAX; cpu++)
        if (CPU_ISSET_S((size_t)cpu, bytes, set)) {
            set_cpu(&topology->cpus, cpu);
            set_cpu(&topology->cores, core_of(cpu));
            topology->cpu_count++;
        }
    topology->core_count = topology_count_cpus(&topology->cores);
    CPU_FREE(set);
    return STATUS_OK;
}

enum status topology_load_synthetic(const char *description, const char *binding,
                                    struct topology *topology) {
    hwloc_topology_t machine;
    RETURN_IF_ERROR(start(&machine));
    enum status status = STATUS_USAGE;
    if (hwloc_topology_set_synthetic(machine, description) == 0)
        status = finish(machine, binding, false, topology);
    else
        LOG_ERROR("topology: expected a description like 'pack:2 core:4 pu:1', got '%s'",
                  description);
    hwloc_topology_destroy(machine);
    return status;
}

enum status topology_load_xml(const char *path, const char *binding, struct topology *topology) {
    hwloc_topology_t machine;
    RETURN_IF_ERROR(start(&machine));
    enum status status = STATUS_IO;
    if (hwloc_topology_set_xml(machine, path) == 0)
        status = finish(machine, binding, false, topology);
    else
        LOG_ERROR("%s: expected a machine's topology as hwloc 2 writes it (XML), got something "
                  "else or nothing",
                  path);
    hwloc_topology_destroy(machine);
    return status == STATUS_UNSUPPORTED ? STATUS_IO : status;
}

/* ---- telling ---- */

struct line {
    char *text;
    size_t size, used;
};

static void append(struct line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append(struct line *line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line->text + line->used, line->size - line->used, format, arguments);
    va_end(arguments);
    if (length > 0)
        line->used += (size_t)length;
    if (line->used >= line->size)
        line->used = line->size - 1;
}

/* "0-3,8" */
static void append_cpus(struct line *line, const struct topology_cpus *cpus) {
    const char *comma = "";
    for (int32_t first = 0; first < TOPOLOGY_CPUS_MAX; first++) {
        if (!topology_has_cpu(cpus, first))
            continue;
        int32_t last = first;
        while (topology_has_cpu(cpus, last + 1))
            last++;
        append(line, last > first ? "%s%d-%d" : "%s%d", comma, first, last);
        comma = ",";
        first = last;
    }
}

static void append_cache(struct line *line, const char *name, const struct topology_cache *cache) {
    if (cache->count == 0)
        return;
    append(line, ", %s %d x ", name, cache->count);
    if (cache->bytes >= 1 << 20)
        append(line, "%" PRId64 " MiB", cache->bytes >> 20);
    else
        append(line, "%" PRId64 " KiB", cache->bytes >> 10);
}

static void append_gpus(struct line *line, const struct topology *topology, bool is_near) {
    bool any = false;
    for (int32_t i = 0; i < topology->gpu_count; i++) {
        const struct topology_gpu *gpu = &topology->gpus[i];
        if (gpu->is_near != is_near)
            continue;
        if (!any)
            append(line, is_near ? ", GPUs near:" : ", GPUs far:");
        append(line, " %s", gpu->name);
        any = true;
    }
}

const char *topology_summarize(const struct topology *topology, char *text, size_t size) {
    struct line line = {.text = text, .size = size};
    append(&line, "%d of %d cores (CPUs ", topology->core_count, topology->machine_core_count);
    append_cpus(&line, &topology->cpus);
    append(&line, "), NUMA node");
    for (int32_t i = 0; i < topology->numa_count && i < TOPOLOGY_NUMA_MAX; i++)
        append(&line, "%s%d", i == 0 ? " " : ",", topology->numa_nodes[i]);
    append(&line, " of %d", topology->machine_numa_count);
    append_cache(&line, "L2", &topology->l2);
    append_cache(&line, "L3", &topology->l3);
    append_gpus(&line, topology, true);
    append_gpus(&line, topology, false);
    return text;
}
