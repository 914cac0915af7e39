/* What a model is: the plain-data description that every family fills in from its config.json, and
 * the only thing that the graph (model.c), the loader and the memory plan look at. A new family is
 * a new family_*.c file that fills this in, never a branch in the graph. */
#ifndef MOEBIUS_RUNTIME_MODEL_SPEC_H
#define MOEBIUS_RUNTIME_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernel_ops.h"

#define MODEL_LAYERS_MAX 512
#define MODEL_EXPERTS_MAX 1024
#define MODEL_TOP_K_MAX 32
#define MODEL_EOS_IDS_MAX 16

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

/* Rotary embedding; see rope_table.h for the formulas. */
struct rope_spec {
    double theta;
    double factor;                            /* linear, llama3, yarn */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    double attention_factor;                  /* yarn: multiplies cos and sin; 1 otherwise */
    enum rope_kind kind;
    int32_t rotary_dim;         /* dimensions of each head that turn; even */
    int32_t original_positions; /* llama3, yarn */
    bool interleaved;           /* pairs (2i, 2i+1) instead of (i, i + rotary_dim/2) */
    bool truncate;              /* yarn: round the ramp's ends to whole dimensions (the default) */
};

enum qk_norm { QK_NORM_NONE, QK_NORM_PER_HEAD, QK_NORM_FULL_WIDTH };

struct attention_spec {
    int32_t heads, kv_heads, head_dim; /* heads a multiple of kv_heads */
    bool qkv_bias, output_bias;
    enum qk_norm qk_norm;
    float clip_qkv; /* limit on |q|, |k|, |v| before rope; 0: none */
    float scale;    /* softmax scale, normally head_dim^-0.5 */
};

struct moe_spec {
    struct router_spec router; /* experts = 0: the model is dense */
    int32_t expert_intermediate;
    int32_t
        shared_intermediate; /* width of the shared expert (all shared experts together); 0: none */
    bool shared_gate;        /* the shared expert's output is times sigmoid(x . gate) */
    bool router_bias, router_correction;
};

struct layer_spec {
    int32_t window; /* keys seen, own included; 0: all */
    bool moe;       /* else a dense MLP of dense_intermediate */
};

/* Sampling defaults of generation_config.json; fields that the file does not set keep "off". */
struct generation_defaults {
    bool sample;                                         /* do_sample */
    float temperature, top_p, min_p, repetition_penalty; /* 1, 1, 0, 1 when unset */
    int32_t top_k;                                       /* 0 when unset */
};

struct model_spec {
    char family[32];       /* model_type: "qwen3_moe" */
    char architecture[64]; /* "Qwen3MoeForCausalLM" */
    int32_t hidden, layers, vocabulary, max_positions;
    float norm_epsilon;
    int32_t dense_intermediate;
    bool mlp_bias;           /* biases on the dense MLP: refused unless a family supports them */
    bool tied_embedding;     /* the output matrix is the embedding table */
    enum dtype stored_dtype; /* torch_dtype / dtype of config.json; f32 when missing */
    struct attention_spec attention;
    struct rope_spec rope;
    struct moe_spec moe;
    struct layer_spec layer[MODEL_LAYERS_MAX];
    int32_t bos_id; /* -1: none */
    int32_t eos_ids[MODEL_EOS_IDS_MAX],
        eos_count; /* generation_config.json wins over config.json */
    struct generation_defaults defaults;
};

#endif
