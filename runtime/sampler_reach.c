/* The border is found by listing the ids near the greatest, more of them until they reach the goal,
 * and by bisection of that list: since sums of weights are exact, the order in which they are made
 * does not show. Called by sampler_support.c. */
#include "runtime/sampler_reach.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "kernels/base/memory.h"
#include "runtime/sampler_math.h"

#define LOG2_E 0x1.71547652b82fep+0
#define FEW 64 /* ids that are looked at by themselves */
#define TAIL_SHARE                                                                                 \
    12.0 /* see first_step; measured on the demo model, right three times in four                  \
          */

/* The border's logit is in [low, high). */
struct bounds {
    float low, high;
    struct sample_tally at_low, at_high;
};

struct search {
    const struct sampler_scan *scan;
    const struct sampler_list *list; /* all ids between the bounds, at least */
    const float *weights;            /* the list's; NULL: one each */
    struct sample_tally above;       /* of greater ids, which are not in the list */
    double goal;
    struct bounds bounds;
};

static void *take(struct arena *arena, int32_t vocabulary, size_t size) {
    return arena_take(arena, (size_t)vocabulary * size);
}

static struct sampler_list lay_out(struct arena *arena, int32_t vocabulary) {
    struct sampler_list list = {0};
    list.ids = take(arena, vocabulary, sizeof *list.ids);
    list.logits = take(arena, vocabulary, sizeof *list.logits);
    list.weights = take(arena, vocabulary, sizeof *list.weights);
    return list;
}

size_t sampler_reach_bytes(int32_t vocabulary) {
    struct arena measure = {0};
    lay_out(&measure, vocabulary);
    return measure.used;
}

struct sampler_list sampler_reach_list(void *memory, int32_t vocabulary) {
    struct arena arena = {.base = memory, .capacity = sampler_reach_bytes(vocabulary)};
    return lay_out(&arena, vocabulary);
}

/* ---- the list ---- */

static void append(const struct sampler_scan *scan, struct sampler_span span,
                   struct sampler_list *list) {
    struct list_args args = {.x = scan->logits + span.first,
                             .count = span.end - span.first,
                             .least = list->least,
                             .most = INFINITY,
                             .at = list->ids + list->count,
                             .values = list->logits + list->count};
    int32_t found = scan->ops->list(&args);
    for (int32_t i = 0; i < found; i++)
        args.at[i] += span.first;
    list->count += found;
}

/* Where most groups have ids for the list, the whole row is gone through at once. */
static void fill(const struct sampler_scan *scan, float least, struct sampler_list *list) {
    int32_t groups = sampler_scan_groups(scan->first_id, scan->count);
    list->least = least;
    list->count = 0;
    if (scan->ops->tally(scan->peaks, NULL, groups, least).count > groups / 4)
        append(scan, (struct sampler_span){0, scan->count}, list);
    else
        for (struct sampler_span span = {0}; sampler_scan_next(scan, least, &span);)
            append(scan, span, list);
}

static double weigh_list(const struct sampler_scan *scan, const struct weigh_args *weigh,
                         struct sampler_list *list) {
    struct weigh_args args = *weigh;
    args.x = list->logits;
    args.count = list->count;
    args.weights = list->weights;
    return scan->ops->weigh(&args);
}

double sampler_reach_cut(const struct sampler_scan *scan, const struct weigh_args *weigh,
                         struct sampler_border border, struct sampler_list *list) {
    int32_t kept = 0;
    for (int32_t i = 0; i < list->count; i++) {
        float logit = list->logits[i];
        list->logits[kept] = logit;
        list->ids[kept] = list->ids[i];
        kept += sampler_reach_keeps(border, logit, list->ids[i]);
    }
    list->count = kept;
    list->least = border.value;
    return weigh_list(scan, weigh, list);
}

/* ---- the search ---- */

static double weight_at(const float *weights, int32_t at) {
    return weights != NULL ? (double)weights[at] : 1.0;
}

