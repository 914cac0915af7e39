/* The executing half of a step: what the coordinator planned becomes this rank's batch and forward.
 */
#include "runtime/step_executor.h"

#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

enum status step_executor_init(struct step_executor *executor, struct model *model, int32_t group,
                               int32_t places, int32_t positions, int32_t rows) {
    *executor = (struct step_executor){.model = model, .group = group, .places = places};
    executor->sequences = calloc((size_t)places, sizeof *executor->sequences);
    if (executor->sequences == NULL) {
        LOG_ERROR("executor: cannot take %d sequences", places);
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < places; i++)
        RETURN_IF_ERROR(sequence_init(&executor->sequences[i], &model->kv, positions));
    return batch_init(&executor->batch, rows, places);
}

void step_executor_deinit(struct step_executor *executor) {
    for (int32_t i = 0; executor->sequences != NULL && i < executor->places; i++)
        sequence_deinit(&executor->sequences[i]);
    free(executor->sequences);
    batch_deinit(&executor->batch);
    *executor = (struct step_executor){0};
}

/* The sequence's table and final positions become what the coordinator decided. */
static enum status settle(struct step_executor *executor, const struct step_plan *plan,
                          const struct step_entry *entry) {
    struct sequence *sequence = &executor->sequences[entry->place];
    int32_t known = sequence->committed + sequence->staged;
    if ((entry->table_first == 0 || entry->keep <= known) &&
        sequence_set_blocks(sequence, entry->table_first, plan->block + entry->first_block,
                            entry->blocks) == STATUS_OK) {
        sequence_settle(sequence, entry->keep);
        return STATUS_OK;
    }
    LOG_ERROR("step %lld: sequence %d: expected a table from block %d of %d and %d final positions "
              "of %d, got %d blocks more",
              (long long)plan->step, entry->place, entry->table_first, sequence->block_count,
              entry->keep, known, entry->blocks);
    return STATUS_INTERNAL;
}

static enum status stage_rows(struct step_executor *executor, const struct step_plan *plan,
                              const struct step_entry *entry) {
    struct batch *batch = &executor->batch;
    RETURN_IF_ERROR(settle(executor, plan, entry));
    RETURN_IF_ERROR(batch_begin(batch, &executor->sequences[entry->place], entry->rows));
    int32_t first = batch->rows;
    for (int32_t i = 0; i < entry->rows; i++) {
        int32_t parent = plan->parents[entry->first_row + i];
        bool wants = entry->logits == STEP_LOGITS_ALL ||
                     (entry->logits == STEP_LOGITS_LAST && i == entry->rows - 1);
        batch_append(batch, plan->tokens[entry->first_row + i],
                     parent < 0 ? BATCH_NO_PARENT : first + parent, wants, NULL);
    }
    return STATUS_OK;
}

/* What each data-parallel group brings to the experts, as planned. */
static void share_row_counts(struct step_executor *executor, const struct step_plan *plan) {
    int32_t rows_of[TRANSPORT_RANKS_MAX] = {0};
    for (int32_t i = 0; i < plan->entries; i++)
        if (plan->entry[i].group < TRANSPORT_RANKS_MAX)
            rows_of[plan->entry[i].group] += plan->entry[i].rows;
    model_begin_step(executor->model, rows_of);
}

enum status step_executor_run(struct step_executor *executor, const struct step_plan *plan,
                              const struct model_observer *observer, const float **logits) {
    batch_clear(&executor->batch);
    enum status staged = STATUS_OK;
    for (int32_t i = 0; i < plan->entries && staged == STATUS_OK; i++)
        if (plan->entry[i].group == executor->group)
            staged = stage_rows(executor, plan, &plan->entry[i]);
    if (staged != STATUS_OK)
        batch_clear(&executor->batch); /* the other ranks still need this one's experts */
    share_row_counts(executor, plan);
    enum status forward =
        model_forward(executor->model, &executor->batch, plan->step, observer, logits);
    return forward != STATUS_OK ? forward : staged;
}
