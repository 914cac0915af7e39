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

#define GROUPS_AT_FIRST 4 /* where all are alike, the likeliest says little about the best */
#define GROUPS_AT_ONCE 32

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

/* NaN is never the greatest; the first of equals wins. */
static struct sampler_best best_greedy(const struct sampler_scan *scan) {
    if (!(scan->greatest > -INFINITY))
        return nothing;
    int32_t group = 0;
    while (scan->peaks[group] != scan->greatest)
        group++;
    int32_t at = sampler_scan_span(scan, group).first;
    while (scan->logits[at] != scan->greatest)
        at++;
    return (struct sampler_best){.value = (double)scan->greatest, .id = scan->first_id + at};
}

/* A noisy search and what it has found so far. */
struct search {
    const struct sampling_params *params;
    const struct sampler_scan *scan;
    int64_t position;
    struct sampler_border border;
    double inverse_temperature;
    struct sampler_best best;
};

/* No id whose value is less than this in f32 can win: what f32 may have rounded off is taken off,
 * which goes with the size of the values and of the noise. */
static float limit_of(const struct search *search) {
    double best = search->best.value;
    double limit = best - 0x1p-18 * (fabs(best) + 128.0);
    if (!(limit < (double)FLT_MAX))
        return FLT_MAX; /* infinities still reach it */
    return limit > -(double)FLT_MAX ? (float)limit : -INFINITY;
}

/* The exact value of an id with these upper 16 random bits. */
static void try_id(struct search *search, int32_t id, uint16_t high) {
    uint64_t bits =
        (uint64_t)high << 48 | ref_sample_low(search->params->seed, search->position, id);
    float logit = search->scan->logits[id - search->scan->first_id];
    double value = (double)logit * search->inverse_temperature + sampler_noise_gumbel(bits);
    search->best =
        sampler_best_merge(search->best, (struct sampler_best){.value = value, .id = id});
}

/* Of the ids that have a chance, those are left whose own value could reach the limit, the most
 * promising first. */
static int32_t drop_hopeless(const struct search *search, int32_t count, int32_t *ids,
                             uint16_t *high) {
    const struct sampler_scan *scan = search->scan;
    float limit = limit_of(search), inverse_temperature = (float)search->inverse_temperature;
    float most = -INFINITY;
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t id = ids[i], at = id - scan->first_id;
        uint16_t bits = high[i];
        if (at < 0 || at >= scan->count)
            continue;
        float value = scan->logits[at] * inverse_temperature + sample_bound(bits);
        if (!(value >= limit) || !sampler_reach_keeps(search->border, scan->logits[at], id))
            continue;
        ids[kept] = id;
        high[kept] = bits;
        if (value > most) {
            ids[kept] = ids[0];
            high[kept] = high[0];
            ids[0] = id;
            high[0] = bits;
            most = value;
        }
        kept++;
    }
    return kept;
}

static void search_groups(struct search *search, const int32_t *group, int32_t groups) {
    const struct sampler_scan *scan = search->scan;
    int32_t ids[GROUPS_AT_ONCE * SAMPLE_GROUP];
    uint16_t high[GROUPS_AT_ONCE * SAMPLE_GROUP];
    struct chance_args args = {.seed = search->params->seed,
                               .position = search->position,
                               .first_group = scan->first_id / SAMPLE_GROUP,
                               .group = group,
                               .groups = groups,
                               .octets = scan->octets,
                               .inverse_temperature = (float)search->inverse_temperature,
                               .limit = limit_of(search),
                               .ids = ids,
                               .high = high};
    int32_t count = drop_hopeless(search, scan->ops->chances(&args), ids, high);
    if (count > 0)
        try_id(search, ids[0], high[0]);
    count = drop_hopeless(search, count - 1, ids + 1, high + 1);
    for (int32_t i = 1; i <= count; i++)
        try_id(search, ids[i], high[i]);
}

/* The likeliest id is tried first, so that few others can beat it. Groups that lie below the border
 * are left out. */
