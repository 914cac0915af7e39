/* comm/topology: made-up machines, saved ones, bindings that make sense and bindings that do not.
 */
#include "comm/topology.h"

#include <stdio.h>
#include <string.h>

#include "comm/topology_binding.h"
#include "tests/unit/unit_test.h"

#define TWO_NODES "pack:2 [numa] l3:1(size=33554432) l2:4(size=1048576) core:1 pu:1"
#define EIGHT_GPUS "tests/data/topology/two_numa_eight_gpus.xml"

static void a_binding_is_counted(void **state) {
    (void)state;
    struct topology topology;
    assert_int_equal(topology_load_synthetic(TWO_NODES, "4-6", &topology), STATUS_OK);
    assert_int_equal(topology.cpu_count, 3);
    assert_int_equal(topology.core_count, 3);
    assert_int_equal(topology.machine_cpu_count, 8);
    assert_int_equal(topology.machine_core_count, 8);
    assert_int_equal(topology.numa_count, 1);
    assert_int_equal(topology.numa_nodes[0], 1);
    assert_int_equal(topology.machine_numa_count, 2);
    assert_int_equal(topology.l2.count, 3);
    assert_int_equal(topology.l2.bytes, 1 << 20);
    assert_int_equal(topology.l3.count, 1);
    assert_int_equal(topology.gpu_count, 0);
    assert_int_equal(topology.cpus.bits[0], 0x70);
    char text[256];
    assert_string_equal(topology_summarize(&topology, text, sizeof text),
                        "3 of 8 cores (CPUs 4-6), NUMA node 1 of 2, L2 3 x 1 MiB, L3 1 x 32 MiB");
}

static void without_a_binding_all_is_allowed(void **state) {
    (void)state;
    struct topology topology;
    assert_int_equal(topology_load_synthetic("pack:1 core:4 pu:2", NULL, &topology), STATUS_OK);
    assert_int_equal(topology.cpu_count, 8);
    assert_int_equal(topology.core_count, 4);
    assert_int_equal(topology_load_synthetic("pack:1 core:4 pu:2", "0,6-7", &topology), STATUS_OK);
    assert_int_equal(topology.cpu_count, 3);
    assert_int_equal(topology.core_count, 2);
    char text[256];
    assert_string_equal(topology_summarize(&topology, text, sizeof text),
                        "2 of 4 cores (CPUs 0,6-7), NUMA node 0 of 1");
}

static void gpus_are_near_or_far(void **state) {
    (void)state;
    struct topology topology;
    assert_int_equal(topology_load_xml(EIGHT_GPUS, "5", &topology), STATUS_OK);
    assert_int_equal(topology.gpu_count, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(topology.gpus[i].numa_node, i / 4);
        assert_int_equal(topology.gpus[i].is_near, i >= 4);
        assert_memory_equal(topology.gpus[i].name, "cuda", 4);
    }
    char text[256], short_text[20];
    assert_string_equal(topology_summarize(&topology, text, sizeof text),
                        "1 of 8 cores (CPUs 5), NUMA node 1 of 2, L2 1 x 1 MiB, L3 1 x 32 MiB, "
                        "GPUs near: cuda4 cuda5 cuda6 cuda7, GPUs far: cuda0 cuda1 cuda2 cuda3");
    topology_summarize(&topology, short_text, sizeof short_text);
    assert_string_equal(short_text, "1 of 8 cores (CPUs ");
    assert_int_equal(topology_load_xml(EIGHT_GPUS, NULL, &topology), STATUS_OK);
    assert_int_equal(topology.numa_count, 2);
    for (int i = 0; i < 8; i++)
        assert_true(topology.gpus[i].is_near);
}

/* Machines that nobody made up; what is expected is what hwloc's lstopo shows of them. */
static void real_machines_are_read(void **state) {
    (void)state;
    static const struct {
        const char *file, *binding, *summary;
    } machines[] = {
        {"power8_four_gpus", NULL,
         "8 of 8 cores (CPUs 0-1,8-9,16-17,24-25,80-81,88-89,96-97,104-105), NUMA node 0,1 of 2, "
         "L3 8 x 8 MiB, GPUs near: cuda0 cuda1 cuda2 cuda3"},
        {"power8_four_gpus", "8,16",
         "2 of 8 cores (CPUs 8,16), NUMA node 0 of 2, L3 2 x 8 MiB, GPUs near: cuda0 cuda1, GPUs "
         "far: cuda2 cuda3"},
        {"power8_four_gpus", "80-81",
         "1 of 8 cores (CPUs 80-81), NUMA node 1 of 2, L3 1 x 8 MiB, GPUs near: cuda2 cuda3, GPUs "
         "far: cuda0 cuda1"},
        {"xeon_mixed_gpus", "0-7,16", /* an AMD GPU and the board's own are not for CUDA */
         "8 of 16 cores (CPUs 0-7,16), NUMA node 0 of 2, L2 8 x 256 KiB, L3 1 x 20 MiB, GPUs far: "
         "cuda0"},
        {"xeon_mixed_gpus", "8-15",
         "8 of 16 cores (CPUs 8-15), NUMA node 1 of 2, L2 8 x 256 KiB, L3 1 x 20 MiB, GPUs near: "
         "cuda0"},
        {"xeon_offline_cpus", NULL,
         "6 of 6 cores (CPUs 0-1,3-4,6,12,15), NUMA node 0 of 1, L2 6 x 1 MiB, L3 4 x 4 MiB"},
        {"xeon_offline_cpus", "4,12",
         "1 of 6 cores (CPUs 4,12), NUMA node 0 of 1, L2 1 x 1 MiB, L3 1 x 4 MiB"},
    };
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        struct topology topology;
        char path[128], text[256];
        snprintf(path, sizeof path, "tests/data/topology/%s.xml", machines[i].file);
        assert_int_equal(topology_load_xml(path, machines[i].binding, &topology), STATUS_OK);
        assert_string_equal(topology_summarize(&topology, text, sizeof text), machines[i].summary);
    }
}

