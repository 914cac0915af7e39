/* Qwen3-MoE: q and k are normed head by head, some layers may be dense, one window for all layers
 * if any. One of the families in family.c's list; the embedded demo model is of it. */
#include "runtime/family_common.h"

static enum status parse(const struct config_reader *config, struct model_spec *spec) {
    static const struct family_router router = {.experts_key = "num_experts",
                                                .experts_other_key = "num_local_experts",
                                                .intermediate_key = "moe_intermediate_size",
                                                .top_k_default = 8};
    spec->attention.qk_norm = QK_NORM_PER_HEAD;
    RETURN_IF_ERROR(family_common_attention_bias(config, spec));
    RETURN_IF_ERROR(family_common_switched_window(config, spec));
    RETURN_IF_ERROR(family_common_router(config, &router, spec));
    return family_common_moe_layers(config, spec);
}

const struct family family_qwen3_moe = {
    .model_type = "qwen3_moe",
    .architecture = "Qwen3MoeForCausalLM",
    .defaults = {.kv_heads = 4,
                 .kv_heads_null_ok = false,
                 .max_positions = 32768,
                 .norm_epsilon = 1e-6,
                 .rope_theta = 1e4,
                 .bos_id = -1,
                 .eos_id = -1},
    .parse = parse,
    .names = {FAMILY_COMMON_NAMES, FAMILY_QKV_BIAS_NAMES, FAMILY_OUTPUT_BIAS_NAMES,
              FAMILY_QK_NORM_NAMES, FAMILY_DENSE_NAMES, FAMILY_EXPERT_NAMES},
    .ignored = family_common_ignored,
};
