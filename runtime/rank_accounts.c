/* The coordinator's table of the ranks' counters, between the engine thread that fills it and the
 * doors that answer from it. Each counter is read whole; two of them may be a moment apart. */
#include "runtime/rank_accounts.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

/* Counters of one destination, in the order of struct traffic_peer. */
#define PEER_COUNTERS 3

struct rank_accounts {
    int32_t ranks, layers, experts;
    _Atomic int64_t told_ns;
    _Atomic int64_t *pairs; /* [ranks][layers][experts] */
    _Atomic int64_t *sent;  /* [ranks][ranks][PEER_COUNTERS] */
};

enum status rank_accounts_create(int32_t ranks, int32_t layers, int32_t experts,
                                 struct rank_accounts **accounts) {
    ASSERT(ranks >= 1 && layers >= 0 && experts >= 0);
    struct rank_accounts *created = calloc(1, sizeof *created);
    if (created != NULL) {
        size_t cells = (size_t)layers * (size_t)experts;
        *created = (struct rank_accounts){.ranks = ranks, .layers = layers, .experts = experts};
        created->pairs = calloc((size_t)ranks * cells + 1, sizeof *created->pairs);
        created->sent =
            calloc((size_t)ranks * (size_t)ranks * PEER_COUNTERS, sizeof *created->sent);
        if (created->pairs != NULL && created->sent != NULL) {
            *accounts = created;
            return STATUS_OK;
        }
    }
    LOG_ERROR("accounts: cannot take the counters of %d ranks", ranks);
    rank_accounts_destroy(created);
    return STATUS_NO_MEMORY;
}

void rank_accounts_destroy(struct rank_accounts *accounts) {
    if (accounts == NULL)
        return;
    free(accounts->pairs);
    free(accounts->sent);
    free(accounts);
}

int32_t rank_accounts_ranks(const struct rank_accounts *accounts) {
    return accounts->ranks;
}

int32_t rank_accounts_layers(const struct rank_accounts *accounts) {
    return accounts->layers;
}

int32_t rank_accounts_experts(const struct rank_accounts *accounts) {
    return accounts->experts;
}

static void store(_Atomic int64_t *counter, int64_t value) {
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

static int64_t load(_Atomic int64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void rank_accounts_set(struct rank_accounts *accounts, int32_t rank, const int64_t *pairs,
                       const struct traffic_peer *sent, int64_t now_ns) {
    int64_t cells = (int64_t)accounts->layers * accounts->experts;
    for (int64_t i = 0; pairs != NULL && i < cells; i++)
        store(&accounts->pairs[rank * cells + i], pairs[i]);
    for (int32_t to = 0; sent != NULL && to < accounts->ranks; to++) {
        _Atomic int64_t *counters =
            &accounts->sent[((int64_t)rank * accounts->ranks + to) * PEER_COUNTERS];
        store(&counters[0], sent[to].dispatch_bytes);
        store(&counters[1], sent[to].combine_bytes);
        store(&counters[2], sent[to].messages);
    }
    store(&accounts->told_ns, now_ns);
}

int64_t rank_accounts_pairs(const struct rank_accounts *accounts, int32_t rank, int32_t layer,
                            int32_t expert) {
    return load(
        &accounts->pairs[((int64_t)rank * accounts->layers + layer) * accounts->experts + expert]);
}

struct traffic_peer rank_accounts_sent(const struct rank_accounts *accounts, int32_t rank,
                                       int32_t to) {
    _Atomic int64_t *counters =
        &accounts->sent[((int64_t)rank * accounts->ranks + to) * PEER_COUNTERS];
    return (struct traffic_peer){.dispatch_bytes = load(&counters[0]),
                                 .combine_bytes = load(&counters[1]),
                                 .messages = load(&counters[2])};
}

int64_t rank_accounts_told_ns(const struct rank_accounts *accounts) {
    int64_t told_ns = atomic_load_explicit(&accounts->told_ns, memory_order_relaxed);
    return told_ns;
}
