/* Draws the token of a row: the last step of model_forward's results before they are emitted, or
 * compared with a draft tree's nodes. */
#include "runtime/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "kernels/ref_sample.h"
#include "runtime/sampler_noise.h"

#define BLOCK_IDS 256 /* a multiple of SAMPLE_GROUP */

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

static const struct sample_ops *ops_of(const struct sampler_row *row) {
    return row->ops != NULL ? row->ops : &ref_sample_ops;
}

/* Blocks begin where groups of ids do, so that the noise of none is made twice. */
static int32_t block_end(const struct sampler_row *row, int32_t first) {
    int32_t count = BLOCK_IDS - (row->first_id + first) % SAMPLE_GROUP;
    return row->count - first < count ? row->count : first + count;
}

/* NaN is never the greatest; the first of equals wins. */
static struct sampler_best best_greedy(const struct sampler_row *row) {
    float greatest = -INFINITY;
    int32_t block = -1;
    for (int32_t first = 0; first < row->count; first = block_end(row, first)) {
        float here = ops_of(row)->greatest(row->logits + first, block_end(row, first) - first);
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

/* A noisy search and what it has found so far. */
struct search {
    const struct sampling_params *params;
    const struct sampler_row *row;
    struct sampler_border border;
    double inverse_temperature;
    struct sampler_best best;
};

/* The exact value of one id. */
static void try_id(struct search *search, int32_t id) {
    const struct sampler_row *row = search->row;
    float logit = row->logits[id - row->first_id];
    struct sampler_border border = search->border;
    if (!(logit >= border.value) || (logit == border.value && id > border.id))
        return;
    uint64_t bits = sampler_noise_bits(search->params->seed, row->position, id);
    double value = (double)logit * search->inverse_temperature + sampler_noise_gumbel(bits);
    search->best =
        sampler_best_merge(search->best, (struct sampler_best){.value = value, .id = id});
}

/* No id whose value is less than this in f32 can win: what f32 may have rounded off is taken off,
 * which goes with the size of the values and of the noise. */
static float limit_of(const struct search *search) {
    double best = search->best.value;
    double limit = best - 0x1p-18 * (fabs(best) + 128.0);
    if (!(limit < (double)FLT_MAX))
        return FLT_MAX; /* infinities still reach it */
    return limit > -(double)FLT_MAX ? (float)limit : -INFINITY;
}

static void search_block(struct search *search, int32_t first, int32_t end) {
    const struct sampler_row *row = search->row;
    int32_t first_id = row->first_id + first, skipped = first_id % SAMPLE_GROUP;
    uint16_t high[BLOCK_IDS];
    int32_t hopefuls[BLOCK_IDS];
    struct noise_args noise = {.seed = search->params->seed,
                               .position = row->position,
                               .first_group = first_id / SAMPLE_GROUP,
                               .groups = (skipped + end - first + SAMPLE_GROUP - 1) / SAMPLE_GROUP,
                               .high = high};
    ops_of(row)->noise(&noise);
    struct hopeful_args args = {.x = row->logits + first,
                                .high = high + skipped,
                                .count = end - first,
                                .inverse_temperature = (float)search->inverse_temperature,
                                .limit = limit_of(search),
                                .out = hopefuls};
    int32_t count = ops_of(row)->hopefuls(&args);
    for (int32_t i = 0; i < count; i++)
        try_id(search, first_id + hopefuls[i]);
}

/* The likeliest id is tried first, so that few others can beat it. Blocks that lie below
 * the border are left out. */
static struct sampler_best best_noisy(const struct sampling_params *params,
                                      struct sampler_border border, const struct sampler_row *row) {
    struct search search = {.params = params,
                            .row = row,
                            .border = border,
                            .inverse_temperature = 1.0 / (double)params->temperature,
                            .best = nothing};
    struct sampler_best likeliest = best_greedy(row);
    if (likeliest.id < 0)
        return nothing;
    try_id(&search, likeliest.id);
    if (search.best.id < 0)
        return nothing; /* it is outside the border, so all are */
    for (int32_t first = 0, end; first < row->count; first = end) {
        end = block_end(row, first);
        if (border.value > -INFINITY &&
            !(ops_of(row)->greatest(row->logits + first, end - first) >= border.value))
            continue;
        search_block(&search, first, end);
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
        border = sampler_support_border(params, adjusted.logits, row->count, row->ops,
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
