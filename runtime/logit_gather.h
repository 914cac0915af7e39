/* Logits of a tensor-parallel group, from the ranks that each have some of the vocabulary to the
 * group's first rank. */
#ifndef MOEBIUS_RUNTIME_LOGIT_GATHER_H
#define MOEBIUS_RUNTIME_LOGIT_GATHER_H

#include "runtime/model.h"

struct logit_gather {
    const struct model *model; /* borrowed */
    float *full;               /* [logit_rows][vocabulary] */
    char *parts;               /* [group] messages of part_bytes */
    int64_t part_bytes;
    void **into;    /* [group] */
    int64_t *sizes; /* [group] */
};

/* Takes the buffers on a group's first rank; nothing for a rank alone. STATUS_NO_MEMORY (logged).
 * Local. */
enum status logit_gather_init(struct logit_gather *gather, const struct model *model);
void logit_gather_deinit(struct logit_gather *gather);

/* *logits: `count` rows of the own part in, f32 [count][shard.ids]; on the group's first rank, all
 * of the vocabulary out, f32 [count][vocabulary], valid until the next call. STATUS_PEER.
 * Collective over the group. */
enum status logit_gather_run(struct logit_gather *gather, int32_t count, const float **logits);

#endif
