/* Sampling parameters: defaults and the check at admission. Everything behind this check (sampler,
 * sampler_support) takes the ranges for granted. */
#include "runtime/sampling_params.h"

#include <stddef.h>

#include "kernels/base/log.h"

#define FIELDS_COUNT 6

struct field_range {
    const char *name;
    float value, low, high;
};

struct sampling_params sampling_params_default(void) {
    return (struct sampling_params){.top_p = 1.0f, .repetition_penalty = 1.0f, .logprobs = -1};
}

bool sampling_params_have_penalty(const struct sampling_params *params) {
    return params->repetition_penalty != 1.0f || params->frequency_penalty != 0.0f ||
           params->presence_penalty != 0.0f;
}

/* NaN fails both comparisons, infinities fail one. */
static bool in_range(float value, float low, float high) {
    return value >= low && value <= high;
}

static enum status check_integer(const char *name, int32_t value, int32_t low, int32_t high) {
    if (value >= low && value <= high)
        return STATUS_OK;
    LOG_ERROR("sampling parameter %s: expected %d to %d, got %d", name, low, high, value);
    return STATUS_BAD_REQUEST;
}

static enum status check_id(const char *name, int32_t index, int32_t id, int32_t vocabulary) {
    if (id >= 0 && id < vocabulary)
        return STATUS_OK;
    LOG_ERROR("sampling parameter %s[%d]: expected a token id from 0 to %d, got %d", name, index,
              vocabulary - 1, id);
    return STATUS_BAD_REQUEST;
}

static enum status check_floats(const struct sampling_params *params) {
    const struct field_range fields[FIELDS_COUNT] = {
        {"temperature", params->temperature, 0.0f, 1000.0f},
        {"top_p", params->top_p, 0.0f, 1.0f},
        {"min_p", params->min_p, 0.0f, 1.0f},
        {"repetition_penalty", params->repetition_penalty, 0.01f, 100.0f},
        {"frequency_penalty", params->frequency_penalty, -100.0f, 100.0f},
        {"presence_penalty", params->presence_penalty, -100.0f, 100.0f},
    };
    for (size_t i = 0; i < FIELDS_COUNT; i++) {
        if (in_range(fields[i].value, fields[i].low, fields[i].high))
            continue;
        LOG_ERROR("sampling parameter %s: expected %g to %g, got %g", fields[i].name,
                  (double)fields[i].low, (double)fields[i].high, (double)fields[i].value);
        return STATUS_BAD_REQUEST;
    }
    if (params->temperature > 0.0f && params->temperature < 1e-5f) {
        LOG_ERROR("sampling parameter temperature: expected 0 (greedy) or 1e-5 to 1000, got %g",
                  (double)params->temperature);
        return STATUS_BAD_REQUEST;
    }
    if (params->top_p <= 0.0f) {
        LOG_ERROR("sampling parameter top_p: expected more than 0 and at most 1, got %g",
                  (double)params->top_p);
        return STATUS_BAD_REQUEST;
    }
    return STATUS_OK;
}

static enum status check_lists(const struct sampling_params *params, int32_t vocabulary) {
    RETURN_IF_ERROR(check_integer("logit_bias count", params->bias_count, 0, SAMPLING_BIAS_MAX));
    RETURN_IF_ERROR(check_integer("banned count", params->banned_count, 0, SAMPLING_BANNED_MAX));
    for (int32_t i = 0; i < params->banned_count; i++)
        RETURN_IF_ERROR(check_id("banned", i, params->banned[i], vocabulary));
    for (int32_t i = 0; i < params->bias_count; i++) {
        RETURN_IF_ERROR(check_id("logit_bias", i, params->bias[i].id, vocabulary));
        if (in_range(params->bias[i].bias, -100.0f, 100.0f))
            continue;
        LOG_ERROR("sampling parameter logit_bias[%d]: expected -100 to 100, got %g",
                  params->bias[i].id, (double)params->bias[i].bias);
        return STATUS_BAD_REQUEST;
    }
    return STATUS_OK;
}

enum status sampling_params_check(const struct sampling_params *params, int32_t vocabulary) {
    RETURN_IF_ERROR(check_floats(params));
    RETURN_IF_ERROR(check_integer("top_k", params->top_k, 0, INT32_MAX));
    RETURN_IF_ERROR(check_integer("logprobs", params->logprobs, -1, SAMPLING_LOGPROBS_MAX));
    return check_lists(params, vocabulary);
}
