/* The layout of a model's weights: which stored tensor goes to which rows of which packed matrix.
 * Walked twice, once to measure and once to place, so that the memory plan and the memory are the
 * same thing. */
#include "runtime/model_weights.h"

#include <stdlib.h>
#include <string.h>

#include "comm/node_memory.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "runtime/weight_load.h"

struct layout {
    struct model_weights *weights;
    const struct kernels *kernels;
    struct arena arena[WEIGHT_HOLDERS];
    int32_t moe_layers; /* so far in this walk */
    bool out_of_memory;
};

static struct load_item *new_item(struct layout *layout) {
    struct model_weights *weights = layout->weights;
    if (weights->item_count == weights->item_capacity) {
        int32_t capacity = weights->item_capacity > 0 ? 2 * weights->item_capacity : 256;
        struct load_item *items =
            realloc(weights->items, sizeof *weights->items * (size_t)capacity);
        if (items == NULL) {
            layout->out_of_memory = true;
            return NULL;
        }
        weights->items = items;
        weights->item_capacity = capacity;
    }
    return &weights->items[weights->item_count++];
}

/* This rank's share of `size` bytes. */
static int64_t share_of(const struct layout *layout, enum weight_holders holders, size_t size) {
    int32_t count = layout->weights->region[holders].group.count;
    return (int64_t)size / (count > 1 ? count : 1);
}

static void take_weight(struct layout *layout, enum weight_holders holders, struct weight *weight,
                        int64_t *bytes) {
    size_t size = weight_bytes(weight);
    weight->data = arena_take(&layout->arena[holders], size);
    *bytes += share_of(layout, holders, size);
}

/* The stored tensor [rows][columns] of a role becomes rows first_row.. of one group of a packed
 * matrix. */
static void add_matrix(struct layout *layout, struct load_item item) {
    struct load_item *added = new_item(layout);
    if (added != NULL)
        *added = item;
}

/* `own` of the stored tensor [count] of a role is kept as f32 at `vector`: with the lane, or, when
 * it is all of it ({0}), with the node. */
static void add_vector_part(struct layout *layout, enum tensor_role role, int32_t layer,
                            float *vector, int32_t count, struct load_range own) {
    struct load_item *item = new_item(layout);
    if (item != NULL)
        *item = (struct load_item){.role = role,
                                   .layer = layer,
                                   .rows = 1,
                                   .columns = count,
                                   .own_columns = own,
                                   .vector = vector,
                                   .holders = own.count > 0 ? WEIGHT_LANE : WEIGHT_NODE,
                                   .is_vector = true};
}

static float *take_vector(struct layout *layout, enum weight_holders holders, int32_t count) {
    size_t size = sizeof(float) * (size_t)count;
    layout->weights->bytes.norms += share_of(layout, holders, size);
    return arena_take(&layout->arena[holders], size);
}

static float *take_and_add_vector(struct layout *layout, enum tensor_role role, int32_t layer,
                                  int32_t count) {
    float *vector = take_vector(layout, WEIGHT_NODE, count);
    add_vector_part(layout, role, layer, vector, count, (struct load_range){0});
    return vector;
}

/* NULL + n is undefined even while only measuring. */
static float *vector_at(float *vector, int32_t offset) {
    return vector == NULL ? NULL : vector + offset;
}

/* Of all query or key/value heads, the stored columns and those of this rank. */
struct head_columns {
    int32_t stored;
    struct load_range own;
};

static struct head_columns columns_of_heads(const struct attention_spec *spec, int32_t heads,
                                            int32_t first, int32_t own) {
    return (struct head_columns){heads * spec->head_dim,
                                 {first * spec->head_dim, own * spec->head_dim}};
}

