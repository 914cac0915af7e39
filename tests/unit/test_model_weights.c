/* runtime/model_weights.c and weight_load.c: every stored number gets to its place, whatever the
 * stored and computing types; what is missing, extra or wrong is told by name. Models of odd sizes
 * are written to a temporary folder. */
#define _XOPEN_SOURCE 700

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/model_weights.h"
#include "runtime/safetensors_writer.h"
#include "runtime/weight_load.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

#define FILE_NAME "model.safetensors"
#define TENSORS_MAX 128
#define L0 "model.layers.0."
#define L1 "model.layers.1."

/* Layer 0 dense, layer 1 MoE with a gated shared expert, biases, untied. */
static struct model_spec moe_spec(void) {
    struct model_spec spec = {.hidden = 33, .layers = 2, .vocabulary = 37, .max_positions = 64};
    spec.dense_intermediate = 21;
    spec.attention =
        (struct attention_spec){.heads = 3, .kv_heads = 1, .head_dim = 6, .qkv_bias = true};
    spec.moe = (struct moe_spec){.router = {.experts = 5, .top_k = 2},
                                 .expert_intermediate = 19,
                                 .shared_intermediate = 11,
                                 .shared_gate = true};
    spec.layer[1].moe = true;
    return spec;
}

/* Dense, tied, norms on q and k, an embedding of more than one piece. */
static struct model_spec tied_spec(void) {
    struct model_spec spec = {.hidden = 33, .layers = 1, .vocabulary = 9001, .max_positions = 64};
    spec.dense_intermediate = 1;
    spec.attention = (struct attention_spec){
        .heads = 2, .kv_heads = 2, .head_dim = 2, .qk_norm = QK_NORM_PER_HEAD};
    spec.tied_embedding = true;
    return spec;
}

static const struct family *family_of(const char *model_type) {
    for (const struct family *const *family = family_list(); *family != NULL; family++)
        if (strcmp((*family)->model_type, model_type) == 0)
            return *family;
    fail_msg("no family %s", model_type);
    return NULL;
}

/* ---- a checkpoint on disk ---- */

/* What is different from a good checkpoint; NULL: nothing. */
struct edit {
    const char *drop, *drop_too; /* left out */
    const char *add;             /* an extra tensor [3] */
    const char *change;          /* written with other dimensions or another type */
    enum tensor_type type;
    int32_t dimensions;
    int64_t shape[3];
};

static uint64_t hash(const char *name) {
    uint64_t value = 1469598103934665603u;
    for (; *name != '\0'; name++)
        value = (value ^ (uint64_t)(unsigned char)*name) * 1099511628211u;
    return value;
}

/* The number that stands in a tensor: a multiple of 2^-6 in [-1, 1), exact in every type. */
static float number_at(uint64_t name_hash, int64_t index) {
    uint64_t value = (name_hash + (uint64_t)index) * 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 29)) * 0xbf58476d1ce4e5b9u;
    return (float)((int32_t)(value >> 57) - 64) / 64.0f;
}

/* Exact conversion of number_at's range; none is subnormal. */
static uint16_t f32_to_f16(float value) {
    if (value == 0.0f)
        return 0;
    int exponent;
    float fraction = frexpf(fabsf(value), &exponent);
    uint32_t bits = (uint32_t)(exponent + 14) << 10 | ((uint32_t)(fraction * 2048.0f) & 0x3ffu);
    return (uint16_t)(bits | (value < 0.0f ? 0x8000u : 0u));
}

static void write_tensor(struct safetensors_writer *writer, const struct tensor_info *tensor) {
    uint64_t name_hash = hash(tensor->name);
    int64_t element = tensor_type_bytes(tensor->type), count = tensor->bytes / element;
    char *data = calloc((size_t)count + 1, (size_t)element);
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++) {
        float value = number_at(name_hash, i);
        uint16_t half = tensor->type == TENSOR_F16 ? f32_to_f16(value) : dtype_f32_to_bf16(value);
        if (tensor->type == TENSOR_F32)
            memcpy(data + 4 * i, &value, 4);
        else if (element == 2)
            memcpy(data + 2 * i, &half, 2);
    }
    assert_int_equal(safetensors_writer_append(writer, data, (size_t)tensor->bytes), STATUS_OK);
    free(data);
}

