/* Which part of a model a rank of a tensor-parallel group holds: its attention heads and its part
 * of the vocabulary. The rest of a model is whole on every rank, but for the experts, which have
 * their own placement. */
#ifndef MOEBIUS_RUNTIME_TENSOR_SHARD_H
#define MOEBIUS_RUNTIME_TENSOR_SHARD_H

#include <stdint.h>

#include "kernels/base/status.h"
#include "kernels/kernel_ops.h"
#include "runtime/model_spec.h"

/* What is summed over all heads is summed over parts of them first, a power of two, and then in a
 * balanced tree: so ranks that have some parts each come to the bits of one that has all. Ranks
 * that do not share the parts evenly come to other bits. */
#define TENSOR_PARTS_MAX GEMM_PARTS_MAX

/* Rank `index` of `count`. Query heads divide evenly; so do key/value heads, or, when there are
 * fewer of them than ranks, each is held by kv_copies neighbours. */
struct tensor_shard {
    int32_t index, count;
    int32_t first_head, heads;
    int32_t first_kv_head, kv_heads;
    int32_t kv_copies; /* ranks that hold the same key/value heads */
    /* Sums over heads are made of so many parts here, see TENSOR_PARTS_MAX; of the key/value heads
     * also. */
    int32_t parts, kv_parts;
    int32_t first_id, ids; /* of the vocabulary; ids may be 0 for the last ranks of a small one */
};

/* Whether `count` ranks can share the model's attention; STATUS_USAGE (logged: what does not
 * divide, and the nearest numbers that do among the divisors of `ranks`). Local, same result on all
 * ranks. */
enum status tensor_shard_check(const struct model_spec *spec, int32_t count, int32_t ranks);

/* The part of rank `index` of a `count` that tensor_shard_check accepts. `panel`: borders in the
 * vocabulary are multiples of it (of the packed panels of the output matrix). Local. */
struct tensor_shard tensor_shard_of(const struct model_spec *spec, int32_t index, int32_t count,
                                    int32_t panel);

/* Sums of parts become the sum of all, in that tree: sums[0] = of `count` rows of `length` floats,
 * `stride` floats apart. Any count: where there is no neighbour, nothing is added. Local. */
void tensor_shard_add_up(float *sums, int64_t stride, int32_t count, int32_t length);

#endif