static void lay_out_qkv(struct layout *layout, int32_t layer, struct head_columns q,
                        struct head_columns kv, struct layer_weights *w) {
    const struct model_spec *spec = layout->weights->spec;
    int32_t rows = q.own.count + 2 * kv.own.count;
    weight_describe(layout->kernels, WEIGHT_PLAIN, layout->weights->dtype, 1, rows, spec->hidden,
                    &w->qkv);
    take_weight(layout, WEIGHT_LANE, &w->qkv, &layout->weights->bytes.attention);
    struct load_item item = {
        .layer = layer, .columns = spec->hidden, .weight = w->qkv, .holders = WEIGHT_LANE};
    item.role = ROLE_Q, item.rows = q.stored, item.own_rows = q.own, item.first_row = 0;
    add_matrix(layout, item);
    item.role = ROLE_K, item.rows = kv.stored, item.own_rows = kv.own;
    item.first_row = q.own.count;
    add_matrix(layout, item);
    item.role = ROLE_V, item.first_row = q.own.count + kv.own.count;
    add_matrix(layout, item);
    if (!spec->attention.qkv_bias)
        return;
    float *bias = take_vector(layout, WEIGHT_LANE, rows);
    add_vector_part(layout, ROLE_Q_BIAS, layer, bias, q.stored, q.own);
    add_vector_part(layout, ROLE_K_BIAS, layer, vector_at(bias, q.own.count), kv.stored, kv.own);
    add_vector_part(layout, ROLE_V_BIAS, layer, vector_at(bias, q.own.count + kv.own.count),
                    kv.stored, kv.own);
    w->qkv_bias = bias;
}

/* Norms over the whole width of all heads are cut like the heads. */
static const float *lay_out_head_norm(struct layout *layout, enum tensor_role role, int32_t layer,
                                      struct head_columns columns) {
    const struct attention_spec *attention = &layout->weights->spec->attention;
    if (attention->qk_norm == QK_NORM_PER_HEAD)
        return take_and_add_vector(layout, role, layer, attention->head_dim);
    float *norm = take_vector(layout, WEIGHT_LANE, columns.own.count);
    add_vector_part(layout, role, layer, norm, columns.stored, columns.own);
    return norm;
}

static void lay_out_attention(struct layout *layout, int32_t layer, struct layer_weights *w) {
    const struct model_spec *spec = layout->weights->spec;
    const struct attention_spec *attention = &spec->attention;
    const struct tensor_shard *shard = &layout->weights->shard;
    struct head_columns q =
        columns_of_heads(attention, attention->heads, shard->first_head, shard->heads);
    struct head_columns kv =
        columns_of_heads(attention, attention->kv_heads, shard->first_kv_head, shard->kv_heads);
    lay_out_qkv(layout, layer, q, kv, w);
    if (attention->qk_norm != QK_NORM_NONE) {
        w->q_norm = lay_out_head_norm(layout, ROLE_Q_NORM, layer, q);
        w->k_norm = lay_out_head_norm(layout, ROLE_K_NORM, layer, kv);
    }
    weight_describe(layout->kernels, WEIGHT_PLAIN, layout->weights->dtype, 1, spec->hidden,
                    q.own.count, &w->o);
    take_weight(layout, WEIGHT_LANE, &w->o, &layout->weights->bytes.attention);
    add_matrix(layout, (struct load_item){.role = ROLE_O,
                                          .layer = layer,
                                          .rows = spec->hidden,
                                          .columns = q.stored,
                                          .own_columns = q.own,
                                          .holders = WEIGHT_LANE,
                                          .weight = w->o});
    if (attention->output_bias)
        w->o_bias = take_and_add_vector(layout, ROLE_O_BIAS, layer, spec->hidden);
}

/* The three roles of one SwiGLU MLP and what it is made of. */
struct mlp_roles {
    enum tensor_role gate, up, down;
};

/* A stack of MLPs: how many are stored, and which of them this rank holds where. */
struct mlp_stack {
    enum weight_holders holders;
    int32_t experts, intermediate;
    int32_t groups;           /* held here */
    const int32_t *expert_of; /* [groups], or NULL: group e is expert e */
};

