/* Shared flags: which model, in which type, on which instruction set and how many threads. */
#define _GNU_SOURCE
#include "launcher/engine_flags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "launcher/binding.h"
#include "launcher/config.h"
#include "launcher/job.h"
#include "launcher/model_folder.h"

struct engine_flags engine_flags_default(void) {
    return (struct engine_flags){.dtype = "auto",
                                 .load_format = "auto",
                                 .cpu_isa = "auto",
                                 .log_level = "info",
                                 .log_format = "text",
                                 .enable_expert_parallel = true,
                                 .moe_flow = "auto",
                                 .expert_placement = "contiguous",
                                 .comm_timeout_s = 10,
                                 .max_num_batched_tokens = 512};
}

int32_t engine_flags_entries(struct engine_flags *flags, struct option_entry *entries,
                             int32_t count) {
    const struct option_entry shared[ENGINE_FLAGS_ENTRIES - SETTINGS_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Model"},
        {OPTION_STRING, "model", &flags->model, "DIR",
         "a Hugging Face folder; default: the demo model", 0, 0},
        {OPTION_STRING, "dtype", &flags->dtype, "TYPE",
         "auto (the checkpoint's), float32 or bfloat16", 0, 0},
        {OPTION_STRING, "load-format", &flags->load_format, "FORMAT",
         "auto or safetensors: the checkpoint; dummy: random weights of this shape", 0, 0},
        {OPTION_INT, "max-model-len", &flags->max_model_len, "N",
         "longest sequence, prompt and output; default: the model's", 2, INT32_MAX / 2},
        {.kind = OPTION_HEADING, .name = "Machine"},
        {OPTION_INT, "threads", &flags->threads, "N",
         "compute threads; default: a rank's share of the cores it may use", 1,
         THREAD_POOL_THREADS_MAX},
        {OPTION_STRING, "cpu-isa", &flags->cpu_isa, "NAME",
         "auto, baseline, avx2, avx512, avx512-bf16 or reference", 0, 0},
        {OPTION_INT, "max-num-batched-tokens", &flags->max_num_batched_tokens, "N",
         "rows of one step; default 512", 1, 65536},
        {OPTION_STRING, "log-level", &flags->log_level, "LEVEL",
         "error, warn, info, debug or trace", 0, 0},
        {OPTION_STRING, "log-format", &flags->log_format, "FORMAT",
         "text or json (an object a line)", 0, 0},
    };
    memcpy(entries + count, shared, sizeof shared);
    return settings_entries(&flags->settings, entries,
                            count + ENGINE_FLAGS_ENTRIES - SETTINGS_ENTRIES);
}

int32_t engine_flags_rank_entries(struct engine_flags *flags, struct option_entry *entries,
                                  int32_t count) {
    const struct option_entry ranks[ENGINE_FLAGS_RANK_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Ranks (started by mpirun or srun)"},
        {OPTION_INT, "tensor-parallel-size", &flags->tensor_parallel_size, "N",
         "ranks that share a request's heads and vocabulary; default: 1, or ranks / groups", 1,
         TRANSPORT_RANKS_MAX},
        {OPTION_INT, "data-parallel-size", &flags->data_parallel_size, "N",
         "groups that hold requests; default: ranks / tensor-parallel size", 1,
         TRANSPORT_RANKS_MAX},
        {OPTION_FLAG, "enable-expert-parallel", &flags->enable_expert_parallel, NULL,
         "experts are spread over all ranks: always, a name that people know", 0, 0},
        {OPTION_STRING, "moe-flow", &flags->moe_flow, "FLOW",
         "auto, a2a, a2a-dedup, allgather, hierarchical or deepspeed", 0, 0},
        {OPTION_STRING, "expert-placement", &flags->expert_placement, "RULE|FILE",
         "contiguous, round-robin, random, random:SEED, or a file: see README", 0, 0},
        {OPTION_INT, "expert-replicas", &flags->expert_replicas, "N",
         "experts of each layer that a second rank holds too; default 0", 0, MODEL_EXPERTS_MAX},
        {OPTION_INT, "ranks-per-node", &flags->ranks_per_node, "N",
         "count every N ranks of a host as a node; default: a host is a node", 1,
         TRANSPORT_RANKS_MAX},
        {OPTION_INT, "comm-timeout", &flags->comm_timeout_s, "SECONDS",
         "how long a rank waits for another inside a step; default 10", 1, 86400},
        {OPTION_FLAG, "verify-ranks", &flags->verify_ranks, NULL,
         "debugging: every step, stop if ranks differ in plan, block tables or residual", 0, 0},
    };
    memcpy(entries + count, ranks, sizeof ranks);
    return count + ENGINE_FLAGS_RANK_ENTRIES;
}

