/* What each rank counts while it serves, and how the coordinator hears of it: between two steps,
 * when it asks. Counters only ever grow. */
#ifndef MOEBIUS_RUNTIME_RANK_COUNTS_H
#define MOEBIUS_RUNTIME_RANK_COUNTS_H

#include "comm/collective.h"
#include "comm/rank_group.h"
#include "runtime/metrics.h"

/* One rank's sums over all layers; zeros where its transport has no accounts. */
struct rank_counts_sums {
    struct metrics_rank accounts;
    int64_t routed_pairs, local_pairs, tokens, copies; /* as in struct traffic */
};

/* One rank's counters as the coordinator gets them; valid during the call. */
struct rank_counts_view {
    const struct rank_counts_sums *sums;
    const int64_t *pairs;            /* [layers][experts] computed there */
    const struct traffic_peer *sent; /* [ranks] by destination */
};
typedef void rank_counts_tell(void *context, int32_t rank, const struct rank_counts_view *view);

struct rank_counts {
    const struct rank_group *ranks;
    int64_t *pairs; /* [layers][experts] computed on this rank: moe counts */
    int32_t top_k;
    int64_t pair_bytes, message_bytes;
    char *messages; /* coordinator: [size]; others: one */
};

/* Bytes that rank_counts_init takes. Local. */
int64_t rank_counts_memory_bytes(const struct rank_group *ranks, int32_t layers, int32_t experts);

/* For `layers` MoE layers of `experts` experts, of which a token takes top_k. `ranks` is kept.
 * STATUS_NO_MEMORY (logged). Local. */
enum status rank_counts_init(struct rank_counts *counts, const struct rank_group *ranks,
                             int32_t layers, int32_t experts, int32_t top_k);
void rank_counts_deinit(struct rank_counts *counts);

/* All ranks' counters to the coordinator, which hears of one rank after the other; `tell` is not
 * used elsewhere. STATUS_PEER. Collective. */
enum status rank_counts_gather(struct rank_counts *counts, int64_t step, rank_counts_tell *tell,
                               void *context);

#endif