static void add_tensor(struct tensor_info *tensors, int32_t *count, const char *name,
                       const struct tensor_info *like) {
    assert_true(*count < TENSORS_MAX);
    struct tensor_info *tensor = &tensors[(*count)++];
    *tensor = *like;
    size_t size = strlen(name) + 1;
    char *copy = malloc(size);
    assert_non_null(copy);
    tensor->name = memcpy(copy, name, size);
    tensor->bytes = tensor_type_bytes(tensor->type);
    for (int32_t i = 0; i < tensor->dimensions; i++)
        tensor->bytes *= tensor->shape[i];
}

static bool is_name(const char *name, const char *other) {
    return other != NULL && strcmp(name, other) == 0;
}

/* The tensors that `weights` describes, in `type`, but for the edit. */
static void write_checkpoint(struct scratch *scratch, const struct model_weights *weights,
                             enum tensor_type type, const struct edit *edit) {
    static const struct edit none;
    struct tensor_info tensors[TENSORS_MAX];
    int32_t count = 0;
    edit = edit != NULL ? edit : &none;
    for (int32_t i = 0; i < weights->item_count; i++) {
        const struct load_item *item = &weights->items[i];
        char name[128];
        family_tensor_name(weights->family, item->role, item->layer, item->expert, name,
                           sizeof name);
        struct tensor_info tensor = {.type = type, .dimensions = item->is_vector ? 1 : 2};
        tensor.shape[0] = item->is_vector ? item->columns : item->rows;
        tensor.shape[1] = item->columns;
        if (is_name(name, edit->drop) || is_name(name, edit->drop_too))
            continue;
        if (is_name(name, edit->change)) {
            tensor.type = edit->type;
            tensor.dimensions = edit->dimensions;
            memcpy(tensor.shape, edit->shape, sizeof edit->shape);
        }
        add_tensor(tensors, &count, name, &tensor);
    }
    if (edit->add != NULL)
        add_tensor(tensors, &count, edit->add,
                   &(struct tensor_info){.type = type, .dimensions = 1, .shape = {3}});
    struct safetensors_writer *writer;
    assert_int_equal(
        safetensors_writer_create(scratch_path(scratch, FILE_NAME), tensors, count, &writer),
        STATUS_OK);
    for (int32_t i = 0; i < count; i++) {
        write_tensor(writer, &tensors[i]);
        free((void *)(uintptr_t)tensors[i].name);
    }
    assert_int_equal(safetensors_writer_finish(writer), STATUS_OK);
}

/* ---- a model under test ---- */

struct subject {
    struct scratch scratch;
    struct model_spec spec;
    struct kernels kernels;
    struct model_weights weights;
    struct checkpoint *checkpoint;
};

static void subject_open(struct subject *s, const struct model_spec *spec, const char *family,
                         enum cpu_isa isa, int32_t threads, enum dtype dtype) {
    memset(s, 0, sizeof *s);
    s->spec = *spec;
    scratch_create(&s->scratch);
    assert_int_equal(kernels_init(&s->kernels, isa, threads), STATUS_OK);
    assert_int_equal(
        model_weights_describe(&s->spec, family_of(family), &s->kernels, dtype, NULL, &s->weights),
        STATUS_OK);
}

static void subject_write(struct subject *s, enum tensor_type type, const struct edit *edit) {
    write_checkpoint(&s->scratch, &s->weights, type, edit);
    assert_int_equal(checkpoint_open(s->scratch.folder, &s->checkpoint), STATUS_OK);
}

static void subject_close(struct subject *s) {
    checkpoint_close(s->checkpoint);
    model_weights_deinit(&s->weights);
    kernels_deinit(&s->kernels);
    scratch_destroy(&s->scratch);
}

static void subject_load(struct subject *s, enum tensor_type type) {
    struct weights_mismatch mismatch;
    subject_write(s, type, NULL);
    assert_int_equal(model_weights_check(&s->weights, s->checkpoint, NULL, NULL, &mismatch),
                     STATUS_OK);
    assert_int_equal(mismatch.missing + mismatch.extra + mismatch.wrong, 0);
    assert_int_equal(model_weights_load(&s->weights, &s->kernels, s->checkpoint), STATUS_OK);
}

