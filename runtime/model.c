/* The graph. One page: embedding, layers of attention and MLP or MoE with residuals, final norm,
 * logits. What differs between families stands in model_spec, never in a branch on a name. */
#include "runtime/model.h"

#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/memory.h"
#include "runtime/attention_layer.h"
#include "runtime/rope_table.h"

static int64_t qkv_columns(const struct model *model) {
    const struct tensor_shard *shard = &model->weights.shard;
    return (shard->heads + 2 * shard->kv_heads) * (int64_t)model->spec->attention.head_dim;
}

/* The most expert slots that any rank has in any layer. */
static int32_t most_slots(const struct expert_ranks *ranks) {
    int32_t most = 1;
    for (int32_t layer = 0; ranks != NULL && layer < ranks->placement->layers; layer++) {
        const int32_t *first = ranks->placement->layer[layer].first_slot;
        for (int32_t rank = 0; rank < ranks->placement->ranks; rank++)
            most = first[rank + 1] - first[rank] > most ? first[rank + 1] - first[rank] : most;
    }
    return most;
}

/* The inputs of experts on other ranks are sent from where they stand. */
static void take_normed(struct arena *arena, const struct model *model, struct model_workspace *w) {
    bool f32 = model->weights.dtype == DTYPE_F32, across = w->moe.exchange.ranks != NULL;
    size_t values = (size_t)model->limits.rows * (size_t)activation_stride(model->spec->hidden);
    w->normed_act = across ? w->moe.exchange.home
                           : arena_take(arena, values * (size_t)dtype_bytes(model->weights.dtype));
    w->normed = f32 ? w->normed_act : arena_take(arena, values * sizeof(float));
}

/* Takes the workspace from an arena, or measures it. */
static void take_workspace(struct model *model, struct arena *arena) {
    const struct model_spec *spec = model->spec;
    struct model_workspace *w = &model->workspace;
    size_t rows = (size_t)model->limits.rows, logit_rows = (size_t)model->limits.logit_rows;
    size_t act = (size_t)dtype_bytes(model->weights.dtype);
    size_t hidden = (size_t)spec->hidden;
    size_t attended =
        (size_t)activation_stride((int64_t)model->weights.shard.heads * spec->attention.head_dim);

    w->x = arena_take(arena, rows * hidden * sizeof(float));
    w->qkv = arena_take(arena, rows * (size_t)qkv_columns(model) * sizeof(float));
    w->attended = arena_take(arena, rows * attended * act);
    w->block_out = arena_take(arena, rows * hidden * sizeof(float));
    row_slice_take(arena, model, model->limits.rows, &w->slice);
    bool dense = false, moe = false;
    for (int32_t layer = 0; layer < spec->layers; layer++) {
        if (spec->layer[layer].moe && !moe)
            moe_workspace_take(arena, &model->weights.layers[layer].moe, model->limits.rows,
                               model->ranks.experts, most_slots(model->ranks.experts), &w->moe);
        if (!spec->layer[layer].moe && !dense)
            w->dense_h =
                arena_take(arena, rows * (size_t)activation_stride(spec->dense_intermediate) * act);
        moe = moe || spec->layer[layer].moe;
        dense = dense || !spec->layer[layer].moe;
    }
    take_normed(arena, model, w);
    w->gathered = arena_take(arena, logit_rows * hidden * sizeof(float));
    w->logits = arena_take(arena, logit_rows * (size_t)model->weights.shard.ids * sizeof(float));
    model->rope_table = arena_take(arena, (size_t)model->limits.positions *
                                              (size_t)spec->rope.rotary_dim * sizeof(float));
}

/* Between the ranks of this model; NULL: it has one. */
static struct transport *transport_of(const struct model *model) {
    if (model->ranks.experts != NULL)
        return model->ranks.experts->transport;
    return model->ranks.tensor.count > 1 ? model->ranks.tensor.transport : NULL;
}

/* The longest message of a forward: tokens and outputs of experts, rows of a slice, or logits. */
static int64_t longest_message(const struct model *model) {
    const struct row_slice *slice = &model->workspace.slice;
    int64_t longest = model->workspace.moe.exchange.longest_bytes;
    if (model->ranks.tensor.count <= 1)
        return longest;
    int64_t rows = (int64_t)model->limits.rows * slice->widest * (int64_t)sizeof(float);
    int64_t logits =
        (int64_t)model->limits.logit_rows * model->weights.shard.ids * (int64_t)sizeof(float);
    longest = rows > longest ? rows : longest;
    return logits > longest ? logits : longest;
}

static struct kv_shape shape_of_kv(const struct model *model) {
    return (struct kv_shape){.dtype = model->weights.dtype,
                             .kv_heads = model->weights.shard.kv_heads,
                             .head_dim = model->spec->attention.head_dim};
}

