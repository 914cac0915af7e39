/* Mixtral: every layer routes to its experts, whose weights are normalised over the chosen; one
 * window for all layers if any. One of the families in family.c's list. */
#include "runtime/family_common.h"

static enum status parse(const struct config_reader *config, struct model_spec *spec) {
    static const struct family_router router = {.experts_key = "num_local_experts",
                                                .experts_other_key = "num_experts",
                                                .intermediate_key = "intermediate_size",
                                                .top_k_default = 2,
                                                .normalize = true};
    RETURN_IF_ERROR(family_common_router(config, &router, spec));
    family_common_all_moe(spec);
    return family_common_window(config, spec);
}

const struct family family_mixtral = {
    .model_type = "mixtral",
    .architecture = "MixtralForCausalLM",
    .defaults = {.kv_heads = 8,
                 .kv_heads_null_ok = true,
                 .max_positions = 131072,
                 .norm_epsilon = 1e-5,
                 .rope_theta = 1e6,
                 .bos_id = 1,
                 .eos_id = 2},
    .parse = parse,
    .names = {FAMILY_COMMON_NAMES, [ROLE_ROUTER] = "model.layers.%L.block_sparse_moe.gate.weight",
              [ROLE_EXPERT_GATE] = "model.layers.%L.block_sparse_moe.experts.%E.w1.weight",
              [ROLE_EXPERT_UP] = "model.layers.%L.block_sparse_moe.experts.%E.w3.weight",
              [ROLE_EXPERT_DOWN] = "model.layers.%L.block_sparse_moe.experts.%E.w2.weight"},
    .ignored = family_common_ignored,
};
