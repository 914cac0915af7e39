/* The ops between the matrix products, on every instruction set of this machine: held against the
 * reference (bit for bit where nothing but copies, roundings and single products are involved,
 * within the table's bounds elsewhere), the router and the norms also against double arithmetic
 * written here, and every op's rows against themselves: alone, among others, with 1, 2 and 3
 * threads. Matrix products: test_kernel_gemm.c; attention: test_kernel_attention.c; sampling:
 * test_kernel_sample.c. */
#include "tests/unit/kernel_test.h"
#include "tests/unit/unit_test.h"

/* Relative bounds by the type that is written. Norms: a mean of squares over n terms, all positive,
 * in several partial sums: its relative error is far below n * 2^-24 / 16, then a square root, a
 * division and two products. Sigmoid and softmax: exp within 2 ulp, sums of up to 256 positive
 * terms, two divisions. A bf16 result is rounded from such an f32 value: half a unit in its last
 * place, 2^-8 of the value, may fall on either side. */
static const double bounds[DTYPE_COUNT] = {[DTYPE_F32] = 4e-6, [DTYPE_BF16] = 0x1p-8 + 4e-6};

static const int32_t sizes[] = {1, 3, 17, 33, 255, 2048};
static const int32_t row_counts[] = {1, 3, 17, 33};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* One op on `rows` rows of `columns`; makes its own inputs (row m's depend on m alone) and returns
 * `rows` times row_bytes of output. */
struct op_case {
    const char *name;
    bool exact; /* equal bits to the reference, on every instruction set */
    enum dtype dtype;
    char *(*run)(const struct kernels *kernels, enum dtype dtype, int32_t rows, int32_t columns);
    int64_t (*row_bytes)(enum dtype dtype, int32_t columns);
};

static int64_t dense_f32(enum dtype dtype, int32_t columns) {
    (void)dtype;
    return (int64_t)columns * (int64_t)sizeof(float);
}

static int64_t act_row(enum dtype dtype, int32_t columns) {
    return activation_stride(columns) * dtype_bytes(dtype);
}

static float *act_f32(int64_t rows, int64_t columns) {
    int64_t bytes = rows * activation_stride(columns) * (int64_t)sizeof(float);
    float *taken = kernel_test_take(bytes);
    memset(taken, 0xff, (size_t)bytes);
    return taken;
}

static char *run_rmsnorm(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                         int32_t columns) {
    float *x = kernel_test_floats(1, (int64_t)rows * columns, 3.0f);
    float *weight = kernel_test_floats(2, columns, 1.0f);
    float *y_f32 = act_f32(rows, columns);
    char *y_act = (char *)act_f32(rows, columns);
    struct rmsnorm_args args = {rows, columns, x, weight, 1e-5f, y_f32, y_act, dtype};
    kernels->ops->rmsnorm(kernels, &args);
    int64_t stride = activation_stride(columns);
    for (int64_t i = 0; i < rows * stride; i++) { /* both outputs are roundings of one value */
        float act = kernel_test_element(y_act, dtype, i);
        float want = dtype == DTYPE_F32 ? y_f32[i] : dtype_bf16_to_f32(dtype_f32_to_bf16(y_f32[i]));
        assert_true(act == want && (i % stride < columns || act == 0.0f));
    }
    free(x);
    free(weight);
    free(y_f32);
    return y_act;
}

static char *run_head_norm(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                           int32_t columns) {
    (void)dtype;
    float *x = kernel_test_floats(3, (int64_t)rows * 3 * columns, 2.0f); /* head 2: left alone */
    float *weight = kernel_test_floats(4, columns, 1.0f);
    float *y = kernel_test_take((int64_t)rows * dense_f32(dtype, columns));
    struct head_norm_args args = {.rows = rows,
                                  .heads = 2,
                                  .dim = columns,
                                  .x = x,
                                  .stride = 3 * (int64_t)columns,
                                  .weight = weight,
                                  .epsilon = 1e-6f};
    kernels->ops->head_norm(kernels, &args);
    for (int32_t m = 0; m < rows; m++) {
        for (int32_t i = 0; i < columns; i++) {
            int64_t at = (int64_t)m * 3 * columns + i;
            y[(int64_t)m * columns + i] = i % 2 == 0 ? x[at] : x[at + columns];
            assert_true(x[at + 2 * columns] == 2.0f * kernel_test_noise(3, at + 2 * columns));
        }
    }
    free(x);
    free(weight);
    return (char *)y;
}

/* One norm in two parts, as two ranks compute it. */
static char *run_shared_norm(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                             int32_t columns) {
    (void)dtype;
    float *x = kernel_test_floats(3, (int64_t)rows * columns, 2.0f);
    float *weight = kernel_test_floats(4, columns, 1.0f);
    float *sums = kernel_test_take(2 * rows * (int64_t)sizeof(float));
    int32_t border[3] = {0, columns / 2, columns};
    for (int part = 0; part < 2; part++) {
        struct square_sum_args sum = {.rows = rows,
                                      .dim = border[part + 1] - border[part],
                                      .x = x + border[part],
                                      .stride = columns,
                                      .sums = sums + part * rows};
        kernels->ops->square_sum(kernels, &sum);
    }
    for (int32_t m = 0; m < rows; m++)
        sums[m] += sums[rows + m];
    for (int part = 0; part < 2; part++) {
        struct head_norm_args norm = {.rows = rows,
                                      .heads = 1,
                                      .dim = border[part + 1] - border[part],
                                      .x = x + border[part],
                                      .stride = columns,
                                      .weight = weight + border[part],
                                      .epsilon = 1e-6f,
                                      .square_sums = sums,
                                      .width = columns};
        kernels->ops->head_norm(kernels, &norm);
    }
    free(weight);
    free(sums);
    return (char *)x;
}

static char *run_rope_form(const struct kernels *kernels, int32_t rows, int32_t columns,
                           bool interleaved) {
    int32_t rotary = columns / 2 * 2;
    float *x = kernel_test_floats(5, (int64_t)rows * columns, 1.0f);
    float *table = kernel_test_floats(6, 50 * (int64_t)rotary, 1.0f);
    int32_t *positions = kernel_test_take(rows * (int64_t)sizeof(int32_t));
    for (int32_t m = 0; m < rows; m++)
        positions[m] = (m * 7 + 1) % 50;
    struct rope_args args = {
        .rows = rows,
        .heads = 1,
        .head_dim = columns,
        .rotary_dim = rotary,
        .interleaved = interleaved,
        .x = x,
        .stride = columns,
        .positions = positions,
        .cos_sin = table,
    };
    kernels->ops->rope(kernels, &args);
    free(table);
    free(positions);
    return (char *)x;
}

static char *run_rope_halves(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                             int32_t columns) {
    (void)dtype;
    return run_rope_form(kernels, rows, columns, false);
}

static char *run_rope_pairs(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                            int32_t columns) {
    (void)dtype;
    return run_rope_form(kernels, rows, columns, true);
}

static char *run_clamp(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                       int32_t columns) {
    (void)dtype;
    float *x = kernel_test_floats(7, (int64_t)rows * columns, 2.0f);
    x[0] = NAN;
    struct clamp_args args = {rows, columns, x, columns, 0.75f};
    kernels->ops->clamp(kernels, &args);
    for (int64_t i = 1; i < (int64_t)rows * columns; i++)
        assert_true(fabsf(x[i]) <= 0.75f);
    assert_true(isnan(x[0]));
    return (char *)x;
}

static char *run_embedding(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                           int32_t columns, enum weight_form form) {
    struct weight table;
    float *source = kernel_test_floats(8, 37 * (int64_t)columns, 1.0f);
    int32_t *ids = kernel_test_take(rows * (int64_t)sizeof(int32_t));
    for (int32_t m = 0; m < rows; m++)
        ids[m] = (m * 5 + 36) % 37;
    weight_describe(kernels, form, dtype, 1, 37, columns, &table);
    char *raw = kernel_test_take((int64_t)weight_bytes(&table) + 64);
    table.data = raw + (64 - (uintptr_t)raw % 64);
    struct weight_piece piece = {0, WEIGHT_PART_ONLY, 0, 37, source, DTYPE_F32, columns};
    weight_pack(kernels, &table, &piece);
    float *y = kernel_test_take((int64_t)rows * dense_f32(dtype, columns));
    struct embedding_args args = {rows, ids, &table, y};
    kernels->ops->embedding(kernels, &args);
    for (int64_t i = 0; i < (int64_t)rows * columns; i++) {
        float want = source[ids[i / columns] * (int64_t)columns + i % columns];
        want = dtype == DTYPE_BF16 ? dtype_bf16_to_f32(dtype_f32_to_bf16(want)) : want;
        assert_true(y[i] == want);
    }
    free(source);
    free(ids);
    free(raw);
    return (char *)y;
}

static char *run_embedding_rows(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                                int32_t columns) {
    return run_embedding(kernels, dtype, rows, columns, WEIGHT_ROWS);
}

static char *run_embedding_tied(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                                int32_t columns) {
    return run_embedding(kernels, dtype, rows, columns, WEIGHT_PLAIN);
}

static char *run_combine(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                         int32_t columns) {
    float *values = kernel_test_floats(9, 40 * (int64_t)columns, 1.0f);
    void *y = kernel_test_converted(values, 40 * (int64_t)columns, dtype);
    float *weights = kernel_test_floats(10, rows * INT64_C(5), 1.0f);
    int32_t *row_of = kernel_test_take(rows * 5 * (int64_t)sizeof(int32_t));
    for (int32_t i = 0; i < rows * 5; i++)
        row_of[i] = (i * 17 + 3) % 40;
    char *out = kernel_test_take((int64_t)rows * dense_f32(dtype, columns));
    struct combine_args args = {rows, columns, 5, y, dtype, row_of, weights, (float *)(void *)out};
    kernels->ops->combine(kernels, &args);
    free(values);
    free(y);
    free(weights);
    free(row_of);
    return out;
}

static char *run_add_form(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                          int32_t columns, bool gated) {
    int64_t count = (int64_t)rows * columns;
    float *x = kernel_test_floats(11, count, 1.0f);
    float *values = kernel_test_floats(12, count, 1.0f);
    float *logits = kernel_test_floats(13, rows, 8.0f);
    void *y = kernel_test_converted(values, count, dtype);
    for (int64_t i = 0; gated && i < count; i++)
        x[i] = fabsf(x[i]) * (kernel_test_element(y, dtype, i) < 0 ? -1.0f : 1.0f);
    struct add_args args = {rows, columns, x, y, dtype, gated ? logits : NULL};
    kernels->ops->add(kernels, &args);
    free(values);
    free(logits);
    free(y);
    return (char *)x;
}

static char *run_add(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                     int32_t columns) {
    return run_add_form(kernels, dtype, rows, columns, false);
}

static char *run_add_gated(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                           int32_t columns) {
    return run_add_form(kernels, dtype, rows, columns, true);
}

/* The output is a block's whole content, so a row here is a block of 16 stored rows. */
static int64_t kv_block_row(enum dtype dtype, int32_t columns) {
    struct kv_shape shape = {dtype, 2, columns < 512 ? columns : 512};
    return (int64_t)kv_block_bytes(&shape);
}

static char *run_kv_store(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                          int32_t columns) {
    struct kv_shape shape = {dtype, 2, columns < 512 ? columns : 512};
    int32_t tokens = rows * KV_BLOCK_TOKENS;
    int64_t width = 2 * (int64_t)shape.head_dim;
    float *k = kernel_test_floats(14, tokens * width, 1.0f);
    float *v = kernel_test_floats(15, tokens * width, 1.0f);
    int32_t *blocks = kernel_test_take(tokens * (int64_t)sizeof(int32_t));
    int32_t *offsets = kernel_test_take(tokens * (int64_t)sizeof(int32_t));
    for (int32_t m = 0; m < tokens; m++) {
        blocks[m] = m / KV_BLOCK_TOKENS;
        offsets[m] = (m + m / KV_BLOCK_TOKENS * 5) % KV_BLOCK_TOKENS; /* runs from 0, 5, 10, .. */
        if (m / KV_BLOCK_TOKENS % 3 == 2)
            offsets[m] = KV_BLOCK_TOKENS - 1 - offsets[m]; /* no two in a row */
    }
    char *cache = kernel_test_take(rows * kv_block_row(dtype, columns));
    struct kv_store_args args = {tokens, shape, k, v, width, blocks, offsets, cache};
    kernels->ops->kv_store(kernels, &args);
    free(k);
    free(v);
    free(blocks);
    free(offsets);
    return cache;
}

static const struct op_case cases[] = {
    {"rmsnorm", false, DTYPE_F32, run_rmsnorm, act_row},
    {"rmsnorm", false, DTYPE_BF16, run_rmsnorm, act_row},
    {"head_norm", false, DTYPE_F32, run_head_norm, dense_f32},
    {"head_norm in parts", false, DTYPE_F32, run_shared_norm, dense_f32},
    {"rope halves", true, DTYPE_F32, run_rope_halves, dense_f32},
    {"rope pairs", true, DTYPE_F32, run_rope_pairs, dense_f32},
    {"clamp", true, DTYPE_F32, run_clamp, dense_f32},
    {"embedding rows", true, DTYPE_F32, run_embedding_rows, dense_f32},
    {"embedding rows", true, DTYPE_BF16, run_embedding_rows, dense_f32},
    {"embedding tied", true, DTYPE_F32, run_embedding_tied, dense_f32},
    {"embedding tied", true, DTYPE_BF16, run_embedding_tied, dense_f32},
    {"combine", true, DTYPE_F32, run_combine, dense_f32},
    {"combine", true, DTYPE_BF16, run_combine, dense_f32},
    {"add", true, DTYPE_F32, run_add, dense_f32},
    {"add", true, DTYPE_BF16, run_add, dense_f32},
    {"add gated", false, DTYPE_F32, run_add_gated, dense_f32},
    {"add gated", false, DTYPE_BF16, run_add_gated, dense_f32},
    {"kv_store", true, DTYPE_F32, run_kv_store, kv_block_row},
    {"kv_store", true, DTYPE_BF16, run_kv_store, kv_block_row},
};

/* Element type of what a case writes. */
static enum dtype output_dtype(const struct op_case *op) {
    return op->row_bytes == dense_f32 ? DTYPE_F32 : op->dtype;
}

static bool within_bounds(const struct op_case *op, const char *got, const char *want,
                          int64_t bytes) {
    enum dtype dtype = output_dtype(op);
    if (op->exact)
        return memcmp(got, want, (size_t)bytes) == 0;
    for (int64_t i = 0; i < bytes / dtype_bytes(dtype); i++) {
        double a = (double)kernel_test_element(got, dtype, i);
        double b = (double)kernel_test_element(want, dtype, i);
        if (!(fabs(a - b) <= bounds[dtype] * fabs(b)))
            return false;
    }
    return true;
}

static void agree_with_the_reference(void **state) {
    (void)state;
    struct kernels reference = kernel_test_open(CPU_ISA_REFERENCE, 1);
    for (int isa = CPU_ISA_REFERENCE; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 2);
        for (size_t c = 0; c < COUNT(cases); c++) {
            for (size_t s = 0; s < COUNT(sizes); s++) {
                const struct op_case *op = &cases[c];
                char *want = op->run(&reference, op->dtype, 17, sizes[s]);
                char *got = op->run(&kernels, op->dtype, 17, sizes[s]);
                if (!within_bounds(op, got, want, 17 * op->row_bytes(op->dtype, sizes[s])))
                    fail_msg("%s %s %s columns %d", cpu_isa_name(kernels.isa), op->name,
                             dtype_name(op->dtype), sizes[s]);
                free(want);
                free(got);
            }
        }
        kernels_deinit(&kernels);
    }
    kernels_deinit(&reference);
}