/* The position of `value` in a NULL-terminated list of accepted spellings; STATUS_USAGE (logged) if
 * it is not there. */
static enum status choose(const char *flag, const char *value, const char *const *accepted,
                          const char *expected, int32_t *index) {
    for (int32_t i = 0; accepted[i] != NULL; i++) {
        if (strcmp(accepted[i], value) == 0) {
            *index = i;
            return STATUS_OK;
        }
    }
    LOG_ERROR("--%s: expected %s, got '%s'", flag, expected, value);
    return STATUS_USAGE;
}

static enum status resolve_dtype(const char *name, enum engine_dtype *dtype) {
    static const char *const names[] = {"auto",     "float32", "float", "f32",
                                        "bfloat16", "bf16",    NULL};
    static const enum engine_dtype values[] = {ENGINE_DTYPE_AUTO, ENGINE_DTYPE_F32,
                                               ENGINE_DTYPE_F32,  ENGINE_DTYPE_F32,
                                               ENGINE_DTYPE_BF16, ENGINE_DTYPE_BF16};
    int32_t index;
    RETURN_IF_ERROR(choose("dtype", name, names, "auto, float32 or bfloat16", &index));
    *dtype = values[index];
    return STATUS_OK;
}

static enum status resolve_isa(const char *name, enum cpu_isa *isa) {
    if (strcmp(name, "auto") == 0) {
        *isa = cpu_isa_best();
        return STATUS_OK;
    }
    if (cpu_isa_parse(name, isa) == 0)
        return STATUS_OK;
    LOG_ERROR(
        "--cpu-isa: expected auto, baseline, avx2, avx512, avx512-bf16 or reference, got '%s'",
        name);
    return STATUS_USAGE;
}

static enum status resolve_flow(const char *name, enum expert_flow *flow) {
    for (int i = 0; i <= EXPERT_FLOW_AUTO; i++)
        if (strcmp(name, expert_flow_name((enum expert_flow)i)) == 0) {
            *flow = (enum expert_flow)i;
            return STATUS_OK;
        }
    LOG_ERROR("--moe-flow: expected auto, a2a, a2a-dedup, allgather, hierarchical or deepspeed, "
              "got '%s'",
              name);
    return STATUS_USAGE;
}

/* A rule's name, or the path of a file: what has a slash or ends in .json. */
static enum status resolve_placement(const char *name, struct engine_options *options) {
    static const char *const names[] = {"contiguous", "round-robin", "random", NULL};
    static const char expected[] = "contiguous, round-robin, random, random:SEED or a FILE.json";
    struct placement_options *placement = &options->placement;
    size_t length = strlen(name);
    int32_t index;
    if (strchr(name, '/') != NULL || (length > 5 && strcmp(name + length - 5, ".json") == 0)) {
        options->placement_file = name;
        if (placement->replicas == 0)
            return STATUS_OK;
        LOG_ERROR("--expert-replicas: expected 0 with a file for --expert-placement, got %d",
                  placement->replicas);
        return STATUS_USAGE;
    }
    if (strncmp(name, "random:", 7) == 0 && name[7] >= '0' && name[7] <= '9') {
        char *end;
        errno = 0;
        placement->policy = PLACEMENT_RANDOM;
        placement->seed = strtoull(name + 7, &end, 10);
        if (*end == '\0' && errno == 0)
            return STATUS_OK;
    }
    RETURN_IF_ERROR(choose("expert-placement", name, names, expected, &index));
    placement->policy = (enum placement_policy)index;
    return STATUS_OK;
}

