/* The part of config.json that families share. Called by family.c, and by the family_*.c files for
 * what they have in common. */
#include "runtime/family_common.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/check.h"
#include "runtime/generation_config.h"
#include "runtime/rope_config.h"

/* Far above any real model, and low enough that no product of them overflows int64_t. */
#define HIDDEN_MAX (1 << 17)
#define VOCABULARY_MAX (1 << 22)
#define HEADS_MAX 4096
#define POSITIONS_MAX (1 << 28)
#define PARAMETERS_MAX (INT64_C(1) << 46)

const char *const family_common_ignored[] = {
    "model.layers.%L.self_attn.rotary_emb.inv_freq",
    "model.rotary_emb.inv_freq",
    NULL,
};

static enum status parse_sizes(const struct config_reader *config, const struct family *family,
                               struct model_spec *spec) {
    RETURN_IF_ERROR(config_reader_int(config, "hidden_size", 1, HIDDEN_MAX, &spec->hidden));
    RETURN_IF_ERROR(
        config_reader_int(config, "num_hidden_layers", 1, MODEL_LAYERS_MAX, &spec->layers));
    RETURN_IF_ERROR(config_reader_int(config, "vocab_size", 1, VOCABULARY_MAX, &spec->vocabulary));
    RETURN_IF_ERROR(config_reader_int_or(config, "max_position_embeddings", 1, POSITIONS_MAX,
                                         family->defaults.max_positions, &spec->max_positions));
    static const struct config_range epsilons = {1e-30, 1.0};
    double epsilon;
    RETURN_IF_ERROR(config_reader_number_or(config, "rms_norm_eps", epsilons,
                                            family->defaults.norm_epsilon, &epsilon));
    spec->norm_epsilon = (float)epsilon;
    return STATUS_OK;
}

static enum status parse_head_dim(const struct config_reader *config, const struct family *family,
                                  struct model_spec *spec) {
    struct attention_spec *attention = &spec->attention;
    int32_t fallback = family->defaults.head_dim;
    enum config_state state = config_reader_state(config, "head_dim");
    if (state == CONFIG_VALUE || fallback != 0) {
        RETURN_IF_ERROR(config_reader_int_or(config, "head_dim", 1, ATTENTION_HEAD_DIM_MAX,
                                             fallback, &attention->head_dim));
    } else {
        if (spec->hidden % attention->heads != 0)
            return config_reader_refuse(config, "hidden_size", STATUS_BAD_CONFIG,
                                        "a multiple of num_attention_heads (%d), or a head_dim",
                                        (int)attention->heads);
        attention->head_dim = spec->hidden / attention->heads;
    }
    if (attention->head_dim % 2 != 0 || attention->head_dim > ATTENTION_HEAD_DIM_MAX)
        return config_reader_refuse(config, state == CONFIG_VALUE ? "head_dim" : "hidden_size",
                                    STATUS_BAD_CONFIG,
                                    "heads of an even number of dimensions up to %d (they have %d)",
                                    ATTENTION_HEAD_DIM_MAX, (int)attention->head_dim);
    return STATUS_OK;
}

static enum status parse_attention(const struct config_reader *config, const struct family *family,
                                   struct model_spec *spec) {
    struct attention_spec *attention = &spec->attention;
    const struct family_defaults *defaults = &family->defaults;
    RETURN_IF_ERROR(
        config_reader_int(config, "num_attention_heads", 1, HEADS_MAX, &attention->heads));
    bool as_many = defaults->kv_heads_null_ok
                       ? config_reader_state(config, "num_key_value_heads") == CONFIG_NULL
                       : false;
    int32_t fallback = defaults->kv_heads != 0 ? defaults->kv_heads : attention->heads;
    if (as_many)
        attention->kv_heads = attention->heads;
    else
        RETURN_IF_ERROR(config_reader_int_or(config, "num_key_value_heads", 1, attention->heads,
                                             fallback, &attention->kv_heads));
    if (attention->heads % attention->kv_heads != 0)
        return config_reader_refuse(config, "num_key_value_heads", STATUS_BAD_CONFIG,
                                    "a divisor of num_attention_heads (%d; missing counts as %d)",
                                    (int)attention->heads, (int)fallback);
    RETURN_IF_ERROR(parse_head_dim(config, family, spec));
    attention->scale = (float)(1.0 / sqrt((double)attention->head_dim));
    return STATUS_OK;
}