/* ---- where the numbers are ---- */

/* Rows first_row .. of a packed matrix hold the stored tensor `name` of `rows` rows. */
static void expect_rows(const struct weight *weight, int32_t group, enum weight_part part,
                        int32_t first_row, int32_t rows, const char *name) {
    float *row = malloc(sizeof *row * (size_t)weight->columns);
    uint64_t name_hash = hash(name);
    assert_non_null(row);
    for (int32_t r = 0; r < rows; r++) {
        weight_unpack_row(weight, group, part, first_row + r, row);
        for (int32_t c = 0; c < weight->columns; c++)
            if (row[c] != number_at(name_hash, (int64_t)r * weight->columns + c))
                fail_msg("%s: row %d column %d is wrong", name, r, c);
    }
    free(row);
}

static void expect_whole(const struct weight *weight, int32_t rows, int32_t columns,
                         const char *name) {
    assert_int_equal(weight->rows, rows);
    assert_int_equal(weight->columns, columns);
    expect_rows(weight, 0, WEIGHT_PART_ONLY, 0, rows, name);
}

static void expect_vector(const float *vector, int32_t count, const char *name) {
    for (int32_t i = 0; i < count; i++)
        if (vector[i] != number_at(hash(name), i))
            fail_msg("%s: element %d is wrong", name, i);
}

static void expect_gated(const struct weight *gate_up, const struct weight *down, int32_t group,
                         const char *prefix) {
    char name[128];
    snprintf(name, sizeof name, "%sgate_proj.weight", prefix);
    expect_rows(gate_up, group, WEIGHT_PART_GATE, 0, gate_up->rows, name);
    snprintf(name, sizeof name, "%sup_proj.weight", prefix);
    expect_rows(gate_up, group, WEIGHT_PART_UP, 0, gate_up->rows, name);
    snprintf(name, sizeof name, "%sdown_proj.weight", prefix);
    expect_rows(down, group, WEIGHT_PART_ONLY, 0, down->rows, name);
}

static void expect_moe_model(const struct model_weights *w) {
    const struct layer_weights *first = &w->layers[0], *second = &w->layers[1];
    expect_whole(&w->embedding, 37, 33, "model.embed_tokens.weight");
    expect_whole(&w->output, 37, 33, "lm_head.weight");
    expect_vector(w->final_norm, 33, "model.norm.weight");
    expect_vector(first->input_norm, 33, L0 "input_layernorm.weight");
    expect_vector(second->post_norm, 33, L1 "post_attention_layernorm.weight");
    expect_rows(&second->qkv, 0, WEIGHT_PART_ONLY, 0, 18, L1 "self_attn.q_proj.weight");
    expect_rows(&second->qkv, 0, WEIGHT_PART_ONLY, 18, 6, L1 "self_attn.k_proj.weight");
    expect_rows(&second->qkv, 0, WEIGHT_PART_ONLY, 24, 6, L1 "self_attn.v_proj.weight");
    expect_vector(second->qkv_bias, 18, L1 "self_attn.q_proj.bias");
    expect_vector(second->qkv_bias + 18, 6, L1 "self_attn.k_proj.bias");
    expect_vector(second->qkv_bias + 24, 6, L1 "self_attn.v_proj.bias");
    expect_whole(&first->o, 33, 18, L0 "self_attn.o_proj.weight");
    expect_gated(&first->dense_gate_up, &first->dense_down, 0, L0 "mlp.");
    for (int32_t e = 0; e < 5; e++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, L1 "mlp.experts.%d.", e);
        expect_gated(&second->moe.gate_up, &second->moe.down, e, prefix);
    }
    expect_gated(&second->moe.shared_gate_up, &second->moe.shared_down, 0, L1 "mlp.shared_expert.");
    expect_whole(&second->moe.router_weight, 5, 33, L1 "mlp.gate.weight");
    expect_whole(&second->moe.shared_expert_gate, 1, 33, L1 "mlp.shared_expert_gate.weight");
    assert_null(first->q_norm);
    assert_null(first->o_bias);
    assert_null(first->moe.router_weight.data);
    assert_null(second->moe.router_bias);
}

