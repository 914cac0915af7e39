/* moe/moe_layer.c on every instruction set of this machine, against the formulas in double over
 * unpacked weights: routing forms, biases, groups, shared expert, odd sizes, f32 and bf16. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "moe/moe_layer.h"
#include "tests/unit/unit_test.h"

#define ROWS_MAX 17
#define HIDDEN 37
#define EXPERTS 12
#define TOP_K 3
#define WIDTH 19
#define SHARED 11
/* Allowed |out - expected|, as a share of the expected rms. bf16 rounds h and y once each. */
#define BOUND_F32 2e-5
#define BOUND_BF16 2e-2
#define GAP_MIN 1e-5 /* between two scores, as a share of the greater: no near-ties */

struct variant {
    const char *label;
    struct router_spec router;
    bool bias, correction, shared, shared_gate;
};

#define GROUPS_OFF .scale = 1.0f, .groups = 1, .groups_kept = 1
static const struct variant variants[] = {
    {"softmax, normalised", {ROUTER_SOFTMAX, EXPERTS, TOP_K, true, GROUPS_OFF}, 0, 0, 0, 0},
    {"softmax, shared", {ROUTER_SOFTMAX, EXPERTS, TOP_K, false, GROUPS_OFF}, 0, 0, 1, 1},
    {"softmax, biased, shared ungated",
     {ROUTER_SOFTMAX, EXPERTS, 1, false, GROUPS_OFF},
     1,
     0,
     1,
     0},
    {"of chosen", {ROUTER_SOFTMAX_OF_CHOSEN, EXPERTS, TOP_K, false, GROUPS_OFF}, 1, 0, 0, 0},
    {"all experts", {ROUTER_SOFTMAX, EXPERTS, EXPERTS, true, GROUPS_OFF}, 0, 0, 0, 0},
    {"sigmoid, corrected, groups",
     {ROUTER_SIGMOID, EXPERTS, TOP_K, true, 2.5f, 4, 2, ROUTER_GROUP_TOP2_SUM},
     0,
     1,
     1,
     0},
    {"softmax, groups, scaled",
     {ROUTER_SOFTMAX, EXPERTS, TOP_K, false, 1.5f, 3, 1, ROUTER_GROUP_MAX},
     0,
     0,
     0,
     0},
};
#define VARIANTS (sizeof variants / sizeof variants[0])

/* The layer's numbers, as the formulas use them. */
struct numbers {
    double router[EXPERTS][HIDDEN], bias[EXPERTS], correction[EXPERTS];
    double gate[EXPERTS][WIDTH][HIDDEN], up[EXPERTS][WIDTH][HIDDEN], down[EXPERTS][HIDDEN][WIDTH];
    double shared_gate[SHARED][HIDDEN], shared_up[SHARED][HIDDEN], shared_down[HIDDEN][SHARED];
    double expert_gate[HIDDEN];
    double x[ROWS_MAX][HIDDEN];
};

/* The same as the layer takes them. */
struct subject {
    struct kernels kernels;
    struct moe_layer layer;
    struct moe_workspace workspace;
    float bias[EXPERTS], correction[EXPERTS];
    void *regions[8];
    size_t region_bytes[8];
    int32_t region_count;
    float *x_f32;
    void *x_act;
};

static uint64_t random_state;

/* Uniform in [-1, 1), a multiple of 2^-6: exact in bf16, so that only the layer rounds. */
static double draw(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)((int32_t)(random_state >> 57) - 64) / 64.0;
}

static void draw_all(double *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        values[i] = draw();
}

static void *take(struct subject *s, size_t bytes) {
    void *region;
    assert_in_range(s->region_count, 0, 7);
    assert_int_equal(memory_acquire("test", bytes, &region), STATUS_OK);
    s->regions[s->region_count] = region;
    s->region_bytes[s->region_count++] = bytes;
    return region;
}

static void pack(const struct subject *s, const struct weight *weight, int32_t group,
                 enum weight_part part, const double *values) {
    float rows[WIDTH * HIDDEN];
    int32_t count = weight->rows * weight->columns;
    assert_true(count <= WIDTH * HIDDEN);
    for (int32_t i = 0; i < count; i++)
        rows[i] = (float)values[i];
    struct weight_piece piece = {.group = group,
                                 .part = part,
                                 .row_count = weight->rows,
                                 .source = rows,
                                 .source_dtype = DTYPE_F32,
                                 .source_stride = weight->columns};
    weight_pack(&s->kernels, weight, &piece);
}

static void make_weight(struct subject *s, struct arena *arena, struct weight *weight,
                        const struct weight *shape) {
    weight_describe(&s->kernels, shape->form, shape->dtype, shape->groups, shape->rows,
                    shape->columns, weight);
    weight->data = arena_take(arena, weight_bytes(weight));
}