static enum status parse_stored_dtype(const struct config_reader *config, enum dtype *dtype) {
    static const char *const names[DTYPE_COUNT] = {"float32", "bfloat16", "float16"};
    const char *key =
        config_reader_state(config, "dtype") == CONFIG_VALUE ? "dtype" : "torch_dtype";
    const char *name;
    RETURN_IF_ERROR(config_reader_string(config, key, &name));
    *dtype = DTYPE_F32;
    if (name == NULL)
        return STATUS_OK;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *dtype = (enum dtype)i;
            return STATUS_OK;
        }
    }
    return config_reader_refuse(config, key, STATUS_UNSUPPORTED,
                                "one of float32, bfloat16, float16");
}

/* Weights stored in another form than plain numbers change every tensor's meaning. */
static enum status refuse_quantized(const struct config_reader *config) {
    static const char *const keys[] = {"quantization_config", "compression_config"};
    for (int i = 0; i < 2; i++) {
        if (config_reader_state(config, keys[i]) != CONFIG_VALUE)
            continue;
        struct config_reader child;
        RETURN_IF_ERROR(config_reader_object(config, keys[i], &child));
        if (config_reader_state(&child, "quant_method") != CONFIG_VALUE)
            return config_reader_refuse(config, keys[i], STATUS_UNSUPPORTED,
                                        "none (quantised weights are not yet supported)");
        return config_reader_refuse(&child, "quant_method", STATUS_UNSUPPORTED,
                                    "none (quantised weights are not yet supported)");
    }
    return STATUS_OK;
}

static enum status check_architecture(const struct config_reader *config,
                                      const struct family *family) {
    int32_t count;
    RETURN_IF_ERROR(config_reader_strings(config, "architectures", &count));
    for (int32_t i = 0; i < count; i++)
        if (strcmp(config_reader_string_at(config, "architectures", i), family->architecture) == 0)
            return STATUS_OK;
    if (count == 0)
        return STATUS_OK;
    return config_reader_refuse(config, "architectures", STATUS_UNSUPPORTED,
                                "%s among them (the first is \"%.60s\")", family->architecture,
                                config_reader_string_at(config, "architectures", 0));
}

static enum status check_activation(const struct config_reader *config) {
    const char *name;
    RETURN_IF_ERROR(config_reader_string(config, "hidden_act", &name));
    if (name != NULL && strcmp(name, "silu") != 0 && strcmp(name, "swish") != 0)
        return config_reader_refuse(config, "hidden_act", STATUS_UNSUPPORTED, "silu");
    bool bias;
    RETURN_IF_ERROR(config_reader_bool_or(config, "lm_head_bias", false, &bias));
    if (bias)
        return config_reader_refuse(config, "lm_head_bias", STATUS_UNSUPPORTED, "false");
    return STATUS_OK;
}

/* A key that is there, null included, wins over the class's default. */
static enum status parse_tokens(const struct config_reader *config, const struct family *family,
                                struct model_spec *spec) {
    const struct family_defaults *defaults = &family->defaults;
    spec->bos_id = -1;
    RETURN_IF_ERROR(generation_config_tokens(config, spec));
    if (config_reader_state(config, "bos_token_id") == CONFIG_MISSING &&
        defaults->bos_id < spec->vocabulary)
        spec->bos_id = defaults->bos_id;
    if (config_reader_state(config, "eos_token_id") == CONFIG_MISSING && defaults->eos_id >= 0 &&
        defaults->eos_id < spec->vocabulary) {
        spec->eos_ids[0] = defaults->eos_id;
        spec->eos_count = 1;
    }
    return STATUS_OK;
}

enum status family_common_parse(const struct config_reader *config, const struct family *family,
                                struct model_spec *spec) {
    snprintf(spec->family, sizeof spec->family, "%s", family->model_type);
    snprintf(spec->architecture, sizeof spec->architecture, "%s", family->architecture);
    RETURN_IF_ERROR(check_architecture(config, family));
    RETURN_IF_ERROR(refuse_quantized(config));
    RETURN_IF_ERROR(check_activation(config));
    RETURN_IF_ERROR(parse_sizes(config, family, spec));
    RETURN_IF_ERROR(parse_attention(config, family, spec));
    RETURN_IF_ERROR(rope_config_parse(config, family->defaults.rope_theta, spec));
    RETURN_IF_ERROR(
        config_reader_bool_or(config, "tie_word_embeddings", false, &spec->tied_embedding));
    RETURN_IF_ERROR(parse_stored_dtype(config, &spec->stored_dtype));
    generation_config_init(&spec->defaults);
    return parse_tokens(config, family, spec);
}