static void bad_descriptions_are_refused(void **state) {
    (void)state;
    struct topology topology;
    memset(&topology, 0x5a, sizeof topology);
    const struct topology before = topology;
    assert_int_equal(topology_load_synthetic("a machine", NULL, &topology), STATUS_USAGE);
    assert_int_equal(topology_load_synthetic(TWO_NODES, "8-9", &topology), STATUS_USAGE);
    assert_int_equal(topology_load_synthetic(TWO_NODES, "many", &topology), STATUS_USAGE);
    assert_int_equal(topology_load_xml("tests/data/topology/none.xml", NULL, &topology), STATUS_IO);
    assert_int_equal(topology_load_xml("launcher/demo-moe/config.json", NULL, &topology),
                     STATUS_IO);
    assert_memory_equal(&topology, &before, sizeof topology);
}

static void this_machine_has_a_cpu(void **state) {
    (void)state;
    struct topology topology;
    assert_int_equal(topology_load(&topology), STATUS_OK);
    assert_true(topology.cpu_count >= 1 && topology.core_count >= 1);
    assert_true(topology.cpu_count <= topology.machine_cpu_count);
    assert_true(topology.core_count <= topology.machine_core_count);
}

/* ---- do the bindings of all ranks make sense ---- */

#define RANKS_MAX 4

struct job {
    struct topology topologies[RANKS_MAX];
    struct topology_place places[RANKS_MAX];
    int32_t count;
    char warning[256];
};

static void add_rank(struct job *job, int32_t node, const char *binding, int32_t threads) {
    struct topology *topology = &job->topologies[job->count];
    assert_int_equal(topology_load_synthetic(TWO_NODES, binding, topology), STATUS_OK);
    job->places[job->count++] = (struct topology_place){
        .node = node, .host = node == 0 ? "a" : "b", .threads = threads, .topology = topology};
}

static bool is_good(struct job *job) {
    return topology_binding_check(job->places, job->count, job->warning, sizeof job->warning);
}

static void good_bindings_pass(void **state) {
    (void)state;
    struct job job = {.count = 0};
    add_rank(&job, 0, "0-3", 4);
    assert_true(is_good(&job));
    add_rank(&job, 0, "4-7", 4);
    add_rank(&job, 1, "0-3", 4); /* the same CPUs of another machine */
    assert_true(is_good(&job));
    struct job unbound = {.count = 0};
    for (int i = 0; i < 4; i++)
        add_rank(&unbound, 0, NULL, 2);
    assert_true(is_good(&unbound));
}

static void many_threads_on_one_core_are_named(void **state) {
    (void)state;
    struct job job = {.count = 0};
    add_rank(&job, 0, "0-3", 4);
    add_rank(&job, 1, "2", 8);
    assert_false(is_good(&job));
    assert_string_equal(job.warning, "rank 1 on b runs 8 threads on 1 core (1 CPUs): give "
                                     "--threads 1, or bind the rank to more cores");
}

static void ranks_on_one_core_are_named(void **state) {
    (void)state;
    struct job job = {.count = 0};
    for (int i = 0; i < 3; i++)
        add_rank(&job, 1, "0", 1);
    assert_false(is_good(&job));
    assert_string_equal(job.warning,
                        "all 3 ranks on b are bound to the same 1 of 8 CPUs: let mpirun or srun "
                        "bind each rank to cores of its own");
}

static void a_crowded_node_is_named(void **state) {
    (void)state;
    struct job job = {.count = 0};
    for (int i = 0; i < 4; i++)
        add_rank(&job, 0, NULL, 8);
    assert_false(is_good(&job));
    assert_string_equal(job.warning, "32 threads of 4 ranks share 8 CPUs on a: give --threads 2");
}

static int32_t share_of(const struct job *job, int32_t rank) {
    return topology_binding_share(job->places, job->count, rank);
}

