/* The executing half of a step: what the coordinator planned becomes this rank's batch, forward and
 * tokens. */
#include "runtime/step_executor.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"

/* ---- start and end ---- */

static int32_t slice_rows(const struct step_executor_options *options) {
    return options->model->limits.logit_rows;
}

/* Member i of the group has ids shards[i] .. shards[i + 1] - 1. */
static void find_shards(const struct model *model, int32_t *shards) {
    int32_t members = model->weights.shard.count;
    for (int32_t i = 0; i < members; i++)
        shards[i] = tensor_shard_of(model->spec, i, members, model->kernels->ops->panel).first_id;
    shards[members] = model->spec->vocabulary;
}

static struct row_sampler_options sampler_options(const struct step_executor_options *options,
                                                  const int32_t *shards) {
    const struct model *model = options->model;
    struct row_sampler_options sampler = {.kernels = model->kernels,
                                          .groups = options->ranks->dp_size,
                                          .group = options->ranks->dp_rank,
                                          .places = options->places,
                                          .rows = model->limits.rows,
                                          .slice_rows = slice_rows(options),
                                          .vocabulary = model->spec->vocabulary,
                                          .positions = options->positions,
                                          .end_ids = model->spec->eos_ids,
                                          .end_count = model->spec->eos_count,
                                          .group_ranks = model->ranks.tensor,
                                          .shards = shards};
    if (sampler.group_ranks.count == 0)
        sampler.group_ranks.count = 1; /* nobody but this rank */
    return sampler;
}

int64_t step_executor_payload_bytes(const struct step_executor_options *options) {
    const struct model *model = options->model;
    int64_t row = step_result_bytes_max();
    if (options->sends_logits)
        row += model->spec->vocabulary * (int64_t)sizeof(float);
    return model->limits.rows * row;
}

int64_t step_executor_memory_bytes(const struct step_executor_options *options) {
    int32_t shards[TRANSPORT_RANKS_MAX + 1];
    find_shards(options->model, shards);
    struct row_sampler_options sampler = sampler_options(options, shards);
    int64_t table = (int64_t)sequence_blocks_for(options->positions) * (int64_t)sizeof(int32_t) +
                    (int64_t)sizeof(struct sequence);
    return row_sampler_memory_bytes(&sampler) + options->places * table +
           batch_memory_bytes(options->model->limits.rows, options->places);
}

enum status step_executor_init(struct step_executor *executor,
                               const struct step_executor_options *options) {
    int32_t places = options->places;
    *executor = (struct step_executor){.options = *options};
    executor->sequences = calloc((size_t)places, sizeof *executor->sequences);
    if (executor->sequences == NULL) {
        LOG_ERROR("executor: cannot take %d sequences", places);
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < places; i++)
        RETURN_IF_ERROR(
            sequence_init(&executor->sequences[i], &options->model->kv, options->positions));
    RETURN_IF_ERROR(batch_init(&executor->batch, options->model->limits.rows, places));
    find_shards(options->model, executor->shards);
    struct row_sampler_options sampler = sampler_options(options, executor->shards);
    return row_sampler_init(&executor->sampler, &sampler);
}

void step_executor_deinit(struct step_executor *executor) {
    for (int32_t i = 0; executor->sequences != NULL && i < executor->options.places; i++)
        sequence_deinit(&executor->sequences[i]);
    free(executor->sequences);
    batch_deinit(&executor->batch);
    row_sampler_deinit(&executor->sampler);
    *executor = (struct step_executor){0};
}

/* ---- the plan ---- */

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
    RETURN_IF_ERROR(batch_begin(batch, &executor->sequences[entry->place], entry->rows));
    int32_t first = batch->rows;
    for (int32_t i = 0; i < entry->rows; i++) {
        int32_t parent = plan->parents[entry->first_row + i];
        batch_append(batch, plan->tokens[entry->first_row + i],
                     parent < 0 ? BATCH_NO_PARENT : first + parent, i >= entry->logit_from, NULL);
    }
    return STATUS_OK;
}