/* The first rows of a large call have the bits of a small one; a row's inputs depend on its index
 * alone. */
static bool rows_are_alone(const struct op_case *op, const struct kernels *kernels,
                           const struct kernels *threaded, int32_t columns) {
    int64_t row_bytes = op->row_bytes(op->dtype, columns);
    char *all = op->run(threaded, op->dtype, 67, columns);
    bool same = true;
    for (size_t i = 0; i < COUNT(row_counts); i++) {
        char *some = op->run(kernels, op->dtype, row_counts[i], columns);
        same = same && memcmp(all, some, (size_t)(row_counts[i] * row_bytes)) == 0;
        free(some);
    }
    free(all);
    return same;
}

static void rows_do_not_see_their_neighbours(void **state) {
    (void)state;
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        for (int32_t threads = 1; threads <= 3; threads++) {
            struct kernels threaded = kernel_test_open(isa, threads);
            for (size_t c = 0; c < COUNT(cases) * COUNT(sizes); c++) {
                const struct op_case *op = &cases[c / COUNT(sizes)];
                int32_t columns = sizes[c % COUNT(sizes)];
                if (!rows_are_alone(op, &kernels, &threaded, columns))
                    fail_msg("%s %s %s columns %d threads %d", cpu_isa_name(kernels.isa), op->name,
                             dtype_name(op->dtype), columns, threads);
            }
            kernels_deinit(&threaded);
        }
        kernels_deinit(&kernels);
    }
}

