/* The matrix products of every instruction set that this machine has, held against the reference
 * kernels: op x shape x dtype x instruction set, with bounds from one table. The reference itself
 * is held against sums formed here from the unpacked source. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernel_ops.h"
#include "tests/unit/unit_test.h"

/* How far an output may be from exact arithmetic.
 * `sum`: times sqrt(K) * sum |x||w|. A sum of K products rounds at most twice a term, each by at
 * most 2^-24 of the partial sum; with random signs the total stays below 6 sqrt(2K) 2^-24 sum|x||w|
 * but with probability 4e-8 (Higham and Mary 2019, lambda = 6). bf16 inputs are exact in the
 * products. A wrong or missing term is 1/K of sum|x||w|, more than the bound for all K tested.
 * `flush`: times K. The bf16 dot product of AVX-512 takes subnormals as zero.
 * `output`: times the result; two roundings to the output type (fast and reference), half a unit
 * each. silu is computed to a few ulp: `silu`, times the result. */
static const struct bound {
    double sum, flush, output, silu;
} bounds[] = {
    [DTYPE_F32] = {6 * 1.4143 * 0x1p-24, 0x1p-126, 0x1p-23, 8 * 0x1p-24},
    [DTYPE_BF16] = {6 * 1.4143 * 0x1p-24, 0x1p-126, 0x1p-7, 8 * 0x1p-24},
};

enum op { OP_GEMM, OP_GATE_UP, OP_DOWN, OP_COUNT };

struct problem {
    enum op op;
    enum dtype dtype, y_dtype;
    int32_t rows, n, k;
    int32_t experts; /* 1 for gemm */
    int32_t k_parts; /* of gemm */
    bool gather;
    /* What it is made of: */
    float *w;         /* [experts][2 if gated][n][k], values of dtype */
    char *x;          /* act rows of dtype */
    float *bias;      /* [n] */
    int32_t *offsets; /* [experts + 1] */
    int32_t *source;  /* [rows] */
};

static uint32_t random_state = 12345;

static uint32_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static float random_value(enum dtype dtype) {
    float value = (float)((double)random_next() / 0x1p31 - 1.0);
    return dtype == DTYPE_BF16 ? dtype_bf16_to_f32(dtype_f32_to_bf16(value)) : value;
}

static void put(void *array, enum dtype dtype, int64_t index, float value) {
    if (dtype == DTYPE_BF16)
        ((uint16_t *)array)[index] = dtype_f32_to_bf16(value);
    else
        ((float *)array)[index] = value;
}

static float get(const void *array, enum dtype dtype, int64_t index) {
    if (dtype == DTYPE_BF16)
        return dtype_bf16_to_f32(((const uint16_t *)array)[index]);
    return ((const float *)array)[index];
}

static int32_t parts_of(const struct problem *problem) {
    return problem->op == OP_GATE_UP ? 2 : 1;
}

/* Rows of x: as many as outputs; with gather they are read out of order and repeatedly. */
static void problem_init(struct problem *problem) {
    int64_t weights = (int64_t)problem->experts * parts_of(problem) * problem->n * problem->k;
    problem->w = malloc((size_t)weights * sizeof *problem->w);
    for (int64_t i = 0; i < weights; i++)
        problem->w[i] = random_value(problem->dtype);
    int64_t stride = activation_stride(problem->k);
    problem->x = calloc((size_t)(problem->rows * stride), sizeof(float));
    for (int32_t row = 0; row < problem->rows; row++)
        for (int32_t k = 0; k < problem->k; k++)
            put(problem->x, problem->dtype, row * stride + k, random_value(problem->dtype));
    problem->bias = malloc((size_t)problem->n * sizeof(float));
    for (int32_t n = 0; n < problem->n; n++)
        problem->bias[n] = random_value(DTYPE_F32);
    problem->offsets = calloc((size_t)problem->experts + 1, sizeof(int32_t));
    for (int32_t e = 1; e < problem->experts; e++) /* expert 1 (of several) has no rows */
        problem->offsets[e] =
            e == 2 ? problem->offsets[1]
                   : problem->offsets[e - 1] +
                         (int32_t)(random_next() % (uint32_t)problem->rows) / problem->experts;
    problem->offsets[problem->experts] = problem->rows;
    problem->source = malloc((size_t)problem->rows * sizeof(int32_t));
    for (int32_t row = 0; row < problem->rows; row++)
        problem->source[row] =
            problem->gather ? (int32_t)(random_next() % (uint32_t)problem->rows) : row;
}

