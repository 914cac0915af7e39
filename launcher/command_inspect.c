/* moebius inspect: family, dimensions, parameters, memory plan, missing and extra tensors; nothing
 * is loaded. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"
#include "kernels/cuda_device.h"
#include "launcher/commands.h"
#include "launcher/engine_flags.h"
#include "runtime/memory_plan.h"

#define NAMES_SHOWN 20

static void print_attention(const struct model_spec *spec) {
    static const char *const norms[] = {"", ", q/k norm per head", ", q/k norm over the width"};
    static const char *const ropes[] = {"", ", linear", ", llama3", ", yarn"};
    const struct attention_spec *attention = &spec->attention;
    int32_t windowed = 0, window = 0;
    for (int32_t i = 0; i < spec->layers; i++) {
        if (spec->layer[i].window > 0) {
            windowed++;
            window = spec->layer[i].window;
        }
    }
    printf("attention: %d heads, %d kv heads of %d%s%s%s\n", attention->heads, attention->kv_heads,
           attention->head_dim, attention->qkv_bias ? ", qkv bias" : "",
           attention->output_bias ? ", output bias" : "", norms[attention->qk_norm]);
    printf("rope: theta %g over %d dimensions%s\n", spec->rope.theta, spec->rope.rotary_dim,
           ropes[spec->rope.kind]);
    if (windowed > 0)
        printf("sliding window: %d keys in %d of %d layers\n", window, windowed, spec->layers);
}

static void print_mlp(const struct model_spec *spec) {
    int32_t moe_layers = 0;
    for (int32_t i = 0; i < spec->layers; i++)
        moe_layers += spec->layer[i].moe ? 1 : 0;
    if (moe_layers < spec->layers)
        printf("dense MLP: %d layers of %d\n", spec->layers - moe_layers, spec->dense_intermediate);
    if (moe_layers == 0)
        return;
    const struct moe_spec *moe = &spec->moe;
    printf("MoE: %d layers, %d experts of %d, top-%d, %s%s\n", moe_layers, moe->router.experts,
           moe->expert_intermediate, moe->router.top_k,
           moe->router.score == ROUTER_SIGMOID ? "sigmoid" : "softmax",
           moe->router.normalize ? ", renormalised" : "");
    if (moe->shared_intermediate > 0)
        printf("shared expert: %d%s\n", moe->shared_intermediate,
               moe->shared_gate ? ", gated" : "");
}

/* Elements of the description's tensors: all, and those that one token uses. */
static void count_parameters(const struct model_weights *weights, int64_t *all, int64_t *active) {
    const struct model_spec *spec = weights->spec;
    int64_t moe_layers = 0;
    for (int32_t i = 0; i < spec->layers; i++)
        moe_layers += spec->layer[i].moe ? 1 : 0;
    int64_t expert = 3 * (int64_t)spec->hidden * spec->moe.expert_intermediate;
    *all = model_weights_elements(weights);
    *active = *all - moe_layers * (spec->moe.router.experts - spec->moe.router.top_k) * expert;
}

static void print_mismatch(void *context, const char *problem, const char *tensor) {
    int32_t *shown = context;
    if ((*shown)++ < NAMES_SHOWN)
        printf("  %s: %s\n", tensor, problem);
}

static enum status inspect_checkpoint(const char *folder, const struct model_weights *weights) {
    struct checkpoint *checkpoint;
    RETURN_IF_ERROR(checkpoint_open(folder, &checkpoint));
    char size[32];
    printf("checkpoint: %d tensors in %d files, %s\n", checkpoint_count(checkpoint),
           checkpoint_shards(checkpoint),
           memory_plan_format(checkpoint_bytes(checkpoint), size, sizeof size));
    int32_t shown = 0;
    struct weights_mismatch mismatch = {0};
    enum status status =
        model_weights_check(weights, checkpoint, print_mismatch, &shown, &mismatch);
    printf("tensors: %d missing, %d extra, %d of a wrong shape or type\n", mismatch.missing,
           mismatch.extra, mismatch.wrong);
    if (status == STATUS_BAD_CHECKPOINT)
        LOG_ERROR("%s: expected every tensor of the model once, got %d missing, %d extra, %d wrong",
                  folder, mismatch.missing, mismatch.extra, mismatch.wrong);
    checkpoint_close(checkpoint);
    return status;
}

