/* Arithmetic of tensor parallelism: heads and vocabulary over the ranks of a group. Used by the
 * layout of the weights, by attention and by whoever reads logits. */
#include "runtime/tensor_shard.h"

#include <stdbool.h>
#include <stdio.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

static bool divides(const struct attention_spec *attention, int32_t count) {
    return attention->heads % count == 0 &&
           (attention->kv_heads % count == 0 || count % attention->kv_heads == 0);
}

enum status tensor_shard_check(const struct model_spec *spec, int32_t count, int32_t ranks) {
    const struct attention_spec *attention = &spec->attention;
    ASSERT(count >= 1 && count <= ranks);
    if (divides(attention, count))
        return STATUS_OK;
    int32_t below = 1, above = 0;
    for (int32_t size = 1; size <= ranks; size++) {
        if (ranks % size != 0 || !divides(attention, size))
            continue;
        if (size < count)
            below = size;
        else if (above == 0)
            above = size;
    }
    char next[32] = "";
    if (above > 0)
        snprintf(next, sizeof next, " or %d", above);
    LOG_ERROR("--tensor-parallel-size: expected a size that divides the model's %d heads and "
              "divides or is a multiple of its %d key/value heads, got %d; nearest for %d ranks: "
              "%d%s",
              attention->heads, attention->kv_heads, count, ranks, below, next);
    return STATUS_USAGE;
}

/* Where rank `index`'s ids begin. Whole panels are dealt out, the larger shares first. */
static int32_t first_id(int32_t vocabulary, int32_t index, int32_t count, int32_t panel) {
    int64_t panels = (vocabulary + (int64_t)panel - 1) / panel;
    int64_t id = (panels * index + count - 1) / count * panel;
    return id < vocabulary ? (int32_t)id : vocabulary;
}

/* Of the parts of all heads, those of one of `count` shares. */
static int32_t parts_of(int32_t heads, int32_t count) {
    int32_t parts = 1;
    while (parts < TENSOR_PARTS_MAX && heads % (2 * parts) == 0)
        parts *= 2;
    return parts % count == 0 ? parts / count : 1;
}

struct tensor_shard tensor_shard_of(const struct model_spec *spec, int32_t index, int32_t count,
                                    int32_t panel) {
    const struct attention_spec *attention = &spec->attention;
    ASSERT(index >= 0 && index < count && panel >= 1 && divides(attention, count));
    int32_t copies = count > attention->kv_heads ? count / attention->kv_heads : 1;
    struct tensor_shard shard = {.index = index,
                                 .count = count,
                                 .heads = attention->heads / count,
                                 .kv_heads = attention->kv_heads * copies / count,
                                 .kv_copies = copies,
                                 .parts = parts_of(attention->heads, count),
                                 .kv_parts = parts_of(attention->kv_heads, count / copies)};
    shard.first_head = index * shard.heads;
    shard.first_kv_head = index / copies * shard.kv_heads;
    shard.first_id = first_id(spec->vocabulary, index, count, panel);
    shard.ids = first_id(spec->vocabulary, index + 1, count, panel) - shard.first_id;
    return shard;
}

void tensor_shard_add_up(float *sums, int64_t stride, int32_t count, int32_t length) {
    for (int32_t step = 1; step < count; step *= 2)
        for (int32_t at = 0; at + step < count; at += 2 * step)
            for (int32_t i = 0; i < length; i++)
                sums[at * stride + i] += sums[(at + step) * stride + i];
}
