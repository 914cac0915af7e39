/* Attention of one layer, called by model_forward: what goes into the cache and what comes out of
 * it. */
#include "runtime/attention_layer.h"

struct heads {
    int32_t q_columns, kv_columns;
    int64_t stride;
};

/* Of this rank. */
static struct heads heads_of(const struct model *model) {
    const struct tensor_shard *shard = &model->weights.shard;
    int32_t dim = model->spec->attention.head_dim;
    int32_t q = shard->heads * dim, kv = shard->kv_heads * dim;
    return (struct heads){.q_columns = q, .kv_columns = kv, .stride = q + 2 * (int64_t)kv};
}

/* Sums of squares of each row, [rows], by parts of its heads; sums has room for all parts. */
static void sum_squares(const struct model *model, const struct head_norm_args *norm, int32_t parts,
                        float *sums) {
    struct square_sum_args square = {
        .rows = norm->rows, .dim = norm->dim / parts, .stride = norm->stride};
    for (int32_t part = 0; part < parts; part++) {
        square.x = norm->x + part * square.dim;
        square.sums = sums + (int64_t)part * norm->rows;
        model->kernels->ops->square_sum(model->kernels, &square);
    }
    tensor_shard_add_up(sums, norm->rows, parts, norm->rows);
}

/* One norm over all heads, of which other ranks may have some: squares are summed over the group.
 */
static enum status norm_full_width(struct model *model, struct head_norm_args *q,
                                   struct head_norm_args *k, int32_t layer) {
    const struct attention_spec *spec = &model->spec->attention;
    const struct tensor_shard *shard = &model->weights.shard;
    float *sums = model->workspace.slice.norm_sums;
    sum_squares(model, q, shard->parts, sums);
    sum_squares(model, k, shard->kv_parts, sums + q->rows); /* over the other parts of q's */
    RETURN_IF_ERROR(row_slice_share_norm(model, layer, q->rows));
    q->square_sums = sums;
    q->width = spec->heads * spec->head_dim;
    k->square_sums = sums + q->rows;
    k->width = spec->kv_heads * spec->head_dim;
    return STATUS_OK;
}

/* Norm of queries and keys: per head, or one norm over the whole width of all heads (OLMoE). */
static enum status norm_queries_and_keys(struct model *model, int32_t layer, int32_t rows) {
    const struct layer_weights *weights = &model->weights.layers[layer];
    const struct tensor_shard *shard = &model->weights.shard;
    struct heads h = heads_of(model);
    bool per_head = model->spec->attention.qk_norm == QK_NORM_PER_HEAD;
    int32_t head_dim = model->spec->attention.head_dim;
    struct head_norm_args q = {.rows = rows,
                               .heads = per_head ? shard->heads : 1,
                               .dim = per_head ? head_dim : h.q_columns,
                               .x = model->workspace.qkv,
                               .stride = h.stride,
                               .weight = weights->q_norm,
                               .epsilon = model->spec->norm_epsilon};
    struct head_norm_args k = q;
    k.heads = per_head ? shard->kv_heads : 1;
    k.dim = per_head ? head_dim : h.kv_columns;
    k.x = model->workspace.qkv + h.q_columns;
    k.weight = weights->k_norm;
    if (!per_head)
        RETURN_IF_ERROR(norm_full_width(model, &q, &k, layer));
    model->kernels->ops->head_norm(model->kernels, &q);
    model->kernels->ops->head_norm(model->kernels, &k);
    return STATUS_OK;
}

/* Queries and keys stand side by side, so one call turns both. */
static void rotate(struct model *model, const struct batch *batch) {
    const struct attention_spec *spec = &model->spec->attention;
    struct rope_args args = {.rows = batch->rows,
                             .heads = model->weights.shard.heads + model->weights.shard.kv_heads,
                             .head_dim = spec->head_dim,
                             .rotary_dim = model->spec->rope.rotary_dim,
                             .interleaved = model->spec->rope.interleaved,
                             .x = model->workspace.qkv,
                             .stride = heads_of(model).stride,
                             .positions = batch->positions,
                             .cos_sin = model->rope_table};
    model->kernels->ops->rope(model->kernels, &args);
}

static void store_and_attend(struct model *model, const struct batch *batch, int32_t layer) {
    const struct attention_spec *spec = &model->spec->attention;
    struct heads h = heads_of(model);
    char *cache = kv_cache_layer(&model->kv, layer);
    struct kv_store_args store = {.rows = batch->rows,
                                  .shape = model->kv.shape,
                                  .k = model->workspace.qkv + h.q_columns,
                                  .v = model->workspace.qkv + h.q_columns + h.kv_columns,
                                  .stride = h.stride,
                                  .blocks = batch->kv_blocks,
                                  .offsets = batch->kv_offsets,
                                  .cache = cache};
    model->kernels->ops->kv_store(model->kernels, &store);
    struct attention_args attend = {.rows = batch->rows,
                                    .heads = model->weights.shard.heads,
                                    .shape = model->kv.shape,
                                    .scale = spec->scale,
                                    .window = model->spec->layer[layer].window,
                                    .q = model->workspace.qkv,
                                    .q_stride = h.stride,
                                    .row = batch->attention,
                                    .tables = batch->tables,
                                    .paths = batch->paths,
                                    .cache = cache,
                                    .out = model->workspace.attended,
                                    .out_dtype = model->weights.dtype};
    model->kernels->ops->attention(model->kernels, &attend);
}

enum status attention_layer_forward(struct model *model, const struct batch *batch, int32_t layer) {
    const struct layer_weights *weights = &model->weights.layers[layer];
    const struct attention_spec *spec = &model->spec->attention;
    struct model_workspace *w = &model->workspace;
    struct heads h = heads_of(model);

    struct gemm_args project = {.rows = batch->rows,
                                .x = w->normed_act,
                                .weight = &weights->qkv,
                                .bias = weights->qkv_bias,
                                .y = w->qkv,
                                .y_stride = h.stride};
    model->kernels->ops->gemm(model->kernels, &project);
    if (spec->qk_norm != QK_NORM_NONE)
        RETURN_IF_ERROR(norm_queries_and_keys(model, layer, batch->rows));
    if (spec->clip_qkv > 0.0f) {
        struct clamp_args clamp = {.rows = batch->rows,
                                   .columns = (int32_t)h.stride,
                                   .x = w->qkv,
                                   .stride = h.stride,
                                   .limit = spec->clip_qkv};
        model->kernels->ops->clamp(model->kernels, &clamp);
    }
    rotate(model, batch);
    store_and_attend(model, batch, layer);
    struct gemm_args out = {.rows = batch->rows,
                            .parts = model->weights.shard.parts,
                            .x = w->attended,
                            .weight = &weights->o,
                            /* else behind the group's sum */
                            .bias = model->weights.shard.count == 1 ? weights->o_bias : NULL,
                            .y = w->block_out,
                            .y_stride = model->spec->hidden};
    model->kernels->ops->gemm(model->kernels, &out);
    return STATUS_OK;
}
