/* Finds the border of top-k, top-p and min-p. Called by sampler.c between the penalties and the
 * noise; never sorts a vocabulary unless a flat distribution really has that many members. */
#include "runtime/sampler_support.h"

#include <math.h>
#include <string.h>

#include "kernels/base/memory.h"
#include "runtime/sampler_math.h"

#define BINS_COUNT 1024
#define BINS_PER_UNIT 16.0 /* bins for a gap of up to 64 below the greatest logit */
#define HEAP_SORT_MAX 256

/* The candidates, each one integer: its logit's bits made monotone above, 2^32 - 1 - id below. The
 * greater integer comes first in the order. */
struct candidates {
    uint64_t *list, *spare; /* [vocabulary] each */
    double *mass;           /* [BINS_COUNT] */
    int32_t count;
};

/* exp((logit - greatest) / temperature) and what it needs. */
struct weighing {
    float greatest;
    double inverse_temperature;
};

static uint64_t pack(float value, int32_t id) {
    float no_negative_zero = value + 0.0f;
    uint32_t bits;
    memcpy(&bits, &no_negative_zero, sizeof(bits));
    bits = bits >> 31 ? ~bits : bits | UINT32_C(0x80000000);
    return (uint64_t)bits << 32 | (UINT32_MAX - (uint32_t)id);
}

static struct sampler_border unpack(uint64_t packed) {
    uint32_t bits = (uint32_t)(packed >> 32);
    bits = bits >> 31 ? bits & UINT32_C(0x7fffffff) : ~bits;
    struct sampler_border border = {.id = (int32_t)(UINT32_MAX - (uint32_t)packed)};
    memcpy(&border.value, &bits, sizeof(bits));
    return border;
}

static void take(struct arena *arena, int32_t vocabulary, struct candidates *candidates) {
    size_t list_bytes = (size_t)vocabulary * sizeof(uint64_t);
    candidates->list = arena_take(arena, list_bytes);
    candidates->spare = arena_take(arena, list_bytes);
    candidates->mass = arena_take(arena, BINS_COUNT * sizeof(double));
}

size_t sampler_support_scratch_bytes(int32_t vocabulary) {
    struct arena measure = {0};
    struct candidates candidates;
    take(&measure, vocabulary, &candidates);
    return measure.used;
}