static struct sampler_best best_noisy(const struct sampling_params *params,
                                      struct sampler_border border, const struct sampler_scan *scan,
                                      int64_t position) {
    struct search search = {.params = params,
                            .scan = scan,
                            .position = position,
                            .border = border,
                            .inverse_temperature = 1.0 / (double)params->temperature,
                            .best = nothing};
    struct sampler_best likeliest = best_greedy(scan);
    if (likeliest.id < 0 || !sampler_reach_keeps(border, scan->greatest, likeliest.id))
        return nothing; /* if it is outside the border, all are */
    try_id(&search, likeliest.id, ref_sample_high(params->seed, position, likeliest.id));
    int32_t groups = sampler_scan_groups(scan->first_id, scan->count), most = GROUPS_AT_FIRST;
    for (int32_t next = 0; next < groups; most = GROUPS_AT_ONCE) {
        int32_t group[GROUPS_AT_ONCE], count = 0;
        for (; next < groups && count < most; next++) {
            group[count] = next;
            count += scan->peaks[next] >= border.value;
        }
        search_groups(&search, group, count);
    }
    return search.best;
}

struct sampler_best sampler_best(const struct sampling_params *params, struct sampler_border border,
                                 const struct sampler_scan *scan, int64_t position) {
    return params->temperature > 0 ? best_noisy(params, border, scan, position) : best_greedy(scan);
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

struct scratch {
    float *adjusted; /* [vocabulary] */
    float *octets, *peaks;
    void *list;
};

static struct scratch lay_out(struct arena *arena, int32_t vocabulary) {
    /* a shard's groups may be one more than a whole row's */
    size_t groups = (size_t)sampler_scan_groups(0, vocabulary) + 1;
    struct scratch scratch = {.adjusted = arena_take(arena, (size_t)vocabulary * sizeof(float))};
    scratch.octets = arena_take(arena, groups * SAMPLE_OCTETS * sizeof(float));
    scratch.peaks = arena_take(arena, groups * sizeof(float));
    scratch.list = arena_take(arena, sampler_reach_bytes(vocabulary));
    return scratch;
}

size_t sampler_scratch_bytes(int32_t vocabulary) {
    struct arena measure = {0};
    lay_out(&measure, vocabulary);
    return measure.used;
}

static struct scratch scratch_at(void *memory, int32_t vocabulary) {
    struct arena arena = {.base = memory, .capacity = sampler_scratch_bytes(vocabulary)};
    return lay_out(&arena, vocabulary);
}

struct sampler_scan sampler_prepare(const struct sampling_params *params,
                                    const struct sampler_state *state,
                                    const struct sampler_row *row, void *scratch) {
    struct scratch parts = scratch_at(scratch, row->count);
    struct sampler_scan scan = {.logits = row->logits,
                                .first_id = row->first_id,
                                .count = row->count,
                                .octets = parts.octets,
                                .peaks = parts.peaks,
                                .ops = row->ops};
    if (params != NULL && sampler_adjusts(params)) {
        sampler_adjust(params, state, row, parts.adjusted);
        scan.logits = parts.adjusted;
    }
    sampler_scan_begin(&scan);
    return scan;
}

enum status sampler_choose(const struct sampling_params *params, const struct sampler_scan *scan,
                           int64_t position, void *scratch, int32_t *token) {
    ASSERT(scan->first_id == 0);
    struct sampler_list list =
        sampler_reach_list(scratch_at(scratch, scan->count).list, scan->count);
    struct sampler_border border = {.value = -INFINITY, .id = -1};
    if (params->temperature > 0)
        border = sampler_support_border(params, scan, &list);
    struct sampler_best best = sampler_best(params, border, scan, position);
    if (best.id < 0) {
        LOG_ERROR("logits at position %lld: expected at least one id above -infinity, got none "
                  "(all NaN, -infinity or banned)",
                  (long long)position);
        *token = 0;
        return STATUS_INTERNAL;
    }
    *token = best.id;
    return STATUS_OK;
}