static void every_number_has_its_place(void **state) {
    (void)state;
    static const enum tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_F16};
    struct model_spec spec = moe_spec();
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++) {
        if (!cpu_isa_supported((enum cpu_isa)isa))
            continue;
        for (int run = 0; run < 6; run++) {
            struct subject s;
            subject_open(&s, &spec, "qwen2_moe", (enum cpu_isa)isa, 1 + run % 3,
                         run < 3 ? DTYPE_F32 : DTYPE_BF16);
            subject_load(&s, types[run % 3]);
            expect_moe_model(&s.weights);
            subject_close(&s);
        }
    }
}

static void tied_and_in_pieces(void **state) {
    (void)state;
    struct model_spec spec = tied_spec();
    struct subject s;
    subject_open(&s, &spec, "qwen3", cpu_isa_best(), 2, DTYPE_F32);
    subject_load(&s, TENSOR_F32);
    expect_whole(&s.weights.embedding, 9001, 33, "model.embed_tokens.weight");
    assert_ptr_equal(s.weights.output.data, s.weights.embedding.data);
    assert_int_equal(s.weights.bytes.output, 0);
    expect_vector(s.weights.layers[0].q_norm, 2, L0 "self_attn.q_norm.weight");
    expect_vector(s.weights.layers[0].k_norm, 2, L0 "self_attn.k_norm.weight");
    assert_null(s.weights.layers[0].qkv_bias);
    assert_int_equal(model_weights_elements(&s.weights),
                     9001 * 33 + 33 + (2 * 33 + 4 * 4 * 33 + 2 * 2 + 3 * 33));
    subject_close(&s);
}

/* ---- parts of a tensor-parallel group ---- */

/* A layer of 4 heads over 2 key/value heads, and a vocabulary that does not divide. */
static struct model_spec shared_spec(bool tied) {
    struct model_spec spec = {.hidden = 33, .layers = 1, .vocabulary = 331, .max_positions = 64};
    spec.dense_intermediate = 3;
    spec.tied_embedding = tied;
    spec.attention = (struct attention_spec){.heads = 4,
                                             .kv_heads = 2,
                                             .head_dim = 6,
                                             .qkv_bias = !tied,
                                             .qk_norm = tied ? QK_NORM_FULL_WIDTH : QK_NORM_NONE};
    return spec;
}

/* Rows from `row` on of a part are rows from `whole_row` on, columns from whole_column on. */
static void expect_same_rows(const struct weight *part, int32_t row, const struct weight *whole,
                             int32_t whole_row, int32_t rows, int32_t whole_column) {
    float *a = calloc((size_t)part->columns, sizeof *a);
    float *b = calloc((size_t)whole->columns, sizeof *b);
    assert_true(a != NULL && b != NULL);
    for (int32_t i = 0; i < rows; i++) {
        weight_unpack_row(part, 0, WEIGHT_PART_ONLY, row + i, a);
        weight_unpack_row(whole, 0, WEIGHT_PART_ONLY, whole_row + i, b);
        assert_memory_equal(a, b + whole_column, sizeof *a * (size_t)part->columns);
    }
    free(a);
    free(b);
}

static void expect_part(const struct model_weights *part, const struct model_weights *whole) {
    const struct layer_weights *p = &part->layers[0], *w = &whole->layers[0];
    const struct tensor_shard *shard = &part->shard;
    int32_t q = shard->heads * 6, kv = shard->kv_heads * 6;
    int32_t q_first = shard->first_head * 6, kv_first = shard->first_kv_head * 6;
    assert_int_equal(p->qkv.rows, q + 2 * kv);
    expect_same_rows(&p->qkv, 0, &w->qkv, q_first, q, 0);
    expect_same_rows(&p->qkv, q, &w->qkv, 24 + kv_first, kv, 0);
    expect_same_rows(&p->qkv, q + kv, &w->qkv, 36 + kv_first, kv, 0);
    assert_int_equal(p->o.columns, q);
    expect_same_rows(&p->o, 0, &w->o, 0, 33, q_first);
    expect_same_rows(&part->output, 0, &whole->output, shard->first_id, shard->ids, 0);
    if (p->qkv_bias != NULL) {
        assert_memory_equal(p->qkv_bias, w->qkv_bias + q_first, sizeof(float) * (size_t)q);
        assert_memory_equal(p->qkv_bias + q, w->qkv_bias + 24 + kv_first,
                            sizeof(float) * (size_t)kv);
    }
    if (p->q_norm != NULL) {
        assert_memory_equal(p->q_norm, w->q_norm + q_first, sizeof(float) * (size_t)q);
        assert_memory_equal(p->k_norm, w->k_norm + kv_first, sizeof(float) * (size_t)kv);
    }
}