static void problem_deinit(struct problem *problem) {
    free(problem->w);
    free(problem->x);
    free(problem->bias);
    free(problem->offsets);
    free(problem->source);
}

static void pack(const struct kernels *kernels, const struct problem *problem,
                 struct weight *weight) {
    bool gated = problem->op == OP_GATE_UP;
    weight_describe(kernels, gated ? WEIGHT_GATED : WEIGHT_PLAIN, problem->dtype, problem->experts,
                    problem->n, problem->k, weight);
    weight->data = aligned_alloc(64, weight_bytes(weight));
    memset(weight->data, 0, weight_bytes(weight));
    for (int32_t e = 0; e < problem->experts; e++) {
        for (int32_t part = 0; part < parts_of(problem); part++) {
            int64_t matrix = (int64_t)(e * parts_of(problem) + part) * problem->n * problem->k;
            struct weight_piece piece = {
                .group = e,
                .part = !gated      ? WEIGHT_PART_ONLY
                        : part == 0 ? WEIGHT_PART_GATE
                                    : WEIGHT_PART_UP,
                .row_count = problem->n,
                .source = problem->w + matrix,
                .source_dtype = DTYPE_F32,
                .source_stride = problem->k,
            };
            weight_pack(kernels, weight, &piece);
        }
    }
}

static enum dtype output_dtype(const struct problem *problem) {
    if (problem->op == OP_GEMM)
        return DTYPE_F32;
    return problem->op == OP_GATE_UP ? problem->dtype : problem->y_dtype;
}

static int64_t output_stride(const struct problem *problem) {
    if (problem->op == OP_GEMM)
        return problem->n + 3;
    return problem->op == OP_GATE_UP ? activation_stride(problem->n) : problem->n;
}

static size_t output_bytes(const struct problem *problem) {
    return (size_t)(problem->rows * output_stride(problem) * dtype_bytes(output_dtype(problem)));
}

/* The same rows in the opposite order are the same rows. */
static void check_places(const struct kernels *kernels, const struct expert_down_args *args,
                         int32_t rows, size_t row_bytes) {
    char *turned = malloc((size_t)rows * row_bytes + 1);
    int32_t *place = malloc(((size_t)rows + 1) * sizeof *place);
    assert_true(turned != NULL && place != NULL);
    for (int32_t row = 0; row < rows; row++)
        place[row] = rows - 1 - row;
    struct expert_down_args again = *args;
    again.y = turned;
    again.place = place;
    kernels->ops->expert_down(kernels, &again);
    for (int32_t row = 0; row < rows; row++)
        assert_memory_equal((const char *)args->y + (size_t)row * row_bytes,
                            turned + (size_t)place[row] * row_bytes, row_bytes);
    free(turned);
    free(place);
}

/* Gathered rows stand where a message left them: aligned to 4 bytes and no more. */
static void compute_gate_up(const struct kernels *kernels, const struct problem *problem,
                            const struct weight *weight, void *y) {
    size_t row_bytes = (size_t)activation_stride(problem->k) * (size_t)dtype_bytes(problem->dtype);
    char *message = malloc((size_t)problem->rows * row_bytes + 4);
    const void **x_at = malloc((size_t)problem->rows * sizeof *x_at);
    memcpy(message + 4, problem->x, (size_t)problem->rows * row_bytes);
    for (int32_t row = 0; row < problem->rows; row++)
        x_at[row] = message + 4 + (size_t)problem->source[row] * row_bytes;
    struct expert_gate_up_args args = {.rows = {problem->experts, problem->offsets},
                                       .x = problem->gather ? NULL : problem->x,
                                       .x_at = problem->gather ? x_at : NULL,
                                       .weight = weight,
                                       .h = y};
    kernels->ops->expert_gate_up(kernels, &args);
    free(message);
    free(x_at);
}