/* A norm whose sum runs over the rows of the call in turn: what the comparison must catch. */
static char *run_wrong_norm(const struct kernels *kernels, enum dtype dtype, int32_t rows,
                            int32_t columns) {
    (void)kernels;
    float *x = kernel_test_floats(1, (int64_t)rows * columns, 3.0f);
    int32_t parts = rows > 20 ? 4 : 2;
    for (int32_t m = 0; m < rows; m++) {
        float sums[4] = {0, 0, 0, 0};
        for (int32_t i = 0; i < columns; i++)
            sums[i % parts] += x[m * columns + i] * x[m * columns + i];
        float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        for (int32_t i = 0; i < columns; i++)
            x[m * columns + i] /= sqrtf(sum / (float)columns);
    }
    (void)dtype;
    return (char *)x;
}

static void a_sum_that_depends_on_the_rows_is_caught(void **state) {
    (void)state;
    static const struct op_case wrong = {"wrong", false, DTYPE_F32, run_wrong_norm, dense_f32};
    struct kernels kernels = kernel_test_open(CPU_ISA_REFERENCE, 1);
    assert_false(rows_are_alone(&wrong, &kernels, &kernels, 255));
    assert_true(rows_are_alone(&cases[0], &kernels, &kernels, 255));
    kernels_deinit(&kernels);
}

