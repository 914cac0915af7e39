/* Reference ops: the judge of the fast ones and the fallback of a new machine. Plain loops in the
 * order in which the formulas are written, one thread, libm's exp. They serve every op between the
 * matrix products of a layer; the matrix products are in ref_gemm.c, attention in ref_attention.c.
 */
#include "kernels/ref_ops.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/base/check.h"

static float read_element(const void *data, int64_t index, enum dtype dtype) {
    if (dtype == DTYPE_F32)
        return ((const float *)data)[index];
    ASSERT(dtype == DTYPE_BF16);
    return dtype_bf16_to_f32(((const uint16_t *)data)[index]);
}

static void write_element(void *data, int64_t index, enum dtype dtype, float value) {
    if (dtype == DTYPE_F32) {
        ((float *)data)[index] = value;
        return;
    }
    ASSERT(dtype == DTYPE_BF16);
    ((uint16_t *)data)[index] = dtype_f32_to_bf16(value);
}

void ref_ops_embedding(const struct kernels *kernels, const struct embedding_args *args) {
    (void)kernels;
    int64_t columns = args->table->columns;
    for (int32_t m = 0; m < args->rows; m++) {
        ASSERT(args->ids[m] >= 0 && args->ids[m] < args->table->rows);
        weight_unpack_row(args->table, 0, WEIGHT_PART_ONLY, args->ids[m], args->y + m * columns);
    }
}

