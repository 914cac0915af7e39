/* One Mixture-of-Experts layer: route, plan, dispatch, experts, combine. */
#ifndef MOEBIUS_MOE_MOE_LAYER_H
#define MOEBIUS_MOE_MOE_LAYER_H

#include <stdint.h>

#include "kernels/base/memory.h"
#include "kernels/kernel_ops.h"
#include "moe/expert_exchange.h"
#include "moe/expert_plan.h"

/* A layer's weights and rule; all pointers are borrowed and stay valid as long as the layer is
 * used. */
struct moe_layer {
    int32_t index; /* among the model's MoE layers: which row of the placement */
    struct router_spec router;
    int32_t hidden, expert_intermediate, shared_intermediate; /* shared 0: no shared expert */
    struct weight router_weight;                              /* F32 PLAIN [experts][hidden] */
    const float *router_bias;                                 /* [experts] or NULL */
    const float *router_correction;                           /* [experts] or NULL */
    struct weight gate_up, down;                              /* stacks of `experts` matrices */
    struct weight shared_gate_up, shared_down;
    struct weight shared_expert_gate; /* F32 PLAIN [1][hidden]; data NULL: no gate */
    enum dtype act_dtype;             /* of expert inputs: the weights' dtype */
    enum dtype wire_dtype; /* what an expert's output row is rounded to before it is summed, local
                              or not */
};

/* Buffers of one layer call, shared by all layers of a model. */
struct moe_workspace {
    float *router_logits; /* [rows][experts] */
    int32_t *ids;         /* [rows][top_k], slots in falling order of score */
    float *weights;       /* [rows][top_k] */
    struct expert_plan plan;
    void *h;            /* act rows [rows * top_k][expert_intermediate] */
    void *y;            /* [rows * top_k][hidden] of wire_dtype; of several ranks exchange.y */
    void *shared_h;     /* act rows [rows][shared_intermediate] */
    float *shared_y;    /* [rows][hidden] */
    float *shared_gate; /* [rows] */
    struct expert_exchange exchange; /* of several ranks; ranks NULL: one rank has all experts */
    struct transport_scope scope;    /* step and layer in progress, for messages and accounts */
    int64_t *computed; /* [MoE layers][experts]: pairs computed on this rank are added; NULL: not */
};

/* Takes the buffers for up to `rows` rows (of all ranks together) of layers like `layer` from the
 * arena (see struct arena for measuring). `ranks` is kept; NULL, or one rank: this rank has all
 * experts. `slots`: most expert slots of a rank. Local. */
void moe_workspace_take(struct arena *arena, const struct moe_layer *layer, int32_t rows,
                        const struct expert_ranks *ranks, int32_t slots,
                        struct moe_workspace *workspace);

/* out = the layer's output for this rank's normed inputs x. x_f32: act rows f32 [rows][hidden],
 * x_act: the same rounded to act_dtype (may be x_f32 itself when act_dtype is f32), on several
 * ranks workspace->exchange.home. out: [rows][hidden] f32. Afterwards the workspace holds the
 * router's logits, ids and weights of these rows. STATUS_PEER when another rank does not answer.
 * Collective over the expert-parallel ranks, also those without rows; Local on one rank. */
enum status moe_layer_forward(const struct kernels *kernels, const struct moe_layer *layer,
                              struct moe_workspace *workspace, int32_t rows, const float *x_f32,
                              const void *x_act, float *out);

#endif