static void norms_agree_with_double_arithmetic(void **state) {
    (void)state;
    enum { ROWS = 5, COLUMNS = 2880 };
    float *x = kernel_test_floats(1, ROWS * COLUMNS, 3.0f);
    float *weight = kernel_test_floats(2, COLUMNS, 1.0f);
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        float *y = act_f32(ROWS, COLUMNS);
        struct rmsnorm_args args = {ROWS, COLUMNS, x, weight, 0.5f, y, NULL, DTYPE_F32};
        kernels.ops->rmsnorm(&kernels, &args);
        for (int32_t m = 0; m < ROWS; m++) {
            double sum = 0;
            for (int32_t i = 0; i < COLUMNS; i++)
                sum += (double)x[m * COLUMNS + i] * (double)x[m * COLUMNS + i];
            double inverse = 1.0 / sqrt(sum / COLUMNS + 0.5);
            for (int32_t i = 0; i < COLUMNS; i++) {
                double want = (double)x[m * COLUMNS + i] * inverse * (double)weight[i];
                assert_true(fabs((double)y[m * COLUMNS + i] - want) <= 1e-6 * fabs(want));
            }
        }
        free(y);
        kernels_deinit(&kernels);
    }
    free(x);
    free(weight);
}

/* ---- router ---- */

