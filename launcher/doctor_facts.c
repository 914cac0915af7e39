/* moebius doctor, first part: each rank looks at itself and tells the coordinator. */
#include "launcher/doctor_facts.h"

#include <stdio.h>
#include <string.h>

#include "comm/collective.h"
#include "kernels/base/build_id.h"
#include "kernels/base/log.h"
#include "kernels/cpu_features.h"
#include "kernels/cuda_device.h"
#include "kernels/thread_pool.h"
#include "launcher/engine_flags.h"
#include "launcher/model_folder.h"
#include "runtime/checkpoint.h"
#include "runtime/family.h"
#include "runtime/memory_plan.h"

#ifdef __clang__
static const char compiler[] = __VERSION__; /* names itself */
#else
static const char compiler[] = "gcc " __VERSION__;
#endif

static void describe_kernels(char *text, size_t size) {
    int used = snprintf(text, size, "%s (this CPU can run:", cpu_isa_name(cpu_isa_best()));
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
        if (cpu_isa_supported((enum cpu_isa)isa) && used > 0 && (size_t)used < size)
            used +=
                snprintf(text + used, size - (size_t)used, " %s", cpu_isa_name((enum cpu_isa)isa));
    if (used > 0 && (size_t)used < size)
        snprintf(text + used, size - (size_t)used, ")");
}

/* config.json and the headers of the checkpoint, as generate would read them. */
static enum status open_model(const char *given, struct doctor_facts *facts) {
    char folder[FLAGS_PATH_MAX], size[32];
    const struct family *family;
    static struct model_spec spec; /* large, and one is enough */
    struct checkpoint *checkpoint;
    RETURN_IF_ERROR(model_folder_resolve(given, folder, sizeof folder));
    RETURN_IF_ERROR(family_parse(folder, &family, &spec));
    RETURN_IF_ERROR(checkpoint_open(folder, &checkpoint));
    facts->checkpoint_bytes = checkpoint_bytes(checkpoint);
    int32_t shards = checkpoint_shards(checkpoint);
    snprintf(facts->model, sizeof facts->model, "%s, %d layers, %d tensors in %d %s, %s",
             family->model_type, spec.layers, checkpoint_count(checkpoint), shards,
             shards == 1 ? "file" : "files",
             memory_plan_format(facts->checkpoint_bytes, size, sizeof size));
    checkpoint_close(checkpoint);
    return STATUS_OK;
}

void doctor_facts_collect(const struct rank_group *ranks, const char *model,
                          struct doctor_facts *facts) {
    memset(facts, 0, sizeof *facts);
    char version[64];
    const char *thread_level;
    rank_group_describe_mpi(ranks, version, sizeof version, &thread_level);
    char build[BUILD_ID_SIZE];
    build_id_write(build);
    snprintf(facts->build, sizeof facts->build, "moebius %s, build %s by %s", MOEBIUS_VERSION,
             build, compiler);
    snprintf(facts->mpi, sizeof facts->mpi, "%s, thread level %s, transport %s", version,
             thread_level, ranks->transport->ops->name);
    facts->topology_status = topology_load(&facts->topology);
    describe_kernels(facts->kernels, sizeof facts->kernels);
    facts->memory_bytes = memory_plan_available();
    char device[120];
    facts->cuda_count = cuda_device_count(device, sizeof device);
    if (facts->cuda_count > 0)
        cuda_device_describe(0, device, sizeof device);
    snprintf(facts->cuda, sizeof facts->cuda, "%s", device);
    facts->model_status = open_model(model, facts);
}

enum status doctor_facts_gather(const struct rank_group *ranks, const struct doctor_facts *mine,
                                struct doctor_facts *all) {
    int32_t members[TRANSPORT_RANKS_MAX];
    int64_t sizes[TRANSPORT_RANKS_MAX];
    void *into[TRANSPORT_RANKS_MAX];
    for (int32_t i = 0; i < ranks->size; i++) {
        members[i] = i;
        into[i] = &all[i];
    }
    struct collective_group world = {.transport = ranks->transport,
                                     .members = members,
                                     .count = ranks->size,
                                     .self = ranks->rank};
    struct transport_scope scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};
    RETURN_IF_ERROR(transport_reserve(ranks->transport, sizeof *mine));
    return collective_gather(&world, &scope, mine, sizeof *mine, into, sizeof *mine, sizes);
}
