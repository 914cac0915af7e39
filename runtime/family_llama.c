/* Llama 1 to 3: dense, no norms on q and k; Llama 3.1 and later bring their rope scaling. One of
 * the families in family.c's list; also used for draft models. */
#include "runtime/family_common.h"

static enum status parse(const struct config_reader *config, struct model_spec *spec) {
    RETURN_IF_ERROR(family_common_attention_bias(config, spec));
    RETURN_IF_ERROR(config_reader_bool_or(config, "mlp_bias", false, &spec->mlp_bias));
    if (spec->mlp_bias)
        return config_reader_refuse(config, "mlp_bias", STATUS_UNSUPPORTED,
                                    "false (biases in the MLP are not yet supported)");
    return family_common_dense(config, spec);
}

const struct family family_llama = {
    .model_type = "llama",
    .architecture = "LlamaForCausalLM",
    .defaults = {.kv_heads = 0,
                 .kv_heads_null_ok = true,
                 .max_positions = 2048,
                 .norm_epsilon = 1e-6,
                 .rope_theta = 1e4,
                 .bos_id = 1,
                 .eos_id = 2},
    .parse = parse,
    .names = {FAMILY_COMMON_NAMES, FAMILY_QKV_BIAS_NAMES, FAMILY_OUTPUT_BIAS_NAMES,
              FAMILY_DENSE_NAMES},
    .ignored = family_common_ignored,
};
