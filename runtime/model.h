/* A loaded model and its one graph: every family runs through model_forward. */
#ifndef MOEBIUS_RUNTIME_MODEL_H
#define MOEBIUS_RUNTIME_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernel_ops.h"
#include "runtime/batch.h"
#include "runtime/kv_cache.h"
#include "runtime/model_spec.h"
#include "runtime/model_weights.h"
#include "runtime/row_slice.h"

/* What an observer can see of a forward. Rows are the batch's; with tensor parallelism,
 * ATTENTION_OUT and MLP_OUT are of the own slice's rows only (workspace.slice), and so are ROUTER_*
 * unless model_limits.routing is set. */
enum model_point {
    MODEL_EMBEDDING,      /* [rows][hidden] f32: what goes into layer 0 */
    MODEL_ATTENTION_OUT,  /* [rows][hidden] f32: after the output projection, before the residual */
    MODEL_MLP_OUT,        /* [rows][hidden] f32: of the MLP or MoE block, before the residual */
    MODEL_HIDDEN,         /* [rows][hidden] f32: the residual stream after the layer */
    MODEL_ROUTER_LOGITS,  /* [rows][experts] f32 */
    MODEL_ROUTER_IDS,     /* [rows][top_k] int32, slots in falling order of score */
    MODEL_ROUTER_WEIGHTS, /* [rows][top_k] f32 */
    MODEL_FINAL_NORM, /* act rows [logit_count][hidden] f32: only the rows whose logits are wanted
                       */
};

/* Called inside a forward; it may look, never change. */
struct model_observer {
    void (*see)(void *context, enum model_point point, int32_t layer, const void *data,
                int64_t columns);
    void *context;
};

/* Sizes fixed at start. */
struct model_limits {
    int32_t rows;       /* rows of one forward */
    int32_t logit_rows; /* rows whose logits are computed together */
    int32_t positions;  /* longest sequence */
    int32_t kv_blocks;
    bool routing; /* observers see the routing of all rows of a tensor-parallel group; the same on
                     all ranks */
};

/* The buffers of a forward, for limits.rows rows. */
struct model_workspace {
    float *x;         /* [rows][hidden] the residual stream */
    float *normed;    /* act rows f32 [rows][hidden] */
    void *normed_act; /* the same in the weights' dtype; = normed when that is f32 */
    float *qkv;       /* [rows][(heads + 2 kv_heads) * head_dim], own heads */
    void *attended;   /* act rows [rows][heads * head_dim], own heads */
    float *block_out; /* [rows][hidden] what attention or MLP adds to the residual; of several ranks
                         attention's partial sums */
    struct row_slice slice;
    void *dense_h; /* act rows [rows][dense_intermediate] */
    struct moe_workspace moe;
    float *gathered; /* [logit_rows][hidden] */
    float *logits;   /* [logit_rows][own part of the vocabulary] */
};

struct model {
    const struct model_spec *spec;
    struct model_ranks ranks; /* all 0: this one has everything */
    const struct kernels *kernels;
    struct model_weights weights;
    struct model_limits limits;
    struct kv_cache kv;
    struct model_workspace workspace;
    float *rope_table; /* [positions][rotary_dim] */
    void *region;      /* workspace and rope table */
    size_t region_bytes;
    int64_t step; /* the forward in progress, for messages */
};

/* What model_describe will take, before it takes it. */
struct model_memory {
    struct weight_bytes_by_kind weights;
    int64_t kv_bytes, workspace_bytes;
    int64_t step_bytes; /* plans, messages, sampling: the engine's, 0 from model_describe */
    int64_t total;
};

/* Lays out weights and buffers without taking them; model->weights can be checked against a
 * checkpoint. spec, family, kernels and what ranks points to are borrowed for the model's life;
 * ranks NULL: this rank has everything. limits.positions <= spec->max_positions and
 * tensor_shard_check are the caller's to ensure. STATUS_NO_MEMORY. Local. */
enum status model_describe(struct model *model, const struct model_spec *spec,
                           const struct family *family, const struct kernels *kernels,
                           enum dtype dtype, const struct model_limits *limits,
                           const struct model_ranks *ranks, struct model_memory *memory);

/* Takes the transport's buffers for the longest message of a forward. STATUS_LIMIT,
 * STATUS_NO_MEMORY (logged). Local. */
enum status model_reserve_messages(const struct model *model);

/* Takes all memory and loads the weights: from the checkpoint, or pseudo-random numbers when it is
 * NULL. What ranks of the node have in common is loaded when all of them are through. On failure
 * the model is only good for model_deinit. STATUS_NO_MEMORY, STATUS_IO (logged), STATUS_PEER.
 * Collective over the node. */
enum status model_load(struct model *model, const struct checkpoint *checkpoint);
void model_deinit(struct model *model);

/* Before a step's forward, when experts are shared with other ranks: how many rows each
 * data-parallel group was planned to have, rows_of [groups], the same on all ranks. Local. */
void model_begin_step(struct model *model, const int32_t *rows_of);

/* One forward of all rows of the batch: writes their keys and values into their slots; *logits are
 * the first limits.logit_rows wanted rows', f32 [rows][weights.shard.ids], of the ids from
 * weights.shard.first_id on (without tensor parallelism all ids), valid until the next forward or
 * model_logits. Tokens are in [0,
 * vocabulary); the batch is within the limits, and the batches of all ranks together are. `step`
 * names the forward in messages. Takes nothing. STATUS_PEER when another rank does not answer.
 * observer may be NULL. The batches of a tensor-parallel group are equal. Collective over the
 * expert-parallel ranks, also those without rows; Local on one. */
enum status model_forward(struct model *model, const struct batch *batch, int64_t step,
                          const struct model_observer *observer, const float **logits);

/* The same of the wanted rows first .. first + count - 1 of the last forward's batch, count <=
 * limits.logit_rows. Local. */
void model_logits(struct model *model, const struct batch *batch, int32_t first, int32_t count,
                  const struct model_observer *observer, const float **logits);

#endif