static void cpus_are_shared_out(void **state) {
    (void)state;
    struct job bound = {.count = 0}; /* each its own: all of it, whatever is on other machines */
    add_rank(&bound, 0, "0-3", 0);
    add_rank(&bound, 0, "4-7", 0);
    add_rank(&bound, 1, "0-7", 0);
    assert_int_equal(share_of(&bound, 0), 4);
    assert_int_equal(share_of(&bound, 1), 4);
    assert_int_equal(share_of(&bound, 2), 8);
    struct job unbound = {.count = 0}; /* all the same: a part */
    for (int i = 0; i < 3; i++)
        add_rank(&unbound, 0, NULL, 0);
    assert_int_equal(share_of(&unbound, 0), 2);
    struct job uneven = {.count = 0}; /* half of four, and the other four alone */
    add_rank(&uneven, 0, "0-3", 0);
    add_rank(&uneven, 0, NULL, 0);
    assert_int_equal(share_of(&uneven, 0), 2);
    assert_int_equal(share_of(&uneven, 1), 6);
    struct job crowded = {.count = 0}; /* never none */
    for (int i = 0; i < 4; i++)
        add_rank(&crowded, 0, "1", 0);
    assert_int_equal(share_of(&crowded, 3), 1);
}

/* Two threads a core, numbered as the kernel does where it can: CPUs 0-3, then their twins 4-7. */
#define TWO_THREADS "pack:1 core:4 pu:2(indexes=0,4,1,5,2,6,3,7)"

static void add_smt_rank(struct job *job, const char *binding, int32_t threads) {
    struct topology *topology = &job->topologies[job->count];
    assert_int_equal(topology_load_synthetic(TWO_THREADS, binding, topology), STATUS_OK);
    job->places[job->count++] =
        (struct topology_place){.node = 0, .host = "a", .threads = threads, .topology = topology};
}

static void cores_are_shared_out_not_their_threads(void **state) {
    (void)state;
    struct job alone = {.count = 0};
    add_smt_rank(&alone, NULL, 0);
    assert_int_equal(alone.topologies[0].cpu_count, 8);
    assert_int_equal(alone.topologies[0].core_count, 4);
    assert_int_equal(alone.topologies[0].cores.bits[0], 0xf);
    assert_int_equal(share_of(&alone, 0), 4);
    struct job twins = {.count = 0}; /* one core, bound to one thread of it each */
    add_smt_rank(&twins, "1", 0);
    add_smt_rank(&twins, "5", 0);
    assert_int_equal(twins.topologies[1].cores.bits[0], 0x2);
    assert_int_equal(share_of(&twins, 0), 1);
    struct job halves = {.count = 0};
    add_smt_rank(&halves, "0-1,4-5", 0);
    add_smt_rank(&halves, "2-3,6-7", 0);
    assert_int_equal(share_of(&halves, 0), 2);
    assert_int_equal(share_of(&halves, 1), 2);
    struct job across = {.count = 0}; /* each a thread of all cores: half of each */
    add_smt_rank(&across, "0-3", 0);
    add_smt_rank(&across, "4-7", 0);
    assert_int_equal(share_of(&across, 0), 2);
    assert_int_equal(share_of(&across, 1), 2);
}

static void advice_counts_cores(void **state) {
    (void)state;
    struct job one = {.count = 0};
    add_smt_rank(&one, "1-2,5-6", 8);
    assert_false(is_good(&one));
    assert_string_equal(one.warning, "rank 0 on a runs 8 threads on 2 cores (4 CPUs): give "
                                     "--threads 2, or bind the rank to more cores");
    struct job two = {.count = 0};
    add_smt_rank(&two, NULL, 8);
    add_smt_rank(&two, NULL, 8);
    assert_false(is_good(&two));
    assert_string_equal(two.warning, "16 threads of 2 ranks share 8 CPUs on a: give --threads 2");
    struct job full = {.count = 0}; /* both threads of a core, as somebody wants it */
    add_smt_rank(&full, NULL, 8);
    assert_true(is_good(&full));
}

static void cpus_of_this_process_are_the_same_both_ways(void **state) {
    (void)state;
    struct topology all, cpus;
    assert_int_equal(topology_load(&all), STATUS_OK);
    assert_int_equal(topology_load_cpus(&cpus), STATUS_OK);
    assert_int_equal(cpus.cpu_count, all.cpu_count);
    assert_memory_equal(&cpus.cpus, &all.cpus, sizeof all.cpus);
    assert_int_equal(cpus.core_count, all.core_count);
    assert_memory_equal(&cpus.cores, &all.cores, sizeof all.cores);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_binding_is_counted),
        cmocka_unit_test(without_a_binding_all_is_allowed),
        cmocka_unit_test(gpus_are_near_or_far),
        cmocka_unit_test(real_machines_are_read),
        cmocka_unit_test(bad_descriptions_are_refused),
        cmocka_unit_test(this_machine_has_a_cpu),
        cmocka_unit_test(good_bindings_pass),
        cmocka_unit_test(many_threads_on_one_core_are_named),
        cmocka_unit_test(ranks_on_one_core_are_named),
        cmocka_unit_test(a_crowded_node_is_named),
        cmocka_unit_test(cpus_are_shared_out),
        cmocka_unit_test(cores_are_shared_out_not_their_threads),
        cmocka_unit_test(advice_counts_cores),
        cmocka_unit_test(cpus_of_this_process_are_the_same_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
