/* Qwen1.5-MoE and Qwen2-MoE: routed experts beside one shared expert that has a gate of its own;
 * some layers may be dense, and every other layer below max_window_layers may slide. One of the
 * families in family.c's list. */
#include "runtime/family_common.h"

static bool slides(int32_t layer, int32_t max_window_layers) {
    return layer % 2 == 0 && layer < max_window_layers;
}

static enum status parse(const struct config_reader *config, struct model_spec *spec) {
    static const struct family_router router = {.experts_key = "num_experts",
                                                .intermediate_key = "moe_intermediate_size",
                                                .top_k_default = 4};
    RETURN_IF_ERROR(config_reader_bool_or(config, "qkv_bias", true, &spec->attention.qkv_bias));
    RETURN_IF_ERROR(family_common_windows(config, slides, spec));
    RETURN_IF_ERROR(family_common_router(config, &router, spec));
    RETURN_IF_ERROR(config_reader_int(config, "shared_expert_intermediate_size", 1,
                                      FAMILY_INTERMEDIATE_MAX, &spec->moe.shared_intermediate));
    spec->moe.shared_gate = true;
    return family_common_moe_layers(config, spec);
}

const struct family family_qwen2_moe = {
    .model_type = "qwen2_moe",
    .architecture = "Qwen2MoeForCausalLM",
    .defaults = {.kv_heads = 16,
                 .kv_heads_null_ok = false,
                 .max_positions = 32768,
                 .norm_epsilon = 1e-6,
                 .rope_theta = 1e4,
                 .bos_id = -1,
                 .eos_id = -1},
    .parse = parse,
    .names = {FAMILY_COMMON_NAMES, FAMILY_QKV_BIAS_NAMES, FAMILY_DENSE_NAMES, FAMILY_EXPERT_NAMES,
              [ROLE_SHARED_GATE] = "model.layers.%L.mlp.shared_expert.gate_proj.weight",
              [ROLE_SHARED_UP] = "model.layers.%L.mlp.shared_expert.up_proj.weight",
              [ROLE_SHARED_DOWN] = "model.layers.%L.mlp.shared_expert.down_proj.weight",
              [ROLE_SHARED_EXPERT_GATE] = "model.layers.%L.mlp.shared_expert_gate.weight"},
    .ignored = family_common_ignored,
};
