/* From config.json's rotary keys to a rope_spec, in both forms that are in use. Part of reading a
 * model's config. */
#include "runtime/rope_config.h"

#include <math.h>
#include <string.h>

#define ROPE_POSITIONS_MAX (1 << 28)

static const struct config_range theta_range = {1.001, 1e18};
static const struct config_range factor_range = {1e-3, 1e6};
static const struct config_range band_range = {1e-3, 1e9};
static const struct config_range zero_or_more = {0.0, 1e9};

static const char *const kind_names[] = {
    [ROPE_DEFAULT] = "default",
    [ROPE_LINEAR] = "linear",
    [ROPE_LLAMA3] = "llama3",
    [ROPE_YARN] = "yarn",
};

/* Finds the object with the scaling's values: rope_scaling or rope_parameters, whichever is set;
 * *found is false when neither is. Two that may disagree are refused, and so are values that differ
 * between kinds of layers. */
static enum status find_scaling(const struct config_reader *config, struct config_reader *scaling,
                                bool *found) {
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    *found = false;
    for (int i = 0; i < 2; i++) {
        if (config_reader_state(config, keys[i]) != CONFIG_VALUE)
            continue;
        struct config_reader object;
        RETURN_IF_ERROR(config_reader_object(config, keys[i], &object));
        if (config_reader_keys(&object) == 0)
            continue;
        if (*found)
            return config_reader_refuse(config, keys[i], STATUS_BAD_CONFIG, "nothing beside %s",
                                        keys[0]);
        if (config_reader_is_nested(&object))
            return config_reader_refuse(config, keys[i], STATUS_UNSUPPORTED,
                                        "one set of values for all layers");
        *scaling = object;
        *found = true;
    }
    return STATUS_OK;
}

static enum status parse_kind(const struct config_reader *scaling, enum rope_kind *kind) {
    const char *newer, *older;
    RETURN_IF_ERROR(config_reader_string(scaling, "rope_type", &newer));
    RETURN_IF_ERROR(config_reader_string(scaling, "type", &older));
    if (newer != NULL && older != NULL && strcmp(newer, older) != 0)
        return config_reader_refuse(scaling, "type", STATUS_BAD_CONFIG,
                                    "the same as rope_type (\"%.40s\")", newer);
    const char *key = newer == NULL && older != NULL ? "type" : "rope_type";
    const char *name = newer != NULL ? newer : older;
    if (name == NULL && config_reader_state(scaling, "factor") == CONFIG_MISSING)
        name = kind_names[ROPE_DEFAULT];
    for (int i = ROPE_DEFAULT; name != NULL && i <= ROPE_YARN; i++) {
        if (strcmp(name, kind_names[i]) == 0) {
            *kind = (enum rope_kind)i;
            return STATUS_OK;
        }
    }
    return config_reader_refuse(scaling, key, name == NULL ? STATUS_BAD_CONFIG : STATUS_UNSUPPORTED,
                                "one of default, linear, llama3, yarn");
}

/* transformers' classes of the families here turn whole heads: a smaller part of them fails there,
 * or is not looked at. */
static enum status check_whole_heads(const struct config_reader *config) {
    double factor = 1.0;
    static const struct config_range range = {0.0, 1.0};
    RETURN_IF_ERROR(
        config_reader_number_or_null(config, "partial_rotary_factor", range, 1.0, &factor));
    if (factor < 1.0)
        return config_reader_refuse(config, "partial_rotary_factor", STATUS_UNSUPPORTED,
                                    "1 (whole heads turn in this family)");
    return STATUS_OK;
}

/* Positions before scaling: a key beside the scaling wins over one in it, and without any the
 * model's own limit counts. */
static enum status parse_original(const struct config_reader *config,
                                  const struct config_reader *scaling, struct model_spec *spec) {
    static const char *const key = "original_max_position_embeddings";
    const struct config_reader *holder =
        config_reader_state(config, key) == CONFIG_VALUE ? config : scaling;
    return config_reader_int_or(holder, key, 1, ROPE_POSITIONS_MAX, spec->max_positions,
                                &spec->rope.original_positions);
}

