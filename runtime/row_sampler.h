/* Chooses the tokens of one data-parallel group's rows, on the ranks that hold the logits.
 *
 * Every rank of the group knows the parameters of its requests (step_admission) and what they have
 * said so far (the plans' rows), so the choice needs no message. Where the vocabulary is in shards,
 * each rank finds the best of its own ids and the group's first rank, the leader, takes the best of
 * those: 16 bytes a row and rank. Only rows whose whole distribution matters (top-k, top-p, min-p,
 * log-probabilities, logits to be sent) are put together on the leader. The results, which only the
 * leader has, are the same bits for every number of shards, threads and rows. */
#ifndef MOEBIUS_RUNTIME_ROW_SAMPLER_H
#define MOEBIUS_RUNTIME_ROW_SAMPLER_H

#include "comm/collective.h"
#include "kernels/kernel_ops.h"
#include "runtime/sampler.h"
#include "runtime/step_plan.h"
#include "runtime/step_result.h"

struct row_sampler_options {
    const struct kernels *kernels; /* borrowed: its ops, and its threads, which share the rows */
    int32_t groups, group;         /* place p is this group's when p % groups == group */
    int32_t places;                /* of all groups */
    int32_t rows;                  /* wanted logits of one step, at most */
    int32_t slice_rows;            /* of one row_sampler_take, at most */
    int32_t vocabulary, positions;
    const int32_t *end_ids; /* [end_count] borrowed: the model's end tokens */
    int32_t end_count;
    struct collective_group group_ranks; /* count 1: one rank has all ids */
    const int32_t *shards; /* [count + 1] borrowed: member i has ids shards[i] .. shards[i+1]-1 */
};

/* The message that each rank of a group makes for the leader, and what the leader makes of them. */
struct row_exchange {
    char *outgoing;
    char *incoming; /* leader: [members] messages of message_bytes */
    void **into;    /* leader: [members] */
    int64_t *sizes; /* leader: [members] */
    float *whole;   /* leader: [slice_rows][vocabulary] */
    int64_t message_bytes;
};

struct row_sampler {
    struct row_sampler_options options;
    struct sampler_place *places; /* [own places] */
    struct row_job *jobs;         /* [rows] of the step, in order of its wanted logits */
    int32_t job_count;
    struct row_item *items; /* [slice_rows][parts]: what the threads share */
    char *scratch;          /* [threads] of scratch_bytes */
    size_t scratch_bytes;
    struct row_exchange exchange; /* of a group of several ranks */
    void *region;
    size_t region_bytes;
};

/* Bytes that init takes, the token counts included. Local. */
int64_t row_sampler_memory_bytes(const struct row_sampler_options *options);

/* STATUS_NO_MEMORY (logged). Local. */
enum status row_sampler_init(struct row_sampler *sampler,
                             const struct row_sampler_options *options);
void row_sampler_deinit(struct row_sampler *sampler);

/* Takes in the plan's admissions of this group. Local. */
void row_sampler_admit(struct row_sampler *sampler, const struct step_plan *plan);

/* Begins a step: its rows' tokens are said, and the wanted rows become jobs. STATUS_INTERNAL
 * (logged) when the plan contradicts what was said before. Local. */
enum status row_sampler_begin(struct row_sampler *sampler, const struct step_plan *plan);

/* The logits of wanted rows first .. first + count - 1 (f32 [count][own ids]): chooses and scores.
 * Where rows are to be sent, the leader copies their whole logits to `sent` (the first one of this
 * call there), f32 [..][vocabulary]; *sent_count is how many. STATUS_PEER. Collective over the
 * group. */
struct row_slice_logits {
    int64_t step;
    int32_t first, count;
    const float *logits;
    float *sent;
};
enum status row_sampler_take(struct row_sampler *sampler, const struct row_slice_logits *slice,
                             int32_t *sent_count);

/* The results of the step, on the leader, once all its wanted rows were taken. Local. */
void row_sampler_put_results(const struct row_sampler *sampler, struct wire_writer *writer);

#endif
