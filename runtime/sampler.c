/* Draws the token of a row: the last step of model_forward's results before they are emitted, or
 * compared with a draft tree's nodes. */
#include "runtime/sampler.h"

#include <math.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "runtime/sampler_noise.h"

static const struct sampler_best nothing = {.value = 0.0, .id = -1};

bool sampler_adjusts(const struct sampling_params *params) {
    return params->bias_count > 0 || params->banned_count > 0 ||
           sampling_params_have_penalty(params);
}

void sampler_adjust(const struct sampling_params *params, const struct sampler_state *state,
                    const struct sampler_row *row, float *adjusted) {
    ASSERT(state || !sampling_params_have_penalty(params));
    int32_t first = row->first_id;
    if (adjusted != row->logits)
        memcpy(adjusted, row->logits, (size_t)row->count * sizeof(*adjusted));
    for (int32_t i = 0; i < params->bias_count; i++) {
        int32_t id = params->bias[i].id;
        if (id >= first && id - first < row->count)
            adjusted[id - first] += params->bias[i].bias;
    }
    if (sampling_params_have_penalty(params))
        sampler_state_penalise(state, params, first, row->count, adjusted);
    for (int32_t i = 0; i < params->banned_count; i++) {
        int32_t id = params->banned[i];
        if (id >= first && id - first < row->count)
            adjusted[id - first] = -INFINITY;
    }
}

/* A comparison with NaN is false, so NaN never wins; the first of equals stays. */
static struct sampler_best best_greedy(const struct sampler_row *row) {
    float greatest = -INFINITY;
    int32_t at = -1;
    for (int32_t i = 0; i < row->count; i++) {
        if (row->logits[i] > greatest) {
            greatest = row->logits[i];
            at = i;
        }
    }
    if (at < 0)
        return nothing;
    return (struct sampler_best){.value = (double)greatest, .id = row->first_id + at};
}

/* Ids ascend, so the first of equals is the lower id. Two bounds on the noise keep most ids from
 * costing a Philox block, and almost all from costing two logarithms; neither can skip a winner. */
static struct sampler_best best_noisy(const struct sampling_params *params,
                                      struct sampler_border border, const struct sampler_row *row) {
    const double inverse_temperature = 1.0 / (double)params->temperature;
    struct sampler_best best = nothing;
    double to_beat = -(double)INFINITY;
    int32_t pair = -1;
    uint64_t bits[2] = {0, 0};
    for (int32_t i = 0; i < row->count; i++) {
        float logit = row->logits[i];
        int32_t id = row->first_id + i;
        if (!(logit >= border.value) || (logit == border.value && id > border.id))
            continue;
        double tempered = (double)logit * inverse_temperature;
        if (tempered + SAMPLER_NOISE_MAX <= to_beat)
            continue;
        if (id / 2 != pair) {
            pair = id / 2;
            sampler_noise_pair(params->seed, row->position, pair, bits);
        }
        if (tempered + sampler_noise_bound(bits[id & 1]) <= to_beat)
            continue;
        double value = tempered + sampler_noise_gumbel(bits[id & 1]);
        if (value > to_beat) {
            to_beat = value;
            best = (struct sampler_best){.value = value, .id = id};
        }
    }
    return best;
}

struct sampler_best sampler_best(const struct sampling_params *params, struct sampler_border border,
                                 const struct sampler_row *row) {
    return params->temperature > 0 ? best_noisy(params, border, row) : best_greedy(row);
}

struct sampler_best sampler_best_merge(struct sampler_best a, struct sampler_best b) {
    if (a.id < 0)
        return b;
    if (b.id < 0)
        return a;
    if (a.value != b.value)
        return a.value > b.value ? a : b;
    return a.id < b.id ? a : b;
}

static size_t adjusted_bytes(int32_t vocabulary) {
    struct arena measure = {0};
    arena_take(&measure, (size_t)vocabulary * sizeof(float));
    arena_take(&measure, 1); /* rounds up to the alignment of what follows */
    return measure.used - 1;
}

size_t sampler_scratch_bytes(int32_t vocabulary) {
    return adjusted_bytes(vocabulary) + sampler_support_scratch_bytes(vocabulary);
}

enum status sampler_choose(const struct sampling_params *params, const struct sampler_state *state,
                           const struct sampler_row *row, void *scratch, int32_t *token) {
    ASSERT(row->first_id == 0);
    struct sampler_row adjusted = *row;
    if (sampler_adjusts(params)) {
        sampler_adjust(params, state, row, scratch);
        adjusted.logits = scratch;
    }
    struct sampler_border border = {.value = -INFINITY, .id = -1};
    if (params->temperature > 0)
        border = sampler_support_border(params, adjusted.logits, row->count,
                                        (char *)scratch + adjusted_bytes(row->count));
    struct sampler_best best = sampler_best(params, border, &adjusted);
    if (best.id < 0) {
        LOG_ERROR("logits at position %lld: expected at least one id above -infinity, got none "
                  "(all NaN, -infinity or banned)",
                  (long long)row->position);
        *token = 0;
        return STATUS_INTERNAL;
    }
    *token = best.id;
    return STATUS_OK;
}
