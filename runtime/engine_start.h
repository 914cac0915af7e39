/* What an engine holds, and how it comes to hold it. For engine.c and engine_request.c only. */
#ifndef MOEBIUS_RUNTIME_ENGINE_START_H
#define MOEBIUS_RUNTIME_ENGINE_START_H

#include "runtime/engine.h"
#include "runtime/scheduler.h"
#include "runtime/step_executor.h"
#include "runtime/step_link.h"

/* A request that runs or waits. */
struct live_request {
    bool used;
    bool begun; /* the listener knows that it waits no more */
    struct engine_request request;
    int32_t *tokens; /* [prompt_count + max_tokens]: prompt, then output */
    int32_t prompt_count, max_tokens;
    int32_t token_count;
    int32_t cached; /* of the prompt, from the prefix cache */
    int32_t heard;  /* positions whose logits or log-probabilities the listener has */
};

/* What a group's leader sent, being read. */
struct group_results {
    const float *sent;         /* next row of logits */
    struct wire_reader reader; /* results behind all of those */
};

struct engine {
    struct model_spec spec;
    const struct family *family;
    struct kernels kernels;
    struct model model;
    struct expert_ranks expert_ranks;
    struct placement *placement; /* NULL: one rank, or no experts */
    struct model_ranks model_ranks;
    int32_t tensor_members[TRANSPORT_RANKS_MAX];
    struct rank_group alone; /* when there is no job */
    const struct rank_group *ranks;
    int32_t positions;

    /* Every rank's part of a step. */
    struct step_plan plan;
    struct step_executor executor;
    struct step_link link;
    struct rank_counts counts;
    int64_t step;

    /* The coordinator's. */
    struct scheduler *scheduler;
    struct live_request *live; /* [handles] */
    int32_t handles, running;
    int32_t *entry_handle;         /* [plan.entries] whose entry it is */
    int32_t *table_length;         /* [places] blocks in the table, as planned */
    struct group_results *results; /* [groups] */
    int64_t rows, prompt_tokens, generation_tokens;
    int64_t step_ns, schedule_ns, forward_ns, sample_ns; /* spent so far */
};

/* Reads config, agrees with the other ranks, checks the memory plan, loads, takes everything that
 * steps need. On failure the engine is only good for engine_destroy. Statuses of engine_create.
 * Collective. */
enum status engine_start(struct engine *engine, const struct engine_options *options);

/* Gives everything back that engine_start took, as far as it got. */
void engine_start_undo(struct engine *engine);

#endif
