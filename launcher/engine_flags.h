/* The flags that every command with a model shares, under the names that vLLM's users know. */
#ifndef MOEBIUS_LAUNCHER_ENGINE_FLAGS_H
#define MOEBIUS_LAUNCHER_ENGINE_FLAGS_H

#include "launcher/options.h"
#include "launcher/settings.h"
#include "runtime/engine.h"

struct engine_flags {
    struct settings settings;
    bool announces_all; /* the log begins with all values that are no defaults, flags too */
    bool tells_machine; /* the command is about the machine: no warning of bindings as ranks join,
                           and a host is a node whatever ranks_per_node says */
    const char *model, *dtype, *load_format, *cpu_isa, *log_level, *log_format;
    int32_t threads, max_model_len, max_num_batched_tokens;
    int32_t tensor_parallel_size, data_parallel_size, comm_timeout_s, expert_replicas;
    int32_t ranks_per_node;
    bool verify_ranks;
    bool enable_expert_parallel; /* true; accepted because people know the name */
    const char *moe_flow, *expert_placement;
};

/* Every field unset. */
struct engine_flags engine_flags_default(void);

/* How many entries engine_flags_entries writes. */
#define ENGINE_FLAGS_ENTRIES (11 + SETTINGS_ENTRIES)
#define ENGINE_FLAGS_RANK_ENTRIES 10

/* Appends the entries (headings included) to a command's table and returns the new count. */
int32_t engine_flags_entries(struct engine_flags *flags, struct option_entry *entries,
                             int32_t count);

/* The same for the flags of commands that run on many ranks (ENGINE_FLAGS_RANK_ENTRIES). */
int32_t engine_flags_rank_entries(struct engine_flags *flags, struct option_entry *entries,
                                  int32_t count);

/* The part of engine_flags_resolve that needs no model: options->model_folder stays NULL.
 * STATUS_USAGE (logged). Local. */
enum status engine_flags_values(const struct engine_flags *flags, struct engine_options *options);

/* Turns the flags into engine options: names checked, the demo model filled in when none is given,
 * threads from the CPUs that this process may use. *folder (FLAGS_PATH_MAX bytes) holds the model's
 * path afterwards and must live as long as the options. Also sets the log level. STATUS_USAGE,
 * STATUS_IO (logged). Local. */
#define FLAGS_PATH_MAX 4096
enum status engine_flags_resolve(const struct engine_flags *flags, struct engine_options *options,
                                 char *folder);

/* Joins the job as the flags say, with the same values on all ranks; *ranks must live as long as
 * the options, which point to it afterwards. Ranks other than the coordinator log from warnings on.
 * See job_start. Collective. */
enum status engine_flags_join(const struct engine_flags *flags, struct engine_options *options,
                              struct rank_group *ranks);

#endif
