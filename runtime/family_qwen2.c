/* Qwen2 and Qwen2.5: dense, biases on q, k and v only; the upper layers may slide. One of the
 * families in family.c's list; also used for draft models. */
#include "runtime/family_common.h"

static bool slides(int32_t layer, int32_t max_window_layers) {
    return layer >= max_window_layers;
}

static enum status parse(const struct config_reader *config, struct model_spec *spec) {
    spec->attention.qkv_bias = true;
    RETURN_IF_ERROR(family_common_windows(config, slides, spec));
    return family_common_dense(config, spec);
}

const struct family family_qwen2 = {
    .model_type = "qwen2",
    .architecture = "Qwen2ForCausalLM",
    .defaults = {.kv_heads = 32,
                 .kv_heads_null_ok = true,
                 .max_positions = 32768,
                 .norm_epsilon = 1e-6,
                 .rope_theta = 1e4,
                 .bos_id = -1,
                 .eos_id = -1},
    .parse = parse,
    .names = {FAMILY_COMMON_NAMES, FAMILY_QKV_BIAS_NAMES, FAMILY_DENSE_NAMES},
    .ignored = family_common_ignored,
};