/* Computes the problem into y, whose bytes are 0xa5 before. */
static void compute(const struct kernels *kernels, const struct problem *problem, void *y) {
    struct weight weight;
    pack(kernels, problem, &weight);
    memset(y, 0xa5, output_bytes(problem));
    struct expert_rows rows = {problem->experts, problem->offsets};
    if (problem->op == OP_GEMM) {
        struct gemm_args args = {.rows = problem->rows,
                                 .parts = problem->k_parts,
                                 .x = problem->x,
                                 .weight = &weight,
                                 .bias = problem->bias,
                                 .y = y,
                                 .y_stride = output_stride(problem)};
        kernels->ops->gemm(kernels, &args);
    } else if (problem->op == OP_GATE_UP) {
        compute_gate_up(kernels, problem, &weight, y);
    } else {
        struct expert_down_args args = {rows, problem->x, &weight, y, problem->y_dtype, NULL};
        kernels->ops->expert_down(kernels, &args);
        check_places(kernels, &args, problem->rows,
                     (size_t)problem->n * (size_t)dtype_bytes(problem->y_dtype));
    }
    free(weight.data);
}

/* x row . W row, and the same with absolute values. */
static double dot(const struct problem *problem, int32_t expert, int32_t part, int32_t row,
                  int32_t n, double *absolute) {
    int64_t matrix = (int64_t)(expert * parts_of(problem) + part) * problem->n + n;
    int64_t base = problem->source[row] * activation_stride(problem->k);
    double sum = 0;
    *absolute = 0;
    for (int32_t k = 0; k < problem->k; k++) {
        double product = (double)get(problem->x, problem->dtype, base + k) *
                         (double)problem->w[matrix * problem->k + k];
        sum += product;
        *absolute += fabs(product);
    }
    return sum;
}

struct judged {
    double value, error; /* exact, and how far an output may be from it */
};

static struct judged judge(const struct problem *problem, int32_t expert, int32_t row, int32_t n) {
    const struct bound *bound = &bounds[output_dtype(problem)];
    double absolute, root = sqrt((double)problem->k);
    struct judged result;
    result.value = dot(problem, expert, 0, row, n, &absolute);
    result.error = bound->sum * root * absolute + bound->flush * problem->k;
    if (problem->op == OP_GEMM) {
        result.value += (double)problem->bias[n];
    } else if (problem->op == OP_GATE_UP) {
        double up = dot(problem, expert, 1, row, n, &absolute);
        double up_error = bound->sum * root * absolute + bound->flush * problem->k;
        double silu = result.value / (1 + exp(-result.value));
        result.value = silu * up;
        result.error = 1.1 * result.error * fabs(up) + up_error * fabs(silu) +
                       1.1 * result.error * up_error + bound->silu * fabs(result.value);
    }
    result.error += bound->output * (fabs(result.value) + result.error);
    return result;
}

/* y of some kernels against the exact values and, when given, against y of the reference. */
static int64_t count_outside(const struct problem *problem, const struct judged *exact,
                             const void *y, const void *reference) {
    enum dtype dtype = output_dtype(problem);
    int64_t stride = output_stride(problem), outside = 0;
    for (int32_t row = 0; row < problem->rows; row++) {
        for (int32_t n = 0; n < problem->n; n++) {
            const struct judged *one = &exact[(int64_t)row * problem->n + n];
            double value = (double)get(y, dtype, row * stride + n);
            double expected =
                reference != NULL ? (double)get(reference, dtype, row * stride + n) : one->value;
            outside += !(fabs(value - expected) <= one->error);
        }
        for (int64_t n = problem->n; n < stride; n++) { /* zeros in act rows, else untouched */
            uint32_t bits = 0, expected = 0;
            memcpy(&bits, (const char *)y + (row * stride + n) * dtype_bytes(dtype),
                   (size_t)dtype_bytes(dtype));
            if (problem->op == OP_GEMM)
                memset(&expected, 0xa5, sizeof expected);
            outside += bits != expected;
        }
    }
    return outside;
}

static struct judged *judge_all(const struct problem *problem) {
    struct judged *exact = malloc((size_t)problem->rows * (size_t)problem->n * sizeof *exact);
    int32_t expert = 0;
    for (int32_t row = 0; row < problem->rows; row++) {
        while (problem->offsets[expert + 1] <= row)
            expert++;
        for (int32_t n = 0; n < problem->n; n++)
            exact[(int64_t)row * problem->n + n] = judge(problem, expert, row, n);
    }
    return exact;
}

