/* The MoE layer of the graph: called by model_forward once a layer. The true router decides which
 * experts a token gets; everything after it only decides where the work happens. */
#include "moe/moe_layer.h"

#include "kernels/base/check.h"

static bool spans_ranks(const struct moe_workspace *workspace) {
    return workspace->exchange.ranks != NULL;
}

void moe_workspace_take(struct arena *arena, const struct moe_layer *layer, int32_t rows,
                        const struct expert_ranks *ranks, int32_t slots,
                        struct moe_workspace *workspace) {
    size_t m = (size_t)rows, k = (size_t)layer->router.top_k, e = (size_t)layer->router.experts;
    size_t act = (size_t)dtype_bytes(layer->act_dtype),
           wire = (size_t)dtype_bytes(layer->wire_dtype);
    size_t hidden = (size_t)layer->hidden;
    workspace->router_logits = arena_take(arena, m * e * sizeof(float));
    workspace->ids = arena_take(arena, m * k * sizeof(int32_t));
    workspace->weights = arena_take(arena, m * k * sizeof(float));
    workspace->plan.offsets = arena_take(arena, (e + 1) * sizeof(int32_t));
    workspace->plan.x_at = arena_take(arena, m * k * sizeof(void *));
    workspace->plan.row_of = arena_take(arena, m * k * sizeof(int32_t));
    workspace->h =
        arena_take(arena, m * k * (size_t)activation_stride(layer->expert_intermediate) * act);
    if (ranks != NULL && ranks->transport->size > 1) {
        struct expert_exchange_limits limits = {.rows = rows,
                                                .top_k = layer->router.top_k,
                                                .hidden = layer->hidden,
                                                .slots = slots,
                                                .act_dtype = layer->act_dtype,
                                                .wire_dtype = layer->wire_dtype};
        expert_exchange_take(arena, ranks, &limits, &workspace->exchange);
        workspace->y = workspace->exchange.y;
    } else {
        workspace->y = arena_take(arena, m * k * hidden * wire);
    }
    if (layer->shared_intermediate > 0) {
        workspace->shared_h =
            arena_take(arena, m * (size_t)activation_stride(layer->shared_intermediate) * act);
        workspace->shared_y = arena_take(arena, m * hidden * sizeof(float));
        workspace->shared_gate = arena_take(arena, m * sizeof(float));
    }
}

/* Router logits and choice, in f32 whatever the experts compute in. */
static void route(const struct kernels *kernels, const struct moe_layer *layer,
                  struct moe_workspace *workspace, int32_t rows, const float *x_f32) {
    struct gemm_args logits = {.rows = rows,
                               .x = x_f32,
                               .weight = &layer->router_weight,
                               .bias = layer->router_bias,
                               .y = workspace->router_logits,
                               .y_stride = layer->router.experts};
    kernels->ops->gemm(kernels, &logits);
    struct router_args choose = {.rows = rows,
                                 .spec = layer->router,
                                 .logits = workspace->router_logits,
                                 .correction = layer->router_correction,
                                 .ids = workspace->ids,
                                 .weights = workspace->weights};
    kernels->ops->router(kernels, &choose);
}

/* Both products of the experts on this rank, over pairs sorted by expert, whose inputs are x_at;
 * outputs go to the rows `place` of y (NULL: in this order). */
static void run_experts(const struct kernels *kernels, const struct moe_layer *layer,
                        struct moe_workspace *workspace, const struct expert_rows *rows,
                        const void *const *x_at, const int32_t *place) {
    struct expert_gate_up_args up = {
        .rows = *rows, .x_at = x_at, .weight = &layer->gate_up, .h = workspace->h};
    kernels->ops->expert_gate_up(kernels, &up);
    struct expert_down_args down = {.rows = *rows,
                                    .h = workspace->h,
                                    .weight = &layer->down,
                                    .y = workspace->y,
                                    .y_dtype = layer->wire_dtype,
                                    .place = place};
    kernels->ops->expert_down(kernels, &down);
}

/* Adds what each expert computes here to the accounts. `expert_of` [slots]; NULL: slot s is expert
 * s. */
static void count_computed(const struct moe_layer *layer, struct moe_workspace *workspace,
                           const struct expert_rows *rows, const int32_t *expert_of) {
    if (workspace->computed == NULL)
        return;
    int64_t *of_layer = workspace->computed + (int64_t)layer->index * layer->router.experts;
    for (int32_t slot = 0; slot < rows->experts; slot++)
        of_layer[expert_of != NULL ? expert_of[slot] : slot] +=
            rows->offsets[slot + 1] - rows->offsets[slot];
}