enum status model_describe(struct model *model, const struct model_spec *spec,
                           const struct family *family, const struct kernels *kernels,
                           enum dtype dtype, const struct model_limits *limits,
                           const struct model_ranks *ranks, struct model_memory *memory) {
    *model = (struct model){.spec = spec, .kernels = kernels, .limits = *limits};
    if (ranks != NULL)
        model->ranks = *ranks;
    RETURN_IF_ERROR(model_weights_describe(spec, family, kernels, dtype, ranks, &model->weights));
    struct arena arena = {0};
    take_workspace(model, &arena);
    model->region_bytes = arena.used;
    struct kv_shape shape = shape_of_kv(model);
    *memory =
        (struct model_memory){.weights = model->weights.bytes,
                              .workspace_bytes = (int64_t)arena.used,
                              .kv_bytes = (int64_t)kv_cache_block_bytes(&shape, spec->layers) *
                                          (int64_t)limits->kv_blocks};
    memory->total = memory->weights.total + memory->workspace_bytes + memory->kv_bytes;
    return STATUS_OK;
}

enum status model_reserve_messages(const struct model *model) {
    struct transport *transport = transport_of(model);
    return transport != NULL ? transport_reserve(transport, longest_message(model)) : STATUS_OK;
}

enum status model_load(struct model *model, const struct checkpoint *checkpoint) {
    /* First what ranks of a node do together: nothing of a rank's own may keep it from that. */
    if (checkpoint != NULL)
        RETURN_IF_ERROR(model_weights_load(&model->weights, model->kernels, checkpoint));
    else
        RETURN_IF_ERROR(model_weights_load_dummy(&model->weights, model->kernels));
    RETURN_IF_ERROR(memory_acquire("activations", model->region_bytes, &model->region));
    struct kv_shape shape = shape_of_kv(model);
    RETURN_IF_ERROR(
        kv_cache_init(&model->kv, &shape, model->spec->layers, model->limits.kv_blocks));
    struct arena arena = {.base = model->region, .capacity = model->region_bytes};
    take_workspace(model, &arena);
    rope_table_fill(&model->spec->rope, model->limits.positions, model->rope_table);
    return STATUS_OK;
}

void model_deinit(struct model *model) {
    model_weights_deinit(&model->weights);
    kv_cache_deinit(&model->kv);
    memory_release(model->region, model->region_bytes);
    *model = (struct model){0};
}

static void observe(const struct model_observer *observer, enum model_point point, int32_t layer,
                    const void *data, int64_t columns) {
    if (observer != NULL)
        observer->see(observer->context, point, layer, data, columns);
}

/* normed (and its copy in the weights' dtype) = RMSNorm of the residual stream. */
static void norm(struct model *model, int32_t rows, const float *x, const float *weight) {
    struct model_workspace *w = &model->workspace;
    bool f32 = model->weights.dtype == DTYPE_F32;
    struct rmsnorm_args args = {.rows = rows,
                                .columns = model->spec->hidden,
                                .x = x,
                                .weight = weight,
                                .epsilon = model->spec->norm_epsilon,
                                .y_f32 = w->normed,
                                .y_act = f32 ? NULL : w->normed_act,
                                .act_dtype = model->weights.dtype};
    model->kernels->ops->rmsnorm(model->kernels, &args);
}

static void add_to_residual(struct model *model) {
    const struct row_slice *slice = &model->workspace.slice;
    struct add_args args = {.rows = slice->rows,
                            .columns = model->spec->hidden,
                            .x = slice->x,
                            .y = slice->block_out,
                            .y_dtype = DTYPE_F32};
    model->kernels->ops->add(model->kernels, &args);
}

static void dense_mlp_forward(struct model *model, const struct layer_weights *weights) {
    struct model_workspace *w = &model->workspace;
    const int32_t offsets[2] = {0, w->slice.rows};
    struct expert_rows all = {.experts = 1, .offsets = offsets};
    struct expert_gate_up_args up = {
        .rows = all, .x = w->normed_act, .weight = &weights->dense_gate_up, .h = w->dense_h};
    model->kernels->ops->expert_gate_up(model->kernels, &up);
    struct expert_down_args down = {.rows = all,
                                    .h = w->dense_h,
                                    .weight = &weights->dense_down,
                                    .y = w->slice.block_out,
                                    .y_dtype = DTYPE_F32};
    model->kernels->ops->expert_down(model->kernels, &down);
}