static void check_problem(struct problem problem, const struct kernels *all) {
    problem_init(&problem);
    struct judged *exact = judge_all(&problem);
    void *reference = malloc(output_bytes(&problem)), *y = malloc(output_bytes(&problem));
    compute(&all[CPU_ISA_REFERENCE], &problem, reference);
    assert_int_equal(count_outside(&problem, exact, reference, NULL), 0);
    for (int isa = CPU_ISA_BASELINE; isa < CPU_ISA_COUNT; isa++) {
        if (!cpu_isa_supported((enum cpu_isa)isa))
            continue;
        compute(&all[isa], &problem, y);
        int64_t outside = count_outside(&problem, exact, y, reference);
        if (outside != 0)
            print_error("%s: op %d %s M %d N %d K %d experts %d: %lld outputs outside\n",
                        all[isa].ops->name, problem.op, dtype_name(problem.dtype), problem.rows,
                        problem.n, problem.k, problem.experts, (long long)outside);
        assert_int_equal(outside, 0);
    }
    free(reference);
    free(y);
    free(exact);
    problem_deinit(&problem);
}

/* Kernels of every instruction set that this machine has. */
static void init_all(struct kernels *all, int32_t threads) {
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++) {
        memset(&all[isa], 0, sizeof all[isa]);
        if (cpu_isa_supported((enum cpu_isa)isa))
            assert_int_equal(kernels_init(&all[isa], (enum cpu_isa)isa, threads), STATUS_OK);
    }
}

static void deinit_all(struct kernels *all) {
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
        kernels_deinit(&all[isa]);
}

static const int32_t odd_sizes[] = {1, 3, 17, 33, 255};
#define ODD_SIZES ((int)(sizeof odd_sizes / sizeof *odd_sizes))

static void check_shape(const struct kernels *all, int32_t rows, int32_t n, int32_t k) {
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        struct problem problem = {.dtype = (enum dtype)dtype, .rows = rows, .n = n, .k = k};
        problem.op = OP_GEMM;
        problem.experts = 1;
        check_problem(problem, all);
        for (problem.k_parts = 2; problem.k_parts <= 8; problem.k_parts *= 2)
            if (k % (2 * problem.k_parts) == 0)
                check_problem(problem, all);
        problem.op = OP_GATE_UP;
        problem.experts = rows > 3 ? 5 : 1;
        problem.gather = rows > 1;
        check_problem(problem, all);
        problem.op = OP_DOWN;
        problem.gather = false;
        problem.y_dtype = DTYPE_BF16;
        check_problem(problem, all);
        problem.y_dtype = DTYPE_F32;
        check_problem(problem, all);
    }
}

static void odd_shapes_match_the_reference(void **state) {
    (void)state;
    struct kernels all[CPU_ISA_COUNT];
    init_all(all, 2);
    for (int m = 0; m < ODD_SIZES; m++)
        for (int n = 0; n < ODD_SIZES; n++)
            for (int k = 0; k < ODD_SIZES; k++)
                check_shape(all, odd_sizes[m], odd_sizes[n], odd_sizes[k]);
    deinit_all(all);
}

/* Real widths, more rows than a block holds, K of several blocks. */
static void real_shapes_match_the_reference(void **state) {
    (void)state;
    static const int32_t shapes[][3] = {{4, 512, 2048}, {1, 1024, 512}, {520, 70, 40},
                                        {9, 33, 5001},  {64, 40, 1408}, {7, 130, 2052}};
    struct kernels all[CPU_ISA_COUNT];
    init_all(all, 3);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_shape(all, shapes[i][0], shapes[i][1], shapes[i][2]);
    deinit_all(all);
}

/* The comparison above can fail: one wrong weight in one row is seen. */
static void a_wrong_weight_is_seen(void **state) {
    (void)state;
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        struct kernels kernels;
        assert_int_equal(kernels_init(&kernels, cpu_isa_best(), 1), STATUS_OK);
        struct problem problem = {
            .op = OP_GEMM, .dtype = (enum dtype)dtype, .rows = 3, .n = 20, .k = 5001, .experts = 1};
        problem_init(&problem);
        struct judged *exact = judge_all(&problem);
        void *y = malloc(output_bytes(&problem));
        problem.w[7 * problem.k + 4999] += 0.5f;
        compute(&kernels, &problem, y);
        assert_in_range(count_outside(&problem, exact, y, NULL), 1, 3);
        free(y);
        free(exact);
        problem_deinit(&problem);
        kernels_deinit(&kernels);
    }
}