static struct sample_tally tally(const struct search *search, float least) {
    const struct sampler_list *list = search->list;
    struct sample_tally tally =
        search->scan->ops->tally(list->logits, search->weights, list->count, least);
    if (search->weights == NULL)
        tally.weight = (double)tally.count;
    tally.count += search->above.count;
    tally.weight += search->above.weight;
    return tally;
}

/* The last of the shortest prefix of the ids of one logit that, with what lies above, reaches the
 * goal. */
static struct sampler_border reach_among_equals(const struct search *search, float value,
                                                double above) {
    const struct sampler_list *list = search->list;
    struct sampler_border border = {.value = value, .id = -1};
    for (int32_t i = 0; i < list->count && above < search->goal; i++) {
        if (list->logits[i] != value)
            continue;
        border.id = list->ids[i];
        above += weight_at(search->weights, i);
    }
    return border;
}

/* Halves what lies between the bounds until at most so many ids are left. False: the bounds became
 * neighbours. */
static bool narrow(struct search *search, int32_t most) {
    struct bounds *bounds = &search->bounds;
    while (bounds->at_low.count - bounds->at_high.count > most) {
        float middle = bounds->low * 0.5f + bounds->high * 0.5f;
        if (!(middle > bounds->low && middle < bounds->high))
            return false;
        struct sample_tally at_middle = tally(search, middle);
        if (at_middle.weight >= search->goal) {
            bounds->low = middle;
            bounds->at_low = at_middle;
        } else {
            bounds->high = middle;
            bounds->at_high = at_middle;
        }
    }
    return true;
}

/* The few ids between the bounds, in a list of their own. */
struct few {
    struct sampler_list list;
    int32_t at[FEW], ids[FEW];
    float logits[FEW], weights[FEW];
};

static void pick_few(struct search *search, struct few *few) {
    const struct sampler_list *list = search->list;
    struct list_args args = {.x = list->logits,
                             .count = list->count,
                             .least = search->bounds.low,
                             .most = nextafterf(search->bounds.high, -INFINITY),
                             .at = few->at,
                             .values = few->logits};
    few->list = (struct sampler_list){.count = search->scan->ops->list(&args),
                                      .ids = few->ids,
                                      .logits = few->logits,
                                      .weights = few->weights};
    for (int32_t i = 0; i < few->list.count; i++) {
        few->ids[i] = list->ids[few->at[i]];
        few->weights[i] = (float)weight_at(search->weights, few->at[i]);
    }
    search->list = &few->list;
    search->weights = few->weights;
    search->above = search->bounds.at_high;
}

static struct sampler_border find_between(struct search search) {
    struct bounds *bounds = &search.bounds;
    if (bounds->at_high.weight >= search.goal) /* `high` is the greatest logit */
        return reach_among_equals(&search, bounds->high, 0.0);
    struct few few;
    bool single = narrow(&search, FEW);
    if (single) {
        pick_few(&search, &few);
        single = narrow(&search, 1);
    }
    if (!single)
        return reach_among_equals(&search, bounds->low, bounds->at_high.weight);
    const struct sampler_list *list = search.list;
    int32_t i = 0;
    while (!(list->logits[i] >= bounds->low && list->logits[i] < bounds->high))
        i++;
    return (struct sampler_border){.value = list->logits[i], .id = list->ids[i]};
}

/* How far below the greatest logit a search begins, at least: where floats are far apart, further.
 */
static float least_step(const struct sampler_scan *scan, float step) {
    return fmaxf(step, fminf(fabsf(scan->greatest), FLT_MAX) * 0x1p-20f);
}

static float go_down(float low, float step) {
    return low > FLT_MAX ? FLT_MAX : fmaxf(low - step, -FLT_MAX);
}