#define EXPERTS_MAX 256

static const struct router_spec routers[] = {
    {ROUTER_SOFTMAX, 8, 2, true, 1.0f, 1, 1, ROUTER_GROUP_MAX},
    {ROUTER_SOFTMAX, 64, 8, false, 1.0f, 1, 1, ROUTER_GROUP_MAX},
    {ROUTER_SOFTMAX, 128, 8, true, 1.0f, 1, 1, ROUTER_GROUP_MAX},
    {ROUTER_SOFTMAX, 160, 6, false, 16.0f, 8, 3, ROUTER_GROUP_MAX},
    {ROUTER_SIGMOID, 256, 8, true, 2.5f, 8, 4, ROUTER_GROUP_TOP2_SUM},
    {ROUTER_SIGMOID, 33, 3, false, 1.0f, 1, 1, ROUTER_GROUP_MAX},
    {ROUTER_SOFTMAX_OF_CHOSEN, 32, 4, false, 1.0f, 1, 1, ROUTER_GROUP_MAX},
    {ROUTER_SOFTMAX_OF_CHOSEN, 17, 17, true, 3.0f, 1, 1, ROUTER_GROUP_MAX},
    {ROUTER_SOFTMAX, 1, 1, true, 1.0f, 1, 1, ROUTER_GROUP_MAX},
    {ROUTER_SIGMOID, 12, 4, true, 1.0f, 12, 5, ROUTER_GROUP_TOP2_SUM},
};