static enum status parse_llama3(const struct config_reader *scaling, struct rope_spec *rope) {
    RETURN_IF_ERROR(
        config_reader_number(scaling, "low_freq_factor", band_range, &rope->low_freq_factor));
    RETURN_IF_ERROR(
        config_reader_number(scaling, "high_freq_factor", band_range, &rope->high_freq_factor));
    if (rope->high_freq_factor <= rope->low_freq_factor)
        return config_reader_refuse(scaling, "high_freq_factor", STATUS_BAD_CONFIG,
                                    "more than low_freq_factor (%g)", rope->low_freq_factor);
    return config_reader_number(scaling, "factor", factor_range, &rope->factor);
}

static double yarn_scale(double factor, double mscale) {
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

/* The factor on cos and sin: as given, or from mscale and mscale_all_dim where both are, or by the
 * paper's rule. */
static enum status parse_attention_factor(const struct config_reader *scaling,
                                          struct rope_spec *rope) {
    double mscale, mscale_all;
    RETURN_IF_ERROR(config_reader_number_or_null(scaling, "mscale", zero_or_more, 0.0, &mscale));
    RETURN_IF_ERROR(
        config_reader_number_or_null(scaling, "mscale_all_dim", zero_or_more, 0.0, &mscale_all));
    double fallback = yarn_scale(rope->factor, 1.0);
    if (mscale > 0.0 && mscale_all > 0.0)
        fallback = yarn_scale(rope->factor, mscale) / yarn_scale(rope->factor, mscale_all);
    return config_reader_number_or_null(scaling, "attention_factor", factor_range, fallback,
                                        &rope->attention_factor);
}

static enum status parse_yarn(const struct config_reader *scaling, int32_t max_positions,
                              struct rope_spec *rope) {
    if (config_reader_state(scaling, "factor") == CONFIG_NULL)
        rope->factor = (double)max_positions / rope->original_positions;
    else
        RETURN_IF_ERROR(config_reader_number(scaling, "factor", factor_range, &rope->factor));
    RETURN_IF_ERROR(
        config_reader_number_or_null(scaling, "beta_fast", zero_or_more, 32.0, &rope->beta_fast));
    RETURN_IF_ERROR(
        config_reader_number_or_null(scaling, "beta_slow", zero_or_more, 1.0, &rope->beta_slow));
    if (rope->beta_fast <= 0.0) /* Python's "or": 0 takes the default, too */
        rope->beta_fast = 32.0;
    if (rope->beta_slow <= 0.0)
        rope->beta_slow = 1.0;
    if (rope->beta_fast < rope->beta_slow)
        return config_reader_refuse(scaling, "beta_fast", STATUS_BAD_CONFIG,
                                    "at least beta_slow (%g)", rope->beta_slow);
    RETURN_IF_ERROR(config_reader_bool_or(scaling, "truncate", true, &rope->truncate));
    return parse_attention_factor(scaling, rope);
}

static enum status parse_scaling(const struct config_reader *config,
                                 const struct config_reader *scaling, struct model_spec *spec) {
    struct rope_spec *rope = &spec->rope;
    RETURN_IF_ERROR(parse_kind(scaling, &rope->kind));
    RETURN_IF_ERROR(check_whole_heads(scaling));
    if (rope->kind == ROPE_LLAMA3 || rope->kind == ROPE_YARN)
        RETURN_IF_ERROR(parse_original(config, scaling, spec));
    switch (rope->kind) {
    case ROPE_DEFAULT:
        break;
    case ROPE_LINEAR:
        return config_reader_number(scaling, "factor", factor_range, &rope->factor);
    case ROPE_LLAMA3:
        return parse_llama3(scaling, rope);
    case ROPE_YARN:
        return parse_yarn(scaling, spec->max_positions, rope);
    }
    return STATUS_OK;
}

enum status rope_config_parse(const struct config_reader *config, double default_theta,
                              struct model_spec *spec) {
    struct rope_spec *rope = &spec->rope;
    rope->kind = ROPE_DEFAULT;
    rope->rotary_dim = spec->attention.head_dim;
    rope->factor = 1.0;
    rope->attention_factor = 1.0;
    RETURN_IF_ERROR(check_whole_heads(config));
    struct config_reader scaling;
    bool scaled;
    RETURN_IF_ERROR(find_scaling(config, &scaling, &scaled));
    bool theta_inside = scaled && config_reader_state(&scaling, "rope_theta") != CONFIG_MISSING;
    RETURN_IF_ERROR(config_reader_number_or(theta_inside ? &scaling : config, "rope_theta",
                                            theta_range, default_theta, &rope->theta));
    return scaled ? parse_scaling(config, &scaling, spec) : STATUS_OK;
}
