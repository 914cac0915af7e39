/* Ranks must be of one mind before they load, and know of each other's failures before they run. */
#ifndef MOEBIUS_RUNTIME_START_AGREEMENT_H
#define MOEBIUS_RUNTIME_START_AGREEMENT_H

#include <stdint.h>

#include "comm/rank_group.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "kernels/cpu_features.h"

/* What must be the same on all ranks. */
enum start_fact {
    START_HIDDEN,
    START_LAYERS,
    START_VOCABULARY,
    START_EXPERTS,
    START_TOP_K,
    START_EXPERT_WIDTH,
    START_DTYPE,
    START_POSITIONS,
    START_ROWS,
    START_TIMEOUT, /* heartbeats come as often as the coordinator's asks for */
    START_REQUESTS,
    START_KV_TOKENS,
    START_LOGITS,
    START_VERIFY,
    START_TENSOR_PARALLEL,
    START_ROUTING,
    START_FLOW,
    START_PLACEMENT,
    START_PLACEMENT_SEED,
    START_REPLICAS,
    START_PLACEMENT_HASH,
    START_FACTS
};

struct start_facts {
    int64_t isa; /* the best instruction set that it may use */
    int64_t same[START_FACTS];
};

/* How something went that fails alike on all ranks, or on some: `mine`, and what this rank had to
 * say (log_divert_begin, log_divert_end). The first rank that failed says it, the others nothing,
 * and its status is returned on all of them. ranks NULL, or one rank: says the own, if there is
 * any. Collective. */
enum status start_agreement_said(const struct rank_group *ranks, enum status mine,
                                 const struct log_diverted *said);

/* Holds every rank's facts against rank 0's. *isa becomes the least of all ranks', so that an
 * expert's bits do not depend on where it is computed. STATUS_PEER (rank 0 logs it: rank, fact,
 * expected, got) when facts differ. ranks NULL, or one rank: STATUS_OK. Collective. */
enum status start_agreement_facts(const struct rank_group *ranks, const struct start_facts *facts,
                                  enum cpu_isa *isa);

/* Before anything is loaded: how opening the checkpoint went, as start_agreement_said but for up to
 * an hour, and whether all have the model that rank 0 has (model_digest.h): else STATUS_PEER, which
 * rank 0 logs. Collective. */
enum status start_agreement_model(const struct rank_group *ranks, enum status mine,
                                  const struct log_diverted *said, int64_t digest);

/* How loading went on every rank: the worst status of all. Disks differ,
 * so this waits for up to an hour. Collective. */
enum status start_agreement_loaded(const struct rank_group *ranks, enum status mine);

#endif