static double square_sum(const float *x, int32_t count) {
    double sum = 0;
    for (int32_t i = 0; i < count; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

/* 1 / sqrt(mean(x^2) + epsilon) */
static float inverse_rms(double sum, int32_t count, float epsilon) {
    return 1.0f / sqrtf((float)(sum / count) + epsilon);
}

void ref_ops_rmsnorm(const struct kernels *kernels, const struct rmsnorm_args *args) {
    (void)kernels;
    int64_t stride = activation_stride(args->columns);
    for (int32_t m = 0; m < args->rows; m++) {
        const float *x = args->x + (int64_t)m * args->columns;
        float inverse = inverse_rms(square_sum(x, args->columns), args->columns, args->epsilon);
        for (int32_t i = 0; i < stride; i++) {
            float y = i < args->columns ? x[i] * inverse * args->weight[i] : 0.0f;
            if (args->y_f32 != NULL)
                args->y_f32[m * stride + i] = y;
            if (args->y_act != NULL)
                write_element(args->y_act, m * stride + i, args->act_dtype, y);
        }
    }
}

void ref_ops_head_norm(const struct kernels *kernels, const struct head_norm_args *args) {
    (void)kernels;
    ASSERT(args->square_sums == NULL || args->heads == 1);
    for (int32_t m = 0; m < args->rows; m++) {
        for (int32_t h = 0; h < args->heads; h++) {
            float *x = args->x + m * args->stride + (int64_t)h * args->dim;
            float inverse =
                args->square_sums != NULL
                    ? inverse_rms((double)args->square_sums[m], args->width, args->epsilon)
                    : inverse_rms(square_sum(x, args->dim), args->dim, args->epsilon);
            for (int32_t i = 0; i < args->dim; i++)
                x[i] = x[i] * inverse * args->weight[i];
        }
    }
}

void ref_ops_square_sum(const struct kernels *kernels, const struct square_sum_args *args) {
    (void)kernels;
    for (int32_t m = 0; m < args->rows; m++)
        args->sums[m] = (float)square_sum(args->x + m * args->stride, args->dim);
}

static void rotate_head(const struct rope_args *args, float *x, const float *cos_sin) {
    int32_t half = args->rotary_dim / 2;
    for (int32_t i = 0; i < half; i++) {
        int32_t first = args->interleaved ? 2 * i : i;
        int32_t second = args->interleaved ? 2 * i + 1 : i + half;
        float cosine = cos_sin[i];
        float sine = cos_sin[half + i];
        float a = x[first];
        float b = x[second];
        x[first] = a * cosine - b * sine;
        x[second] = b * cosine + a * sine;
    }
}

void ref_ops_rope(const struct kernels *kernels, const struct rope_args *args) {
    (void)kernels;
    ASSERT(args->rotary_dim % 2 == 0 && args->rotary_dim <= args->head_dim);
    for (int32_t m = 0; m < args->rows; m++) {
        const float *cos_sin = args->cos_sin + (int64_t)args->positions[m] * args->rotary_dim;
        for (int32_t h = 0; h < args->heads; h++)
            rotate_head(args, args->x + m * args->stride + (int64_t)h * args->head_dim, cos_sin);
    }
}

void ref_ops_clamp(const struct kernels *kernels, const struct clamp_args *args) {
    (void)kernels;
    for (int32_t m = 0; m < args->rows; m++) {
        float *x = args->x + m * args->stride;
        for (int32_t i = 0; i < args->columns; i++) {
            if (x[i] > args->limit)
                x[i] = args->limit;
            if (x[i] < -args->limit)
                x[i] = -args->limit;
        }
    }
}

static void softmax(const float *logits, int32_t count, float *probabilities) {
    float maximum = logits[0];
    for (int32_t i = 1; i < count; i++)
        maximum = logits[i] > maximum ? logits[i] : maximum;
    float sum = 0;
    for (int32_t i = 0; i < count; i++) {
        probabilities[i] = expf(logits[i] - maximum);
        sum += probabilities[i];
    }
    for (int32_t i = 0; i < count; i++)
        probabilities[i] /= sum;
}

static bool contains(const int32_t *ids, int32_t count, int32_t id) {
    for (int32_t i = 0; i < count; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

static float router_score(const struct router_args *args, const float *scores, int32_t expert) {
    return scores[expert] + (args->correction != NULL ? args->correction[expert] : 0.0f);
}

static float group_score(const struct router_args *args, const float *scores, int32_t group) {
    int32_t size = args->spec.experts / args->spec.groups;
    float best = -INFINITY;
    float second = -INFINITY;
    for (int32_t e = group * size; e < (group + 1) * size; e++) {
        float score = router_score(args, scores, e);
        if (score > best) {
            second = best;
            best = score;
        } else if (score > second) {
            second = score;
        }
    }
    if (args->spec.group_score == ROUTER_GROUP_MAX || size == 1)
        return best;
    return best + second;
}

/* Whether fewer than groups_kept groups come before `group` (a higher score, or an equal one and a
 * lower id). */
static bool group_is_kept(const struct router_args *args, const float *scores, int32_t group) {
    float own = group_score(args, scores, group);
    int32_t before = 0;
    for (int32_t g = 0; g < args->spec.groups; g++) {
        float other = group_score(args, scores, g);
        before += other > own || (g < group && other == own);
    }
    return before < args->spec.groups_kept;
}

static void choose_experts(const struct router_args *args, const float *scores, int32_t *ids) {
    const struct router_spec *spec = &args->spec;
    int32_t group_size = spec->experts / spec->groups;
    for (int32_t slot = 0; slot < spec->top_k; slot++) {
        int32_t best = -1;
        for (int32_t e = 0; e < spec->experts; e++) {
            if (contains(ids, slot, e) || !group_is_kept(args, scores, e / group_size))
                continue;
            if (best < 0 || router_score(args, scores, e) > router_score(args, scores, best))
                best = e;
        }
        ASSERT(best >= 0);
        ids[slot] = best;
    }
}

static void weigh_experts(const struct router_args *args, const float *scores, const int32_t *ids,
                          float *weights) {
    const struct router_spec *spec = &args->spec;
    for (int32_t slot = 0; slot < spec->top_k; slot++)
        weights[slot] = scores[ids[slot]];
    if (spec->score == ROUTER_SOFTMAX_OF_CHOSEN)
        softmax(weights, spec->top_k, weights);
    float divisor = 1.0f;
    if (spec->normalize) {
        float sum = 0;
        for (int32_t slot = 0; slot < spec->top_k; slot++)
            sum += weights[slot];
        divisor = spec->score == ROUTER_SIGMOID ? sum + 1e-20f : sum;
    }
    for (int32_t slot = 0; slot < spec->top_k; slot++)
        weights[slot] = weights[slot] / divisor * spec->scale;
}

void ref_ops_router(const struct kernels *kernels, const struct router_args *args) {
    const struct router_spec *spec = &args->spec;
    ASSERT(spec->top_k <= spec->experts && spec->experts % spec->groups == 0);
    ASSERT((size_t)spec->experts * sizeof(float) <= KERNELS_SCRATCH_BYTES);
    float *scores = (float *)(void *)kernels->scratch;
    for (int32_t m = 0; m < args->rows; m++) {
        const float *logits = args->logits + (int64_t)m * spec->experts;
        if (spec->score == ROUTER_SOFTMAX)
            softmax(logits, spec->experts, scores);
        for (int32_t e = 0; e < spec->experts; e++) {
            if (spec->score == ROUTER_SIGMOID)
                scores[e] = 1.0f / (1.0f + expf(-logits[e]));
            if (spec->score == ROUTER_SOFTMAX_OF_CHOSEN)
                scores[e] = logits[e];
        }
        int32_t *ids = args->ids + (int64_t)m * spec->top_k;
        choose_experts(args, scores, ids);
        weigh_experts(args, scores, ids, args->weights + (int64_t)m * spec->top_k);
    }
}

void ref_ops_combine(const struct kernels *kernels, const struct combine_args *args) {
    (void)kernels;
    for (int32_t m = 0; m < args->rows; m++) {
        for (int32_t i = 0; i < args->columns; i++) {
            float sum = 0;
            for (int32_t s = 0; s < args->top_k; s++) {
                int64_t slot = (int64_t)m * args->top_k + s;
                int64_t index = (int64_t)args->row_of[slot] * args->columns + i;
                sum += args->weights[slot] * read_element(args->y, index, args->y_dtype);
            }
            args->out[(int64_t)m * args->columns + i] = sum;
        }
    }
}

void ref_ops_add(const struct kernels *kernels, const struct add_args *args) {
    (void)kernels;
    for (int32_t m = 0; m < args->rows; m++) {
        float gate = 1.0f;
        if (args->gate_logit != NULL)
            gate = 1.0f / (1.0f + expf(-args->gate_logit[m]));
        for (int32_t i = 0; i < args->columns; i++) {
            int64_t index = (int64_t)m * args->columns + i;
            args->x[index] += gate * read_element(args->y, index, args->y_dtype);
        }
    }
}

void ref_ops_kv_store(const struct kernels *kernels, const struct kv_store_args *args) {
    (void)kernels;
    const struct kv_shape *shape = &args->shape;
    for (int32_t m = 0; m < args->rows; m++) {
        int32_t token = args->offsets[m];
        ASSERT(token >= 0 && token < KV_BLOCK_TOKENS);
        char *block = args->cache + (size_t)args->blocks[m] * kv_block_bytes(shape);
        for (int32_t h = 0; h < shape->kv_heads; h++) {
            const float *k = args->k + m * args->stride + (int64_t)h * shape->head_dim;
            const float *v = args->v + m * args->stride + (int64_t)h * shape->head_dim;
            for (int32_t d = 0; d < shape->head_dim; d++) {
                write_element(block, kv_key_index(shape, h, token, d), shape->dtype, k[d]);
                write_element(block, kv_value_index(shape, h, token, d), shape->dtype, v[d]);
            }
        }
    }
}
