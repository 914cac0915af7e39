/* Attention of one layer, called by model_forward: what goes into the cache and what comes out of
 * it. */
#include "runtime/attention_layer.h"

struct heads {
    int32_t q_columns, kv_columns;
    int64_t stride;
};

static struct heads heads_of(const struct attention_spec *spec) {
    int32_t q = spec->heads * spec->head_dim, kv = spec->kv_heads * spec->head_dim;
    return (struct heads){.q_columns = q, .kv_columns = kv, .stride = q + 2 * (int64_t)kv};
}

/* Norm of queries and keys: per head, or one norm over the whole width of all heads (OLMoE). */
static void norm_queries_and_keys(struct model *model, const struct layer_weights *weights,
                                  int32_t rows) {
    const struct attention_spec *spec = &model->spec->attention;
    struct heads h = heads_of(spec);
    bool per_head = spec->qk_norm == QK_NORM_PER_HEAD;
    struct head_norm_args q = {.rows = rows,
                               .heads = per_head ? spec->heads : 1,
                               .dim = per_head ? spec->head_dim : h.q_columns,
                               .x = model->workspace.qkv,
                               .stride = h.stride,
                               .weight = weights->q_norm,
                               .epsilon = model->spec->norm_epsilon};
    model->kernels->ops->head_norm(model->kernels, &q);
    struct head_norm_args k = q;
    k.heads = per_head ? spec->kv_heads : 1;
    k.dim = per_head ? spec->head_dim : h.kv_columns;
    k.x = model->workspace.qkv + h.q_columns;
    k.weight = weights->k_norm;
    model->kernels->ops->head_norm(model->kernels, &k);
}

/* Queries and keys stand side by side, so one call turns both. */
static void rotate(struct model *model, const struct batch *batch) {
    const struct attention_spec *spec = &model->spec->attention;
    struct rope_args args = {.rows = batch->rows,
                             .heads = spec->heads + spec->kv_heads,
                             .head_dim = spec->head_dim,
                             .rotary_dim = model->spec->rope.rotary_dim,
                             .interleaved = model->spec->rope.interleaved,
                             .x = model->workspace.qkv,
                             .stride = heads_of(spec).stride,
                             .positions = batch->positions,
                             .cos_sin = model->rope_table};
    model->kernels->ops->rope(model->kernels, &args);
}

static void store_and_attend(struct model *model, const struct batch *batch, int32_t layer) {
    const struct attention_spec *spec = &model->spec->attention;
    struct heads h = heads_of(spec);
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
                                    .heads = spec->heads,
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

void attention_layer_forward(struct model *model, const struct batch *batch, int32_t layer) {
    const struct layer_weights *weights = &model->weights.layers[layer];
    const struct attention_spec *spec = &model->spec->attention;
    struct model_workspace *w = &model->workspace;
    struct heads h = heads_of(spec);

    struct gemm_args project = {.rows = batch->rows,
                                .x = w->normed_act,
                                .weight = &weights->qkv,
                                .bias = weights->qkv_bias,
                                .y = w->qkv,
                                .y_stride = h.stride};
    model->kernels->ops->gemm(model->kernels, &project);
    if (spec->qk_norm != QK_NORM_NONE)
        norm_queries_and_keys(model, weights, batch->rows);
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
                            .x = w->attended,
                            .weight = &weights->o,
                            .bias = weights->o_bias,
                            .y = w->block_out,
                            .y_stride = model->spec->hidden};
    model->kernels->ops->gemm(model->kernels, &out);
}