/* Describes all matrices; twice, as the loader does: once to measure, once to place. */
static void make_weights(struct subject *s, const struct variant *variant, struct arena *arena) {
    struct moe_layer *layer = &s->layer;
    enum dtype dtype = layer->act_dtype;
    make_weight(s, arena, &layer->router_weight,
                &(struct weight){WEIGHT_PLAIN, DTYPE_F32, 1, EXPERTS, HIDDEN, 0, 0, NULL});
    make_weight(s, arena, &layer->gate_up,
                &(struct weight){WEIGHT_GATED, dtype, EXPERTS, WIDTH, HIDDEN, 0, 0, NULL});
    make_weight(s, arena, &layer->down,
                &(struct weight){WEIGHT_PLAIN, dtype, EXPERTS, HIDDEN, WIDTH, 0, 0, NULL});
    if (!variant->shared)
        return;
    make_weight(s, arena, &layer->shared_gate_up,
                &(struct weight){WEIGHT_GATED, dtype, 1, SHARED, HIDDEN, 0, 0, NULL});
    make_weight(s, arena, &layer->shared_down,
                &(struct weight){WEIGHT_PLAIN, dtype, 1, HIDDEN, SHARED, 0, 0, NULL});
    if (variant->shared_gate)
        make_weight(s, arena, &layer->shared_expert_gate,
                    &(struct weight){WEIGHT_PLAIN, DTYPE_F32, 1, 1, HIDDEN, 0, 0, NULL});
}

static void pack_all(struct subject *s, const struct variant *variant, const struct numbers *n) {
    struct moe_layer *layer = &s->layer;
    pack(s, &layer->router_weight, 0, WEIGHT_PART_ONLY, &n->router[0][0]);
    for (int32_t e = 0; e < EXPERTS; e++) {
        pack(s, &layer->gate_up, e, WEIGHT_PART_GATE, &n->gate[e][0][0]);
        pack(s, &layer->gate_up, e, WEIGHT_PART_UP, &n->up[e][0][0]);
        pack(s, &layer->down, e, WEIGHT_PART_ONLY, &n->down[e][0][0]);
        s->bias[e] = (float)n->bias[e];
        s->correction[e] = (float)n->correction[e];
    }
    if (!variant->shared)
        return;
    pack(s, &layer->shared_gate_up, 0, WEIGHT_PART_GATE, &n->shared_gate[0][0]);
    pack(s, &layer->shared_gate_up, 0, WEIGHT_PART_UP, &n->shared_up[0][0]);
    pack(s, &layer->shared_down, 0, WEIGHT_PART_ONLY, &n->shared_down[0][0]);
    if (variant->shared_gate)
        pack(s, &layer->shared_expert_gate, 0, WEIGHT_PART_ONLY, n->expert_gate);
}

static void subject_open(struct subject *s, const struct variant *variant, enum cpu_isa isa,
                         enum dtype dtype, const struct numbers *n) {
    memset(s, 0, sizeof *s);
    assert_int_equal(kernels_init(&s->kernels, isa, 2), STATUS_OK);
    s->layer = (struct moe_layer){.router = variant->router,
                                  .hidden = HIDDEN,
                                  .expert_intermediate = WIDTH,
                                  .shared_intermediate = variant->shared ? SHARED : 0,
                                  .router_bias = variant->bias ? s->bias : NULL,
                                  .router_correction = variant->correction ? s->correction : NULL,
                                  .act_dtype = dtype,
                                  .wire_dtype = dtype};
    struct arena arena = {0};
    make_weights(s, variant, &arena);
    moe_workspace_take(&arena, &s->layer, ROWS_MAX, NULL, 1, &s->workspace);
    arena = (struct arena){.base = take(s, arena.used), .capacity = arena.used};
    make_weights(s, variant, &arena);
    moe_workspace_take(&arena, &s->layer, ROWS_MAX, NULL, 1, &s->workspace);
    assert_int_equal(arena.used, arena.capacity);
    pack_all(s, variant, n);
    size_t elements = (size_t)ROWS_MAX * (size_t)activation_stride(HIDDEN);
    s->x_f32 = take(s, elements * sizeof(float));
    s->x_act = dtype == DTYPE_F32 ? s->x_f32 : take(s, elements * sizeof(uint16_t));
    for (int32_t m = 0; m < ROWS_MAX; m++)
        for (int32_t i = 0; i < HIDDEN; i++) {
            s->x_f32[m * activation_stride(HIDDEN) + i] = (float)n->x[m][i];
            if (dtype == DTYPE_BF16)
                ((uint16_t *)s->x_act)[m * activation_stride(HIDDEN) + i] =
                    dtype_f32_to_bf16((float)n->x[m][i]);
        }
}