/* One row in double: scores, keys, groups struck out, then the largest key again and again. */
static void exact_scores(const struct router_spec *spec, const float *logits, double *scores) {
    double sum = 0;
    for (int32_t e = 0; e < spec->experts; e++)
        sum += exp((double)logits[e]);
    for (int32_t e = 0; e < spec->experts; e++) {
        scores[e] = (double)logits[e];
        if (spec->score == ROUTER_SOFTMAX)
            scores[e] = exp((double)logits[e]) / sum;
        if (spec->score == ROUTER_SIGMOID)
            scores[e] = 1 / (1 + exp(-(double)logits[e]));
    }
}

static int32_t largest(const double *keys, int32_t count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        best = keys[i] > keys[best] ? i : best;
    return best;
}

static double exact_group(const struct router_spec *spec, const double *keys, int32_t size) {
    double copy[EXPERTS_MAX];
    memcpy(copy, keys, (size_t)size * sizeof(double));
    int32_t first = largest(copy, size);
    double value = copy[first];
    copy[first] = (double)-INFINITY;
    if (spec->group_score == ROUTER_GROUP_TOP2_SUM && size > 1)
        value += copy[largest(copy, size)];
    return value;
}

static void strike_groups(const struct router_spec *spec, double *keys) {
    int32_t size = spec->experts / spec->groups;
    double groups[EXPERTS_MAX];
    for (int32_t g = 0; g < spec->groups; g++)
        groups[g] = exact_group(spec, keys + g * size, size);
    bool kept[EXPERTS_MAX] = {false};
    for (int32_t i = 0; i < spec->groups_kept; i++) {
        int32_t best = largest(groups, spec->groups);
        kept[best] = true;
        groups[best] = (double)-INFINITY;
    }
    for (int32_t e = 0; e < spec->experts; e++)
        keys[e] = kept[e / size] ? keys[e] : (double)-INFINITY;
}