static enum status stage(struct step_executor *executor, const struct step_plan *plan) {
    int32_t group = executor->options.ranks->dp_rank;
    batch_clear(&executor->batch);
    for (int32_t i = 0; i < plan->entries; i++) {
        const struct step_entry *entry = &plan->entry[i];
        if (entry->group != group && !executor->options.verify)
            continue;
        RETURN_IF_ERROR(settle(executor, plan, entry));
        if (entry->group == group)
            RETURN_IF_ERROR(stage_rows(executor, plan, entry));
        else
            executor->sequences[entry->place].staged = entry->rows;
    }
    return row_sampler_begin(&executor->sampler, plan);
}

void step_executor_admit(struct step_executor *executor, const struct step_plan *plan) {
    row_sampler_admit(&executor->sampler, plan);
}

/* ---- the step ---- */

/* What each data-parallel group brings to the experts, as planned. */
static void share_row_counts(struct step_executor *executor, const struct step_plan *plan) {
    int32_t rows_of[TRANSPORT_RANKS_MAX] = {0};
    for (int32_t i = 0; i < plan->entries; i++)
        rows_of[plan->entry[i].group] += plan->entry[i].rows;
    model_begin_step(executor->options.model, rows_of);
}

/* The wanted rows, as many at a time as there is room for logits. */
static enum status sample(struct step_executor *executor, int64_t step, const float *logits,
                          const struct model_observer *observer, struct step_outcome *outcome) {
    const struct step_executor_options *options = &executor->options;
    struct model *model = options->model;
    int32_t wanted = executor->batch.logit_count, most = slice_rows(options), sent = 0;
    size_t vocabulary = (size_t)model->spec->vocabulary;
    float *payload = (float *)(void *)outcome->payload;
    for (int32_t first = 0; first < wanted; first += most) {
        struct row_slice_logits slice = {.step = step,
                                         .first = first,
                                         .count = wanted - first < most ? wanted - first : most,
                                         .logits = logits,
                                         .sent = payload + (size_t)sent * vocabulary};
        int32_t sent_now;
        if (first > 0)
            model_logits(model, &executor->batch, first, slice.count, observer, &slice.logits);
        int64_t start_ns = clock_now_ns();
        RETURN_IF_ERROR(row_sampler_take(&executor->sampler, &slice, &sent_now));
        outcome->sample_ns += clock_now_ns() - start_ns;
        sent += sent_now;
    }
    if (model->weights.shard.index > 0)
        return STATUS_OK; /* the first of the group answers for it */
    struct wire_writer writer = {.at = (char *)(payload + (size_t)sent * vocabulary)};
    row_sampler_put_results(&executor->sampler, &writer);
    outcome->bytes = writer.at - outcome->payload;
    return STATUS_OK;
}

static void make_digests(const struct step_executor *executor, const struct step_plan *plan,
                         struct step_digests *digests) {
    const struct model *model = executor->options.model;
    size_t residual = (size_t)executor->batch.rows * (size_t)model->spec->hidden * sizeof(float);
    *digests = (struct step_digests){
        .plan = step_verify_plan(plan),
        .tables = step_verify_tables(executor->sequences, executor->options.places),
        .residual = step_verify_hash(0, model->workspace.x, residual)};
}

enum status step_executor_run(struct step_executor *executor, const struct step_plan *plan,
                              const struct model_observer *observer, struct step_outcome *outcome) {
    const float *logits;
    enum status staged = stage(executor, plan);
    outcome->bytes = outcome->sample_ns = 0;
    if (staged != STATUS_OK)
        batch_clear(&executor->batch); /* the other ranks still need this one's experts */
    share_row_counts(executor, plan);
    int64_t start_ns = clock_now_ns();
    RETURN_IF_ERROR(
        model_forward(executor->options.model, &executor->batch, plan->step, observer, &logits));
    if (executor->options.verify)
        make_digests(executor, plan, &outcome->digests);
    RETURN_IF_ERROR(staged);
    RETURN_IF_ERROR(sample(executor, plan->step, logits, observer, outcome));
    outcome->forward_ns = clock_now_ns() - start_ns - outcome->sample_ns;
    return STATUS_OK;
}