static void subject_close(struct subject *s) {
    for (int32_t i = 0; i < s->region_count; i++)
        memory_release(s->regions[i], s->region_bytes[i]);
    kernels_deinit(&s->kernels);
}

/* ---- the formulas ---- */

static double dot(const double *a, const double *b, int32_t count) {
    double sum = 0.0;
    for (int32_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

/* out += factor * down (silu(gate x) * (up x)) */
static void add_mlp(int32_t width, const double *gate, const double *up, const double *down,
                    const double *x, double factor, double *out) {
    double h[WIDTH > SHARED ? WIDTH : SHARED];
    for (int32_t i = 0; i < width; i++) {
        double g = dot(gate + i * HIDDEN, x, HIDDEN);
        h[i] = g * sigmoid(g) * dot(up + i * HIDDEN, x, HIDDEN);
    }
    for (int32_t i = 0; i < HIDDEN; i++)
        out[i] += factor * dot(down + i * width, h, width);
}

/* What one group is worth: the largest of its scores, or the sum of the two largest. */
static double group_value(const struct router_spec *spec, const double *choice, int32_t group) {
    int32_t size = spec->experts / spec->groups;
    double best = -HUGE_VAL, second = -HUGE_VAL;
    for (int32_t e = group * size; e < (group + 1) * size; e++) {
        if (choice[e] > best) {
            second = best;
            best = choice[e];
        } else if (choice[e] > second) {
            second = choice[e];
        }
    }
    return spec->group_score == ROUTER_GROUP_MAX ? best : best + second;
}

/* Takes the greatest of `count` values out; also makes sure that it is clearly the greatest. */
static int32_t pop_greatest(double *values, int32_t count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        best = values[i] > values[best] ? i : best;
    for (int32_t i = 0; i < count; i++)
        if (i != best && values[best] - values[i] < GAP_MIN * fabs(values[best]))
            fail_msg("a near-tie, %.9g and %.9g: choose another seed", values[best], values[i]);
    values[best] = -HUGE_VAL;
    return best;
}

static void drop_groups(const struct router_spec *spec, double *choice) {
    double values[EXPERTS];
    bool kept[EXPERTS] = {false};
    if (spec->groups == 1)
        return;
    for (int32_t g = 0; g < spec->groups; g++)
        values[g] = group_value(spec, choice, g);
    for (int32_t i = 0; i < spec->groups_kept; i++)
        kept[pop_greatest(values, spec->groups)] = true;
    for (int32_t e = 0; e < EXPERTS; e++)
        if (!kept[e / (spec->experts / spec->groups)])
            choice[e] = -HUGE_VAL;
}

static void route(const struct variant *variant, const struct numbers *n, const double *x,
                  int32_t *ids, double *weights) {
    const struct router_spec *spec = &variant->router;
    double logits[EXPERTS], scores[EXPERTS], choice[EXPERTS], sum = 0.0;
    for (int32_t e = 0; e < EXPERTS; e++) {
        logits[e] = dot(n->router[e], x, HIDDEN) + (variant->bias ? n->bias[e] : 0.0);
        sum += exp(logits[e]);
    }
    for (int32_t e = 0; e < EXPERTS; e++) {
        scores[e] = spec->score == ROUTER_SOFTMAX   ? exp(logits[e]) / sum
                    : spec->score == ROUTER_SIGMOID ? sigmoid(logits[e])
                                                    : logits[e];
        choice[e] = scores[e] + (variant->correction ? n->correction[e] : 0.0);
    }
    drop_groups(spec, choice);
    sum = 0.0;
    for (int32_t s = 0; s < spec->top_k; s++) {
        ids[s] = pop_greatest(choice, EXPERTS);
        weights[s] = spec->score == ROUTER_SOFTMAX_OF_CHOSEN ? exp(scores[ids[s]]) : scores[ids[s]];
        sum += weights[s];
    }
    bool divide = spec->normalize || spec->score == ROUTER_SOFTMAX_OF_CHOSEN;
    for (int32_t s = 0; s < spec->top_k; s++)
        weights[s] *= (double)spec->scale / (divide ? sum : 1.0);
}

static void expected_row(const struct variant *variant, const struct numbers *n, const double *x,
                         int32_t *ids, double *weights, double *out) {
    memset(out, 0, sizeof *out * HIDDEN);
    route(variant, n, x, ids, weights);
    for (int32_t s = 0; s < variant->router.top_k; s++)
        add_mlp(WIDTH, &n->gate[ids[s]][0][0], &n->up[ids[s]][0][0], &n->down[ids[s]][0][0], x,
                weights[s], out);
    if (variant->shared)
        add_mlp(SHARED, &n->shared_gate[0][0], &n->shared_up[0][0], &n->shared_down[0][0], x,
                variant->shared_gate ? sigmoid(dot(n->expert_gate, x, HIDDEN)) : 1.0, out);
}

/* ---- the comparison ---- */

static void compare_row(const struct subject *s, const struct variant *variant,
                        const struct numbers *n, int32_t row, const float *out) {
    int32_t ids[EXPERTS];
    double weights[EXPERTS], want[HIDDEN], square = 0.0, worst = 0.0;
    int32_t k = variant->router.top_k;
    expected_row(variant, n, n->x[row], ids, weights, want);
    for (int32_t i = 0; i < k; i++) {
        assert_int_equal(s->workspace.ids[row * k + i], ids[i]);
        double difference = fabs((double)s->workspace.weights[row * k + i] - weights[i]);
        if (!(difference <= 1e-5 * fmax(1.0, weights[i])))
            fail_msg("%s: row %d slot %d: weight differs by %g", variant->label, row, i,
                     difference);
    }
    for (int32_t i = 0; i < HIDDEN; i++) {
        double difference = fabs((double)out[row * HIDDEN + i] - want[i]);
        worst = difference > worst || isnan(difference) ? difference : worst;
        square += want[i] * want[i];
    }
    double bound = s->layer.act_dtype == DTYPE_F32 ? BOUND_F32 : BOUND_BF16;
    double share = worst / sqrt(square / HIDDEN);
    if (!(share <= bound))
        fail_msg("%s, %s, %s: row %d is off by %g of its rms, allowed %g", variant->label,
                 cpu_isa_name(s->kernels.isa), dtype_name(s->layer.act_dtype), row, share, bound);
}

static const struct numbers *numbers(uint64_t seed) {
    static struct numbers n;
    random_state = seed;
    draw_all(&n.router[0][0], sizeof n / sizeof(double));
    for (int32_t e = 0; e < EXPERTS; e++)
        n.correction[e] /= 8.0; /* scores are in [0, 1] */
    return &n;
}

static void check_variant(const struct variant *variant, enum cpu_isa isa, enum dtype dtype,
                          const struct numbers *n) {
    static const int32_t row_counts[] = {ROWS_MAX, 3, 1};
    struct subject s;
    subject_open(&s, variant, isa, dtype, n);
    float first[ROWS_MAX * HIDDEN], out[ROWS_MAX * HIDDEN];
    for (size_t i = 0; i < sizeof row_counts / sizeof row_counts[0]; i++) {
        memset(out, 0x7f, sizeof out);
        assert_int_equal(moe_layer_forward(&s.kernels, &s.layer, &s.workspace, row_counts[i],
                                           s.x_f32, s.x_act, out),
                         STATUS_OK);
        for (int32_t row = 0; row < row_counts[i]; row++)
            compare_row(&s, variant, n, row, out);
        if (i == 0)
            memcpy(first, out, sizeof first);
        else /* fewer neighbours: the same bits */
            assert_memory_equal(first, out, sizeof(float) * HIDDEN * (size_t)row_counts[i]);
    }
    subject_close(&s);
}

static void every_variant_on_every_isa(void **state) {
    (void)state;
    const struct numbers *n = numbers(24);
    for (size_t v = 0; v < VARIANTS; v++)
        for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
            if (cpu_isa_supported((enum cpu_isa)isa)) {
                check_variant(&variants[v], (enum cpu_isa)isa, DTYPE_F32, n);
                check_variant(&variants[v], (enum cpu_isa)isa, DTYPE_BF16, n);
            }
}

/* The control: the formulas of one variant do not pass for another's. */
static void variants_differ(void **state) {
    (void)state;
    const struct numbers *n = numbers(24);
    double out[VARIANTS][HIDDEN], weights[EXPERTS];
    int32_t ids[EXPERTS];
    for (size_t v = 0; v < VARIANTS; v++) {
        expected_row(&variants[v], n, n->x[0], ids, weights, out[v]);
        for (size_t w = 0; w < v; w++) {
            double worst = 0.0, square = 0.0;
            for (int32_t i = 0; i < HIDDEN; i++) {
                worst = fmax(worst, fabs(out[v][i] - out[w][i]));
                square += out[v][i] * out[v][i];
            }
            if (worst <= 2.0 * BOUND_BF16 * sqrt(square / HIDDEN))
                fail_msg("%s is too close to %s", variants[v].label, variants[w].label);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_variant_on_every_isa),
                                       cmocka_unit_test(variants_differ)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
