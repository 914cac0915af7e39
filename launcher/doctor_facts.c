/* moebius doctor, first part: each rank looks at itself and tells the coordinator. */
#include "launcher/doctor_facts.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/collective.h"
#include "kernels/base/build_id.h"
#include "kernels/base/log.h"
#include "kernels/cpu_features.h"
#include "kernels/cuda_device.h"
#include "launcher/model_folder.h"
#include "runtime/memory_plan.h"
#include "runtime/tokenizer.h"

#ifdef __clang__
static const char compiler[] = __VERSION__; /* names itself */
#else
static const char compiler[] = "gcc " __VERSION__;
#endif

static void describe_kernels(enum cpu_isa chosen, char *text, size_t size) {
    int used = snprintf(text, size, "%s (this CPU can run:", cpu_isa_name(chosen));
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
        if (cpu_isa_supported((enum cpu_isa)isa) && used > 0 && (size_t)used < size)
            used +=
                snprintf(text + used, size - (size_t)used, " %s", cpu_isa_name((enum cpu_isa)isa));
    if (used > 0 && (size_t)used < size)
        snprintf(text + used, size - (size_t)used, ")");
}

/* The tokenizer as serve would load it; how it went, in a few words. */
static const char *open_tokenizer(const char *folder, bool skips, struct doctor_facts *facts) {
    char path[FLAGS_PATH_MAX + 32];
    struct tokenizer *tokenizer;
    if (skips)
        return "tokenizer not looked at";
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    facts->lacks_tokenizer = access(path, F_OK) != 0;
    if (facts->lacks_tokenizer)
        return "no tokenizer";
    facts->tokenizer_status = tokenizer_load(path, &tokenizer);
    if (facts->tokenizer_status != STATUS_OK)
        return "a tokenizer that cannot be read";
    tokenizer_destroy(tokenizer);
    return "a tokenizer";
}

/* The model as generate would open it. */
static enum status open_model(const struct engine_flags *flags,
                              const struct engine_options *options, bool skips_tokenizer,
                              struct doctor_facts *facts) {
    char folder[FLAGS_PATH_MAX], size[32], weights[96] = "random weights";
    struct engine_examination found;
    struct engine_options here = *options;
    RETURN_IF_ERROR(model_folder_resolve(flags->model, folder, sizeof folder));
    here.model_folder = folder;
    RETURN_IF_ERROR(engine_examine(&here, &found));
    facts->digest = found.digest;
    if (found.files > 0)
        snprintf(weights, sizeof weights, "%d tensors in %d %s, %s", found.tensors, found.files,
                 found.files == 1 ? "file" : "files",
                 memory_plan_format(found.checkpoint_bytes, size, sizeof size));
    const char *tokenizer = open_tokenizer(folder, skips_tokenizer, facts);
    snprintf(facts->model, sizeof facts->model, "%s, %d layers, %s, %s", found.model_type,
             found.layers, weights, tokenizer);
    return STATUS_OK;
}

void doctor_facts_collect(const struct rank_group *ranks, const struct engine_flags *flags,
                          const struct engine_options *options, bool skips_tokenizer,
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
    facts->threads = options->threads;
    facts->isa = (int32_t)options->isa;
    describe_kernels(options->isa, facts->kernels, sizeof facts->kernels);
    facts->memory_bytes = memory_plan_available();
    char device[120];
    facts->cuda_count = cuda_device_count(device, sizeof device);
    if (facts->cuda_count > 0)
        cuda_device_describe(0, device, sizeof device);
    snprintf(facts->cuda, sizeof facts->cuda, "%s", device);
    facts->model_status = open_model(flags, options, skips_tokenizer, facts);
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