/* All experts here: the plan's sort is all the dispatch there is. */
static void dispatch_and_run_here(const struct kernels *kernels, const struct moe_layer *layer,
                                  struct moe_workspace *workspace, int32_t rows,
                                  const void *x_act) {
    size_t x_row_bytes = (size_t)(activation_stride(layer->hidden) * dtype_bytes(layer->act_dtype));
    expert_plan_build(rows, layer->router.top_k, layer->router.experts, workspace->ids, x_act,
                      x_row_bytes, &workspace->plan);
    struct expert_rows sorted = {.experts = layer->router.experts,
                                 .offsets = workspace->plan.offsets};
    count_computed(layer, workspace, &sorted, NULL);
    run_experts(kernels, layer, workspace, &sorted, workspace->plan.x_at, NULL);
}

/* Tokens to their experts' ranks, outputs home. */
static enum status dispatch_and_run_across(const struct kernels *kernels,
                                           const struct moe_layer *layer,
                                           struct moe_workspace *workspace, int32_t rows) {
    struct expert_exchange *exchange = &workspace->exchange;
    struct transport_scope scope = workspace->scope;
    scope.kind = TRAFFIC_DISPATCH;
    RETURN_IF_ERROR(expert_exchange_dispatch(exchange, &scope, layer->index, rows, workspace->ids));
    struct expert_rows sorted = {.experts = layer->gate_up.groups, .offsets = exchange->offsets};
    const struct placement_layer *placed = &exchange->ranks->placement->layer[layer->index];
    const int32_t *slot = placed->first_slot + exchange->ranks->transport->rank;
    /* A rank without experts has one stack, an empty one, and no slot. */
    struct expert_rows held = {.experts = slot[1] - slot[0], .offsets = exchange->offsets};
    count_computed(layer, workspace, &held, placed->expert_of + slot[0]);
    run_experts(kernels, layer, workspace, &sorted, exchange->x_at, exchange->y_place);
    scope.kind = TRAFFIC_COMBINE;
    return expert_exchange_combine(exchange, &scope);
}

/* The shared expert sees every token; it is a dense MLP beside the routed ones, optionally gated by
 * a sigmoid. */
static void add_shared_expert(const struct kernels *kernels, const struct moe_layer *layer,
                              struct moe_workspace *workspace, int32_t rows, const float *x_f32,
                              const void *x_act, float *out) {
    const int32_t offsets[2] = {0, rows};
    struct expert_rows all = {.experts = 1, .offsets = offsets};
    struct expert_gate_up_args up = {
        .rows = all, .x = x_act, .weight = &layer->shared_gate_up, .h = workspace->shared_h};
    kernels->ops->expert_gate_up(kernels, &up);
    struct expert_down_args down = {.rows = all,
                                    .h = workspace->shared_h,
                                    .weight = &layer->shared_down,
                                    .y = workspace->shared_y,
                                    .y_dtype = DTYPE_F32};
    kernels->ops->expert_down(kernels, &down);
    struct add_args add = {.rows = rows,
                           .columns = layer->hidden,
                           .x = out,
                           .y = workspace->shared_y,
                           .y_dtype = DTYPE_F32};
    if (layer->shared_expert_gate.data != NULL) {
        struct gemm_args gate = {.rows = rows,
                                 .x = x_f32,
                                 .weight = &layer->shared_expert_gate,
                                 .y = workspace->shared_gate,
                                 .y_stride = 1};
        kernels->ops->gemm(kernels, &gate);
        add.gate_logit = workspace->shared_gate;
    }
    kernels->ops->add(kernels, &add);
}

enum status moe_layer_forward(const struct kernels *kernels, const struct moe_layer *layer,
                              struct moe_workspace *workspace, int32_t rows, const float *x_f32,
                              const void *x_act, float *out) {
    bool across = spans_ranks(workspace);
    ASSERT(!across || x_act == workspace->exchange.home);
    route(kernels, layer, workspace, rows, x_f32);
    if (across)
        RETURN_IF_ERROR(dispatch_and_run_across(kernels, layer, workspace, rows));
    else
        dispatch_and_run_here(kernels, layer, workspace, rows, x_act);
    struct combine_args combine = {.rows = rows,
                                   .columns = layer->hidden,
                                   .top_k = layer->router.top_k,
                                   .y = workspace->y,
                                   .y_dtype = layer->wire_dtype,
                                   .row_of =
                                       across ? workspace->exchange.row_of : workspace->plan.row_of,
                                   .weights = workspace->weights,
                                   .out = out};
    kernels->ops->combine(kernels, &combine);
    if (layer->shared_intermediate > 0)
        add_shared_expert(kernels, layer, workspace, rows, x_f32, x_act, out);
    return STATUS_OK;
}