static void assert_same_memory(const struct model_weights *a, const struct model_weights *b) {
    for (int i = 0; i < WEIGHT_HOLDERS; i++) {
        assert_int_equal(a->region[i].bytes, b->region[i].bytes);
        assert_memory_equal(a->region[i].data, b->region[i].data, a->region[i].bytes);
    }
}

static int64_t bytes_of_regions(const struct model_weights *weights) {
    int64_t bytes = 0;
    for (int i = 0; i < WEIGHT_HOLDERS; i++)
        bytes += (int64_t)weights->region[i].bytes;
    return bytes;
}

/* Every rank of a group has its heads and its ids, and nothing is held by nobody. */
static void parts_are_parts_of_the_whole(void **state) {
    (void)state;
    for (int run = 0; run < 12; run++) {
        bool tied = run % 2 == 1, dummy = run >= 8;
        int32_t count = run / 2 % 2 == 0 ? 2 : 4, ids = 0;
        enum dtype dtype = run / 4 % 2 == 0 ? DTYPE_F32 : DTYPE_BF16;
        struct model_spec spec = shared_spec(tied);
        const char *family = tied ? "qwen3" : "qwen2";
        struct subject whole;
        subject_open(&whole, &spec, family, run % 3 == 0 ? CPU_ISA_REFERENCE : cpu_isa_best(), 2,
                     dtype);
        if (dummy)
            assert_int_equal(model_weights_load_dummy(&whole.weights, &whole.kernels), STATUS_OK);
        else
            subject_load(&whole, TENSOR_F32);
        for (int32_t self = 0; self < count; self++) {
            struct model_ranks ranks = {.tensor = {.count = count, .self = self}};
            struct model_weights part;
            struct weights_mismatch mismatch;
            assert_int_equal(model_weights_describe(&spec, family_of(family), &whole.kernels, dtype,
                                                    &ranks, &part),
                             STATUS_OK);
            assert_int_equal(part.shard.first_id, ids);
            if (dummy) {
                assert_int_equal(model_weights_load_dummy(&part, &whole.kernels), STATUS_OK);
            } else {
                assert_int_equal(
                    model_weights_check(&part, whole.checkpoint, NULL, NULL, &mismatch), STATUS_OK);
                assert_int_equal(model_weights_load(&part, &whole.kernels, whole.checkpoint),
                                 STATUS_OK);
            }
            expect_part(&part, &whole.weights);
            assert_int_equal(part.bytes.total, bytes_of_regions(&part));
            assert_true(part.bytes.attention < whole.weights.bytes.attention);
            assert_int_equal(part.bytes.embedding, whole.weights.bytes.embedding);
            ids += part.shard.ids;
            model_weights_deinit(&part);
        }
        assert_int_equal(ids, spec.vocabulary);
        subject_close(&whole);
    }
}

/* The same numbers stored as f16 and as f32 are the same model: equal memory. */
static void f16_is_f32(void **state) {
    (void)state;
    struct model_spec spec = moe_spec();
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        struct subject half, full;
        subject_open(&half, &spec, "qwen2_moe", cpu_isa_best(), 2, (enum dtype)dtype);
        subject_open(&full, &spec, "qwen2_moe", cpu_isa_best(), 1, (enum dtype)dtype);
        subject_load(&half, TENSOR_F16);
        subject_load(&full, TENSOR_F32);
        assert_same_memory(&half.weights, &full.weights);
        subject_close(&half);
        subject_close(&full);
    }
}

/* ---- what is not as described ---- */

struct mismatch_case {
    const char *label;
    const char *family; /* qwen2_moe: moe_spec; qwen3: tied_spec */
    struct edit edit;
    struct weights_mismatch count;
    const char *tensor, *message; /* of the first; NULL: accepted */
};

