/* Where experts live: expert -> (rank, slot) of every MoE layer, replicas included. The same on all
 * ranks; it decides where work happens, never what is computed. */
#ifndef MOEBIUS_MOE_PLACEMENT_H
#define MOEBIUS_MOE_PLACEMENT_H

#include <stdint.h>

#include "kernels/base/status.h"

/* One layer: rank r holds slots first_slot[r] .. first_slot[r+1]-1 of the layer, slot s holds
 * expert_of[s]. Inside a rank, slots are in ascending order of expert. Every expert stands in at
 * least one slot, and at most once on a rank. */
struct placement_layer {
    const int32_t *first_slot; /* [ranks + 1] */
    const int32_t *expert_of;  /* [first_slot[ranks]] */
    const int32_t *target;     /* [ranks][experts]: the slot that tokens of a home rank use for an
                                * expert: on the rank itself if it has one, else on its     node, else
                                * spread over the replicas by home rank */
};

struct placement {
    int32_t layers, experts, ranks;
    struct placement_layer *layer; /* [layers] */
    int32_t *memory;
};

enum placement_policy { PLACEMENT_CONTIGUOUS, PLACEMENT_ROUND_ROBIN, PLACEMENT_RANDOM };

/* How a placement is made. Experts that do not divide evenly go to the lower ranks. */
struct placement_options {
    enum placement_policy policy;
    uint64_t seed;    /* random */
    int32_t replicas; /* the first `replicas` experts of every layer get a second slot on another
                         rank; for tests and measurements */
    const int32_t *node_of; /* [ranks] */
};

/* STATUS_NO_MEMORY, STATUS_USAGE (logged) for more replicas than experts or fewer than two ranks
 * with replicas. Local, same result on all ranks. */
enum status placement_create(int32_t layers, int32_t experts, int32_t ranks,
                             const struct placement_options *options, struct placement **placement);

/* Experts of every layer and rank, as lists. STATUS_BAD_CONFIG (logged: origin, layer, rank,
 * expected, got), STATUS_NO_MEMORY. Local. */
struct placement_source {
    const char *origin;            /* for messages */
    const int32_t *const *experts; /* [layers * ranks]: lists */
    const int32_t *counts;         /* [layers * ranks] */
};
enum status placement_from_lists(int32_t layers, int32_t experts, int32_t ranks,
                                 const struct placement_source *source, const int32_t *node_of,
                                 struct placement **placement);
void placement_destroy(struct placement *placement); /* NULL allowed */

/* A number that differs, all but surely, when which rank holds which expert differs. Local. */
uint64_t placement_hash(const struct placement *placement);

/* The rank that holds a slot of a layer. Local. */
int32_t placement_rank_of(const struct placement *placement, int32_t layer, int32_t slot);

#endif
