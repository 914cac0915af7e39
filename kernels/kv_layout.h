/* The layout of a KV block, shared by every kernel that writes or reads it.
 *
 * A block holds KV_BLOCK_TOKENS consecutive slots of one layer. For each kv head: keys, then
 * values. f32:  keys [head_dim][16],            values [16][head_dim] bf16: keys
 * [ceil(head_dim/2)][16][2], values [8][head_dim][2] (two neighbouring slots side by side) so that
 * both products of attention run over contiguous vectors. For odd head_dim the last bf16 key pair
 * is padded with zero. Blocks start out zero-filled. */
#ifndef MOEBIUS_KERNELS_KV_LAYOUT_H
#define MOEBIUS_KERNELS_KV_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/dtype.h"

#define KV_BLOCK_TOKENS 16

/* Shape of one layer's cache. */
struct kv_shape {
    enum dtype dtype; /* DTYPE_F32 or DTYPE_BF16 */
    int32_t kv_heads, head_dim;
};

/* Elements of the keys (or values) of one head in one block. */
static inline int64_t kv_head_elements(const struct kv_shape *shape) {
    int64_t dim = shape->dtype == DTYPE_BF16 ? (shape->head_dim + 1) & ~1 : shape->head_dim;
    return dim * KV_BLOCK_TOKENS;
}

/* Bytes of one block of one layer: 2 * kv_heads * kv_head_elements * element size. */
static inline size_t kv_block_bytes(const struct kv_shape *shape) {
    return (size_t)(2 * shape->kv_heads * kv_head_elements(shape) * dtype_bytes(shape->dtype));
}

/* Element offset, inside a block, of key (token, head, dim). */
static inline int64_t kv_key_index(const struct kv_shape *shape, int32_t head, int32_t token,
                                   int32_t dim) {
    int64_t base = 2 * head * kv_head_elements(shape);
    if (shape->dtype == DTYPE_BF16)
        return base + (int64_t)(dim / 2) * 2 * KV_BLOCK_TOKENS + token * 2 + dim % 2;
    return base + (int64_t)dim * KV_BLOCK_TOKENS + token;
}

/* Element offset, inside a block, of value (token, head, dim). */
static inline int64_t kv_value_index(const struct kv_shape *shape, int32_t head, int32_t token,
                                     int32_t dim) {
    int64_t base = (2 * head + 1) * kv_head_elements(shape);
    if (shape->dtype == DTYPE_BF16)
        return base + (int64_t)(token / 2) * 2 * shape->head_dim + dim * 2 + token % 2;
    return base + (int64_t)token * shape->head_dim + dim;
}

#endif