enum status family_common_check_total(const struct config_reader *config,
                                      const struct model_spec *spec) {
    int64_t hidden = spec->hidden;
    const struct attention_spec *attention = &spec->attention;
    int64_t attention_size =
        2 * hidden * attention->head_dim * ((int64_t)attention->heads + attention->kv_heads);
    int64_t dense = 3 * hidden * spec->dense_intermediate;
    int64_t experts =
        (int64_t)spec->moe.router.experts * 3 * hidden * spec->moe.expert_intermediate;
    int64_t total = 2 * hidden * spec->vocabulary;
    for (int32_t i = 0; i < spec->layers; i++) {
        int64_t moe = experts + 3 * hidden * spec->moe.shared_intermediate;
        total += attention_size + (spec->layer[i].moe ? moe : dense);
    }
    if (total > PARAMETERS_MAX)
        return config_reader_refuse(config, "num_hidden_layers", STATUS_BAD_CONFIG,
                                    "sizes that make at most %lld parameters (these make %lld)",
                                    (long long)PARAMETERS_MAX, (long long)total);
    return STATUS_OK;
}

enum status family_common_attention_bias(const struct config_reader *config,
                                         struct model_spec *spec) {
    bool bias;
    RETURN_IF_ERROR(config_reader_bool_or(config, "attention_bias", false, &bias));
    spec->attention.qkv_bias = bias;
    spec->attention.output_bias = bias;
    return STATUS_OK;
}

enum status family_common_dense(const struct config_reader *config, struct model_spec *spec) {
    return config_reader_int(config, "intermediate_size", 1, FAMILY_INTERMEDIATE_MAX,
                             &spec->dense_intermediate);
}

static enum status parse_window(const struct config_reader *config, int32_t *window) {
    return config_reader_int_or(config, "sliding_window", 1, INT32_MAX, 4096, window);
}

static enum status window_everywhere(const struct config_reader *config, struct model_spec *spec) {
    int32_t window;
    RETURN_IF_ERROR(parse_window(config, &window));
    for (int32_t i = 0; i < spec->layers; i++)
        spec->layer[i].window = window;
    return STATUS_OK;
}

enum status family_common_window(const struct config_reader *config, struct model_spec *spec) {
    if (config_reader_state(config, "sliding_window") != CONFIG_VALUE)
        return STATUS_OK;
    return window_everywhere(config, spec);
}

enum status family_common_switched_window(const struct config_reader *config,
                                          struct model_spec *spec) {
    bool use;
    RETURN_IF_ERROR(config_reader_bool_or(config, "use_sliding_window", false, &use));
    if (!use || config_reader_state(config, "sliding_window") == CONFIG_NULL)
        return STATUS_OK;
    return window_everywhere(config, spec);
}

/* Sets sliding[layer] from layer_types; *given is false when the config has none. */
static enum status parse_layer_types(const struct config_reader *config, int32_t layers,
                                     bool *sliding, bool *given) {
    int32_t count;
    *given = config_reader_state(config, "layer_types") == CONFIG_VALUE;
    if (!*given)
        return STATUS_OK;
    RETURN_IF_ERROR(config_reader_strings(config, "layer_types", &count));
    if (count != layers)
        return config_reader_refuse(config, "layer_types", STATUS_BAD_CONFIG,
                                    "one entry for each of %d layers", (int)layers);
    for (int32_t i = 0; i < count; i++) {
        const char *name = config_reader_string_at(config, "layer_types", i);
        sliding[i] = strcmp(name, "sliding_attention") == 0;
        if (!sliding[i] && strcmp(name, "full_attention") != 0)
            return config_reader_refuse(
                config, "layer_types", STATUS_UNSUPPORTED,
                "full_attention or sliding_attention (entry %d is \"%.40s\")", (int)i, name);
    }
    return STATUS_OK;
}

