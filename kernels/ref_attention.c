/* Reference attention: one query at a time, one key at a time, straight from the definition in
 * kernels/kernel_ops.h (fixed chunks of absolute positions, one maximum each, merged in order).
 * The judge of cpu_attention.c. */
#include "kernels/ref_attention.h"

#include <math.h>
#include <string.h>

#include "kernels/base/check.h"

/* One query: a row and a head. */
struct query {
    const struct attention_args *args;
    const struct attention_row *row;
    int32_t kv_head;
    const float *q;
};

/* The running softmax of one query: weighted values and their weights, relative to exp(maximum). */
struct running {
    float maximum, sum;
    float values[ATTENTION_HEAD_DIM_MAX];
};

static float cache_element(const struct query *query, int32_t block, int64_t index) {
    const struct attention_args *args = query->args;
    const char *data = args->cache + (size_t)block * kv_block_bytes(&args->shape);
    if (args->shape.dtype == DTYPE_F32)
        return ((const float *)(const void *)data)[index];
    return dtype_bf16_to_f32(((const uint16_t *)(const void *)data)[index]);
}

/* Where the key of an absolute position stands. */
static void find_slot(const struct query *query, int32_t position, int32_t *block, int32_t *token) {
    const struct attention_row *row = query->row;
    int32_t slot = position;
    if (position >= row->path_start)
        slot = query->args->paths[row->path + position - row->path_start];
    *block = query->args->tables[row->table][slot / KV_BLOCK_TOKENS];
    *token = slot % KV_BLOCK_TOKENS;
}

static float score(const struct query *query, int32_t position) {
    const struct kv_shape *shape = &query->args->shape;
    int32_t block, token;
    find_slot(query, position, &block, &token);
    float sum = 0;
    for (int32_t d = 0; d < shape->head_dim; d++) {
        float q = query->q[d];
        if (shape->dtype == DTYPE_BF16)
            q = dtype_bf16_to_f32(dtype_f32_to_bf16(q));
        int64_t index = kv_key_index(shape, query->kv_head, token, d);
        sum += q * cache_element(query, block, index);
    }
    return sum * query->args->scale;
}

static void add_value(const struct query *query, int32_t position, float weight,
                      struct running *running) {
    const struct kv_shape *shape = &query->args->shape;
    int32_t block, token;
    find_slot(query, position, &block, &token);
    running->sum += weight;
    for (int32_t d = 0; d < shape->head_dim; d++) {
        int64_t index = kv_value_index(shape, query->kv_head, token, d);
        running->values[d] += weight * cache_element(query, block, index);
    }
}

/* Positions first .. end-1, all in one chunk. */
static void add_chunk(const struct query *query, int32_t first, int32_t end,
                      struct running *running) {
    float scores[ATTENTION_CHUNK];
    float maximum = running->maximum;
    for (int32_t p = first; p < end; p++) {
        scores[p - first] = score(query, p);
        maximum = scores[p - first] > maximum ? scores[p - first] : maximum;
    }
    float rescale = expf(running->maximum - maximum);
    running->maximum = maximum;
    running->sum *= rescale;
    for (int32_t d = 0; d < query->args->shape.head_dim; d++)
        running->values[d] *= rescale;
    for (int32_t p = first; p < end; p++)
        add_value(query, p, expf(scores[p - first] - maximum), running);
}

static void write_output(const struct attention_args *args, int64_t index, float value) {
    if (args->out_dtype == DTYPE_F32)
        ((float *)args->out)[index] = value;
    else
        ((uint16_t *)args->out)[index] = dtype_f32_to_bf16(value);
}

static void attend(const struct query *query, int64_t out_index) {
    const struct attention_args *args = query->args;
    struct running running = {.maximum = -INFINITY};
    int32_t position = query->row->position;
    int32_t first = 0;
    if (args->window > 0 && position >= args->window)
        first = position - args->window + 1;
    while (first <= position) {
        int32_t end = (first / ATTENTION_CHUNK + 1) * ATTENTION_CHUNK;
        end = end <= position ? end : position + 1;
        add_chunk(query, first, end, &running);
        first = end;
    }
    for (int32_t d = 0; d < args->shape.head_dim; d++)
        write_output(args, out_index + d, running.values[d] / running.sum);
}

void ref_attention_attention(const struct kernels *kernels, const struct attention_args *args) {
    (void)kernels;
    int32_t dim = args->shape.head_dim;
    int64_t stride = activation_stride((int64_t)args->heads * dim);
    ASSERT(dim <= ATTENTION_HEAD_DIM_MAX && args->heads % args->shape.kv_heads == 0);
    ASSERT(args->out_dtype == DTYPE_F32 || args->out_dtype == DTYPE_BF16);
    for (int32_t m = 0; m < args->rows; m++) {
        for (int32_t h = 0; h < args->heads; h++) {
            struct query query = {
                .args = args,
                .row = &args->row[m],
                .kv_head = h / (args->heads / args->shape.kv_heads),
                .q = args->q + m * args->q_stride + (int64_t)h * dim,
            };
            attend(&query, m * stride + (int64_t)h * dim);
        }
        for (int64_t i = (int64_t)args->heads * dim; i < stride; i++)
            write_output(args, m * stride + i, 0.0f);
    }
}
