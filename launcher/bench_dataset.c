/* From dataset flags to prompts, for bench serve and bench throughput. */
#include "launcher/bench_dataset.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"

#define TOKENS_MAX (1 << 24)
#define MADE_UP_PROMPTS 1000

struct bench_dataset_flags bench_dataset_flags_default(void) {
    return (struct bench_dataset_flags){
        .name = "random", .random_input_len = 128, .random_output_len = 128, .output_len = 128};
}

int32_t bench_dataset_entries(struct bench_dataset_flags *flags, struct option_entry *entries,
                              int32_t count) {
    const struct option_entry own[BENCH_DATASET_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Requests"},
        {OPTION_STRING, "dataset-path", &flags->path, "FILE",
         "Azure's CSV, Mooncake, ShareGPT ids, MT-Bench, Spec-Bench (JSON lines)", 0, 0},
        {OPTION_STRING, "dataset-name", &flags->name, "NAME",
         "without a file: random (the default), token ids that are made up", 0, 0},
        {OPTION_INT, "num-prompts", &flags->prompts, "N",
         "requests; default: all of the file, or 1000; a short file begins anew", 1, 1 << 24},
        {OPTION_INT, "random-input-len", &flags->random_input_len, "N",
         "tokens of a made-up prompt; default 128", 1, TOKENS_MAX},
        {OPTION_INT, "random-output-len", &flags->random_output_len, "N",
         "new tokens at most, then; default 128", 1, TOKENS_MAX},
        {OPTION_INT, "output-len", &flags->output_len, "N",
         "new tokens at most where the file does not say; default 128", 1, TOKENS_MAX},
        {OPTION_INT, "max-prompt-len", &flags->max_prompt_len, "N",
         "cuts longer prompts; default: none", 1, TOKENS_MAX},
        {OPTION_INT, "max-output-len", &flags->max_output_len, "N",
         "bounds the file's lengths; default: none", 1, TOKENS_MAX},
        {OPTION_UINT64, "seed", &flags->seed, "N", "of everything drawn at random; default 0", 0,
         0},
    };
    memcpy(entries + count, own, sizeof own);
    return count + BENCH_DATASET_ENTRIES;
}

static enum status check_trace(const struct bench_dataset *dataset) {
    const struct workload *workload = &dataset->workload;
    for (int32_t i = 0; i < workload->count; i++)
        if (workload->items[i].arrival_ns < 0 ||
            (i > 0 && workload->items[i].arrival_ns < workload->items[i - 1].arrival_ns)) {
            LOG_ERROR("--trace: %s: request %d: expected a time, not before that of the request "
                      "before, got %s",
                      dataset->flags->path, i + 1,
                      workload->items[i].arrival_ns < 0 ? "none" : "an earlier one");
            return STATUS_BAD_REQUEST;
        }
    return STATUS_OK;
}

enum status bench_dataset_open(const struct bench_dataset_flags *flags, bool is_trace,
                               struct bench_dataset *dataset) {
    *dataset = (struct bench_dataset){.flags = flags, .count = flags->prompts};
    if (strcmp(flags->name, "random") != 0) {
        LOG_ERROR("--dataset-name: expected random, got '%s'", flags->name);
        return STATUS_USAGE;
    }
    if (flags->path == NULL && is_trace) {
        LOG_ERROR("--trace: expected --dataset-path with a file that has times, got none");
        return STATUS_USAGE;
    }
    if (flags->path == NULL) {
        dataset->count = flags->prompts > 0 ? flags->prompts : MADE_UP_PROMPTS;
        return STATUS_OK;
    }
    RETURN_IF_ERROR(workload_load(flags->path, flags->prompts, &dataset->workload));
    if (flags->prompts == 0 || is_trace)
        dataset->count = dataset->workload.count;
    return is_trace ? check_trace(dataset) : STATUS_OK;
}

void bench_dataset_deinit(struct bench_dataset *dataset) {
    workload_deinit(&dataset->workload);
    free(dataset->ids);
    dataset->ids = NULL;
}

static int32_t clip(int32_t value, int32_t most) {
    return most > 0 && value > most ? most : value;
}

static enum status make_ids(struct bench_dataset *dataset, const struct workload_item *item,
                            int32_t number, int32_t vocabulary) {
    if (item->prompt_tokens > dataset->capacity) {
        int32_t *ids = realloc(dataset->ids, (size_t)item->prompt_tokens * sizeof *ids);
        if (ids == NULL) {
            LOG_ERROR("bench: cannot take memory for a prompt of %d tokens", item->prompt_tokens);
            return STATUS_NO_MEMORY;
        }
        dataset->ids = ids;
        dataset->capacity = item->prompt_tokens;
    }
    workload_make_ids(item, number, dataset->flags->seed, vocabulary, dataset->ids);
    return STATUS_OK;
}

enum status bench_dataset_prompt(struct bench_dataset *dataset, int32_t number, int32_t vocabulary,
                                 struct bench_prompt *prompt) {
    const struct bench_dataset_flags *flags = dataset->flags;
    const struct workload *workload = &dataset->workload;
    struct workload_item item = {.prompt_tokens = flags->random_input_len,
                                 .output_tokens = flags->random_output_len};
    if (workload->count > 0)
        item = workload->items[number % workload->count];
    item.prompt_tokens = clip(item.prompt_tokens, flags->max_prompt_len);
    int32_t output = item.output_tokens > 0 ? item.output_tokens : flags->output_len;
    *prompt = (struct bench_prompt){.text = item.text,
                                    .id_count = item.prompt_tokens,
                                    .truncate = flags->max_prompt_len,
                                    .output_tokens = clip(output, flags->max_output_len)};
    if (item.text != NULL)
        return STATUS_OK;
    RETURN_IF_ERROR(make_ids(dataset, &item, number, vocabulary));
    prompt->ids = dataset->ids;
    return STATUS_OK;
}

double bench_dataset_arrival_s(const struct bench_dataset *dataset, int32_t number) {
    return (double)dataset->workload.items[number].arrival_ns * 1e-9;
}
