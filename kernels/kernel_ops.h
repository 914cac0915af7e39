/* The kernels' one table. Every op has a slow, obvious reference; a CPU instruction set overrides
 * what it has.
 *
 * Rules that hold for every op and every implementation:
 * - Row-invariant: an output row is computed from its own input row (and the weights, and its own
 * KV path) alone, in one order of summation that does not depend on the number of rows, on where
 * the row stands among them, on the threads, or on what the neighbouring rows hold. Bits are equal
 * within one instruction set.
 * - No op allocates, logs or fails: shapes were checked when the model was loaded (violations are
 * ASSERTs).
 * - "act" rows are f32 or bf16 (struct kernels' user decides per call by dtype fields),
 * `activation_stride(columns)` elements apart, zero past `columns`; ops that write act rows write
 * the zeros too. All other row-major arrays are dense unless a stride is given. Everything is on
 * the host. Outputs never alias inputs unless the op says so.
 * - All ops are Local; they use the thread pool of `struct kernels`, so one caller at a time. */
#ifndef MOEBIUS_KERNELS_KERNEL_OPS_H
#define MOEBIUS_KERNELS_KERNEL_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "kernels/cpu_features.h"
#include "kernels/dtype.h"
#include "kernels/kv_layout.h"
#include "kernels/sample_ops.h"
#include "kernels/thread_pool.h"
#include "kernels/weight.h"

struct kernel_ops;

/* What a caller of the kernels holds. */
struct kernels {
    const struct kernel_ops *ops;
    enum cpu_isa isa;
    struct thread_pool *pool;
    char *scratch; /* threads * KERNELS_SCRATCH_BYTES */
};

/* Private scratch of each thread inside an op. */
#define KERNELS_SCRATCH_BYTES (1u << 20)

/* Takes the pool and the scratch. STATUS_UNSUPPORTED (logged) when this machine cannot run `isa`.
 * Local. */
enum status kernels_init(struct kernels *kernels, enum cpu_isa isa, int32_t threads);
void kernels_deinit(struct kernels *kernels);

/* y[m][h] = table row ids[m] as f32. table: form WEIGHT_ROWS or WEIGHT_PLAIN, groups 1, rows =
 * vocabulary. */
struct embedding_args {
    int32_t rows;       /* M */
    const int32_t *ids; /* [M], each in [0, table->rows) */
    const struct weight *table;
    float *y; /* [M][columns] */
};

/* y = x / sqrt(mean(x^2) + epsilon) * weight, in f32. Either output may be NULL. */
struct rmsnorm_args {
    int32_t rows, columns;
    const float *x;      /* [rows][columns] */
    const float *weight; /* [columns] */
    float epsilon;
    float *y_f32; /* act rows, f32 */
    void *y_act;  /* act rows of act_dtype; rounded to nearest even from the same f32 values */
    enum dtype act_dtype;
};

/* The same norm in place, on `heads` vectors of `dim` elements in each row (q/k norm; heads = 1 for
 * a norm over the whole width). */
struct head_norm_args {
    int32_t rows, heads, dim;
    float *x; /* row m, head h at x + m * stride + h * dim */
    int64_t stride;
    const float *weight; /* [dim] */
    float epsilon;
    const float *square_sums; /* [rows]: sum of squares over the `width` elements of which these are
                                 a part (heads = 1 then); NULL: of the vector itself */
    int32_t width;
};

/* sums[m] = sum of the squares of `dim` elements: a rank's part of a norm over the heads of several
 * ranks. */
struct square_sum_args {
    int32_t rows, dim;
    const float *x; /* row m at x + m * stride */
    int64_t stride;
    float *sums; /* [rows] */
};

/* Rotary position embedding in place. cos_sin: [positions][rotary_dim]: cos of the rotary_dim/2
 * frequencies, then sin. */
struct rope_args {
    int32_t rows, heads, head_dim,
        rotary_dim;   /* rotary_dim even, <= head_dim; the rest of the head is left alone */
    bool interleaved; /* false: pairs (i, i + rotary_dim/2) as in Llama; true: pairs (2i, 2i+1) as
                         in DeepSeek */
    float *x;         /* row m, head h at x + m * stride + h * head_dim */
    int64_t stride;
    const int32_t *positions; /* [rows], each < positions of the table */
    const float *cos_sin;
};