#define QWEN2_MOE "qwen2_moe"
static const struct mismatch_case mismatches[] = {
    {"missing matrix",
     QWEN2_MOE,
     {.drop = L1 "mlp.experts.3.up_proj.weight"},
     {1, 0, 0},
     L1 "mlp.experts.3.up_proj.weight",
     "expected [19, 33], got nothing: the tensor is missing"},
    {"missing vector",
     QWEN2_MOE,
     {.drop = L0 "input_layernorm.weight"},
     {1, 0, 0},
     L0 "input_layernorm.weight",
     "expected [33], got nothing"},
    {"missing output",
     QWEN2_MOE,
     {.drop = "lm_head.weight"},
     {1, 0, 0},
     "lm_head.weight",
     "expected [37, 33], got nothing"},
    {"two missing, one extra",
     QWEN2_MOE,
     {.drop = "model.norm.weight", .drop_too = L0 "mlp.up_proj.weight", .add = "model.more"},
     {2, 1, 0},
     L0 "mlp.up_proj.weight",
     "the tensor is missing"},
    {"extra",
     QWEN2_MOE,
     {.add = "model.layers.2.input_layernorm.weight"},
     {0, 1, 0},
     "model.layers.2.input_layernorm.weight",
     "the tensor is extra"},
    {"extra expert",
     QWEN2_MOE,
     {.add = L1 "mlp.experts.5.up_proj.weight"},
     {0, 1, 0},
     L1 "mlp.experts.5.up_proj.weight",
     "the tensor is extra"},
    {"known and not used",
     QWEN2_MOE,
     {.add = L0 "self_attn.rotary_emb.inv_freq"},
     {0, 0, 0},
     NULL,
     NULL},
    {"tied copy", "qwen3", {.add = "lm_head.weight"}, {0, 0, 0}, NULL, NULL},
    {"transposed",
     QWEN2_MOE,
     {.change = L1 "mlp.gate.weight", .type = TENSOR_F32, .dimensions = 2, .shape = {33, 5}},
     {0, 0, 1},
     L1 "mlp.gate.weight",
     "expected F32, BF16 or F16 [5, 33], got F32 [33, 5]"},
    {"flat",
     QWEN2_MOE,
     {.change = L1 "mlp.gate.weight", .type = TENSOR_BF16, .dimensions = 1, .shape = {165}},
     {0, 0, 1},
     L1 "mlp.gate.weight",
     "[5, 33], got BF16 [165]"},
    {"a vector as a matrix",
     QWEN2_MOE,
     {.change = "model.norm.weight", .type = TENSOR_F32, .dimensions = 2, .shape = {1, 33}},
     {0, 0, 1},
     "model.norm.weight",
     "expected F32, BF16 or F16 [33], got F32 [1, 33]"},
    {"a scalar",
     QWEN2_MOE,
     {.change = "model.norm.weight", .type = TENSOR_F32, .dimensions = 0},
     {0, 0, 1},
     "model.norm.weight",
     "[33], got F32 []"},
    {"no rows",
     QWEN2_MOE,
     {.change = "lm_head.weight", .type = TENSOR_F32, .dimensions = 2, .shape = {0, 33}},
     {0, 0, 1},
     "lm_head.weight",
     "[37, 33], got F32 [0, 33]"},
    {"integers",
     QWEN2_MOE,
     {.change = "lm_head.weight", .type = TENSOR_I32, .dimensions = 2, .shape = {37, 33}},
     {0, 0, 1},
     "lm_head.weight",
     "expected F32, BF16 or F16 [37, 33], got I32 [37, 33]"},
    {"doubles",
     QWEN2_MOE,
     {.change = "model.norm.weight", .type = TENSOR_F64, .dimensions = 1, .shape = {33}},
     {0, 0, 1},
     "model.norm.weight",
     "got F64 [33]"},
};

struct reports {
    int32_t count;
    bool has_first;
    const struct mismatch_case *test;
};

static void note_report(void *context, const char *problem, const char *tensor) {
    struct reports *reports = context;
    reports->count++;
    if (strcmp(tensor, reports->test->tensor) == 0 && strstr(problem, reports->test->message))
        reports->has_first = true;
}

