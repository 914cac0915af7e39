/* Sampling defaults and end-of-sequence ids of a model. Read after config.json, when a model is
 * opened. */
#include "runtime/generation_config.h"

#include <stdio.h>
#include <unistd.h>

#include "kernels/base/log.h"

void generation_config_init(struct generation_defaults *defaults) {
    defaults->sample = false;
    defaults->temperature = 1.0f;
    defaults->top_p = 1.0f;
    defaults->min_p = 0.0f;
    defaults->repetition_penalty = 1.0f;
    defaults->top_k = 0;
}

/* Keeps the ids that the vocabulary has; returns how many. */
static int32_t keep_known(const struct config_reader *config, const char *key,
                          const struct model_spec *spec, int32_t *ids, int32_t count) {
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        if (ids[i] < spec->vocabulary)
            ids[kept++] = ids[i];
        else
            LOG_WARN("%s: field %s: expected ids below vocab_size %d, got %d: ignored",
                     config->file, key, (int)spec->vocabulary, (int)ids[i]);
    }
    return kept;
}

enum status generation_config_tokens(const struct config_reader *config, struct model_spec *spec) {
    int32_t ids[MODEL_EOS_IDS_MAX];
    struct config_ints list = {.low = 0,
                               .high = INT32_MAX,
                               .one_allowed = true,
                               .capacity = MODEL_EOS_IDS_MAX,
                               .values = ids};
    int32_t count;
    RETURN_IF_ERROR(config_reader_ints(config, "eos_token_id", &list, &count));
    if (config_reader_state(config, "eos_token_id") == CONFIG_VALUE) {
        spec->eos_count = keep_known(config, "eos_token_id", spec, ids, count);
        for (int32_t i = 0; i < spec->eos_count; i++)
            spec->eos_ids[i] = ids[i];
        for (int32_t i = spec->eos_count; i < MODEL_EOS_IDS_MAX; i++)
            spec->eos_ids[i] = 0;
    }
    list.capacity = 1;
    RETURN_IF_ERROR(config_reader_ints(config, "bos_token_id", &list, &count));
    if (spec->bos_id < 0 && keep_known(config, "bos_token_id", spec, ids, count) == 1)
        spec->bos_id = ids[0];
    return STATUS_OK;
}

/* A number that null leaves as it is. */
static enum status read_float(const struct config_reader *config, const char *key,
                              struct config_range range, float *value) {
    double number;
    RETURN_IF_ERROR(config_reader_number_or_null(config, key, range, (double)*value, &number));
    *value = (float)number;
    return STATUS_OK;
}

enum status generation_config_parse(const struct config_reader *config, struct model_spec *spec) {
    static const struct config_range temperatures = {0.0, 1e4}, shares = {0.0, 1.0};
    static const struct config_range penalties = {1e-4, 1e4};
    struct generation_defaults *defaults = &spec->defaults;
    RETURN_IF_ERROR(generation_config_tokens(config, spec));
    RETURN_IF_ERROR(config_reader_bool_or(config, "do_sample", false, &defaults->sample));
    RETURN_IF_ERROR(read_float(config, "temperature", temperatures, &defaults->temperature));
    RETURN_IF_ERROR(read_float(config, "top_p", shares, &defaults->top_p));
    RETURN_IF_ERROR(read_float(config, "min_p", shares, &defaults->min_p));
    RETURN_IF_ERROR(
        read_float(config, "repetition_penalty", penalties, &defaults->repetition_penalty));
    if (config_reader_state(config, "top_k") == CONFIG_NULL)
        return STATUS_OK;
    RETURN_IF_ERROR(config_reader_int_or(config, "top_k", -1, INT32_MAX, 0, &defaults->top_k));
    if (defaults->top_k < 0)
        defaults->top_k = 0; /* another way to say "off" */
    return STATUS_OK;
}

enum status generation_config_load(const char *folder, struct model_spec *spec) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/generation_config.json", folder);
    if (length >= (int)sizeof path || access(path, F_OK) != 0)
        return STATUS_OK;
    struct config_reader config;
    RETURN_IF_ERROR(config_reader_open(path, &config));
    enum status status = generation_config_parse(&config, spec);
    config_reader_close(&config);
    return status;
}
