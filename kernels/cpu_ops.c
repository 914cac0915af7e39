/* The fast ops between the matrix products of a layer; this file is compiled once for each
 * instruction set (CPU_SUFFIX). Every op is a function of one row, spread over the threads by
 * cpu_job.h, so a row cannot see how many others there are; sums have a fixed structure of lanes
 * and accumulators. The reference is ref_ops.c. */
#include "kernels/cpu_ops.h"

#include <math.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/cpu_job.h"
#include "kernels/cpu_vector.h"

#define SUMS 4 /* independent accumulators of a long sum */

VEC_INLINE vec load_element(const void *data, int64_t index, enum dtype dtype) {
    if (dtype == DTYPE_F32)
        return vec_load((const float *)data + index);
    return vec_load_bf16((const uint16_t *)data + index);
}

static vec load_element_part(const void *data, int64_t index, enum dtype dtype, int64_t count) {
    if (dtype == DTYPE_F32)
        return vec_load_part((const float *)data + index, count);
    return vec_load_bf16_part((const uint16_t *)data + index, count);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void embed_row(const void *context, int32_t m, char *scratch) {
    (void)scratch;
    const struct embedding_args *args = context;
    const struct weight *table = args->table;
    int64_t columns = table->columns;
    int64_t first = args->ids[m] * columns;
    float *y = args->y + m * columns;
    ASSERT(args->ids[m] >= 0 && args->ids[m] < table->rows);
    if (table->form != WEIGHT_ROWS) {
        weight_unpack_row(table, 0, WEIGHT_PART_ONLY, args->ids[m], y);
        return;
    }
    for (int64_t i = 0; i < columns; i += VEC_LANES) {
        int64_t count = least(columns - i, VEC_LANES);
        vec_store_part(y + i, load_element_part(table->data, first + i, table->dtype, count),
                       count);
    }
}

void CPU_SYMBOL(cpu_ops_embedding)(const struct kernels *kernels,
                                   const struct embedding_args *args) {
    cpu_job_run_rows(kernels, args->rows, args->table->columns, embed_row, args);
}

static float square_sum(const float *x, int32_t count) {
    vec sums[SUMS] = {{0}};
    int32_t i = 0;
    for (; i <= count - SUMS * VEC_LANES; i += SUMS * VEC_LANES) {
#pragma GCC unroll 4
        for (int s = 0; s < SUMS; s++) { /* unrolled, or gcc keeps the sums in memory */
            vec value = vec_load(x + i + s * VEC_LANES);
            sums[s] = vec_fma(value, value, sums[s]);
        }
    }
    for (; i < count; i += VEC_LANES) {
        vec value = vec_load_part(x + i, least(count - i, VEC_LANES));
        sums[0] = vec_fma(value, value, sums[0]);
    }
    return vec_total((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* 1 / sqrt(mean(x^2) + epsilon) */
static float inverse_rms(float sum, int32_t count, float epsilon) {
    return 1.0f / sqrtf(sum / (float)count + epsilon);
}

/* What a norm writes: columns first .. first + count - 1 of row m. */
VEC_INLINE void store_norm(const struct rmsnorm_args *args, int64_t index, vec y, int64_t count) {
    if (args->y_f32 != NULL)
        vec_store_part(args->y_f32 + index, y, count);
    if (args->y_act == NULL)
        return;
    if (args->act_dtype == DTYPE_F32)
        vec_store_part((float *)args->y_act + index, y, count);
    else
        vec_store_bf16_part((uint16_t *)args->y_act + index, y, count);
}

static void rmsnorm_row(const void *context, int32_t m, char *scratch) {
    (void)scratch;
    const struct rmsnorm_args *args = context;
    int64_t stride = activation_stride(args->columns);
    const float *x = args->x + (int64_t)m * args->columns;
    vec inverse = vec_set(inverse_rms(square_sum(x, args->columns), args->columns, args->epsilon));
    int64_t i = 0;
    for (; i <= args->columns - VEC_LANES; i += VEC_LANES) {
        vec y = vec_load(x + i) * inverse * vec_load(args->weight + i);
        store_norm(args, m * stride + i, y, VEC_LANES);
    }
    int64_t count = args->columns - i;
    if (count > 0) {
        vec y = vec_load_part(x + i, count) * inverse * vec_load_part(args->weight + i, count);
        store_norm(args, m * stride + i, y, count);
    }
    for (i = args->columns; i < stride; i++)
        store_norm(args, m * stride + i, (vec){0}, 1);
}

void CPU_SYMBOL(cpu_ops_rmsnorm)(const struct kernels *kernels, const struct rmsnorm_args *args) {
    ASSERT(args->act_dtype == DTYPE_F32 || args->act_dtype == DTYPE_BF16);
    cpu_job_run_rows(kernels, args->rows, args->columns, rmsnorm_row, args);
}

static void norm_head(const struct head_norm_args *args, float *x, float inverse) {
    int32_t i = 0;
    for (; i <= args->dim - VEC_LANES; i += VEC_LANES)
        vec_store(x + i, vec_load(x + i) * inverse * vec_load(args->weight + i));
    for (; i < args->dim; i++)
        x[i] = x[i] * inverse * args->weight[i];
}

static void head_norm_row(const void *context, int32_t m, char *scratch) {
    (void)scratch;
    const struct head_norm_args *args = context;
    if (args->square_sums != NULL) {
        norm_head(args, args->x + m * args->stride,
                  inverse_rms(args->square_sums[m], args->width, args->epsilon));
        return;
    }
    for (int32_t h = 0; h < args->heads; h++) {
        float *x = args->x + m * args->stride + (int64_t)h * args->dim;
        norm_head(args, x, inverse_rms(square_sum(x, args->dim), args->dim, args->epsilon));
    }
}

void CPU_SYMBOL(cpu_ops_head_norm)(const struct kernels *kernels,
                                   const struct head_norm_args *args) {
    ASSERT(args->square_sums == NULL || args->heads == 1);
    cpu_job_run_rows(kernels, args->rows, (int64_t)args->heads * args->dim, head_norm_row, args);
}

static void square_sum_row(const void *context, int32_t m, char *scratch) {
    (void)scratch;
    const struct square_sum_args *args = context;
    args->sums[m] = square_sum(args->x + m * args->stride, args->dim);
}

void CPU_SYMBOL(cpu_ops_square_sum)(const struct kernels *kernels,
                                    const struct square_sum_args *args) {
    cpu_job_run_rows(kernels, args->rows, args->dim, square_sum_row, args);
}

/* Pairs (i, i + half). Products and sums are rounded one by one, as in the reference: equal bits on
 * every instruction set. */
static void rotate_halves(float *x, const float *cos_sin, int32_t half) {
    int32_t i = 0;
    for (; i <= half - VEC_LANES; i += VEC_LANES) {
        vec cosine = vec_load(cos_sin + i);
        vec sine = vec_load(cos_sin + half + i);
        vec a = vec_load(x + i);
        vec b = vec_load(x + half + i);
        vec_store(x + i, a * cosine - b * sine);
        vec_store(x + half + i, b * cosine + a * sine);
    }
    for (; i < half; i++) {
        float a = x[i];
        float b = x[half + i];
        x[i] = a * cos_sin[i] - b * cos_sin[half + i];
        x[half + i] = b * cos_sin[i] + a * cos_sin[half + i];
    }
}

/* Pairs (2i, 2i + 1), VEC_LANES / 2 of them at a time: a pair is one 64-bit lane, so that doubling,
 * swapping and negating are shifts and masks. */
static void rotate_pairs(float *x, const float *cos_sin, int32_t half) {
    typedef uint64_t pairs __attribute__((vector_size(4 * VEC_LANES)));
    typedef uint32_t narrow __attribute__((vector_size(2 * VEC_LANES)));
    int32_t i = 0;
    for (; i <= half - VEC_LANES / 2; i += VEC_LANES / 2) {
        narrow cosine, sine;
        memcpy(&cosine, cos_sin + i, sizeof cosine);
        memcpy(&sine, cos_sin + half + i, sizeof sine);
        pairs cosines = __builtin_convertvector(cosine, pairs);
        pairs sines = __builtin_convertvector(sine, pairs);
        cosines |= cosines << 32;
        sines = (sines | sines << 32) ^ UINT64_C(0x80000000);
        vec value = vec_load(x + 2 * i);
        pairs swapped = ((pairs)value << 32) | ((pairs)value >> 32);
        vec_store(x + 2 * i, value * (vec)cosines + (vec)swapped * (vec)sines);
    }
    for (; i < half; i++) {
        float a = x[2 * i];
        float b = x[2 * i + 1];
        x[2 * i] = a * cos_sin[i] - b * cos_sin[half + i];
        x[2 * i + 1] = b * cos_sin[i] + a * cos_sin[half + i];
    }
}

static void rope_row(const void *context, int32_t m, char *scratch) {
    (void)scratch;
    const struct rope_args *args = context;
    const float *cos_sin = args->cos_sin + (int64_t)args->positions[m] * args->rotary_dim;
    for (int32_t h = 0; h < args->heads; h++) {
        float *x = args->x + m * args->stride + (int64_t)h * args->head_dim;
        if (args->interleaved)
            rotate_pairs(x, cos_sin, args->rotary_dim / 2);
        else
            rotate_halves(x, cos_sin, args->rotary_dim / 2);
    }
}

void CPU_SYMBOL(cpu_ops_rope)(const struct kernels *kernels, const struct rope_args *args) {
    ASSERT(args->rotary_dim % 2 == 0 && args->rotary_dim <= args->head_dim);
    cpu_job_run_rows(kernels, args->rows, (int64_t)args->heads * args->rotary_dim, rope_row, args);
}

static void clamp_row(const void *context, int32_t m, char *scratch) {
    (void)scratch;
    const struct clamp_args *args = context;
    float *x = args->x + m * args->stride;
    vec limit = vec_set(args->limit);
    for (int64_t i = 0; i < args->columns; i += VEC_LANES) {
        int64_t count = least(args->columns - i, VEC_LANES);
        vec value = vec_load_part(x + i, count);
        vec_store_part(x + i, vec_max(-limit, vec_min(limit, value)), count);
    }
}

void CPU_SYMBOL(cpu_ops_clamp)(const struct kernels *kernels, const struct clamp_args *args) {
    cpu_job_run_rows(kernels, args->rows, args->columns, clamp_row, args);
}

/* One row of the router in the thread's scratch. */
struct choice {
    const struct router_args *args;
    const float *keys;    /* [experts]: what experts are chosen by */
    float *scores;        /* [experts]: what they are weighted by; may be keys */
    float *chosen;        /* [top_k or groups_kept]: keys chosen so far, falling */
    int32_t *groups_kept; /* [groups_kept] */
};

/* e^(x - maximum) / sum, the sum in order. x may be y. */
static void softmax(const float *x, int32_t count, float *y) {
    float maximum = x[0];
    for (int32_t i = 1; i < count; i++)
        maximum = x[i] > maximum ? x[i] : maximum;
    for (int32_t i = 0; i < count; i += VEC_LANES) {
        int64_t part = least(count - i, VEC_LANES);
        vec_store_part(y + i, vec_exp(vec_load_part(x + i, part) - maximum), part);
    }
    float sum = 0;
    for (int32_t i = 0; i < count; i++)
        sum += y[i];
    for (int32_t i = 0; i < count; i++)
        y[i] /= sum;
}

/* Puts `id` into the falling list if its key is larger than one there or the list is not full.
 * Called with rising ids, so that of equal keys the lower id stays ahead. Returns the new length.
 */
VEC_INLINE int32_t insert(float *keys, int32_t *ids, int32_t length, int32_t capacity, float key,
                          int32_t id) {
    if (length == capacity && !(key > keys[capacity - 1]))
        return length;
    int32_t place = length < capacity ? length : capacity - 1;
    for (; place > 0 && key > keys[place - 1]; place--) {
        keys[place] = keys[place - 1];
        ids[place] = ids[place - 1];
    }
    keys[place] = key;
    ids[place] = id;
    return length < capacity ? length + 1 : length;
}

static float group_key(const struct router_spec *spec, const float *keys, int32_t size) {
    float best = -INFINITY;
    float second = -INFINITY;
    for (int32_t e = 0; e < size; e++) {
        float smaller = keys[e] < best ? keys[e] : best;
        best = keys[e] > best ? keys[e] : best;
        second = smaller > second ? smaller : second;
    }
    return spec->group_score == ROUTER_GROUP_MAX || size == 1 ? best : best + second;
}

/* Keeps the best groups, ids rising. */
static void keep_groups(const struct choice *choice) {
    const struct router_spec *spec = &choice->args->spec;
    int32_t size = spec->experts / spec->groups;
    int32_t *kept = choice->groups_kept;
    int32_t length = 0;
    for (int32_t g = 0; g < spec->groups; g++)
        length = insert(choice->chosen, kept, length, spec->groups_kept,
                        group_key(spec, choice->keys + g * size, size), g);
    for (int32_t i = 1; i < length; i++) {
        int32_t group = kept[i];
        int32_t place = i;
        for (; place > 0 && kept[place - 1] > group; place--)
            kept[place] = kept[place - 1];
        kept[place] = group;
    }
}

static void choose_experts(const struct choice *choice, int32_t *ids) {
    const struct router_spec *spec = &choice->args->spec;
    int32_t size = spec->experts / spec->groups;
    int32_t length = 0;
    keep_groups(choice);
    for (int32_t i = 0; i < spec->groups_kept; i++) {
        int32_t first = choice->groups_kept[i] * size;
        for (int32_t e = first; e < first + size; e++)
            length = insert(choice->chosen, ids, length, spec->top_k, choice->keys[e], e);
    }
    ASSERT(length == spec->top_k);
}

static void weigh_experts(const struct choice *choice, const int32_t *ids, float *weights) {
    const struct router_spec *spec = &choice->args->spec;
    for (int32_t slot = 0; slot < spec->top_k; slot++)
        weights[slot] = choice->scores[ids[slot]];
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

static void score_experts(const struct router_spec *spec, const float *logits, float *scores) {
    if (spec->score == ROUTER_SOFTMAX) {
        softmax(logits, spec->experts, scores);
        return;
    }
    for (int32_t i = 0; i < spec->experts; i += VEC_LANES) {
        int64_t count = least(spec->experts - i, VEC_LANES);
        vec score = vec_load_part(logits + i, count);
        if (spec->score == ROUTER_SIGMOID)
            score = vec_sigmoid(score);
        vec_store_part(scores + i, score, count);
    }
}

static void router_row(const void *context, int32_t m, char *scratch) {
    const struct router_args *args = context;
    const struct router_spec *spec = &args->spec;
    float *scores = (float *)(void *)scratch;
    float *keys = scores + spec->experts;
    score_experts(spec, args->logits + (int64_t)m * spec->experts, scores);
    for (int32_t e = 0; args->correction != NULL && e < spec->experts; e++)
        keys[e] = scores[e] + args->correction[e];
    struct choice choice = {
        .args = args,
        .keys = args->correction != NULL ? keys : scores,
        .scores = scores,
        .chosen = keys + spec->experts,
        .groups_kept = (int32_t *)(void *)(keys + 2 * (int64_t)spec->experts),
    };
    int32_t *ids = args->ids + (int64_t)m * spec->top_k;
    choose_experts(&choice, ids);
    weigh_experts(&choice, ids, args->weights + (int64_t)m * spec->top_k);
}

void CPU_SYMBOL(cpu_ops_router)(const struct kernels *kernels, const struct router_args *args) {
    const struct router_spec *spec = &args->spec;
    ASSERT(spec->top_k >= 1 && spec->top_k <= spec->experts);
    ASSERT(spec->experts % spec->groups == 0 && spec->groups_kept <= spec->groups);
    ASSERT((size_t)spec->experts * 4 * sizeof(float) <= KERNELS_SCRATCH_BYTES);
    cpu_job_run_rows(kernels, args->rows, 8 * (int64_t)spec->experts, router_row, args);
}

/* out += weight * y, one slot after the other, so that each is read as one stream; out stays in the
 * first cache. */
VEC_INLINE void combine_slot(const struct combine_args *args, enum dtype dtype, int64_t slot,
                             float *out) {
    const int64_t columns = args->columns;
    const int64_t first = args->row_of[slot] * columns;
    const void *rows = args->y;
    const vec weight = vec_set(args->weights[slot]);
    int64_t i = 0;
    for (; i <= columns - VEC_LANES; i += VEC_LANES) {
        vec y = load_element(rows, first + i, dtype);
        vec_store(out + i, vec_load(out + i) + weight * y);
    }
    int64_t count = columns - i;
    if (count > 0) {
        vec y = load_element_part(rows, first + i, dtype, count);
        vec_store_part(out + i, vec_load_part(out + i, count) + weight * y, count);
    }
}

static void combine_row(const void *context, int32_t m, char *scratch) {
    (void)scratch;
    const struct combine_args *args = context;
    float *out = args->out + (int64_t)m * args->columns;
    memset(out, 0, (size_t)args->columns * sizeof(float));
    for (int32_t s = 0; s < args->top_k; s++) {
        int64_t slot = (int64_t)m * args->top_k + s;
        if (args->y_dtype == DTYPE_F32)
            combine_slot(args, DTYPE_F32, slot, out);
        else
            combine_slot(args, DTYPE_BF16, slot, out);
    }
}

void CPU_SYMBOL(cpu_ops_combine)(const struct kernels *kernels, const struct combine_args *args) {
    ASSERT(args->y_dtype == DTYPE_F32 || args->y_dtype == DTYPE_BF16);
    cpu_job_run_rows(kernels, args->rows, (int64_t)args->top_k * args->columns, combine_row, args);
}

static void add_row(const void *context, int32_t m, char *scratch) {
    (void)scratch;
    const struct add_args *args = context;
    vec gate = vec_set(1.0f);
    if (args->gate_logit != NULL)
        gate = vec_sigmoid(vec_set(args->gate_logit[m]));
    int64_t first = (int64_t)m * args->columns;
    float *x = args->x + first;
    int64_t i = 0;
    for (; i <= args->columns - VEC_LANES; i += VEC_LANES)
        vec_store(x + i, vec_load(x + i) + gate * load_element(args->y, first + i, args->y_dtype));
    int64_t count = args->columns - i;
    if (count > 0) {
        vec y = load_element_part(args->y, first + i, args->y_dtype, count);
        vec_store_part(x + i, vec_load_part(x + i, count) + gate * y, count);
    }
}

void CPU_SYMBOL(cpu_ops_add)(const struct kernels *kernels, const struct add_args *args) {
    ASSERT(args->y_dtype == DTYPE_F32 || args->y_dtype == DTYPE_BF16);
    cpu_job_run_rows(kernels, args->rows, args->columns, add_row, args);
}
