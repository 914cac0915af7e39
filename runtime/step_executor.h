/* Carries a step's plan out on one rank: sequences, batch, forward. All ranks run the same code on
 * the same plan. */
#ifndef MOEBIUS_RUNTIME_STEP_EXECUTOR_H
#define MOEBIUS_RUNTIME_STEP_EXECUTOR_H

#include "comm/rank_group.h"
#include "runtime/batch.h"
#include "runtime/model.h"
#include "runtime/row_sampler.h"
#include "runtime/step_plan.h"
#include "runtime/step_verify.h"

struct step_executor_options {
    struct model *model;            /* borrowed */
    const struct rank_group *ranks; /* borrowed */
    int32_t places, positions;      /* of all groups; longest sequence */
    bool sends_logits;              /* plans may ask for whole logits */
    bool verify;                    /* makes digests */
};

struct step_executor {
    struct step_executor_options options;
    struct sequence *sequences; /* [places]; other groups' only with `verify`: tables alone */
    struct batch batch;
    struct row_sampler sampler;
    int32_t shards[TRANSPORT_RANKS_MAX + 1];
};

/* What a step found out, for step_link. */
struct step_outcome {
    char *payload; /* in: room for step_executor_payload_bytes, aligned to 8 */
    int64_t bytes; /* out: first the logits that are sent, f32 [rows][vocabulary], then results */
    struct step_digests digests;
    int64_t forward_ns, sample_ns; /* out: model_forward and logits; choosing the tokens */
};

/* The longest payload. Local. */
int64_t step_executor_payload_bytes(const struct step_executor_options *options);

/* Bytes that init takes: batch, block tables, sampler. Local. */
int64_t step_executor_memory_bytes(const struct step_executor_options *options);

/* Takes everything that a step needs. STATUS_NO_MEMORY (logged). Local. */
enum status step_executor_init(struct step_executor *executor,
                               const struct step_executor_options *options);
void step_executor_deinit(struct step_executor *executor);

/* Takes in the admissions of a plan, also of one that is followed by more. Local. */
void step_executor_admit(struct step_executor *executor, const struct step_plan *plan);

/* Applies the plan, runs the forward and samples. STATUS_INTERNAL (logged) when a block table
 * contradicts the plan, STATUS_PEER; outcome->bytes is 0 then. Collective over the expert-parallel
 * ranks. */
enum status step_executor_run(struct step_executor *executor, const struct step_plan *plan,
                              const struct model_observer *observer, struct step_outcome *outcome);

#endif