/* ---- Bits ---- */

typedef void (*gemm_op)(const struct kernels *kernels, const struct gemm_args *args);

/* The rows of one problem, computed by `op` (gemm) or the table's expert ops. */
struct bits_case {
    enum op op;
    gemm_op gemm;
    int32_t k_parts; /* of gemm */
    enum dtype dtype;
    struct weight weight;
    const char *x;            /* BITS_ROWS act rows */
    char *y;                  /* outputs of the latest run */
    int64_t x_bytes, y_bytes; /* of a row */
};

#define BITS_ROWS 100
#define BITS_N 72
#define BITS_K 2300

/* Rows first .. first + rows - 1 of x, standing alone in the call, into one->y. */
static void run_bits(const struct kernels *kernels, struct bits_case *one, const char *x,
                     int32_t rows) {
    const int32_t offsets[4] = {0, 0, rows, rows};
    struct expert_rows expert_rows = {3, offsets};
    if (one->op == OP_GEMM) {
        struct gemm_args args = {.rows = rows,
                                 .parts = one->k_parts,
                                 .x = x,
                                 .weight = &one->weight,
                                 .y = (float *)(void *)one->y,
                                 .y_stride = BITS_N};
        one->gemm(kernels, &args);
    } else if (one->op == OP_GATE_UP) {
        struct expert_gate_up_args args = {expert_rows, x, NULL, &one->weight, one->y};
        kernels->ops->expert_gate_up(kernels, &args);
    } else {
        struct expert_down_args args = {expert_rows, x, &one->weight, one->y, DTYPE_F32, NULL};
        kernels->ops->expert_down(kernels, &args);
    }
}

static void bits_init(const struct kernels *kernels, struct bits_case *one,
                      struct problem *problem) {
    *problem = (struct problem){.op = one->op,
                                .dtype = one->dtype,
                                .y_dtype = DTYPE_F32,
                                .rows = BITS_ROWS,
                                .n = BITS_N,
                                .k = BITS_K,
                                .experts = one->op == OP_GEMM ? 1 : 3};
    problem_init(problem);
    pack(kernels, problem, &one->weight);
    one->x = problem->x;
    one->x_bytes = activation_stride(BITS_K) * dtype_bytes(one->dtype);
    one->y_bytes = one->op == OP_GATE_UP ? activation_stride(BITS_N) * dtype_bytes(one->dtype)
                                         : BITS_N * (int64_t)sizeof(float);
    one->y = malloc((size_t)(BITS_ROWS * one->y_bytes));
}

/* Fills x with NaN and infinity but for row `keep`. */
static char *poison_all_but(const struct bits_case *one, int32_t keep, int32_t rows) {
    char *x = calloc((size_t)rows, (size_t)one->x_bytes);
    for (int32_t row = 0; row < rows; row++)
        for (int32_t k = 0; k < BITS_K; k++)
            put(x + row * one->x_bytes, one->dtype, k, (k + row) % 3 == 0 ? INFINITY : NAN);
    memcpy(x + keep * one->x_bytes, one->x + keep * one->x_bytes, (size_t)one->x_bytes);
    return x;
}

static int32_t differing_rows(const struct bits_case *one, const char *alone, int32_t rows) {
    int32_t differing = 0;
    for (int32_t row = 0; row < rows; row++)
        differing += memcmp(one->y + row * one->y_bytes, alone + row * one->y_bytes,
                            (size_t)one->y_bytes) != 0;
    return differing;
}

/* How many rows differ, in any run, from the same row computed alone by one thread: in batches of
 * 1..20, 64 and 100, by 1, 2 and 3 threads, and beside rows of NaN and infinity. */