static void print_machine(const struct engine_options *options) {
    char text[256];
    printf("machine: %d threads, kernels for %s\n", options->threads, cpu_isa_name(options->isa));
    int32_t devices = cuda_device_count(text, sizeof text);
    if (devices == 0)
        printf("CUDA devices: none: %s\n", text);
    for (int32_t device = 0; device < devices; device++) {
        cuda_device_describe(device, text, sizeof text);
        printf("CUDA device %d: %s\n", device, text);
    }
}

static enum status inspect(const struct engine_options *options) {
    const struct family *family;
    static struct model_spec spec; /* large, and one is enough */
    RETURN_IF_ERROR(family_parse(options->model_folder, &family, &spec));
    if (options->positions > spec.max_positions) {
        LOG_ERROR("--max-model-len: expected at most %d (the model's max_position_embeddings), "
                  "got %d",
                  spec.max_positions, options->positions);
        return STATUS_USAGE;
    }
    printf("family: %s (%s)\n", spec.family, spec.architecture);
    printf("layers: %d of width %d; vocabulary %d%s; positions %d; stored as %s\n", spec.layers,
           spec.hidden, spec.vocabulary, spec.tied_embedding ? " (tied)" : "", spec.max_positions,
           dtype_name(spec.stored_dtype));
    print_attention(&spec);
    print_mlp(&spec);

    print_machine(options);

    struct kernels kernels;
    RETURN_IF_ERROR(kernels_init(&kernels, options->isa, 1));
    int32_t positions = options->positions > 0 ? options->positions : spec.max_positions;
    struct model_limits limits = {.rows = options->rows,
                                  .logit_rows = 1,
                                  .positions = positions,
                                  .kv_blocks = (positions + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS};
    bool f32 = options->dtype == ENGINE_DTYPE_F32 ||
               (options->dtype == ENGINE_DTYPE_AUTO && spec.stored_dtype == DTYPE_F32);
    struct model model;
    struct model_memory memory;
    enum status status = model_describe(&model, &spec, family, &kernels,
                                        f32 ? DTYPE_F32 : DTYPE_BF16, &limits, NULL, &memory);
    if (status == STATUS_OK) {
        int64_t all, active;
        count_parameters(&model.weights, &all, &active);
        printf("parameters: %" PRId64 " (%.2f B), %" PRId64 " (%.2f B) used for one token\n", all,
               (double)all * 1e-9, active, (double)active * 1e-9);
        memory_plan_print(stdout, &memory, (int64_t)limits.kv_blocks * KV_BLOCK_TOKENS);
        if (!options->dummy_weights)
            status = inspect_checkpoint(options->model_folder, &model.weights);
        model_deinit(&model);
    }
    kernels_deinit(&kernels);
    return status;
}

static enum status inspect_folder(struct engine_flags *flags, int argc, char **argv) {
    int folders = argc - flags->settings.first_operand;
    bool has_flag = settings_origin_of(&flags->settings, "model") == SETTINGS_FLAG;
    if (folders + has_flag > 1) {
        LOG_ERROR("inspect: expected at most one folder (an operand or --model), got %d",
                  folders + has_flag);
        return STATUS_USAGE;
    }
    if (folders == 1)
        flags->model = argv[flags->settings.first_operand];
    struct engine_options options;
    char folder[FLAGS_PATH_MAX];
    RETURN_IF_ERROR(engine_flags_resolve(flags, &options, folder));
    return inspect(&options);
}

enum status command_inspect(int argc, char **argv) {
    struct engine_flags flags = engine_flags_default();
    struct option_entry entries[ENGINE_FLAGS_ENTRIES];
    int32_t count = engine_flags_entries(&flags, entries, 0);
    struct option_command command = {
        .name = "inspect",
        .usage = "[options] [DIR]",
        .summary = "Tells a model's family, dimensions, parameters, memory plan, and which tensors "
                   "are missing or extra.\nReads config.json and the headers of the safetensors "
                   "files only (--load-format dummy: config.json only).",
        .entries = entries,
        .count = count};
    enum status status = settings_parse(&command, argc, argv, &flags.settings);
    if (status == STATUS_OK && !flags.settings.answered)
        status = inspect_folder(&flags, argc, argv);
    settings_deinit(&flags.settings);
    return status;
}