float sampler_reach_low(const struct sampler_scan *scan, const float *values, int32_t count,
                        int32_t goal, int32_t more) {
    float step = least_step(scan, 1.0f), high, low = scan->greatest;
    int32_t at_low = 0;
    do {
        high = low;
        low = go_down(low, step);
        at_low = scan->ops->tally(values, NULL, count, low).count;
        step *= 2.0f;
    } while (at_low < goal && low > -FLT_MAX);
    while (at_low > goal + more) {
        float middle = low * 0.5f + high * 0.5f;
        if (!(middle > low && middle < high))
            break;
        int32_t at_middle = scan->ops->tally(values, NULL, count, middle).count;
        low = at_middle >= goal ? middle : low;
        high = at_middle >= goal ? high : middle;
        at_low = at_middle >= goal ? at_middle : at_low;
    }
    return at_low >= goal ? low : -INFINITY;
}

struct sampler_border sampler_reach_count(const struct sampler_scan *scan, int32_t count,
                                          struct sampler_list *list) {
    struct search search = {.scan = scan, .list = list, .goal = (double)count};
    int32_t octets = sampler_scan_groups(scan->first_id, scan->count) * SAMPLE_OCTETS;
    int32_t more = FEW + count / 4; /* to list them costs less than to look further */
    float low = -INFINITY;
    if (count <= octets)
        low = sampler_reach_low(scan, scan->octets, octets, count, more);
    if (!(low > -INFINITY))
        low = sampler_reach_low(scan, scan->logits, scan->count, count, more);
    if (!(low > -INFINITY))
        return (struct sampler_border){.value = -INFINITY, .id = -1};
    fill(scan, low, list);
    search.bounds = (struct bounds){.low = list->least,
                                    .high = scan->greatest,
                                    .at_low = {.count = list->count, .weight = (double)list->count},
                                    .at_high = tally(&search, scan->greatest)};
    return find_between(search);
}

/* How far down the goal probably is: to where the whole row, were it as likely as an id there,
 * would weigh TAIL_SHARE times what need not be reached. */
static float first_step(const struct sampler_scan *scan, const struct weigh_args *weigh,
                        double missing) {
    double all = (double)scan->count / fmax(missing, 0x1p-30);
    double octaves = sampler_math_log(fmax(all / TAIL_SHARE, 2.0)) * LOG2_E;
    return (float)octaves / weigh->scale;
}

struct sampler_border sampler_reach_weight(const struct sampler_scan *scan,
                                           const struct weigh_args *weigh, double sum, double goal,
                                           struct sampler_list *list) {
    struct search search = {.scan = scan, .list = list, .weights = list->weights, .goal = goal};
    struct bounds *bounds = &search.bounds;
    float step = first_step(scan, weigh, sum - goal), next = 1.0f / weigh->scale;
    bounds->low = scan->greatest;
    do {
        bounds->high = bounds->low;
        bounds->at_high = bounds->at_low;
        bounds->low = go_down(bounds->low, least_step(scan, step));
        fill(scan, bounds->low, list);
        bounds->at_low =
            (struct sample_tally){.count = list->count, .weight = weigh_list(scan, weigh, list)};
        step = next;
        next *= 2.0f;
    } while (bounds->at_low.weight < goal && bounds->low > -FLT_MAX);
    if (bounds->at_low.weight < goal)
        return (struct sampler_border){.value = -INFINITY, .id = -1};
    if (bounds->high == scan->greatest)
        bounds->at_high = tally(&search, scan->greatest);
    return find_between(search);
}

struct sampler_border sampler_reach_listed(const struct sampler_scan *scan, double sum, double goal,
                                           const struct sampler_list *list) {
    struct search search = {.scan = scan, .list = list, .weights = list->weights, .goal = goal};
    search.bounds = (struct bounds){.low = list->least,
                                    .high = scan->greatest,
                                    .at_low = {.count = list->count, .weight = sum},
                                    .at_high = tally(&search, scan->greatest)};
    return find_between(search);
}
