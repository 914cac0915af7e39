/* Qwen3, dense: q and k are normed head by head, the head size stands on its own; the upper layers
 * may slide. One of the families in family.c's list; also used for draft models. */
#include "runtime/family_common.h"

static bool slides(int32_t layer, int32_t max_window_layers) {
    return layer >= max_window_layers;
}

static enum status parse(const struct config_reader *config, struct model_spec *spec) {
    spec->attention.qk_norm = QK_NORM_PER_HEAD;
    RETURN_IF_ERROR(family_common_attention_bias(config, spec));
    RETURN_IF_ERROR(family_common_windows(config, slides, spec));
    return family_common_dense(config, spec);
}

const struct family family_qwen3 = {
    .model_type = "qwen3",
    .architecture = "Qwen3ForCausalLM",
    .defaults = {.kv_heads = 32,
                 .kv_heads_null_ok = true,
                 .head_dim = 128,
                 .max_positions = 32768,
                 .norm_epsilon = 1e-6,
                 .rope_theta = 1e4,
                 .bos_id = -1,
                 .eos_id = -1},
    .parse = parse,
    .names = {FAMILY_COMMON_NAMES, FAMILY_QKV_BIAS_NAMES, FAMILY_OUTPUT_BIAS_NAMES,
              FAMILY_QK_NORM_NAMES, FAMILY_DENSE_NAMES},
    .ignored = family_common_ignored,
};