enum status family_common_windows(const struct config_reader *config, family_slides slides,
                                  struct model_spec *spec) {
    bool use, given, sliding[MODEL_LAYERS_MAX] = {false};
    int32_t max_window_layers = 28, window = 4096, any = 0;
    RETURN_IF_ERROR(config_reader_bool_or(config, "use_sliding_window", false, &use));
    RETURN_IF_ERROR(parse_layer_types(config, spec->layers, sliding, &given));
    if (use && !given) {
        RETURN_IF_ERROR(config_reader_int_or(config, "max_window_layers", 0, INT32_MAX, 28,
                                             &max_window_layers));
        for (int32_t i = 0; i < spec->layers; i++)
            sliding[i] = slides(i, max_window_layers);
    }
    for (int32_t i = 0; i < spec->layers; i++)
        any += sliding[i];
    if (any == 0)
        return STATUS_OK;
    if (!use)
        return config_reader_refuse(config, "use_sliding_window", STATUS_BAD_CONFIG,
                                    "true, since layer_types has sliding_attention");
    if (!given && config_reader_state(config, "sliding_window") == CONFIG_NULL)
        return STATUS_OK;
    RETURN_IF_ERROR(parse_window(config, &window));
    for (int32_t i = 0; i < spec->layers; i++)
        spec->layer[i].window = sliding[i] ? window : 0;
    return STATUS_OK;
}

/* The number of experts under either of its two names; both are fine when they agree. */
static enum status parse_experts(const struct config_reader *config,
                                 const struct family_router *router, int32_t *experts) {
    const char *key = router->experts_key, *other = router->experts_other_key;
    bool has_key = config_reader_state(config, key) != CONFIG_MISSING;
    bool has_other = other != NULL && config_reader_state(config, other) != CONFIG_MISSING;
    RETURN_IF_ERROR(config_reader_int(config, has_other && !has_key ? other : key, 1,
                                      MODEL_EXPERTS_MAX, experts));
    int32_t same = *experts;
    if (has_key && has_other)
        RETURN_IF_ERROR(config_reader_int(config, other, 1, MODEL_EXPERTS_MAX, &same));
    if (same != *experts)
        return config_reader_refuse(config, other, STATUS_BAD_CONFIG, "the same as %s (%d)", key,
                                    (int)*experts);
    return STATUS_OK;
}

enum status family_common_router(const struct config_reader *config,
                                 const struct family_router *router, struct model_spec *spec) {
    struct moe_spec *moe = &spec->moe;
    RETURN_IF_ERROR(parse_experts(config, router, &moe->router.experts));
    RETURN_IF_ERROR(config_reader_int(config, router->intermediate_key, 1, FAMILY_INTERMEDIATE_MAX,
                                      &moe->expert_intermediate));
    RETURN_IF_ERROR(config_reader_int_or(config, "num_experts_per_tok", 1, MODEL_TOP_K_MAX,
                                         router->top_k_default, &moe->router.top_k));
    if (moe->router.top_k > moe->router.experts)
        return config_reader_refuse(config, "num_experts_per_tok", STATUS_BAD_CONFIG,
                                    "at most the number of experts (%d; missing counts as %d)",
                                    (int)moe->router.experts, (int)router->top_k_default);
    moe->router.normalize = router->normalize;
    if (!router->normalize)
        RETURN_IF_ERROR(
            config_reader_bool_or(config, "norm_topk_prob", false, &moe->router.normalize));
    moe->router.score = ROUTER_SOFTMAX;
    moe->router.scale = 1.0f;
    moe->router.groups = 1;
    moe->router.groups_kept = 1;
    moe->router.group_score = ROUTER_GROUP_MAX;
    return STATUS_OK;
}

enum status family_common_moe_layers(const struct config_reader *config, struct model_spec *spec) {
    ASSERT(spec->moe.router.experts > 0);
    int32_t step, count, only[MODEL_LAYERS_MAX], moe_layers = 0;
    RETURN_IF_ERROR(config_reader_int_or(config, "decoder_sparse_step", 1, INT32_MAX, 1, &step));
    struct config_ints list = {
        .low = 0, .high = spec->layers - 1, .capacity = MODEL_LAYERS_MAX, .values = only};
    RETURN_IF_ERROR(config_reader_ints(config, "mlp_only_layers", &list, &count));
    for (int32_t i = 0; i < spec->layers; i++)
        spec->layer[i].moe = (i + 1) % step == 0;
    for (int32_t i = 0; i < count; i++)
        spec->layer[only[i]].moe = false;
    for (int32_t i = 0; i < spec->layers; i++)
        moe_layers += spec->layer[i].moe;
    if (moe_layers == 0)
        memset(&spec->moe, 0, sizeof spec->moe);
    return moe_layers < spec->layers ? family_common_dense(config, spec) : STATUS_OK;
}

void family_common_all_moe(struct model_spec *spec) {
    for (int32_t i = 0; i < spec->layers; i++)
        spec->layer[i].moe = true;
}
