/* The two agreements of a start, between reading config.json and the first step. */
#include "runtime/start_agreement.h"

#include <stdlib.h>

#include "comm/collective.h"
#include "kernels/base/log.h"

#define LOAD_TIMEOUT_MS (60 * 60 * 1000)

static const char *const fact_names[START_FACTS] = {
    [START_HIDDEN] = "hidden size",
    [START_LAYERS] = "layers",
    [START_VOCABULARY] = "vocabulary",
    [START_EXPERTS] = "experts",
    [START_TOP_K] = "experts a token",
    [START_EXPERT_WIDTH] = "expert width",
    [START_DTYPE] = "dtype",
    [START_POSITIONS] = "longest sequence",
    [START_TIMEOUT] = "--comm-timeout in ms",
    [START_ROWS] = "rows of a step",
    [START_REQUESTS] = "requests at once",
    [START_KV_TOKENS] = "tokens of the KV cache",
    [START_LOGITS] = "whole logits wanted",
    [START_VERIFY] = "--verify-ranks",
    [START_TENSOR_PARALLEL] = "tensor-parallel size",
    [START_ROUTING] = "routing wanted",
    [START_FLOW] = "moe flow",
    [START_PLACEMENT] = "expert placement",
    [START_PLACEMENT_SEED] = "expert placement's seed",
    [START_REPLICAS] = "expert replicas",
    [START_PLACEMENT_HASH] = "hash of where experts are placed",
};

static const struct transport_scope start_scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};

static struct collective_group world_of(const struct rank_group *ranks, int32_t *members) {
    for (int32_t i = 0; i < ranks->size; i++)
        members[i] = i;
    return (struct collective_group){.transport = ranks->transport,
                                     .members = members,
                                     .count = ranks->size,
                                     .self = ranks->rank};
}

/* Silence here would leave a slow job unexplained. */
static void tell_isa(const struct rank_group *ranks, const struct start_facts *all) {
    int32_t least = 0, most = 0;
    for (int32_t rank = 1; rank < ranks->size; rank++) {
        least = all[rank].isa < all[least].isa ? rank : least;
        most = all[rank].isa > all[most].isa ? rank : most;
    }
    if (ranks->rank == 0 && all[least].isa < all[most].isa)
        LOG_INFO("kernels: all ranks use %s, the best of rank %d on %s; rank %d on %s could use %s",
                 cpu_isa_name((enum cpu_isa)all[least].isa), least, ranks->host_of[least], most,
                 ranks->host_of[most], cpu_isa_name((enum cpu_isa)all[most].isa));
}

enum status start_agreement_said(const struct rank_group *ranks, enum status mine,
                                 const struct log_diverted *said) {
    if (ranks == NULL || ranks->size == 1) {
        log_divert_write(said);
        return mine;
    }
    int32_t own = (int32_t)mine, all[TRANSPORT_RANKS_MAX] = {0}, members[TRANSPORT_RANKS_MAX];
    int32_t first = 0;
    struct collective_group world = world_of(ranks, members);
    enum status agreed,
        status = collective_share(&world, &start_scope, &own, sizeof own, (char *)(void *)all);
    if (status != STATUS_OK)
        log_divert_write(said);
    RETURN_IF_ERROR(status);
    while (first < ranks->size && all[first] == STATUS_OK)
        first++;
    if (first == ranks->size)
        return STATUS_OK;
    if (first == ranks->rank)
        log_divert_write(said); /* before anybody ends the job */
    RETURN_IF_ERROR(collective_agree(&world, &start_scope, mine, &agreed));
    return (enum status)all[first];
}

