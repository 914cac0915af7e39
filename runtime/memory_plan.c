/* Says what a model will take and refuses what does not fit, before anything is read. */
#include "runtime/memory_plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"

#define GROUP_PATH_MAX 4096

const char *memory_plan_format(int64_t bytes, char *text, size_t size) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1024.0 && unit < 4) {
        value /= 1024.0;
        unit++;
    }
    snprintf(text, size,
             unit == 0        ? "%.0f %s"
             : value >= 100.0 ? "%.0f %s"
                              : "%.1f %s",
             value, units[unit]);
    return text;
}

/* The number that follows `key` in a file of "key value" lines, or the file's only number when key
 * is NULL; -1 if there is none. */
static int64_t number_in_file(const char *path, const char *key) {
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    char line[256];
    int64_t number = -1;
    while (number < 0 && fgets(line, sizeof line, file) != NULL) {
        const char *text = line;
        if (key != NULL) {
            if (strncmp(line, key, strlen(key)) != 0)
                continue;
            text += strlen(key);
        }
        char *end;
        long long value = strtoll(text, &end, 10);
        if (end != text)
            number = value;
        else if (key == NULL)
            break; /* "max": no limit */
    }
    fclose(file);
    return number;
}

static int64_t number_in_group(const char *group, const char *file, const char *key) {
    char path[GROUP_PATH_MAX + 64];
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, file);
    return number_in_file(path, key);
}

/* What one control group still allows; INT64_MAX: no such group, or no limit. The page cache counts
 * as used but gives way: a checkpoint that was just copied here must not keep itself from loading.
 */
static int64_t available_in_group(const char *group) {
    int64_t limit = number_in_group(group, "memory.max", NULL);
    int64_t used = number_in_group(group, "memory.current", NULL);
    if (limit < 0 || used < 0)
        return INT64_MAX;
    int64_t active = number_in_group(group, "memory.stat", "active_file ");
    int64_t inactive = number_in_group(group, "memory.stat", "inactive_file ");
    used -= (active > 0 ? active : 0) + (inactive > 0 ? inactive : 0);
    if (used < 0)
        used = 0;
    return limit > used ? limit - used : 0;
}

/* The path of this process's group in the unified hierarchy ("0::/slurm/job7/step0"), "" if
 * unknown. */
static void own_group(char *group) {
    group[0] = '\0';
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL)
        return;
    char line[GROUP_PATH_MAX];
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "0::", 3) == 0) {
            line[strcspn(line, "\n")] = '\0';
            memcpy(group, line + 3, strlen(line + 3) + 1);
        }
    fclose(file);
}

int64_t memory_plan_available(void) {
    int64_t system_kib = number_in_file("/proc/meminfo", "MemAvailable:");
    int64_t available = system_kib >= 0 ? system_kib * 1024 : INT64_MAX;
    char group[GROUP_PATH_MAX];
    own_group(group);
    for (;;) { /* the own group and all above it, up to the root of what this process sees */
        int64_t allowed = available_in_group(group);
        available = allowed < available ? allowed : available;
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            return available;
        *slash = '\0';
    }
}

static void print_kind(FILE *out, const char *kind, int64_t bytes) {
    char text[32];
    if (bytes > 0)
        fprintf(out, "  %-16s %12s\n", kind, memory_plan_format(bytes, text, sizeof text));
}

void memory_plan_print(FILE *out, const struct model_memory *memory, int64_t positions) {
    const struct weight_bytes_by_kind *weights = &memory->weights;
    char text[32], free_text[32];
    fprintf(out, "memory plan:\n");
    print_kind(out, "embedding", weights->embedding);
    print_kind(out, "output", weights->output);
    print_kind(out, "attention", weights->attention);
    print_kind(out, "dense MLP", weights->dense);
    print_kind(out, "experts", weights->experts);
    print_kind(out, "shared expert", weights->shared_expert);
    print_kind(out, "router", weights->router);
    print_kind(out, "norms, biases", weights->norms);
    print_kind(out, "KV cache", memory->kv_bytes);
    print_kind(out, "activations", memory->workspace_bytes);
    print_kind(out, "step buffers", memory->step_bytes);
    fprintf(out, "  %-16s %12s of %s available; the KV cache holds %" PRId64 " tokens\n", "total",
            memory_plan_format(memory->total, text, sizeof text),
            memory_plan_format(memory_plan_available(), free_text, sizeof free_text), positions);
}

enum status memory_plan_check(const struct model_memory *memory, int64_t positions,
                              int32_t ranks_here) {
    char weights[32], kv[32], rest[32], total[32], available_text[32];
    int64_t available = memory_plan_available();
    if (available < INT64_MAX)
        available /= ranks_here;
    memory_plan_format(memory->weights.total, weights, sizeof weights);
    memory_plan_format(memory->kv_bytes, kv, sizeof kv);
    memory_plan_format(memory->workspace_bytes + memory->step_bytes, rest, sizeof rest);
    memory_plan_format(memory->total, total, sizeof total);
    memory_plan_format(available, available_text, sizeof available_text);
    LOG_INFO("memory plan: weights %s, KV cache %s (%" PRId64
             " tokens), activations and step buffers %s; total %s of %s available",
             weights, kv, positions, rest, total, available_text);
    if (memory->total <= available)
        return STATUS_OK;
    LOG_ERROR("memory plan: expected at most %s, got %s: take more ranks, --dtype bfloat16, or a "
              "smaller --max-model-len",
              available_text, total);
    return STATUS_NO_MEMORY;
}