static enum status observe_routing(struct model *model, int32_t layer,
                                   const struct model_observer *observer) {
    const struct moe_workspace *moe = &model->workspace.moe;
    const struct router_spec *router = &model->spec->moe.router;
    const struct {
        enum model_point point;
        int32_t columns;
        const void *own;
    } seen[] = {{MODEL_ROUTER_LOGITS, router->experts, moe->router_logits},
                {MODEL_ROUTER_IDS, router->top_k, moe->ids},
                {MODEL_ROUTER_WEIGHTS, router->top_k, moe->weights}};
    for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++) {
        const void *all;
        RETURN_IF_ERROR(row_slice_share_routing(model, layer, seen[i].columns, seen[i].own, &all));
        observe(observer, seen[i].point, layer, all, seen[i].columns);
    }
    return STATUS_OK;
}

/* Attention over all rows with the own heads, the rest of the layer over the own rows. */
static enum status layer_forward(struct model *model, const struct batch *batch, int32_t layer,
                                 const struct model_observer *observer) {
    struct model_workspace *w = &model->workspace;
    const struct row_slice *slice = &w->slice;
    const struct layer_weights *weights = &model->weights.layers[layer];
    const struct model_spec *spec = model->spec;

    norm(model, batch->rows, w->x, weights->input_norm);
    RETURN_IF_ERROR(attention_layer_forward(model, batch, layer));
    RETURN_IF_ERROR(row_slice_reduce(model, layer));
    observe(observer, MODEL_ATTENTION_OUT, layer, slice->block_out, spec->hidden);
    add_to_residual(model);

    norm(model, slice->rows, slice->x, weights->post_norm);
    if (spec->layer[layer].moe) {
        w->moe.scope.layer = layer;
        RETURN_IF_ERROR(moe_layer_forward(model->kernels, &weights->moe, &w->moe, slice->rows,
                                          w->normed, w->normed_act, slice->block_out));
        RETURN_IF_ERROR(observe_routing(model, layer, observer));
    } else {
        dense_mlp_forward(model, weights);
    }
    observe(observer, MODEL_MLP_OUT, layer, slice->block_out, spec->hidden);
    add_to_residual(model);
    RETURN_IF_ERROR(row_slice_gather(model, layer));
    observe(observer, MODEL_HIDDEN, layer, w->x, spec->hidden);
    return STATUS_OK;
}

/* Final norm and the own part of the output matrix, for the wanted rows only. */
void model_logits(struct model *model, const struct batch *batch, int32_t first, int32_t count,
                  const struct model_observer *observer, const float **logits) {
    struct model_workspace *w = &model->workspace;
    size_t hidden = (size_t)model->spec->hidden;
    ASSERT(first + count <= batch->logit_count && count <= model->limits.logit_rows);
    for (int32_t i = 0; i < count; i++)
        memcpy(w->gathered + (size_t)i * hidden,
               w->x + (size_t)batch->logit_rows[first + i] * hidden, hidden * sizeof(float));
    norm(model, count, w->gathered, model->weights.final_norm);
    observe(observer, MODEL_FINAL_NORM, 0, w->normed, model->spec->hidden);
    struct gemm_args args = {.rows = count,
                             .x = w->normed_act,
                             .weight = &model->weights.output,
                             .y = w->logits,
                             .y_stride = model->weights.shard.ids};
    if (model->weights.shard.ids > 0)
        model->kernels->ops->gemm(model->kernels, &args);
    *logits = w->logits;
}

void model_begin_step(struct model *model, const int32_t *rows_of) {
    struct expert_exchange *exchange = &model->workspace.moe.exchange;
    int32_t home_rows[TRANSPORT_RANKS_MAX], members = model->weights.shard.count;
    if (exchange->ranks == NULL)
        return;
    for (int32_t rank = 0; rank < exchange->ranks->transport->size; rank++)
        home_rows[rank] = row_slice_size(rows_of[rank / members], rank % members, members);
    expert_exchange_begin_step(exchange, home_rows);
}

enum status model_forward(struct model *model, const struct batch *batch, int64_t step,
                          const struct model_observer *observer, const float **logits) {
    struct model_workspace *w = &model->workspace;
    ASSERT(batch->rows <= model->limits.rows);
    model->step = w->moe.scope.step = step;
    row_slice_plan(model, batch->rows);
    struct embedding_args embed = {
        .rows = batch->rows, .ids = batch->tokens, .table = &model->weights.embedding, .y = w->x};
    model->kernels->ops->embedding(model->kernels, &embed);
    observe(observer, MODEL_EMBEDDING, 0, w->x, model->spec->hidden);
    for (int32_t layer = 0; layer < model->spec->layers; layer++)
        RETURN_IF_ERROR(layer_forward(model, batch, layer, observer));
    int32_t most = model->limits.logit_rows, wanted = batch->logit_count;
    *logits = w->logits;
    if (wanted > 0)
        model_logits(model, batch, 0, wanted < most ? wanted : most, observer, logits);
    return STATUS_OK;
}