/* Limits x to [-limit, limit] in place (OLMo's clip_qkv). */
struct clamp_args {
    int32_t rows, columns;
    float *x;
    int64_t stride;
    float limit;
};

#define GEMM_PARTS_MAX 8

/* y = x W^T + bias. W: form WEIGHT_PLAIN, groups 1. x has W's dtype. */
struct gemm_args {
    int32_t rows;  /* M */
    int32_t parts; /* 0 or 1: each sum runs over all of K. Else a power of two: K is cut into so
                    * many parts of even length that are summed by themselves, and their sums are
                    * added in a balanced tree, each an f32. So ranks that have some of the parts
                    * come to the same sums together as one that has all */
    const void *x; /* act rows [M][W->columns], dtype W->dtype */
    const struct weight *weight;
    const float *bias; /* [W->rows] or NULL */
    float *y;          /* row m at y + m * y_stride */
    int64_t y_stride;
};

/* Rows sorted by expert: expert e owns rows offsets[e] .. offsets[e+1]-1. */
struct expert_rows {
    int32_t experts;
    const int32_t *offsets; /* [experts + 1] */
};

/* h = silu(x Wgate^T) * (x Wup^T). W: form WEIGHT_GATED, groups = experts. x and h have W's dtype.
 * A dense MLP is one expert. */
struct expert_gate_up_args {
    struct expert_rows rows;
    const void *x;           /* act rows [offsets[experts]][W->columns] */
    const void *const *x_at; /* instead of x, [offsets[experts]]: each row's act row, wherever it
                              * stands (aligned to 4 bytes); NULL: not */
    const struct weight *weight;
    void *h; /* act rows [offsets[experts]][W->rows] */
};

/* y = h W^T, rounded to y_dtype (the wire type). W: form WEIGHT_PLAIN, groups = experts. h has W's
 * dtype. */
struct expert_down_args {
    struct expert_rows rows;
    const void *h; /* act rows [offsets[experts]][W->columns] */
    const struct weight *weight;
    void *y; /* dense [offsets[experts]][W->rows] of y_dtype */
    enum dtype y_dtype;
    const int32_t *place; /* [offsets[experts]]: which row of y each row becomes; NULL: the same */
};

enum router_score {
    ROUTER_SOFTMAX, /* softmax over all experts, then top-k (Mixtral, OLMoE, Qwen, DeepSeek-V2) */
    ROUTER_SIGMOID, /* sigmoid of each logit (DeepSeek-V3) */
    ROUTER_SOFTMAX_OF_CHOSEN, /* top-k of the logits, then softmax over the chosen (gpt-oss,
                                 Granite) */
};

enum router_group_score { ROUTER_GROUP_MAX, ROUTER_GROUP_TOP2_SUM };

/* How a layer routes. Scores and sums are f32 (sums in expert order); equal scores: the lower
 * expert id wins. */
struct router_spec {
    enum router_score score;
    int32_t experts, top_k;
    bool normalize; /* divide the chosen weights by their sum (summed in slot order, + 1e-20 for
                       sigmoid as DeepSeek does) */
    float scale;    /* multiplied at the end; 1 for none */
    int32_t groups, groups_kept; /* group-limited choice; 1, 1 for none */
    enum router_group_score group_score;
};

/* Chooses experts. Slots are in falling order of the choice score (score + correction). */
struct router_args {
    int32_t rows;
    struct router_spec spec;
    const float *logits;     /* [rows][experts] */
    const float *correction; /* [experts]: added to the score for choosing only; or NULL */
    int32_t *ids;            /* [rows][top_k] */
    float *weights;          /* [rows][top_k] */
};

/* out[m] = sum over slots, in slot order, in f32, of weights[m][s] * y[row_of[m][s]]. */
struct combine_args {
    int32_t rows, columns, top_k;
    const void *y; /* dense [*][columns] of y_dtype */
    enum dtype y_dtype;
    const int32_t *row_of; /* [rows][top_k] */
    const float *weights;  /* [rows][top_k] */
    float *out;            /* [rows][columns] */
};

/* x += gate(m) * y, where gate(m) = sigmoid(gate_logit[m]), or 1 when gate_logit is NULL. y is f32
 * or bf16. */