static int32_t count_variant_rows(enum cpu_isa isa, enum op op, enum dtype dtype, int32_t k_parts,
                                  gemm_op gemm) {
    struct kernels kernels[3];
    for (int32_t t = 0; t < 3; t++)
        assert_int_equal(kernels_init(&kernels[t], isa, t + 1), STATUS_OK);
    struct bits_case one = {.op = op, .gemm = gemm, .k_parts = k_parts, .dtype = dtype};
    if (one.gemm == NULL)
        one.gemm = kernels[0].ops->gemm;
    struct problem problem;
    bits_init(&kernels[0], &one, &problem);
    char *alone = malloc((size_t)(BITS_ROWS * one.y_bytes));
    for (int32_t row = 0; row < BITS_ROWS; row++) {
        run_bits(&kernels[0], &one, one.x + row * one.x_bytes, 1);
        memcpy(alone + row * one.y_bytes, one.y, (size_t)one.y_bytes);
    }
    int32_t variant = 0;
    for (int32_t rows = 1; rows <= BITS_ROWS; rows += rows < 20 ? 1 : rows == 20 ? 44 : 36) {
        for (int32_t t = 0; t < 3; t++) {
            memset(one.y, 0xa5, (size_t)(BITS_ROWS * one.y_bytes));
            run_bits(&kernels[t], &one, one.x, rows);
            variant += differing_rows(&one, alone, rows);
        }
    }
    for (int32_t rows = 1; rows <= 20; rows++) {
        int32_t keep = rows / 2;
        char *x = poison_all_but(&one, keep, rows);
        run_bits(&kernels[1], &one, x, rows);
        variant += memcmp(one.y + keep * one.y_bytes, alone + keep * one.y_bytes,
                          (size_t)one.y_bytes) != 0;
        free(x);
    }
    free(alone);
    free(one.y);
    free(one.weight.data);
    problem_deinit(&problem);
    for (int32_t t = 0; t < 3; t++)
        kernels_deinit(&kernels[t]);
    return variant;
}

static void rows_have_the_same_bits_in_every_company(void **state) {
    (void)state;
    for (int isa = CPU_ISA_BASELINE; isa < CPU_ISA_COUNT; isa++) {
        if (!cpu_isa_supported((enum cpu_isa)isa))
            continue;
        for (int op = 0; op < OP_COUNT; op++)
            for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++)
                for (int32_t k_parts = 1; k_parts <= (op == OP_GEMM ? 2 : 1); k_parts++)
                    assert_int_equal(count_variant_rows((enum cpu_isa)isa, (enum op)op,
                                                        (enum dtype)dtype, k_parts, NULL),
                                     0);
    }
}

/* A product that cuts K in two when there are 4 rows or more: correct, and not row-invariant. */
static void split_k_gemm(const struct kernels *kernels, const struct gemm_args *args) {
    (void)kernels;
    const struct weight *weight = args->weight;
    float row_of_w[BITS_K];
    for (int32_t n = 0; n < weight->rows; n++) {
        weight_unpack_row(weight, 0, WEIGHT_PART_ONLY, n, row_of_w);
        for (int32_t m = 0; m < args->rows; m++) {
            float sums[2] = {0, 0};
            for (int32_t k = 0; k < weight->columns; k++)
                sums[args->rows >= 4 && k >= weight->columns / 2] +=
                    get(args->x, weight->dtype, m * activation_stride(weight->columns) + k) *
                    row_of_w[k];
            args->y[m * args->y_stride + n] = sums[0] + sums[1];
        }
    }
}

static void a_split_k_product_is_caught(void **state) {
    (void)state;
    assert_true(count_variant_rows(CPU_ISA_REFERENCE, OP_GEMM, DTYPE_F32, 1, split_k_gemm) > 100);
}

/* ---- Shares of K ---- */

/* The elements of x and w from `first` on. */
static void take_share(const struct problem *whole, int32_t first, struct problem *share) {
    for (int32_t n = 0; n < whole->n; n++)
        memcpy(share->w + (int64_t)n * share->k, whole->w + (int64_t)n * whole->k + first,
               (size_t)share->k * sizeof *share->w);
    for (int32_t row = 0; row < whole->rows; row++)
        for (int32_t k = 0; k < share->k; k++)
            put(share->x, share->dtype, row * activation_stride(share->k) + k,
                get(whole->x, whole->dtype, row * activation_stride(whole->k) + first + k));
}