/* The group that holds an expert here, or -1. */
static int32_t group_of(const struct mlp_stack *stack, int32_t expert) {
    if (stack->expert_of == NULL)
        return expert;
    for (int32_t group = 0; group < stack->groups; group++)
        if (stack->expert_of[group] == expert)
            return group;
    return -1;
}

static void lay_out_mlp(struct layout *layout, int32_t layer, struct mlp_roles roles,
                        const struct mlp_stack *stack, struct weight *gate_up, struct weight *down,
                        int64_t *bytes) {
    int32_t hidden = layout->weights->spec->hidden, intermediate = stack->intermediate;
    int32_t groups =
        stack->groups > 0 ? stack->groups : 1; /* a rank without experts has an unused one */
    enum dtype dtype = layout->weights->dtype;
    weight_describe(layout->kernels, WEIGHT_GATED, dtype, groups, intermediate, hidden, gate_up);
    take_weight(layout, stack->holders, gate_up, bytes);
    weight_describe(layout->kernels, WEIGHT_PLAIN, dtype, groups, hidden, intermediate, down);
    take_weight(layout, stack->holders, down, bytes);
    for (int32_t e = 0; e < stack->experts; e++) {
        struct load_item item = {.layer = layer, .expert = e, .group = group_of(stack, e)};
        item.elsewhere = item.group < 0;
        item.holders = stack->holders;
        item.rows = intermediate, item.columns = hidden, item.weight = *gate_up;
        item.role = roles.gate, item.part = WEIGHT_PART_GATE;
        add_matrix(layout, item);
        item.role = roles.up, item.part = WEIGHT_PART_UP;
        add_matrix(layout, item);
        item.role = roles.down, item.part = WEIGHT_PART_ONLY;
        item.rows = hidden, item.columns = intermediate, item.weight = *down;
        add_matrix(layout, item);
    }
}

/* A small matrix that decides (router, shared expert's gate): always f32. */
static void lay_out_f32_matrix(struct layout *layout, enum tensor_role role, int32_t layer,
                               int32_t rows, struct weight *weight) {
    weight_describe(layout->kernels, WEIGHT_PLAIN, DTYPE_F32, 1, rows,
                    layout->weights->spec->hidden, weight);
    take_weight(layout, WEIGHT_NODE, weight, &layout->weights->bytes.router);
    add_matrix(layout, (struct load_item){.role = role,
                                          .layer = layer,
                                          .rows = rows,
                                          .columns = weight->columns,
                                          .holders = WEIGHT_NODE,
                                          .weight = *weight});
}

/* The experts of this rank in a MoE layer. */
static struct mlp_stack expert_stack(const struct model_weights *weights, int32_t moe_layer) {
    const struct moe_spec *spec = &weights->spec->moe;
    struct mlp_stack stack = {.holders = WEIGHT_OWN,
                              .experts = spec->router.experts,
                              .groups = spec->router.experts,
                              .intermediate = spec->expert_intermediate};
    if (weights->experts == NULL)
        return stack;
    const struct placement_layer *layer = &weights->experts->placement->layer[moe_layer];
    int32_t rank = weights->experts->transport->rank;
    stack.groups = layer->first_slot[rank + 1] - layer->first_slot[rank];
    stack.expert_of = layer->expert_of + layer->first_slot[rank];
    return stack;
}

