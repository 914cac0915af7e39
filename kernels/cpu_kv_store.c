/* Writes new keys and values into their slots, ahead of attention; this file is compiled once for
 * each instruction set (CPU_SUFFIX). Rows of one block follow each other in prefill, so a head's
 * keys and values in that block (a few KiB) are written for all of them before the next head's. The
 * reference is ref_ops.c. */
#include "kernels/cpu_kv_store.h"

#include <stdbool.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/cpu_job.h"
#include "kernels/cpu_vector.h"

/* One head of consecutive slots of one block: rows first .. first + count - 1 of the call. */
struct slot_run {
    const struct kv_store_args *args;
    int32_t first, count, head;
    char *keys, *values; /* of the head in the block */
};

static const float *key_of(const struct slot_run *run, int32_t i) {
    const struct kv_store_args *args = run->args;
    return args->k + (run->first + i) * args->stride + (int64_t)run->head * args->shape.head_dim;
}

static const float *value_of(const struct slot_run *run, int32_t i) {
    const struct kv_store_args *args = run->args;
    return args->v + (run->first + i) * args->stride + (int64_t)run->head * args->shape.head_dim;
}

static void store_run_f32(const struct slot_run *run) {
    int64_t dim = run->args->shape.head_dim;
    int32_t token = run->args->offsets[run->first];
    float *keys = (float *)(void *)run->keys + token;
    float *values = (float *)(void *)run->values + token * dim;
    for (int32_t i = 0; i < run->count; i++) {
        const float *key = key_of(run, i);
        for (int64_t d = 0; d < dim; d++)
            keys[d * KV_BLOCK_TOKENS + i] = key[d];
        memcpy(values + i * dim, value_of(run, i), (size_t)dim * sizeof(float));
    }
}

/* One head rounded to bf16, then a zero. */
static void round_head(const float *from, int32_t dim, uint16_t *to) {
    int32_t d = 0;
    for (; d <= dim - VEC_LANES; d += VEC_LANES)
        vec_store_bf16(to + d, vec_load(from + d));
    if (d < dim)
        vec_store_bf16_part(to + d, vec_load_part(from + d, dim - d), dim - d);
    to[dim] = 0; /* the other half of an odd last pair */
}

static void store_key_bf16(const struct slot_run *run, int32_t i) {
    int32_t dim = run->args->shape.head_dim;
    uint16_t rounded[ATTENTION_HEAD_DIM_MAX + 1];
    round_head(key_of(run, i), dim, rounded);
    char *to = run->keys + 4 * (int64_t)(run->args->offsets[run->first] + i);
    for (int32_t d = 0; d < dim; d += 2, to += 4 * KV_BLOCK_TOKENS)
        memcpy(to, rounded + d, 4);
}

VEC_INLINE vec_bits pair_of(vec even, vec odd) {
    return vec_round_bf16(even) | vec_round_bf16(odd) << 16;
}

/* Two slots of one pair, side by side. */
static void store_value_pair(const struct slot_run *run, int32_t i, uint16_t *to) {
    int32_t dim = run->args->shape.head_dim;
    const float *even = value_of(run, i);
    const float *odd = value_of(run, i + 1);
    int32_t d = 0;
    for (; d <= dim - VEC_LANES; d += VEC_LANES)
        *(vec_bits_memory *)(to + 2 * d) = pair_of(vec_load(even + d), vec_load(odd + d));
    if (d < dim) {
        int32_t count = dim - d;
        vec_bits pair = pair_of(vec_load_part(even + d, count), vec_load_part(odd + d, count));
        memcpy(to + 2 * d, &pair, (size_t)count * sizeof(uint32_t));
    }
}

/* One slot of a pair. The other may be written by another thread at the same time: every store
 * touches this slot's elements only. */
static void store_value_half(const struct slot_run *run, int32_t i, uint16_t *to) {
    int32_t dim = run->args->shape.head_dim;
    uint16_t rounded[ATTENTION_HEAD_DIM_MAX + 1];
    round_head(value_of(run, i), dim, rounded);
    for (int32_t d = 0; d < dim; d++)
        to[2 * d] = rounded[d];
}

static void store_run_bf16(const struct slot_run *run) {
    int32_t token = run->args->offsets[run->first];
    uint16_t *values = (uint16_t *)(void *)run->values;
    for (int32_t i = 0; i < run->count; i++)
        store_key_bf16(run, i);
    for (int32_t i = 0; i < run->count;) {
        int32_t at = token + i;
        uint16_t *to = values + (int64_t)(at / 2) * 2 * run->args->shape.head_dim + at % 2;
        bool pair = at % 2 == 0 && i + 1 < run->count;
        if (pair)
            store_value_pair(run, i, to);
        else
            store_value_half(run, i, to);
        i += pair ? 2 : 1;
    }
}

/* Rows from `first` on that stand in consecutive slots of one block. */
static int32_t run_length(const struct kv_store_args *args, int32_t first, int32_t end) {
    int32_t next = first + 1;
    while (next < end && args->blocks[next] == args->blocks[first] &&
           args->offsets[next] == args->offsets[next - 1] + 1)
        next++;
    return next - first;
}

static void store_run(const struct kv_store_args *args, int32_t first, int32_t count) {
    const struct kv_shape *shape = &args->shape;
    int64_t head_bytes = kv_head_elements(shape) * dtype_bytes(shape->dtype);
    char *block = args->cache + (size_t)args->blocks[first] * kv_block_bytes(shape);
    ASSERT(args->offsets[first] >= 0 && args->offsets[first] + count <= KV_BLOCK_TOKENS);
    for (int32_t head = 0; head < shape->kv_heads; head++) {
        char *keys = block + 2 * head * head_bytes;
        struct slot_run run = {args, first, count, head, keys, keys + head_bytes};
        if (shape->dtype == DTYPE_F32)
            store_run_f32(&run);
        else
            store_run_bf16(&run);
    }
}

/* A block's worth of rows, whatever blocks they are in. */
static void kv_store_item(void *context, int32_t item, int32_t thread) {
    (void)thread;
    const struct kv_store_args *args = context;
    int32_t first = item * KV_BLOCK_TOKENS;
    int32_t left = args->rows - first;
    int32_t end = first + (left < KV_BLOCK_TOKENS ? left : KV_BLOCK_TOKENS);
    while (first < end) {
        int32_t count = run_length(args, first, end);
        store_run(args, first, count);
        first += count;
    }
}

void CPU_SYMBOL(cpu_kv_store_kv_store)(const struct kernels *kernels,
                                       const struct kv_store_args *args) {
    ASSERT(args->shape.head_dim <= ATTENTION_HEAD_DIM_MAX);
    ASSERT(args->shape.dtype == DTYPE_F32 || args->shape.dtype == DTYPE_BF16);
    struct kv_store_args job = *args;
    int64_t elements = 4 * (int64_t)args->rows * args->shape.kv_heads * args->shape.head_dim;
    int32_t items = (args->rows + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    cpu_job_run(kernels, items, elements, kv_store_item, &job);
}