/* Restores a min-heap whose element `at` may be too great. */
static void sift_down(uint64_t *heap, int32_t count, int32_t at) {
    uint64_t moving = heap[at];
    for (int32_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= moving)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void make_heap(uint64_t *heap, int32_t count) {
    for (int32_t at = count / 2 - 1; at >= 0; at--)
        sift_down(heap, count, at);
}

/* Greatest first. */
static void heap_sort(uint64_t *list, int32_t count) {
    make_heap(list, count);
    for (int32_t end = count - 1; end > 0; end--) {
        uint64_t least = list[0];
        list[0] = list[end];
        list[end] = least;
        sift_down(list, end, 0);
    }
}

/* Greatest first, a byte a pass from `lowest_bit` up; a pass over a byte that all share is left
 * out.
 */
static void radix_sort(struct candidates *candidates, int lowest_bit) {
    for (int shift = lowest_bit; shift < 64; shift += 8) {
        int32_t start[256] = {0};
        for (int32_t i = 0; i < candidates->count; i++)
            start[255 - (candidates->list[i] >> shift & 255)]++;
        if (start[255 - (candidates->list[0] >> shift & 255)] == candidates->count)
            continue;
        int32_t sum = 0;
        for (int digit = 0; digit < 256; digit++) {
            int32_t of_digit = start[digit];
            start[digit] = sum;
            sum += of_digit;
        }
        for (int32_t i = 0; i < candidates->count; i++) {
            uint64_t packed = candidates->list[i];
            candidates->spare[start[255 - (packed >> shift & 255)]++] = packed;
        }
        uint64_t *sorted = candidates->spare;
        candidates->spare = candidates->list;
        candidates->list = sorted;
    }
}

/* `ids_ascend`: the list is in the order of ids, which the radix sort keeps among equal logits. */
static void sort(struct candidates *candidates, bool ids_ascend) {
    if (candidates->count <= HEAP_SORT_MAX)
        heap_sort(candidates->list, candidates->count);
    else
        radix_sort(candidates, ids_ascend ? 32 : 0);
}

/* The k first of the order, sorted; fewer if fewer are above -infinity. Ids ascend, so a later
 * equal never displaces an earlier one. */
static void select_top_k(const float *logits, int32_t vocabulary, int32_t k,
                         struct candidates *candidates) {
    uint64_t *heap = candidates->list;
    int32_t count = 0, id = 0;
    for (; id < vocabulary && count < k; id++) {
        if (logits[id] > -INFINITY)
            heap[count++] = pack(logits[id], id);
    }
    make_heap(heap, count);
    float least = count == k ? unpack(heap[0]).value : -INFINITY;
    for (; id < vocabulary; id++) {
        if (!(logits[id] > least))
            continue;
        heap[0] = pack(logits[id], id);
        sift_down(heap, count, 0);
        least = unpack(heap[0]).value;
    }
    candidates->count = count;
    sort(candidates, false);
}

/* How far below the greatest, in tempered units: 0 or more. */
static double gap_of(const struct weighing *weighing, float logit) {
    if (logit == weighing->greatest)
        return 0.0; /* also where both are infinite */
    return ((double)weighing->greatest - (double)logit) * weighing->inverse_temperature;
}

static int32_t bin_of(double gap) {
    double bin = gap * BINS_PER_UNIT;
    return bin < BINS_COUNT - 1 ? (int32_t)bin : BINS_COUNT - 1;
}

/* The bin in which the prefix that reaches `goal` ends, or the last. */
static int32_t bin_reaching(const double *mass, double goal) {
    double sum = 0;
    for (int32_t bin = 0; bin < BINS_COUNT; bin++) {
        sum += mass[bin];
        if (sum >= goal)
            return bin;
    }
    return BINS_COUNT - 1;
}

/* Weighs all ids, and collects, sorted, those that top_p can reach: whole bins of the gap until
 * their mass is a hair above the share wanted, so that rounding cannot leave out a member. */
static double select_for_top_p(const float *logits, int32_t vocabulary, double top_p,
                               const struct weighing *weighing, struct candidates *candidates) {
    memset(candidates->mass, 0, BINS_COUNT * sizeof(double));
    double total = 0;
    for (int32_t id = 0; id < vocabulary; id++) {
        if (!(logits[id] > -INFINITY))
            continue;
        double gap = gap_of(weighing, logits[id]);
        double weight = sampler_math_exp(-gap);
        total += weight;
        candidates->mass[bin_of(gap)] += weight;
    }
    int32_t last = bin_reaching(candidates->mass, top_p * total * (1 + 1e-9));
    int32_t count = 0;
    for (int32_t id = 0; id < vocabulary; id++) {
        if (logits[id] > -INFINITY && bin_of(gap_of(weighing, logits[id])) <= last)
            candidates->list[count++] = pack(logits[id], id);
    }
    candidates->count = count;
    sort(candidates, true);
    return total;
}

static double sum_weights(const struct candidates *candidates, const struct weighing *weighing) {
    double total = 0;
    for (int32_t i = 0; i < candidates->count; i++)
        total += sampler_math_exp(-gap_of(weighing, unpack(candidates->list[i]).value));
    return total;
}

/* The last candidate of the shortest prefix whose weights reach `goal`. */
static struct sampler_border top_p_border(const struct candidates *candidates,
                                          const struct weighing *weighing, double goal) {
    double sum = 0;
    int32_t last = 0;
    for (; last < candidates->count - 1; last++) {
        sum += sampler_math_exp(-gap_of(weighing, unpack(candidates->list[last]).value));
        if (sum >= goal)
            break;
    }
    return unpack(candidates->list[last]);
}

/* The least float that is at least `limit`, which is no greater than `greatest`. */
static float round_up(double limit) {
    float value = (float)limit;
    return (double)value < limit ? nextafterf(value, INFINITY) : value;
}

static struct sampler_border apply_min_p(const struct sampling_params *params, float greatest,
                                         struct sampler_border border) {
    double log_min_p = sampler_math_log((double)params->min_p);
    float least = round_up((double)greatest + (double)params->temperature * log_min_p);
    if (least > border.value)
        return (struct sampler_border){.value = least, .id = INT32_MAX};
    return border;
}

struct sampler_border sampler_support_border(const struct sampling_params *params,
                                             const float *logits, int32_t vocabulary,
                                             void *scratch) {
    struct sampler_border border = {.value = -INFINITY, .id = -1};
    bool top_k = params->top_k > 0 && params->top_k < vocabulary;
    bool top_p = params->top_p<1.0f, min_p = params->min_p> 0.0f;
    float greatest = -INFINITY;
    for (int32_t id = 0; (top_k || top_p || min_p) && id < vocabulary; id++) {
        if (logits[id] > greatest)
            greatest = logits[id];
    }
    if (!(greatest > -INFINITY))
        return border; /* nothing to restrict, or nothing to choose from */
    struct candidates candidates = {.count = 0};
    struct arena arena = {.base = scratch, .capacity = sampler_support_scratch_bytes(vocabulary)};
    take(&arena, vocabulary, &candidates);
    struct weighing weighing = {greatest, 1.0 / (double)params->temperature};
    double total = 0;
    if (top_k) {
        select_top_k(logits, vocabulary, params->top_k, &candidates);
        border = unpack(candidates.list[candidates.count - 1]);
        total = sum_weights(&candidates, &weighing);
    } else if (top_p) {
        total = select_for_top_p(logits, vocabulary, (double)params->top_p, &weighing, &candidates);
    }
    if (top_p)
        border = top_p_border(&candidates, &weighing, (double)params->top_p * total);
    return min_p ? apply_min_p(params, greatest, border) : border;
}