static void lay_out_moe(struct layout *layout, int32_t layer, struct moe_layer *moe) {
    struct model_weights *weights = layout->weights;
    const struct moe_spec *spec = &weights->spec->moe;
    moe->index = layout->moe_layers++;
    moe->router = spec->router;
    moe->hidden = weights->spec->hidden;
    moe->expert_intermediate = spec->expert_intermediate;
    moe->shared_intermediate = spec->shared_intermediate;
    moe->act_dtype = weights->dtype;
    moe->wire_dtype = weights->dtype;
    lay_out_f32_matrix(layout, ROLE_ROUTER, layer, spec->router.experts, &moe->router_weight);
    if (spec->router_bias)
        moe->router_bias =
            take_and_add_vector(layout, ROLE_ROUTER_BIAS, layer, spec->router.experts);
    if (spec->router_correction)
        moe->router_correction =
            take_and_add_vector(layout, ROLE_ROUTER_CORRECTION, layer, spec->router.experts);
    struct mlp_stack stack = expert_stack(weights, moe->index);
    lay_out_mlp(layout, layer,
                (struct mlp_roles){ROLE_EXPERT_GATE, ROLE_EXPERT_UP, ROLE_EXPERT_DOWN}, &stack,
                &moe->gate_up, &moe->down, &weights->bytes.experts);
    if (spec->shared_intermediate > 0) {
        struct mlp_stack shared = {.holders = WEIGHT_NODE,
                                   .experts = 1,
                                   .groups = 1,
                                   .intermediate = spec->shared_intermediate};
        lay_out_mlp(layout, layer,
                    (struct mlp_roles){ROLE_SHARED_GATE, ROLE_SHARED_UP, ROLE_SHARED_DOWN}, &shared,
                    &moe->shared_gate_up, &moe->shared_down, &weights->bytes.shared_expert);
        if (spec->shared_gate)
            lay_out_f32_matrix(layout, ROLE_SHARED_EXPERT_GATE, layer, 1, &moe->shared_expert_gate);
    }
}

static void lay_out_layer(struct layout *layout, int32_t layer) {
    struct model_weights *weights = layout->weights;
    const struct model_spec *spec = weights->spec;
    struct layer_weights *w = &weights->layers[layer];
    struct mlp_stack dense = {.holders = WEIGHT_NODE,
                              .experts = 1,
                              .groups = 1,
                              .intermediate = spec->dense_intermediate};
    w->input_norm = take_and_add_vector(layout, ROLE_INPUT_NORM, layer, spec->hidden);
    w->post_norm = take_and_add_vector(layout, ROLE_POST_NORM, layer, spec->hidden);
    lay_out_attention(layout, layer, w);
    if (spec->layer[layer].moe)
        lay_out_moe(layout, layer, &w->moe);
    else
        lay_out_mlp(layout, layer,
                    (struct mlp_roles){ROLE_DENSE_GATE, ROLE_DENSE_UP, ROLE_DENSE_DOWN}, &dense,
                    &w->dense_gate_up, &w->dense_down, &weights->bytes.dense);
}

/* The own rows of the output matrix; a rank without any has one that is not used. */
static void lay_out_output(struct layout *layout) {
    struct model_weights *weights = layout->weights;
    const struct model_spec *spec = weights->spec;
    const struct tensor_shard *shard = &weights->shard;
    if (spec->tied_embedding) {
        if (shard->ids > 0)
            weights->output = weight_rows(&weights->embedding, shard->first_id, shard->ids);
        return;
    }
    weight_describe(layout->kernels, WEIGHT_PLAIN, weights->dtype, 1,
                    shard->ids > 0 ? shard->ids : 1, spec->hidden, &weights->output);
    take_weight(layout, WEIGHT_LANE, &weights->output, &weights->bytes.output);
    add_matrix(layout, (struct load_item){.role = ROLE_OUTPUT,
                                          .rows = spec->vocabulary,
                                          .columns = spec->hidden,
                                          .own_rows = {shard->first_id, shard->ids},
                                          .elsewhere = shard->ids == 0,
                                          .holders = WEIGHT_LANE,
                                          .weight = weights->output});
}