static enum status compare(const struct rank_group *ranks, const struct start_facts *all,
                           enum cpu_isa *isa) {
    for (int32_t rank = 0; rank < ranks->size; rank++) {
        if (all[rank].isa < (int64_t)*isa)
            *isa = (enum cpu_isa)all[rank].isa;
        for (int fact = 0; fact < START_FACTS; fact++) {
            if (all[rank].same[fact] == all[0].same[fact])
                continue;
            if (ranks->rank == 0)
                LOG_ERROR("rank %d on %s: %s: expected %lld as on rank 0, got %lld", rank,
                          ranks->host_of[rank], fact_names[fact], (long long)all[0].same[fact],
                          (long long)all[rank].same[fact]);
            return STATUS_PEER;
        }
    }
    return STATUS_OK;
}

enum status start_agreement_facts(const struct rank_group *ranks, const struct start_facts *facts,
                                  enum cpu_isa *isa) {
    if (ranks == NULL || ranks->size == 1)
        return STATUS_OK;
    struct start_facts *all = calloc((size_t)ranks->size, sizeof *all);
    if (all == NULL) {
        LOG_ERROR("ranks: cannot take a table of %d ranks", ranks->size);
        return STATUS_NO_MEMORY;
    }
    int32_t members[TRANSPORT_RANKS_MAX];
    struct collective_group world = world_of(ranks, members);
    enum status worst,
        shared = collective_share(&world, &start_scope, facts, sizeof *facts, (char *)(void *)all);
    enum status status = shared == STATUS_OK ? compare(ranks, all, isa) : shared;
    if (status == STATUS_OK)
        tell_isa(ranks, all);
    free(all);
    if (shared == STATUS_OK && status != STATUS_OK) /* rank 0 speaks before anybody ends the job */
        RETURN_IF_ERROR(collective_agree(&world, &start_scope, status, &worst));
    return status;
}

static enum status compare_models(const struct rank_group *ranks, const int64_t *digests) {
    for (int32_t rank = 0; rank < ranks->size; rank++) {
        if (digests[rank] == digests[0])
            continue;
        if (ranks->rank == 0)
            LOG_ERROR("rank %d on %s: --model: expected the config.json, generation_config.json "
                      "and weights of rank 0 (digest %016llx), got others (%016llx)",
                      rank, ranks->host_of[rank], (unsigned long long)digests[0],
                      (unsigned long long)digests[rank]);
        return STATUS_PEER;
    }
    return STATUS_OK;
}

enum status start_agreement_model(const struct rank_group *ranks, enum status mine,
                                  const struct log_diverted *said, int64_t digest) {
    if (ranks == NULL || ranks->size == 1)
        return start_agreement_said(ranks, mine, said);
    int64_t digests[TRANSPORT_RANKS_MAX];
    int32_t members[TRANSPORT_RANKS_MAX], timeout_ms = ranks->transport->timeout_ms;
    struct collective_group world = world_of(ranks, members);
    enum status agreed;
    ranks->transport->timeout_ms = LOAD_TIMEOUT_MS;
    enum status status = start_agreement_said(ranks, mine, said);
    if (status == STATUS_OK)
        status =
            collective_share(&world, &start_scope, &digest, sizeof digest, (char *)(void *)digests);
    ranks->transport->timeout_ms = timeout_ms;
    RETURN_IF_ERROR(status);
    status = compare_models(ranks, digests);
    if (status != STATUS_OK) /* rank 0 speaks before anybody ends the job */
        RETURN_IF_ERROR(collective_agree(&world, &start_scope, status, &agreed));
    return status;
}

enum status start_agreement_loaded(const struct rank_group *ranks, enum status mine) {
    if (ranks == NULL || ranks->size == 1)
        return mine;
    int32_t members[TRANSPORT_RANKS_MAX], timeout_ms = ranks->transport->timeout_ms;
    struct collective_group world = world_of(ranks, members);
    enum status agreed = mine;
    ranks->transport->timeout_ms = LOAD_TIMEOUT_MS;
    enum status status = collective_agree(&world, &start_scope, mine, &agreed);
    ranks->transport->timeout_ms = timeout_ms;
    return status != STATUS_OK ? status : agreed;
}