static void exact_route(const struct router_spec *spec, const float *logits,
                        const float *correction, int32_t *ids, double *weights) {
    double scores[EXPERTS_MAX] = {0}, keys[EXPERTS_MAX] = {0};
    exact_scores(spec, logits, scores);
    for (int32_t e = 0; e < spec->experts; e++)
        keys[e] = scores[e] + (correction != NULL ? (double)correction[e] : 0);
    strike_groups(spec, keys);
    double sum = 0;
    for (int32_t slot = 0; slot < spec->top_k; slot++) {
        ids[slot] = largest(keys, spec->experts);
        keys[ids[slot]] = (double)-INFINITY;
        weights[slot] = scores[ids[slot]];
        if (spec->score == ROUTER_SOFTMAX_OF_CHOSEN)
            weights[slot] = exp(weights[slot]);
        sum += weights[slot];
    }
    bool divide = spec->normalize || spec->score == ROUTER_SOFTMAX_OF_CHOSEN;
    for (int32_t slot = 0; slot < spec->top_k; slot++)
        weights[slot] = weights[slot] / (divide ? sum : 1) * (double)spec->scale;
}

static void check_router(const struct kernels *kernels, const struct router_spec *spec,
                         const float *correction, int32_t rows) {
    float *logits = kernel_test_floats(21, (int64_t)rows * spec->experts, 6.0f);
    int32_t *ids = kernel_test_take((int64_t)rows * spec->top_k * (int64_t)sizeof(int32_t));
    float *weights = kernel_test_take((int64_t)rows * spec->top_k * (int64_t)sizeof(float));
    struct router_args args = {rows, *spec, logits, correction, ids, weights};
    kernels->ops->router(kernels, &args);
    for (int32_t m = 0; m < rows; m++) {
        int32_t want_ids[EXPERTS_MAX] = {0};
        double want[EXPERTS_MAX] = {0};
        exact_route(spec, logits + (int64_t)m * spec->experts, correction, want_ids, want);
        for (int32_t slot = 0; slot < spec->top_k; slot++) {
            int64_t at = (int64_t)m * spec->top_k + slot;
            assert_int_equal(ids[at], want_ids[slot]);
            if (!(fabs((double)weights[at] - want[slot]) <= bounds[DTYPE_F32] * want[slot]))
                fail_msg("%s experts %d score %d row %d slot %d: %g, want %g",
                         cpu_isa_name(kernels->isa), spec->experts, (int)spec->score, m, slot,
                         (double)weights[at], want[slot]);
        }
    }
    free(logits);
    free(ids);
    free(weights);
}

static void routers_agree_with_double_arithmetic(void **state) {
    (void)state;
    float *correction = kernel_test_floats(22, EXPERTS_MAX, 0.1f);
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        for (int32_t threads = 1; threads <= 3; threads++) {
            struct kernels kernels = kernel_test_open(isa, threads);
            for (size_t i = 0; i < COUNT(routers); i++) {
                check_router(&kernels, &routers[i], NULL, 1);
                check_router(&kernels, &routers[i], NULL, 33);
                check_router(&kernels, &routers[i], correction, 33);
            }
            kernels_deinit(&kernels);
        }
    }
    free(correction);
}

