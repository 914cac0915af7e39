/* What several families have in common: the fields that every config has, the layer patterns of the
 * Qwen line, softmax routing, and the tensor names of the Llama line. */
#ifndef MOEBIUS_RUNTIME_FAMILY_COMMON_H
#define MOEBIUS_RUNTIME_FAMILY_COMMON_H

#include "runtime/config_reader.h"
#include "runtime/family.h"

/* Largest width of an MLP: with the other limits, no product of sizes overflows int64_t. */
#define FAMILY_INTERMEDIATE_MAX (1 << 20)

/* The families, each in its own file; family.c lists them. */
extern const struct family family_llama, family_mixtral, family_olmoe, family_qwen2,
    family_qwen2_moe, family_qwen3, family_qwen3_moe;

/* Fills in the fields that all families share from the keys that all configs have, and refuses what
 * no family supports (quantised weights, other activations than silu). STATUS_BAD_CONFIG,
 * STATUS_UNSUPPORTED (logged). Local. */
enum status family_common_parse(const struct config_reader *config, const struct family *family,
                                struct model_spec *spec);

/* Refuses a model whose tensors together are beyond any machine, after the family has filled in its
 * part; products of sizes fit int64_t from here on. STATUS_BAD_CONFIG (logged). Local. */
enum status family_common_check_total(const struct config_reader *config,
                                      const struct model_spec *spec);

/* attention_bias: q, k, v and output biases at once. Local. */
enum status family_common_attention_bias(const struct config_reader *config,
                                         struct model_spec *spec);

/* intermediate_size as the width of the dense MLP. Local. */
enum status family_common_dense(const struct config_reader *config, struct model_spec *spec);

/* sliding_window on all layers: null or missing is none. Local. */
enum status family_common_window(const struct config_reader *config, struct model_spec *spec);

/* The same if use_sliding_window is set; a missing sliding_window is then 4096. Local. */
enum status family_common_switched_window(const struct config_reader *config,
                                          struct model_spec *spec);

/* Whether a layer slides where layer_types does not say. */
typedef bool (*family_slides)(int32_t layer, int32_t max_window_layers);

/* sliding_window on the layers that layer_types names, else on those of the rule `slides`; none
 * unless use_sliding_window is set. Local. */
enum status family_common_windows(const struct config_reader *config, family_slides slides,
                                  struct model_spec *spec);

/* Routing by softmax. */
struct family_router {
    const char *experts_key;       /* number of experts */
    const char *experts_other_key; /* another name of the same; NULL: none */
    const char *intermediate_key;  /* width of an expert */
    int32_t top_k_default;
    bool normalize; /* when true, norm_topk_prob is not looked at */
};
enum status family_common_router(const struct config_reader *config,
                                 const struct family_router *router, struct model_spec *spec);

/* Which layers are MoE: all but mlp_only_layers, each decoder_sparse_step-th. Reads
 * intermediate_size where a dense layer is left; a model without any MoE layer becomes a dense one.
 * After family_common_router. Local. */
enum status family_common_moe_layers(const struct config_reader *config, struct model_spec *spec);

/* All layers are MoE. Local. */
void family_common_all_moe(struct model_spec *spec);

/* Names of the tensors, as struct family's patterns. */
#define FAMILY_COMMON_NAMES                                                                        \
    [ROLE_EMBEDDING] = "model.embed_tokens.weight", [ROLE_FINAL_NORM] = "model.norm.weight",       \
    [ROLE_OUTPUT] = "lm_head.weight",                                                              \
    [ROLE_INPUT_NORM] = "model.layers.%L.input_layernorm.weight",                                  \
    [ROLE_POST_NORM] = "model.layers.%L.post_attention_layernorm.weight",                          \
    [ROLE_Q] = "model.layers.%L.self_attn.q_proj.weight",                                          \
    [ROLE_K] = "model.layers.%L.self_attn.k_proj.weight",                                          \
    [ROLE_V] = "model.layers.%L.self_attn.v_proj.weight",                                          \
    [ROLE_O] = "model.layers.%L.self_attn.o_proj.weight"

#define FAMILY_QKV_BIAS_NAMES                                                                      \
    [ROLE_Q_BIAS] = "model.layers.%L.self_attn.q_proj.bias",                                       \
    [ROLE_K_BIAS] = "model.layers.%L.self_attn.k_proj.bias",                                       \
    [ROLE_V_BIAS] = "model.layers.%L.self_attn.v_proj.bias"

#define FAMILY_OUTPUT_BIAS_NAMES [ROLE_O_BIAS] = "model.layers.%L.self_attn.o_proj.bias"

#define FAMILY_QK_NORM_NAMES                                                                       \
    [ROLE_Q_NORM] = "model.layers.%L.self_attn.q_norm.weight",                                     \
    [ROLE_K_NORM] = "model.layers.%L.self_attn.k_norm.weight"

#define FAMILY_DENSE_NAMES                                                                         \
    [ROLE_DENSE_GATE] = "model.layers.%L.mlp.gate_proj.weight",                                    \
    [ROLE_DENSE_UP] = "model.layers.%L.mlp.up_proj.weight",                                        \
    [ROLE_DENSE_DOWN] = "model.layers.%L.mlp.down_proj.weight"

#define FAMILY_EXPERT_NAMES                                                                        \
    [ROLE_ROUTER] = "model.layers.%L.mlp.gate.weight",                                             \
    [ROLE_EXPERT_GATE] = "model.layers.%L.mlp.experts.%E.gate_proj.weight",                        \
    [ROLE_EXPERT_UP] = "model.layers.%L.mlp.experts.%E.up_proj.weight",                            \
    [ROLE_EXPERT_DOWN] = "model.layers.%L.mlp.experts.%E.down_proj.weight"

/* Rotary frequencies that old checkpoints store; they are computed here. */
extern const char *const family_common_ignored[];

#endif
