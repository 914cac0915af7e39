/* Draws the token of a row: the last step of model_forward's results before they are emitted, or
 * compared with a draft tree's nodes. */
#include "runtime/sampler.h"

#include <math.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "kernels/ref_sample.h"
#include "runtime/sampler_noise.h"

#define BLOCK_IDS 256 /* even */

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

static float greatest_of(const struct sampler_row *row, int32_t first, int32_t count) {
    float (*greatest)(const float *, int32_t) =
        row->ops != NULL ? row->ops->greatest : ref_sample_greatest;
    return greatest(row->logits + first, count);
}

static int32_t block_end(const struct sampler_row *row, int32_t first) {
    /* Blocks begin with an even id, so that no pair is torn. */
    int32_t count = BLOCK_IDS - (row->first_id + first) % 2;
    return row->count - first < count ? row->count : first + count;
}

/* NaN is never the greatest; the first of equals wins. */
static struct sampler_best best_greedy(const struct sampler_row *row) {
    float greatest = -INFINITY;
    int32_t block = -1;
    for (int32_t first = 0; first < row->count; first = block_end(row, first)) {
        float here = greatest_of(row, first, block_end(row, first) - first);
        if (here > greatest) {
            greatest = here;
            block = first;
        }
    }
    if (block < 0)
        return nothing;
    int32_t at = block;
    while (row->logits[at] != greatest)
        at++;
    return (struct sampler_best){.value = (double)greatest, .id = row->first_id + at};
}

/* A noisy search: what is found so far, and the random bits of a block. */
struct search {
    const struct sampling_params *params;
    const struct sampler_row *row;
    struct sampler_border border;
    double inverse_temperature, to_beat;
    struct sampler_best best;
    double most;        /* the block's greatest tempered logit */
    uint64_t threshold; /* bits below it do not lift even that one */
    uint64_t even[BLOCK_IDS / 2 + 1], odd[BLOCK_IDS / 2 + 1];
};

static void draw_noise(struct search *search, int32_t first_pair, int32_t pairs) {
    const struct sampler_row *row = search->row;
    struct noise_args args = {.seed = search->params->seed,
                              .position = row->position,
                              .first_pair = first_pair,
                              .pairs = pairs,
                              .even = search->even,
                              .odd = search->odd};
    if (row->ops != NULL)
        row->ops->noise(&args);
    else
        ref_sample_noise(&args);
}

/* The exact value of one id, where a bound on its noise does not exclude it. */
static void try_id(struct search *search, int32_t id, uint64_t bits) {
    float logit = search->row->logits[id - search->row->first_id];
    struct sampler_border border = search->border;
    if (!(logit >= border.value) || (logit == border.value && id > border.id))
        return;
    double tempered = (double)logit * search->inverse_temperature;
    if (tempered + sampler_noise_bound(bits) <= search->to_beat)
        return;
    double value = tempered + sampler_noise_gumbel(bits);
    if (value <= search->to_beat)
        return;
    search->to_beat = value;
    search->best = (struct sampler_best){.value = value, .id = id};
    search->threshold = sampler_noise_threshold(value - search->most);
}

static void search_block(struct search *search, int32_t first_id, int32_t end_id) {
    int32_t first_pair = first_id / 2, pairs = (end_id - 1) / 2 - first_pair + 1;
    draw_noise(search, first_pair, pairs);
    search->threshold = sampler_noise_threshold(search->to_beat - search->most);
    for (int32_t i = 0; i < pairs; i++) {
        int32_t id = 2 * (first_pair + i);
        if (search->even[i] >= search->threshold && id >= first_id)
            try_id(search, id, search->even[i]);
        if (search->odd[i] >= search->threshold && id + 1 < end_id)
            try_id(search, id + 1, search->odd[i]);
    }
}

/* Ids ascend, so the first of equals is the lower id. Blocks that end below the border, or that
 * even the greatest noise would not lift, are left out; that can skip no winner. */
static struct sampler_best best_noisy(const struct sampling_params *params,
                                      struct sampler_border border, const struct sampler_row *row) {
    struct search search = {.params = params,
                            .row = row,
                            .border = border,
                            .inverse_temperature = 1.0 / (double)params->temperature,
                            .to_beat = -(double)INFINITY,
                            .best = nothing};
    for (int32_t first = 0, end; first < row->count; first = end) {
        end = block_end(row, first);
        float greatest = greatest_of(row, first, end - first);
        search.most = (double)greatest * search.inverse_temperature;
        if (greatest > -INFINITY && greatest >= border.value &&
            search.most + SAMPLER_NOISE_MAX > search.to_beat)
            search_block(&search, row->first_id + first, row->first_id + end);
    }
    return search.best;
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