static void check_mismatch(const struct mismatch_case *test) {
    struct model_spec spec = strcmp(test->family, "qwen3") == 0 ? tied_spec() : moe_spec();
    struct subject s;
    struct capture capture;
    struct weights_mismatch got, again;
    struct reports reports = {.test = test};
    subject_open(&s, &spec, test->family, cpu_isa_best(), 1, DTYPE_F32);
    subject_write(&s, TENSOR_F32, &test->edit);
    capture_begin(&capture);
    enum status status = model_weights_check(&s.weights, s.checkpoint, NULL, NULL, &got);
    capture_end(&capture);
    assert_memory_equal(&got, &test->count, sizeof got);
    assert_int_equal(status, test->tensor == NULL ? STATUS_OK : STATUS_BAD_CHECKPOINT);
    assert_int_equal(capture_lines(&capture), test->tensor != NULL);
    if (test->tensor != NULL) {
        capture_has(&capture, test->label, s.scratch.folder);
        capture_has(&capture, test->label, FILE_NAME);
        capture_has(&capture, test->label, test->tensor);
        capture_has(&capture, test->label, test->message);
        capture_begin(&capture);
        status = model_weights_check(&s.weights, s.checkpoint, note_report, &reports, &again);
        capture_end(&capture);
        assert_int_equal(status, STATUS_BAD_CHECKPOINT);
        assert_string_equal(capture.text, ""); /* who takes reports prints them */
        assert_int_equal(reports.count, got.missing + got.extra + got.wrong);
        assert_true(reports.has_first);
    }
    subject_close(&s);
}

static void mismatches_are_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof mismatches / sizeof mismatches[0]; i++)
        check_mismatch(&mismatches[i]);
}

/* The file loses its end between check and load. */
static void a_file_that_shrinks(void **state) {
    (void)state;
    struct model_spec spec = moe_spec();
    struct weights_mismatch mismatch;
    for (int32_t threads = 1; threads <= 2; threads++) {
        struct subject s;
        struct capture capture;
        subject_open(&s, &spec, QWEN2_MOE, cpu_isa_best(), threads, DTYPE_F32);
        subject_write(&s, TENSOR_F32, NULL);
        assert_int_equal(model_weights_check(&s.weights, s.checkpoint, NULL, NULL, &mismatch),
                         STATUS_OK);
        assert_int_equal(truncate(scratch_path(&s.scratch, FILE_NAME), 20000), 0);
        capture_begin(&capture);
        enum status status = model_weights_load(&s.weights, &s.kernels, s.checkpoint);
        capture_end(&capture);
        assert_int_equal(status, STATUS_IO);
        capture_has(&capture, "shrinking", FILE_NAME);
        subject_close(&s);
    }
}

/* ---- dummy weights ---- */

static double variance(const struct weight *weight, int32_t group, enum weight_part part) {
    double sum = 0.0;
    float *row = malloc(sizeof *row * (size_t)weight->columns);
    assert_non_null(row);
    for (int32_t r = 0; r < weight->rows; r++) {
        weight_unpack_row(weight, group, part, r, row);
        for (int32_t c = 0; c < weight->columns; c++)
            sum += (double)row[c] * (double)row[c];
    }
    free(row);
    return sum / ((double)weight->rows * weight->columns);
}

static void expect_variance(const struct weight *weight, int32_t group, enum weight_part part,
                            double expected) {
    double got = variance(weight, group, part) * weight->columns / expected;
    if (!(got > 0.7 && got < 1.3))
        fail_msg("variance times columns: %g times the expected %g", got, expected);
}