static void equal_scores_go_to_the_lower_id(void **state) {
    (void)state;
    static const float logits[] = {1, 3, 2, 3, 0, 2, 3, 2};
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        for (int score = ROUTER_SOFTMAX; score <= ROUTER_SOFTMAX_OF_CHOSEN; score++) {
            int32_t ids[5];
            float weights[5];
            struct router_spec spec = {(enum router_score)score, 8, 5, true, 1, 1, 1,
                                       ROUTER_GROUP_MAX};
            struct router_args args = {1, spec, logits, NULL, ids, weights};
            kernels.ops->router(&kernels, &args);
            assert_memory_equal(ids, ((const int32_t[]){1, 3, 6, 2, 5}), sizeof ids);
            /* groups {1,3} {2,3} {0,2} {3,2} with maxima 3 3 2 3: the first two are kept */
            args.spec.groups = 4;
            args.spec.groups_kept = 2;
            args.spec.top_k = 3;
            kernels.ops->router(&kernels, &args);
            assert_memory_equal(ids, ((const int32_t[]){1, 3, 2}), 3 * sizeof ids[0]);
        }
        kernels_deinit(&kernels);
    }
}

static void a_router_survives_nan(void **state) {
    (void)state;
    float logits[64];
    for (int32_t e = 0; e < 64; e++)
        logits[e] = e % 3 == 0 ? NAN : kernel_test_noise(1, e);
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        for (size_t i = 0; i < COUNT(routers); i++) {
            struct router_args args = {.rows = 1, .spec = routers[i], .logits = logits};
            int32_t ids[64];
            float weights[64];
            if (args.spec.experts > 64)
                continue;
            args.ids = ids;
            args.weights = weights;
            kernels.ops->router(&kernels, &args);
            bool chosen[64] = {false};
            for (int32_t slot = 0; slot < args.spec.top_k; slot++) {
                assert_true(ids[slot] >= 0 && ids[slot] < args.spec.experts);
                assert_false(chosen[ids[slot]]);
                chosen[ids[slot]] = true;
            }
        }
        kernels_deinit(&kernels);
    }
}

/* The sigmoid of a large negative logit is its exponential: one function, seen through the router.
 */
static void exponentials_are_accurate(void **state) {
    (void)state;
    enum { COUNT_OF_LOGITS = 4000 };
    float logits[COUNT_OF_LOGITS], weights[COUNT_OF_LOGITS];
    int32_t ids[COUNT_OF_LOGITS];
    for (int32_t i = 0; i < COUNT_OF_LOGITS; i++)
        logits[i] = 20.0f - (float)i * 0.0267f; /* 20 .. -86.8 */
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 1);
        struct router_spec spec = {ROUTER_SIGMOID, 1, 1, false, 1, 1, 1, ROUTER_GROUP_MAX};
        struct router_args args = {COUNT_OF_LOGITS, spec, logits, NULL, ids, weights};
        kernels.ops->router(&kernels, &args);
        for (int32_t i = 0; i < COUNT_OF_LOGITS; i++) {
            double want = 1 / (1 + exp(-(double)logits[i]));
            if (!(fabs((double)weights[i] - want) <= 3 * 0x1p-23 * want))
                fail_msg("%s: sigmoid(%g) = %g, want %g", cpu_isa_name(kernels.isa),
                         (double)logits[i], (double)weights[i], want);
        }
        float extremes[] = {INFINITY, -INFINITY, 1000.0f, -1000.0f, NAN};
        args.rows = 5;
        args.logits = extremes;
        kernels.ops->router(&kernels, &args);
        assert_true(weights[0] == 1.0f && weights[1] == 0.0f);
        assert_true(weights[2] == 1.0f && weights[3] == 0.0f && isnan(weights[4]));
        kernels_deinit(&kernels);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agree_with_the_reference),
        cmocka_unit_test(rows_do_not_see_their_neighbours),
        cmocka_unit_test(a_sum_that_depends_on_the_rows_is_caught),
        cmocka_unit_test(norms_agree_with_double_arithmetic),
        cmocka_unit_test(routers_agree_with_double_arithmetic),
        cmocka_unit_test(equal_scores_go_to_the_lower_id),
        cmocka_unit_test(a_router_survives_nan),
        cmocka_unit_test(exponentials_are_accurate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
