/* Reference matrix products: the judge of every fast one. An item of the pool is one row. */
#include "kernels/ref_gemm.h"

#include <math.h>

#include "kernels/base/check.h"

/* Element `index` of an array of f32 or bf16. */
static double element(const void *array, enum dtype dtype, int64_t index) {
    if (dtype == DTYPE_BF16)
        return (double)dtype_bf16_to_f32(((const uint16_t *)array)[index]);
    return (double)((const float *)array)[index];
}

static void store(void *array, enum dtype dtype, int64_t index, double value) {
    if (dtype == DTYPE_BF16)
        ((uint16_t *)array)[index] = dtype_f32_to_bf16((float)value);
    else
        ((float *)array)[index] = (float)value;
}

/* Elements first .. end-1 of input row `row` of act rows . those of output row `output` of W. */
static double dot_of(const struct weight *weight, int32_t group, enum weight_part part,
                     const void *x, int64_t row, int32_t output, int32_t first, int32_t end) {
    const char *data = (const char *)weight->data + (size_t)group * weight->group_bytes;
    int64_t base = row * activation_stride(weight->columns);
    double sum = 0.0;
    for (int32_t k = first; k < end; k++)
        sum += element(x, weight->dtype, base + k) *
               element(data, weight->dtype, weight_element(weight, part, output, k));
    return sum;
}

static double dot(const struct weight *weight, int32_t group, enum weight_part part, const void *x,
                  int64_t row, int32_t output) {
    return dot_of(weight, group, part, x, row, output, 0, weight->columns);
}

/* The sum of `parts` parts of K from part `first` on, as gemm_args has it. */
static double dot_of_parts(const struct gemm_args *args, int32_t row, int32_t output, int32_t first,
                           int32_t parts) {
    int32_t length = args->weight->columns / args->parts;
    if (parts == 1)
        return (double)(float)dot_of(args->weight, 0, WEIGHT_PART_ONLY, args->x, row, output,
                                     first * length, (first + 1) * length);
    float left = (float)dot_of_parts(args, row, output, first, parts / 2);
    return (double)(left + (float)dot_of_parts(args, row, output, first + parts / 2, parts / 2));
}

static int32_t expert_of(const struct expert_rows *rows, int32_t row) {
    int32_t expert = 0;
    while (rows->offsets[expert + 1] <= row)
        expert++;
    return expert;
}

static void gemm_row(void *context, int32_t row, int32_t thread) {
    (void)thread;
    const struct gemm_args *args = context;
    for (int32_t n = 0; n < args->weight->rows; n++) {
        double bias = args->bias != NULL ? (double)args->bias[n] : 0.0;
        args->y[row * args->y_stride + n] =
            (float)((args->parts > 1 ? dot_of_parts(args, row, n, 0, args->parts)
                                     : dot(args->weight, 0, WEIGHT_PART_ONLY, args->x, row, n)) +
                    bias);
    }
}

void ref_gemm_gemm(const struct kernels *kernels, const struct gemm_args *args) {
    ASSERT(args->weight->form == WEIGHT_PLAIN && args->weight->groups == 1);
    struct gemm_args copy = *args;
    thread_pool_run(kernels->pool, args->rows, gemm_row, &copy);
}

static void gate_up_row(void *context, int32_t row, int32_t thread) {
    (void)thread;
    const struct expert_gate_up_args *args = context;
    const struct weight *weight = args->weight;
    int32_t expert = expert_of(&args->rows, row);
    const void *x = args->x_at != NULL ? args->x_at[row] : args->x;
    int32_t x_row = args->x_at != NULL ? 0 : row;
    int64_t stride = activation_stride(weight->rows);
    for (int32_t n = 0; n < stride; n++) {
        double h = 0.0;
        if (n < weight->rows) {
            double gate = dot(weight, expert, WEIGHT_PART_GATE, x, x_row, n);
            double up = dot(weight, expert, WEIGHT_PART_UP, x, x_row, n);
            h = gate / (1.0 + exp(-gate)) * up;
        }
        store(args->h, weight->dtype, row * stride + n, h);
    }
}

void ref_gemm_expert_gate_up(const struct kernels *kernels,
                             const struct expert_gate_up_args *args) {
    ASSERT(args->weight->form == WEIGHT_GATED && args->weight->groups == args->rows.experts);
    struct expert_gate_up_args copy = *args;
    thread_pool_run(kernels->pool, args->rows.offsets[args->rows.experts], gate_up_row, &copy);
}

static void down_row(void *context, int32_t row, int32_t thread) {
    (void)thread;
    const struct expert_down_args *args = context;
    const struct weight *weight = args->weight;
    int32_t expert = expert_of(&args->rows, row);
    int64_t place = args->place != NULL ? args->place[row] : row;
    for (int32_t n = 0; n < weight->rows; n++)
        store(args->y, args->y_dtype, place * weight->rows + n,
              dot(weight, expert, WEIGHT_PART_ONLY, args->h, row, n));
}

void ref_gemm_expert_down(const struct kernels *kernels, const struct expert_down_args *args) {
    ASSERT(args->weight->form == WEIGHT_PLAIN && args->weight->groups == args->rows.experts);
    struct expert_down_args copy = *args;
    thread_pool_run(kernels->pool, args->rows.offsets[args->rows.experts], down_row, &copy);
}