struct add_args {
    int32_t rows, columns;
    float *x;      /* [rows][columns] */
    const void *y; /* dense [rows][columns] of y_dtype */
    enum dtype y_dtype;
    const float *gate_logit; /* [rows] or NULL */
};

/* Writes keys and values of new rows into their slots. */
struct kv_store_args {
    int32_t rows;
    struct kv_shape shape;
    const float *k, *v; /* row m at k + m * stride: [kv_heads][head_dim] */
    int64_t stride;
    const int32_t *blocks;  /* [rows]: physical block of the row's slot */
    const int32_t *offsets; /* [rows]: slot within the block, 0..15 */
    char *cache;            /* this layer's blocks, kv_block_bytes apart */
};

/* Which keys a row sees: positions 0 .. position of its sequence (or the last `window` of them).
 * Position p stands in slot p of the sequence's block table, unless the row is a tree node: then
 * positions >= path_start are in slots path[0..]. */
struct attention_row {
    int32_t table;    /* index of the sequence's block table */
    int32_t position; /* absolute; the row's own key is already stored */
    int32_t
        path_start; /* first position that is looked up through path; position + 1 when none is */
    int32_t path;   /* index into paths of the slot of position path_start */
};

/* Attention over paged keys and values, grouped-query: head h uses kv head h / (heads / kv_heads).
 * Positions are walked in fixed chunks of ATTENTION_CHUNK counted from absolute position 0; within
 * a chunk, one maximum, exponentials, sums and weighted values in position order; chunks are merged
 * in ascending order. A tree node's row has the same bits as the row of plain decoding, since only
 * the slots differ, never the positions. Slots of positions outside the window or after the row are
 * never part of a sum (they may hold NaN). */
#define ATTENTION_CHUNK 256
#define ATTENTION_HEAD_DIM_MAX 512
#define ATTENTION_PATH_MAX                                                                         \
    64 /* positions looked up through path: position + 1 - path_start is at most this */
struct attention_args {
    int32_t rows, heads;
    struct kv_shape shape;
    float scale;
    int32_t window; /* keys seen, the row's own included; 0: all */
    const float *q; /* row m at q + m * q_stride: [heads][head_dim]; rounded to bf16 when the cache
                       is bf16 */
    int64_t q_stride;
    const struct attention_row *row; /* [rows] */
    const int32_t *const *tables; /* block tables: tables[row.table][slot / 16] = physical block */
    const int32_t *paths;         /* slots; see struct attention_row */
    const char *cache;            /* this layer's blocks, kv_block_bytes apart */
    void *out;                    /* act rows [rows][heads * head_dim] */
    enum dtype out_dtype;
};

struct gemm_micro; /* kernels/gemm_micro.h */

struct kernel_ops {
    const char *name;
    int32_t panel; /* rows of a packed panel, even: weight_describe copies it */
    const struct gemm_micro
        *micro; /* what cpu_gemm.c and probe.c run on; NULL: they are not used */
    void (*weight_pack)(const struct weight *weight, const struct weight_piece *piece);
    void (*embedding)(const struct kernels *kernels, const struct embedding_args *args);
    void (*rmsnorm)(const struct kernels *kernels, const struct rmsnorm_args *args);
    void (*head_norm)(const struct kernels *kernels, const struct head_norm_args *args);
    void (*square_sum)(const struct kernels *kernels, const struct square_sum_args *args);
    void (*rope)(const struct kernels *kernels, const struct rope_args *args);
    void (*clamp)(const struct kernels *kernels, const struct clamp_args *args);
    void (*gemm)(const struct kernels *kernels, const struct gemm_args *args);
    void (*expert_gate_up)(const struct kernels *kernels, const struct expert_gate_up_args *args);
    void (*expert_down)(const struct kernels *kernels, const struct expert_down_args *args);
    void (*router)(const struct kernels *kernels, const struct router_args *args);
    void (*combine)(const struct kernels *kernels, const struct combine_args *args);
    void (*add)(const struct kernels *kernels, const struct add_args *args);
    void (*kv_store)(const struct kernels *kernels, const struct kv_store_args *args);
    void (*attention)(const struct kernels *kernels, const struct attention_args *args);
    const struct sample_ops *sample; /* on the calling thread */
};

#endif