static struct problem problem_of_sums(enum dtype dtype, int32_t k, int32_t k_parts) {
    struct problem problem = {.op = OP_GEMM,
                              .dtype = dtype,
                              .rows = 13,
                              .n = 70,
                              .k = k,
                              .experts = 1,
                              .k_parts = k_parts};
    problem_init(&problem);
    free(problem.bias);
    problem.bias = NULL;
    return problem;
}

/* How many of the whole's sums differ from those of `count` shares of K that are computed by
 * themselves and added up: in a tree, or one after the other. */
static int32_t count_other_sums(const struct kernels *kernels, enum dtype dtype, int32_t count,
                                bool in_tree) {
    struct problem whole = problem_of_sums(dtype, 384, 8);
    size_t bytes = output_bytes(&whole);
    float *y = malloc(bytes), *sums[8];
    int32_t other = 0;
    compute(kernels, &whole, y);
    for (int32_t i = 0; i < count; i++) {
        struct problem share = problem_of_sums(dtype, whole.k / count, 8 / count);
        take_share(&whole, i * share.k, &share);
        sums[i] = malloc(bytes);
        compute(kernels, &share, sums[i]);
        problem_deinit(&share);
    }
    int64_t values = (int64_t)bytes / (int64_t)sizeof(float);
    for (int32_t step = 1; step < count; step = in_tree ? 2 * step : step + 1)
        for (int32_t at = 0; at + step < count; at += in_tree ? 2 * step : count)
            for (int64_t i = 0; i < values; i++)
                sums[at][i] += sums[at + step][i];
    for (int64_t i = 0; i < values; i++) /* but what is behind a row */
        other += i % (whole.n + 3) < whole.n && memcmp(&y[i], &sums[0][i], sizeof *y) != 0;
    for (int32_t i = 0; i < count; i++)
        free(sums[i]);
    free(y);
    problem_deinit(&whole);
    return other;
}

/* What tensor parallelism rests on. Control: the same shares in another order. */
static void shares_of_k_add_up_to_the_same_bits(void **state) {
    (void)state;
    struct kernels all[CPU_ISA_COUNT];
    init_all(all, 2);
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
        for (int dtype = DTYPE_F32; all[isa].ops != NULL && dtype <= DTYPE_BF16; dtype++) {
            for (int32_t count = 1; count <= 8; count *= 2)
                assert_int_equal(count_other_sums(&all[isa], (enum dtype)dtype, count, true), 0);
            assert_true(count_other_sums(&all[isa], (enum dtype)dtype, 4, false) > 10);
        }
    deinit_all(all);
}

/* ---- Packing ---- */

static void fill_source(char *source, enum dtype dtype, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float value = random_value(DTYPE_F32) + 1.5f; /* never 0 */
        uint16_t half = dtype == DTYPE_BF16 ? dtype_f32_to_bf16(value)
                                            : (uint16_t)(0x1u + (random_next() & 0x7bfeu));
        if (dtype == DTYPE_F32)
            memcpy(source + i * 4, &value, 4);
        else
            memcpy(source + i * 2, &half, 2);
    }
}

static float source_value(const char *source, enum dtype dtype, int64_t index) {
    float value;
    uint16_t half;
    if (dtype == DTYPE_F32) {
        memcpy(&value, source + index * 4, 4);
        return value;
    }
    memcpy(&half, source + index * 2, 2);
    return dtype == DTYPE_BF16 ? dtype_bf16_to_f32(half) : dtype_f16_to_f32(half);
}

/* Packs rows in pieces of uneven size from unaligned source, reads them back. Returns how many
 * elements differ. */
