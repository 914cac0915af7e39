/* From the counters of moe and comm on every rank to the coordinator, in one message a rank: sums,
 * pairs by layer and expert, bytes by destination. */
#include "runtime/rank_counts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"

static size_t bytes_of_message(const struct rank_group *ranks, size_t cells) {
    return sizeof(struct rank_counts_sums) + cells * sizeof(int64_t) +
           (size_t)ranks->size * sizeof(struct traffic_peer);
}

int64_t rank_counts_memory_bytes(const struct rank_group *ranks, int32_t layers, int32_t experts) {
    size_t cells = (size_t)layers * (size_t)experts;
    size_t messages = ranks->rank == 0 ? (size_t)ranks->size : 1;
    return (int64_t)((cells + 1) * sizeof(int64_t) + messages * bytes_of_message(ranks, cells));
}

enum status rank_counts_init(struct rank_counts *counts, const struct rank_group *ranks,
                             int32_t layers, int32_t experts, int32_t top_k) {
    size_t cells = (size_t)layers * (size_t)experts, size = (size_t)ranks->size;
    size_t bytes = bytes_of_message(ranks, cells);
    *counts = (struct rank_counts){.ranks = ranks,
                                   .top_k = top_k,
                                   .pair_bytes = (int64_t)(cells * sizeof(int64_t)),
                                   .message_bytes = (int64_t)bytes};
    if (bytes <= INT_MAX) {
        counts->pairs = calloc(cells + 1, sizeof *counts->pairs);
        counts->messages = calloc(ranks->rank == 0 ? size : 1, bytes);
    }
    if (counts->pairs == NULL || counts->messages == NULL) {
        LOG_ERROR("ranks: cannot take counters of %d layers and %d experts", layers, experts);
        return STATUS_NO_MEMORY;
    }
    if (size == 1)
        return STATUS_OK; /* there may be no transport */
    return transport_reserve(ranks->transport, counts->message_bytes);
}

void rank_counts_deinit(struct rank_counts *counts) {
    free(counts->pairs);
    free(counts->messages);
    *counts = (struct rank_counts){0};
}

static struct rank_counts_sums sums_of(const struct traffic *traffic) {
    struct rank_counts_sums sums = {.routed_pairs = traffic->pairs,
                                    .local_pairs = traffic->local_pairs,
                                    .tokens = traffic->tokens,
                                    .copies = traffic->copies};
    sums.accounts.wait_ns = traffic->wait_ns;
    sums.accounts.transfer_ns = traffic->transfer_ns;
    sums.accounts.computed_pairs = traffic->computed_pairs;
    for (int kind = 0; kind < TRAFFIC_KIND_COUNT; kind++)
        for (int distance = 0; distance < TRAFFIC_DISTANCE_COUNT; distance++)
            sums.accounts.sent[kind][distance] =
                traffic_total(traffic, (enum traffic_kind)kind, (enum traffic_distance)distance);
    return sums;
}

/* One rank: nothing crosses, so the exchange has not counted; every pair is computed at home. */
static void count_alone(const struct rank_counts *counts, struct rank_counts_sums *sums) {
    int64_t pairs = 0;
    for (int64_t i = 0; i < counts->pair_bytes / (int64_t)sizeof *counts->pairs; i++)
        pairs += counts->pairs[i];
    sums->accounts.computed_pairs = sums->routed_pairs = sums->local_pairs = pairs;
    sums->tokens = counts->top_k > 0 ? pairs / counts->top_k : 0;
}

static void write_own(const struct rank_counts *counts, char *message) {
    const struct rank_group *ranks = counts->ranks;
    const struct traffic *traffic = ranks->transport != NULL ? ranks->transport->traffic : NULL;
    struct rank_counts_sums sums = {.routed_pairs = 0};
    if (traffic != NULL)
        sums = sums_of(traffic);
    if (ranks->size == 1)
        count_alone(counts, &sums);
    memcpy(message, &sums, sizeof sums);
    memcpy(message + sizeof sums, counts->pairs, (size_t)counts->pair_bytes);
    if (traffic != NULL && traffic->to != NULL)
        memcpy(message + sizeof sums + counts->pair_bytes, traffic->to,
               (size_t)ranks->size * sizeof *traffic->to);
}

static void read_rank(const struct rank_counts *counts, int32_t rank, rank_counts_tell *tell,
                      void *context) {
    const char *message = counts->messages + counts->message_bytes * rank;
    const char *pairs = message + sizeof(struct rank_counts_sums);
    struct rank_counts_view view = {
        .sums = (const struct rank_counts_sums *)(const void *)message,
        .pairs = (const int64_t *)(const void *)pairs,
        .sent = (const struct traffic_peer *)(const void *)(pairs + counts->pair_bytes)};
    tell(context, rank, &view);
}

enum status rank_counts_gather(struct rank_counts *counts, int64_t step, rank_counts_tell *tell,
                               void *context) {
    const struct rank_group *ranks = counts->ranks;
    write_own(counts, counts->messages);
    if (ranks->size > 1) {
        int32_t members[TRANSPORT_RANKS_MAX];
        void *into[TRANSPORT_RANKS_MAX];
        int64_t sizes[TRANSPORT_RANKS_MAX];
        for (int32_t i = 0; i < ranks->size; i++) {
            members[i] = i;
            into[i] = counts->messages + (ranks->rank == 0 ? counts->message_bytes * i : 0);
        }
        struct collective_group world = {.transport = ranks->transport,
                                         .members = members,
                                         .count = ranks->size,
                                         .self = ranks->rank};
        struct transport_scope scope = {.step = step, .layer = -1, .kind = TRAFFIC_STATUS};
        RETURN_IF_ERROR(collective_gather(&world, &scope, counts->messages, counts->message_bytes,
                                          into, counts->message_bytes, sizes));
        for (int32_t i = 0; ranks->rank == 0 && i < ranks->size; i++)
            if (sizes[i] != counts->message_bytes)
                return transport_garbled(ranks->transport, &scope, i, sizes[i]);
    }
    for (int32_t rank = 0; ranks->rank == 0 && rank < ranks->size; rank++)
        read_rank(counts, rank, tell, context);
    return STATUS_OK;
}