static void dummy_is_the_same_every_time(void **state) {
    (void)state;
    struct model_spec spec = moe_spec();
    struct subject a, b;
    subject_open(&a, &spec, QWEN2_MOE, cpu_isa_best(), 1, DTYPE_F32);
    subject_open(&b, &spec, QWEN2_MOE, cpu_isa_best(), 3, DTYPE_F32);
    assert_int_equal(model_weights_load_dummy(&a.weights, &a.kernels), STATUS_OK);
    assert_int_equal(model_weights_load_dummy(&b.weights, &b.kernels), STATUS_OK);
    assert_same_memory(&a.weights, &b.weights);
    const struct layer_weights *layer = &a.weights.layers[1];
    double added = 1.0 / (spec.hidden * 2.0 * spec.layers); /* of what joins the residual */
    for (int32_t i = 0; i < 33; i++) {
        assert_true(a.weights.final_norm[i] == 1.0f);
        assert_true(layer->input_norm[i] == 1.0f);
    }
    for (int32_t i = 0; i < 30; i++)
        assert_true(layer->qkv_bias[i] == 0.0f);
    for (int32_t e = 0; e < 5; e++) {
        expect_variance(&layer->moe.gate_up, e, WEIGHT_PART_GATE, 1.0);
        expect_variance(&layer->moe.gate_up, e, WEIGHT_PART_UP, 1.0);
        expect_variance(&layer->moe.down, e, WEIGHT_PART_ONLY, added);
    }
    float first[33], second[33];
    weight_unpack_row(&layer->moe.gate_up, 0, WEIGHT_PART_UP, 0, first);
    weight_unpack_row(&layer->moe.gate_up, 1, WEIGHT_PART_UP, 0, second);
    assert_memory_not_equal(first, second, sizeof first); /* experts differ */
    subject_close(&a);
    subject_close(&b);
}

/* Of what ranks of a node hold together, the plan of each has its share. */
static void plans_add_up_to_one_node(void **state) {
    (void)state;
    struct model_spec spec = moe_spec();
    struct subject s;
    struct model_weights part;
    struct model_ranks ranks = {.node = {.count = 4}, .lane = {.count = 2}};
    subject_open(&s, &spec, QWEN2_MOE, CPU_ISA_REFERENCE, 1, DTYPE_BF16);
    assert_int_equal(
        model_weights_describe(&spec, s.weights.family, &s.kernels, DTYPE_BF16, &ranks, &part),
        STATUS_OK);
    assert_int_equal(part.bytes.experts, s.weights.bytes.experts);
    assert_int_equal(part.bytes.embedding, s.weights.bytes.embedding / 4);
    assert_int_equal(part.bytes.output, s.weights.bytes.output / 2);
    assert_int_equal(part.bytes.total,
                     (int64_t)(part.region[WEIGHT_OWN].bytes + part.region[WEIGHT_LANE].bytes / 2 +
                               part.region[WEIGHT_NODE].bytes / 4));
    assert_int_equal(bytes_of_regions(&part), bytes_of_regions(&s.weights));
    model_weights_deinit(&part);
    subject_close(&s);
}

/* The plan's numbers are the memory's: every kind's bytes, and nothing taken beside them. */
static void bytes_add_up(void **state) {
    (void)state;
    struct model_spec spec = moe_spec();
    struct subject s;
    subject_open(&s, &spec, QWEN2_MOE, CPU_ISA_REFERENCE, 1, DTYPE_BF16);
    const struct weight_bytes_by_kind *bytes = &s.weights.bytes;
    int64_t sum = bytes->embedding + bytes->output + bytes->attention + bytes->dense +
                  bytes->router + bytes->experts + bytes->shared_expert + bytes->norms;
    assert_true(bytes->total >= sum && bytes->total < sum + 64 * 32); /* alignment of vectors */
    assert_int_equal(bytes->total, bytes_of_regions(&s.weights));
    assert_true(bytes->experts >= 5 * 3 * 19 * 33 * 2);
    for (int i = 0; i < WEIGHT_HOLDERS; i++)
        assert_null(s.weights.region[i].data); /* nothing is taken by describing */
    assert_int_equal(model_weights_load_dummy(&s.weights, &s.kernels), STATUS_OK);
    assert_int_equal(bytes->total, bytes_of_regions(&s.weights));
    subject_close(&s);
}

int main(void) {
    log_setup(LOG_LEVEL_ERROR, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_has_its_place),
        cmocka_unit_test(tied_and_in_pieces),
        cmocka_unit_test(parts_are_parts_of_the_whole),
        cmocka_unit_test(f16_is_f32),
        cmocka_unit_test(mismatches_are_named),
        cmocka_unit_test(a_file_that_shrinks),
        cmocka_unit_test(bytes_add_up),
        cmocka_unit_test(plans_add_up_to_one_node),
        cmocka_unit_test(dummy_is_the_same_every_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
