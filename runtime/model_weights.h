/* A model's weights in memory, and how they get there from a checkpoint: every stored tensor has
 * one place to go. */
#ifndef MOEBIUS_RUNTIME_MODEL_WEIGHTS_H
#define MOEBIUS_RUNTIME_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/collective.h"
#include "kernels/kernel_ops.h"
#include "moe/moe_layer.h"
#include "runtime/checkpoint.h"
#include "runtime/family.h"
#include "runtime/model_spec.h"
#include "runtime/tensor_shard.h"

struct layer_weights {
    const float *input_norm, *post_norm; /* [hidden] */
    const float *q_norm, *k_norm;        /* NULL: none */
    struct weight qkv;                   /* q rows, then k rows, then v rows, of the own heads */
    const float *qkv_bias;               /* NULL: none */
    struct weight o;                     /* [hidden][own heads' columns] */
    const float *o_bias;                 /* NULL: none */
    struct weight dense_gate_up, dense_down; /* of a dense layer */
    struct moe_layer moe;                    /* of an MoE layer */
};

/* Bytes by what they are for, as the memory plan prints them: what this rank holds alone, and its
 * share of what it holds with others. */
struct weight_bytes_by_kind {
    int64_t embedding, output, attention, dense, router, experts, shared_expert, norms;
    int64_t total;
};

struct load_item;

/* The ranks that a model is spread over, and this one's part. Members are borrowed. */
struct model_ranks {
    const struct expert_ranks *experts; /* NULL: this rank has all experts */
    struct collective_group tensor;     /* the tensor-parallel group; count 1 or 0: none */
    /* Ranks that share memory for what is the same on them: those of this node, and those of them
     * with this one's tensor_shard. Count 1 or 0: none. */
    struct collective_group node, lane;
    bool all_reduce; /* of partial sums, as DeepSpeed-MoE does, instead of reduce-scatter */
};

/* Who holds a weight: this rank alone (experts), all ranks of the node with the same tensor_shard
 * (attention, output), or all ranks of the node. */
enum weight_holders { WEIGHT_OWN, WEIGHT_LANE, WEIGHT_NODE, WEIGHT_HOLDERS };

/* What the same ranks hold. */
struct weight_region {
    struct collective_group group; /* count 1 or 0: this rank alone */
    void *data;
    size_t bytes;
    bool is_shared; /* mapped by the whole group */
};

struct model_weights {
    const struct model_spec *spec;
    const struct family *family;
    const struct expert_ranks *experts; /* NULL: this rank has all experts */
    struct tensor_shard shard;          /* of attention and output */
    enum dtype dtype;        /* of the matrices: f32 or bf16; router, norms and biases are f32 */
    struct weight embedding; /* [vocabulary][hidden] */
    struct weight output;    /* [shard.ids][hidden]; rows of the embedding when tied */
    const float *final_norm;
    struct layer_weights *layers; /* [spec->layers] */
    struct load_item *items;      /* where each stored tensor goes */
    int32_t item_count, item_capacity;
    struct weight_bytes_by_kind bytes;
    struct weight_region region[WEIGHT_HOLDERS];
};

/* Lays the weights out without taking their memory: weights->bytes is known afterwards. spec,
 * family, ranks->experts and the groups' members are kept; ranks NULL: this rank has everything.
 * The tensor-parallel size is one that tensor_shard_check accepts. STATUS_NO_MEMORY (logged).
 * Local. */
enum status model_weights_describe(const struct model_spec *spec, const struct family *family,
                                   const struct kernels *kernels, enum dtype dtype,
                                   const struct model_ranks *ranks, struct model_weights *weights);
void model_weights_deinit(struct model_weights *weights);

/* How many numbers the described tensors hold together (a tied output is not counted twice). Local.
 */
int64_t model_weights_elements(const struct model_weights *weights);

/* What is wrong between the description and a checkpoint. Names are reported through `report` when
 * it is not NULL. */
struct weights_mismatch {
    int32_t missing, extra, wrong; /* wrong: shape or dtype */
};
typedef void (*weights_mismatch_report)(void *context, const char *problem, const char *tensor);

/* Compares all names, shapes and dtypes; reads no data. Any mismatch is STATUS_BAD_CHECKPOINT; with
 * report NULL the first one is logged with file, tensor, expected, got. Local. */
enum status model_weights_check(const struct model_weights *weights,
                                const struct checkpoint *checkpoint, weights_mismatch_report report,
                                void *context, struct weights_mismatch *mismatch);

/* Takes the memory and reads every owned byte range once, converting and packing on all threads,
 * with a progress line a second (GB/s, time left) for loads that take longer. Of what several ranks
 * of a node hold, each reads a part; all of it is there once all have loaded (the caller waits for
 * them). model_weights_check must have passed, on all ranks. STATUS_NO_MEMORY, STATUS_IO (logged),
 * STATUS_PEER. Collective over the node. */
enum status model_weights_load(struct model_weights *weights, const struct kernels *kernels,
                               const struct checkpoint *checkpoint);

/* Takes the memory and fills it with small pseudo-random numbers (norms: 1): for benchmarks of
 * shapes whose weights are not at hand. The same numbers every time. Collective over the node. */
enum status model_weights_load_dummy(struct model_weights *weights, const struct kernels *kernels);

#endif
