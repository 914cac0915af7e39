/* Placements: made by a rule or read from a list, checked, and turned into the one look-up that
 * dispatch needs. */
#include "moe/placement.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

static int compare_experts(const void *a, const void *b) {
    const int32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int32_t placement_rank_of(const struct placement *placement, int32_t layer, int32_t slot) {
    const int32_t *first = placement->layer[layer].first_slot;
    int32_t low = 0, high = placement->ranks;
    while (high - low > 1) {
        int32_t middle = (low + high) / 2;
        if (first[middle] <= slot)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static enum status refuse(const struct placement_source *source, int32_t layer, int32_t rank,
                          const char *expected, int32_t got) {
    LOG_ERROR("%s: layer %d, rank %d: expected %s, got %d", source->origin, layer, rank, expected,
              got);
    return STATUS_BAD_CONFIG;
}

/* Lists of one layer: every expert in range, at most once a rank, somewhere at all. `seen`
 * [experts] holds the last rank + 1. */
static enum status check_layer(const struct placement *placement, int32_t layer,
                               const struct placement_source *source, int32_t *seen) {
    memset(seen, 0, sizeof *seen * (size_t)placement->experts);
    for (int32_t rank = 0; rank < placement->ranks; rank++) {
        int32_t list = layer * placement->ranks + rank;
        for (int32_t i = 0; i < source->counts[list]; i++) {
            int32_t expert =
                source->experts[list][i]; // NOLINT(clang-analyzer-core.*): one list a rank
            if (expert < 0 || expert >= placement->experts)
                return refuse(source, layer, rank, "an expert of the model", expert);
            if (seen[expert] == rank + 1)
                return refuse(source, layer, rank, "each expert once on a rank", expert);
            seen[expert] = rank + 1;
        }
    }
    for (int32_t expert = 0; expert < placement->experts; expert++)
        if (seen[expert] == 0) {
            LOG_ERROR("%s: layer %d: expected expert %d on some rank, got it on none",
                      source->origin, layer, expert);
            return STATUS_BAD_CONFIG;
        }
    return STATUS_OK;
}

/* The slots that hold each expert, in order of rank: of expert e, slots[first[e]] ..
 * slots[first[e+1]-1]. */
struct replicas {
    int32_t *first, *slots, *rank_of;
};

static void list_replicas(const struct placement_layer *layer, int32_t ranks, int32_t experts,
                          struct replicas *replicas) {
    memset(replicas->first, 0, sizeof *replicas->first * (size_t)(experts + 1));
    for (int32_t slot = 0; slot < layer->first_slot[ranks]; slot++)
        replicas
            ->first[layer->expert_of[slot] + 1]++; // NOLINT(clang-analyzer-core.*): filled before
    for (int32_t e = 0; e < experts; e++)
        replicas->first[e + 1] += replicas->first[e];
    for (int32_t rank = 0; rank < ranks; rank++)
        for (int32_t s = layer->first_slot[rank]; s < layer->first_slot[rank + 1]; s++) {
            int32_t place = replicas->first[layer->expert_of[s]]++;
            replicas->slots[place] = s;
            replicas->rank_of[place] = rank;
        }
    memmove(replicas->first + 1, replicas->first, sizeof *replicas->first * (size_t)experts);
    replicas->first[0] = 0;
}

/* The slot that `home` uses for `expert`: on itself, else on its node, else any; spread by home
 * rank. */
static int32_t choose_slot(const struct replicas *replicas, int32_t home, int32_t expert,
                           const int32_t *node_of) {
    int32_t first = replicas->first[expert], end = replicas->first[expert + 1], near = 0;
    for (int32_t i = first; i < end; i++) {
        if (replicas->rank_of[i] == home)
            return replicas->slots[i];
        near += node_of != NULL && node_of[replicas->rank_of[i]] == node_of[home] ? 1 : 0;
    }
    int32_t wanted = home % (near > 0 ? near : end - first);
    for (int32_t i = first; i < end; i++) {
        bool counts =
            near == 0 || node_of == NULL || node_of[replicas->rank_of[i]] == node_of[home];
        if (counts && wanted-- == 0)
            return replicas->slots[i];
    }
    check_failed(__FILE__, __LINE__, __func__, "every expert has a slot");
}

static void fill_layer(struct placement *placement, int32_t layer, int32_t **memory,
                       const struct placement_source *source, const int32_t *node_of,
                       struct replicas *replicas) {
    int32_t ranks = placement->ranks, experts = placement->experts;
    int32_t *first = *memory, *expert_of = first + ranks + 1;
    first[0] = 0;
    for (int32_t rank = 0; rank < ranks; rank++) {
        int32_t list = layer * ranks + rank;
        int32_t *own = expert_of + first[rank];
        first[rank + 1] = first[rank] + source->counts[list];
        if (source->counts[list] == 0)
            continue;
        // NOLINTNEXTLINE(clang-analyzer-core.*): counts[list] numbers stand in the list
        memcpy(own, source->experts[list], sizeof *own * (size_t)source->counts[list]);
        qsort(own, (size_t)source->counts[list], sizeof *own, compare_experts);
    }
    int32_t *target = expert_of + first[ranks];
    *memory = target + (int64_t)ranks * experts;
    placement->layer[layer] =
        (struct placement_layer){.first_slot = first, .expert_of = expert_of, .target = target};
    list_replicas(&placement->layer[layer], ranks, experts, replicas);
    for (int32_t home = 0; home < ranks; home++)
        for (int32_t expert = 0; expert < experts; expert++)
            target[(int64_t)home * experts + expert] = choose_slot(replicas, home, expert, node_of);
}

enum status placement_from_lists(int32_t layers, int32_t experts, int32_t ranks,
                                 const struct placement_source *source, const int32_t *node_of,
                                 struct placement **out) {
    int64_t numbers = (int64_t)layers * ((ranks + 1) + (int64_t)ranks * experts);
    for (int32_t i = 0; i < layers * ranks; i++)
        numbers += source->counts[i];
    struct placement *placement = calloc(1, sizeof *placement);
    /* Scratch of one layer: the last rank that lists an expert; then the replicas' three lists. */
    size_t slots_max = (size_t)ranks * (size_t)experts;
    int32_t *seen = calloc((size_t)experts * 2 + 1 + 2 * slots_max, sizeof *seen);
    if (placement != NULL) {
        *placement = (struct placement){.layers = layers, .experts = experts, .ranks = ranks};
        placement->layer = calloc((size_t)layers, sizeof *placement->layer);
        placement->memory = malloc(sizeof *placement->memory * (size_t)numbers);
    }
    if (placement == NULL || seen == NULL || placement->layer == NULL ||
        placement->memory == NULL) {
        LOG_ERROR("placement: cannot take tables of %d layers and %d ranks", layers, ranks);
        free(seen);
        placement_destroy(placement);
        return STATUS_NO_MEMORY;
    }
    struct replicas replicas = {.first = seen + experts,
                                .slots = seen + 2 * (size_t)experts + 1,
                                .rank_of = seen + 2 * (size_t)experts + 1 + slots_max};
    enum status status = STATUS_OK;
    int32_t *memory = placement->memory;
    for (int32_t layer = 0; layer < layers && status == STATUS_OK; layer++) {
        status = check_layer(placement, layer, source, seen);
        if (status == STATUS_OK)
            fill_layer(placement, layer, &memory, source, node_of, &replicas);
    }
    free(seen);
    if (status != STATUS_OK) {
        placement_destroy(placement);
        return status;
    }
    *out = placement;
    return STATUS_OK;
}

uint64_t placement_hash(const struct placement *placement) {
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a over the tables' numbers */
    for (int32_t layer = 0; layer < placement->layers; layer++) {
        const struct placement_layer *tables = &placement->layer[layer];
        int32_t ranks = placement->ranks, slots = tables->first_slot[ranks];
        for (int32_t i = 0; i < ranks + 1 + slots; i++) {
            int32_t number = i <= ranks ? tables->first_slot[i] : tables->expert_of[i - ranks - 1];
            hash = (hash ^ (uint32_t)number) * UINT64_C(1099511628211);
        }
    }
    return hash;
}

void placement_destroy(struct placement *placement) {
    if (placement == NULL)
        return;
    free(placement->layer);
    free(placement->memory);
    free(placement);
}

/* ---- by a rule ---- */

/* Experts in the order in which the policy deals them out, ranks * per-rank places. */
static void order_experts(const struct placement_options *options, int32_t layer, int32_t experts,
                          int32_t *order) {
    for (int32_t i = 0; i < experts; i++)
        order[i] = i;
    if (options->policy != PLACEMENT_RANDOM)
        return;
    uint64_t state = options->seed * 0x9e3779b97f4a7c15u + (uint64_t)layer + 1;
    for (int32_t i = experts - 1; i > 0; i--) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        int32_t j = (int32_t)((state >> 33) % (uint64_t)(i + 1)), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

static int32_t rank_of_place(const struct placement_options *options, int32_t place,
                             int32_t experts, int32_t ranks) {
    if (options->policy == PLACEMENT_ROUND_ROBIN)
        return place % ranks;
    /* The first `experts % ranks` ranks hold one more. */
    int32_t base = experts / ranks, more = experts % ranks;
    return place < more * (base + 1) ? place / (base + 1)
                                     : more + (place - more * (base + 1)) / base;
}

enum status placement_create(int32_t layers, int32_t experts, int32_t ranks,
                             const struct placement_options *options,
                             struct placement **placement) {
    if (options->replicas < 0 || options->replicas > experts ||
        (options->replicas > 0 && ranks < 2)) {
        LOG_ERROR(
            "--expert-replicas: expected 0 to %d (the experts of a layer) on at least 2 ranks, "
            "got %d on %d",
            experts, options->replicas, ranks);
        return STATUS_USAGE;
    }
    ASSERT(layers > 0 && experts > 0 && ranks > 0);
    int32_t lists = layers * ranks;
    int32_t *members = calloc((size_t)lists * (size_t)experts, sizeof *members);
    const int32_t **experts_of = calloc((size_t)lists, sizeof *experts_of);
    int32_t *counts = calloc((size_t)lists, sizeof *counts),
            *order = malloc(sizeof *order * (size_t)experts);
    enum status status = STATUS_NO_MEMORY;
    if (members == NULL || experts_of == NULL || counts == NULL || order == NULL) {
        LOG_ERROR("placement: out of memory");
        goto free_lists;
    }
    for (int32_t list = 0; list < lists; list++)
        experts_of[list] = members + (int64_t)list * experts;
    for (int32_t layer = 0; layer < layers; layer++) {
        order_experts(options, layer, experts, order);
        for (int32_t place = 0; place < experts; place++) {
            int32_t rank = rank_of_place(options, place, experts, ranks);
            int32_t list = layer * ranks + rank;
            members[(int64_t)list * experts + counts[list]++] = order[place];
            if (order[place] >= options->replicas)
                continue;
            list = layer * ranks + (rank + 1) % ranks;
            members[(int64_t)list * experts + counts[list]++] = order[place];
        }
    }
    struct placement_source source = {
        .origin = "placement", .experts = experts_of, .counts = counts};
    status = placement_from_lists(layers, experts, ranks, &source, options->node_of, placement);
free_lists:
    free(members);
    free(experts_of);
    free(counts);
    free(order);
    return status;
}