enum status engine_flags_values(const struct engine_flags *flags, struct engine_options *options) {
    static const char *const formats[] = {"auto", "safetensors", "dummy", NULL};
    static const char *const log_formats[] = {"text", "json", NULL};
    enum log_level level;
    int32_t log_format;
    if (log_level_parse(flags->log_level, &level) != 0) {
        LOG_ERROR("--log-level: expected error, warn, info, debug or trace, got '%s'",
                  flags->log_level);
        return STATUS_USAGE;
    }
    log_setup(level, config_rank());
    RETURN_IF_ERROR(
        choose("log-format", flags->log_format, log_formats, "text or json", &log_format));
    log_set_json(log_format == 1);
    if (!flags->enable_expert_parallel) {
        LOG_ERROR("--enable-expert-parallel: expected true (experts are always spread over all "
                  "ranks), got false");
        return STATUS_USAGE;
    }
    *options = (struct engine_options){
        .threads = flags->threads > 0 ? flags->threads : 1, /* until ranks have joined */
        .positions = flags->max_model_len,
        .requests = 1,
        .rows = flags->max_num_batched_tokens};
    RETURN_IF_ERROR(resolve_dtype(flags->dtype, &options->dtype));
    RETURN_IF_ERROR(resolve_isa(flags->cpu_isa, &options->isa));
    int32_t format;
    RETURN_IF_ERROR(
        choose("load-format", flags->load_format, formats, "auto, safetensors or dummy", &format));
    options->dummy_weights = format == 2;
    RETURN_IF_ERROR(resolve_flow(flags->moe_flow, &options->flow));
    options->placement.replicas = flags->expert_replicas;
    options->verify_ranks = flags->verify_ranks;
    return resolve_placement(flags->expert_placement, options);
}

enum status engine_flags_resolve(const struct engine_flags *flags, struct engine_options *options,
                                 char *folder) {
    RETURN_IF_ERROR(engine_flags_values(flags, options));
    RETURN_IF_ERROR(model_folder_resolve(flags->model, folder, FLAGS_PATH_MAX));
    options->model_folder = folder;
    return STATUS_OK;
}

enum status engine_flags_join(const struct engine_flags *flags, struct engine_options *options,
                              struct rank_group *ranks) {
    struct job_options job = {.command = flags->settings.command->name,
                              .comm_timeout_ms = flags->comm_timeout_s * 1000,
                              .tensor_parallel_size = flags->tensor_parallel_size,
                              .data_parallel_size = flags->data_parallel_size};
    RETURN_IF_ERROR(job_start(&job, ranks));
    enum log_level level = LOG_LEVEL_INFO;
    if (log_level_parse(flags->log_level, &level) == 0 && ranks->rank > 0 &&
        level == LOG_LEVEL_INFO)
        level = LOG_LEVEL_WARN; /* the coordinator tells the life of the job */
    log_setup(level, ranks->rank);
    settings_announce(&flags->settings, flags->announces_all);
    RETURN_IF_ERROR(settings_agree(&flags->settings, ranks));
    options->ranks = ranks;
    RETURN_IF_ERROR(
        binding_settle(ranks, flags->threads, !flags->tells_machine, &options->threads));
    if (flags->ranks_per_node > 0 && !flags->tells_machine) /* ranks that share CPUs still do */
        rank_group_split_nodes(ranks, flags->ranks_per_node);
    return STATUS_OK;
}