static int64_t round_trip(const struct kernels *kernels, struct weight *weight,
                          enum weight_part part, enum dtype from) {
    int64_t stride = weight->columns + 5, bytes = dtype_bytes(from), differing = 0;
    char *buffer = malloc((size_t)(weight->rows * stride * bytes) + 1);
    char *source = buffer + 1;
    float *row_values = malloc((size_t)weight->columns * sizeof *row_values);
    int32_t group = weight->groups - 1;
    fill_source(source, from, weight->rows * stride);
    for (int32_t row = 0, count; row < weight->rows; row += count) {
        count = 1 + (int32_t)(random_next() % 40);
        if (count > weight->rows - row)
            count = weight->rows - row;
        struct weight_piece piece = {group, part,  row, count, source + row * stride * bytes,
                                     from,  stride};
        weight_pack(kernels, weight, &piece);
    }
    for (int32_t row = 0; row < weight->rows; row++) {
        weight_unpack_row(weight, group, part, row, row_values);
        for (int32_t k = 0; k < weight->columns; k++) {
            float expected = source_value(source, from, row * stride + k);
            if (weight->dtype == DTYPE_BF16)
                expected = dtype_bf16_to_f32(dtype_f32_to_bf16(expected));
            differing += memcmp(&expected, &row_values[k], sizeof expected) != 0;
        }
    }
    free(row_values);
    free(buffer);
    return differing;
}

static int64_t count_nonzero(const struct weight *weight) {
    int64_t bytes = dtype_bytes(weight->dtype), nonzero = 0;
    for (size_t at = 0; at < weight_bytes(weight); at += (size_t)bytes)
        nonzero += get((const char *)weight->data + at, weight->dtype, 0) != 0.0f;
    return nonzero;
}

static void check_round_trip(const struct kernels *kernels, enum weight_form form, enum dtype to,
                             int32_t rows, int32_t columns) {
    for (int from = 0; from < DTYPE_COUNT; from++) {
        struct weight weight;
        weight_describe(kernels, form, to, 2, rows, columns, &weight);
        assert_int_equal(weight_bytes(&weight) % 64, 0);
        weight.data = aligned_alloc(64, weight_bytes(&weight));
        memset(weight.data, 0, weight_bytes(&weight));
        bool gated = form == WEIGHT_GATED;
        assert_int_equal(round_trip(kernels, &weight, gated ? WEIGHT_PART_UP : WEIGHT_PART_ONLY,
                                    (enum dtype)from),
                         0);
        if (gated)
            assert_int_equal(round_trip(kernels, &weight, WEIGHT_PART_GATE, (enum dtype)from), 0);
        /* Nothing outside the rows was written: padding and the other group are zero. */
        assert_int_equal(count_nonzero(&weight), (int64_t)(gated ? 2 : 1) * rows * columns);
        free(weight.data);
    }
}

static void packed_weights_read_back(void **state) {
    (void)state;
    struct kernels all[CPU_ISA_COUNT];
    init_all(all, 1);
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++) {
        if (all[isa].ops == NULL)
            continue;
        for (int form = WEIGHT_ROWS; form <= WEIGHT_GATED; form++) {
            for (int to = DTYPE_F32; to <= DTYPE_BF16; to++) {
                for (int n = 0; n < ODD_SIZES; n++)
                    for (int k = 0; k < ODD_SIZES; k++)
                        check_round_trip(&all[isa], (enum weight_form)form, (enum dtype)to,
                                         odd_sizes[n], odd_sizes[k]);
                check_round_trip(&all[isa], (enum weight_form)form, (enum dtype)to, 128, 256);
            }
        }
    }
    deinit_all(all);
}

/* ---- Instruction sets ---- */

static void isa_names_parse(void **state) {
    (void)state;
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++) {
        enum cpu_isa parsed = CPU_ISA_COUNT;
        assert_int_equal(cpu_isa_parse(cpu_isa_name((enum cpu_isa)isa), &parsed), 0);
        assert_int_equal(parsed, isa);
    }
    enum cpu_isa untouched = CPU_ISA_AVX2;
    assert_int_equal(cpu_isa_parse("avx", &untouched), -1);
    assert_int_equal(untouched, CPU_ISA_AVX2);
    assert_true(cpu_isa_supported(CPU_ISA_REFERENCE));
    assert_true(cpu_isa_supported(cpu_isa_best()));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(isa_names_parse),
        cmocka_unit_test(packed_weights_read_back),
        cmocka_unit_test(odd_shapes_match_the_reference),
        cmocka_unit_test(real_shapes_match_the_reference),
        cmocka_unit_test(a_wrong_weight_is_seen),
        cmocka_unit_test(rows_have_the_same_bits_in_every_company),
        cmocka_unit_test(a_split_k_product_is_caught),
        cmocka_unit_test(shares_of_k_add_up_to_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
