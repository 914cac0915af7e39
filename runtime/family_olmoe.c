/* OLMoE: every layer routes; q and k are normed over their whole width, and all three projections
 * may be clipped. One of the families in family.c's list. */
#include "runtime/family_common.h"

static enum status parse(const struct config_reader *config, struct model_spec *spec) {
    static const struct family_router router = {.experts_key = "num_experts",
                                                .experts_other_key = "num_local_experts",
                                                .intermediate_key = "intermediate_size",
                                                .top_k_default = 8};
    static const struct config_range limits = {1e-30, 1e30};
    struct attention_spec *attention = &spec->attention;
    if (attention->heads * attention->head_dim != spec->hidden)
        return config_reader_refuse(config, "head_dim", STATUS_BAD_CONFIG,
                                    "hidden_size / num_attention_heads (%d / %d)",
                                    (int)spec->hidden, (int)attention->heads);
    double limit;
    RETURN_IF_ERROR(config_reader_number_or_null(config, "clip_qkv", limits, 0.0, &limit));
    attention->clip_qkv = (float)limit;
    attention->qk_norm = QK_NORM_FULL_WIDTH;
    RETURN_IF_ERROR(family_common_attention_bias(config, spec));
    RETURN_IF_ERROR(family_common_router(config, &router, spec));
    family_common_all_moe(spec);
    return STATUS_OK;
}

const struct family family_olmoe = {
    .model_type = "olmoe",
    .architecture = "OlmoeForCausalLM",
    .defaults = {.kv_heads = 0,
                 .kv_heads_null_ok = true,
                 .max_positions = 4096,
                 .norm_epsilon = 1e-5,
                 .rope_theta = 1e4,
                 .bos_id = -1,
                 .eos_id = 50279},
    .parse = parse,
    .names = {FAMILY_COMMON_NAMES, FAMILY_QKV_BIAS_NAMES, FAMILY_OUTPUT_BIAS_NAMES,
              FAMILY_QK_NORM_NAMES, FAMILY_EXPERT_NAMES},
    .ignored = family_common_ignored,
};
