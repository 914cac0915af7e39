/* A model family: how its config.json becomes a model_spec and how its tensors are named. One
 * family_*.c file each, listed in family.c; nothing else in the program knows a family by name. */
#ifndef MOEBIUS_RUNTIME_FAMILY_H
#define MOEBIUS_RUNTIME_FAMILY_H

#include "kernels/base/status.h"
#include "runtime/model_spec.h"

struct config_reader; /* a parsed config.json; see config_reader.h */

/* What a stored tensor is for. Shapes follow from model_spec: H hidden, V vocabulary, E experts, I
 * intermediate. */
enum tensor_role {
    ROLE_EMBEDDING,  /* [V, H] */
    ROLE_FINAL_NORM, /* [H] */
    ROLE_OUTPUT,     /* [V, H]; absent when tied */
    ROLE_INPUT_NORM, /* [H] */
    ROLE_Q,
    ROLE_K,
    ROLE_V, /* [heads * head_dim, H], [kv_heads * head_dim, H] twice */
    ROLE_Q_BIAS,
    ROLE_K_BIAS,
    ROLE_V_BIAS, /* [rows of the matrix] */
    ROLE_Q_NORM,
    ROLE_K_NORM,    /* [head_dim], or [heads * head_dim] / [kv_heads * head_dim] for full width */
    ROLE_O,         /* [H, heads * head_dim] */
    ROLE_O_BIAS,    /* [H] */
    ROLE_POST_NORM, /* [H]: the norm between attention and MLP */
    ROLE_DENSE_GATE,
    ROLE_DENSE_UP,          /* [I, H] */
    ROLE_DENSE_DOWN,        /* [H, I] */
    ROLE_ROUTER,            /* [E, H] */
    ROLE_ROUTER_BIAS,       /* [E] */
    ROLE_ROUTER_CORRECTION, /* [E] */
    ROLE_EXPERT_GATE,
    ROLE_EXPERT_UP,   /* [I, H], one tensor an expert */
    ROLE_EXPERT_DOWN, /* [H, I] */
    ROLE_SHARED_GATE,
    ROLE_SHARED_UP,          /* [S, H] */
    ROLE_SHARED_DOWN,        /* [H, S] */
    ROLE_SHARED_EXPERT_GATE, /* [1, H]: the scalar gate of the shared expert */
    ROLE_COUNT
};

/* What transformers' configuration class of a family assumes for a key that is missing. */
struct family_defaults {
    int32_t kv_heads;      /* num_key_value_heads; 0: as many as heads */
    bool kv_heads_null_ok; /* null means as many as heads; else null is refused */
    int32_t
        head_dim; /* 0: hidden_size / num_attention_heads, also when null; else null is refused */
    int32_t max_positions; /* max_position_embeddings */
    double norm_epsilon;   /* rms_norm_eps */
    double rope_theta;
    int32_t bos_id, eos_id; /* -1: none */
};

struct family {
    const char *model_type;   /* "qwen3_moe" */
    const char *architecture; /* "Qwen3MoeForCausalLM" */
    struct family_defaults defaults;
    /* Fills in what is the family's own in *spec: biases, norms, MLP or MoE, windows. The fields
     * that all families share (sizes, heads, epsilon, rope, dtype, tokens) are there already; every
     * layer is dense and sees all keys. Logs and returns STATUS_BAD_CONFIG or STATUS_UNSUPPORTED
     * with file, field, expected, got. Local. */
    enum status (*parse)(const struct config_reader *config, struct model_spec *spec);
    /* Tensor names with %L for the layer and %E for the expert; NULL where the family has no such
     * tensor. */
    const char *names[ROLE_COUNT];
    /* Names (same patterns, plus a trailing * for any rest) of stored tensors that are known and
     * not used. NULL-terminated. */
    const char *const *ignored;
};

/* The known families, NULL-terminated, for messages and tests. */
const struct family *const *family_list(void);

/* Reads FOLDER/config.json (and generation_config.json when present), finds the family by
 * model_type (an unknown one is refused by name with the list of known ones: STATUS_UNSUPPORTED)
 * and fills in and checks the whole spec. Local. */
enum status family_parse(const char *folder, const struct family **family, struct model_spec *spec);

/* The same for the text[size] of a config.json alone; `origin` stands for its path in messages. For
 * tests and fuzzing. Local. */
enum status family_parse_memory(const char *origin, const char *text, size_t size,
                                const struct family **family, struct model_spec *spec);

/* Writes the stored name of a role ("model.layers.3.mlp.experts.7.up_proj.weight"). layer and
 * expert are ignored where the pattern has none. The role must exist in the family. Local. */
void family_tensor_name(const struct family *family, enum tensor_role role, int32_t layer,
                        int32_t expert, char *name, size_t size);

/* Whether `name` matches one of the ignored patterns. Local. */
bool family_ignores(const struct family *family, const char *name);

#endif
