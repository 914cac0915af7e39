/* Carries a step's plan out on one rank: sequences, batch, forward. All ranks run the same code on
 * the same plan. */
#ifndef MOEBIUS_RUNTIME_STEP_EXECUTOR_H
#define MOEBIUS_RUNTIME_STEP_EXECUTOR_H

#include "runtime/batch.h"
#include "runtime/model.h"
#include "runtime/step_plan.h"

struct step_executor {
    struct model *model;
    int32_t group; /* this rank's data-parallel group */
    int32_t places;
    struct sequence *sequences; /* [places]; only those of this group hold anything */
    struct batch batch;
};

/* Takes sequences for `places` requests of up to `positions`, and a batch of up to `rows` rows. The
 * model is borrowed. STATUS_NO_MEMORY (logged). Local. */
enum status step_executor_init(struct step_executor *executor, struct model *model, int32_t group,
                               int32_t places, int32_t positions, int32_t rows);
void step_executor_deinit(struct step_executor *executor);

/* Applies the plan and runs the forward. *logits: the wanted rows of this group's entries, in order
 * of the plan. STATUS_INTERNAL (logged) when a block table contradicts the plan, STATUS_PEER.
 * Collective over the expert-parallel ranks. */
enum status step_executor_run(struct step_executor *executor, const struct step_plan *plan,
                              const struct model_observer *observer, const float **logits);

#endif