/* One walk over everything: measures when arena->base is NULL, else places. */
static void lay_out(struct layout *layout) {
    struct model_weights *weights = layout->weights;
    const struct model_spec *spec = weights->spec;
    weights->bytes = (struct weight_bytes_by_kind){0};
    weights->item_count = 0;
    for (int i = 0; i < WEIGHT_HOLDERS; i++)
        layout->arena[i].used = 0;
    layout->moe_layers = 0;

    enum weight_form form = spec->tied_embedding ? WEIGHT_PLAIN : WEIGHT_ROWS;
    weight_describe(layout->kernels, form, weights->dtype, 1, spec->vocabulary, spec->hidden,
                    &weights->embedding);
    take_weight(layout, WEIGHT_NODE, &weights->embedding, &weights->bytes.embedding);
    add_matrix(layout, (struct load_item){.role = ROLE_EMBEDDING,
                                          .rows = spec->vocabulary,
                                          .columns = spec->hidden,
                                          .holders = WEIGHT_NODE,
                                          .weight = weights->embedding});
    for (int32_t layer = 0; layer < spec->layers; layer++)
        lay_out_layer(layout, layer);
    weights->final_norm = take_and_add_vector(layout, ROLE_FINAL_NORM, 0, spec->hidden);
    lay_out_output(layout);
    for (int i = 0; i < WEIGHT_HOLDERS; i++) {
        weights->region[i].bytes = layout->arena[i].used;
        weights->bytes.total += share_of(layout, (enum weight_holders)i, layout->arena[i].used);
    }
}

enum status model_weights_describe(const struct model_spec *spec, const struct family *family,
                                   const struct kernels *kernels, enum dtype dtype,
                                   const struct model_ranks *ranks, struct model_weights *weights) {
    ASSERT(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    bool shared = ranks != NULL && ranks->tensor.count > 1;
    *weights = (struct model_weights){
        .spec = spec,
        .family = family,
        .experts = ranks != NULL ? ranks->experts : NULL,
        .shard = tensor_shard_of(spec, shared ? ranks->tensor.self : 0,
                                 shared ? ranks->tensor.count : 1, kernels->ops->panel),
        .dtype = dtype};
    if (ranks != NULL) {
        weights->region[WEIGHT_LANE].group = ranks->lane;
        weights->region[WEIGHT_NODE].group = ranks->node;
    }
    weights->layers = calloc((size_t)spec->layers, sizeof *weights->layers);
    struct layout layout = {.weights = weights, .kernels = kernels};
    if (weights->layers != NULL)
        lay_out(&layout);
    if (weights->layers == NULL || layout.out_of_memory) {
        LOG_ERROR("weights: cannot take memory for the list of tensors");
        model_weights_deinit(weights);
        return STATUS_NO_MEMORY;
    }
    return STATUS_OK;
}

void model_weights_deinit(struct model_weights *weights) {
    for (int i = 0; i < WEIGHT_HOLDERS; i++)
        memory_release(weights->region[i].data, weights->region[i].bytes);
    free(weights->layers);
    free(weights->items);
    *weights = (struct model_weights){0};
}

int64_t model_weights_elements(const struct model_weights *weights) {
    int64_t elements = 0;
    for (int32_t i = 0; i < weights->item_count; i++)
        elements += (int64_t)weights->items[i].rows * weights->items[i].columns;
    return elements;
}

/* Takes the regions and walks again, so that every pointer and every item points into them. The
 * node's region first: what fails there fails on all of its ranks, and none waits for another. */
static enum status place(struct model_weights *weights, const struct kernels *kernels) {
    struct layout layout = {.weights = weights, .kernels = kernels};
    for (int i = WEIGHT_HOLDERS - 1; i >= 0; i--) {
        struct weight_region *region = &weights->region[i];
        RETURN_IF_ERROR(node_memory_acquire(&region->group, "weights", region->bytes, &region->data,
                                            &region->is_shared));
        layout.arena[i] = (struct arena){.base = region->data, .capacity = region->bytes};
    }
    lay_out(&layout);
    ASSERT(!layout.out_of_memory); /* the list has its length already */
    return STATUS_OK;
}

enum status model_weights_load(struct model_weights *weights, const struct kernels *kernels,
                               const struct checkpoint *checkpoint) {
    RETURN_IF_ERROR(place(weights, kernels));
    return weight_load_run(weights, kernels, checkpoint);
}

enum status model_weights_load_dummy(struct model_weights *weights, const struct kernels *kernels) {
    RETURN_IF_ERROR(place(weights, kernels));
    return weight_load_run(weights, kernels, NULL);
}
