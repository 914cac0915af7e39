/* runtime/family: real and golden configs become the expected specs, keys mean what transformers
 * makes of them, tensors get their stored names. */
#include "runtime/family.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "tests/support/config_edit.h"
#include "tests/support/log_capture.h"
#include "tests/unit/unit_test.h"

#define CONFIGS "tests/data/configs/"
#define GOLDEN "tests/data/golden/"
#define TEXT_MAX 8192

/* Numbers typed from the files, not read by the code under test. */
struct expectation {
    const char *folder, *family;
    int32_t hidden, layers, vocabulary, positions;
    double epsilon;
    int32_t dense, tied;
    enum dtype dtype;
    int32_t heads, kv_heads, head_dim, qkv_bias;
    enum qk_norm norm;
    double theta;
    int32_t experts, top_k, normalize;
    int32_t expert_width, shared_width, bos, eos;
};

#define PER_HEAD QK_NORM_PER_HEAD
#define FULL QK_NORM_FULL_WIDTH
#define NO QK_NORM_NONE
#define F32 DTYPE_F32
#define BF16 DTYPE_BF16

/* clang-format off */
static const struct expectation expectations[] = {
    {GOLDEN "llama", "llama", 64, 3, 512, 4096, 1e-5, 176, 0, F32, 4, 2, 16, 0, NO, 1e4, 0, 0, 0, 0, 0, 1, 2},
    {GOLDEN "llama3", "llama", 128, 3, 512, 131072, 1e-5, 192, 1, BF16, 4, 2, 32, 0, NO, 5e5, 0, 0, 0, 0, 0, 1, 2},
    {GOLDEN "stories260K", "llama", 64, 5, 512, 512, 1e-5, 172, 1, F32, 8, 4, 8, 0, NO, 1e4, 0, 0, 0, 0, 0, 1, 2},
    {GOLDEN "mixtral", "mixtral", 64, 3, 512, 4096, 1e-5, 0, 0, BF16, 4, 2, 16, 0, NO, 1e6, 8, 2, 1, 96, 0, 1, 2},
    {GOLDEN "olmoe", "olmoe", 64, 4, 512, 4096, 1e-5, 0, 0, BF16, 4, 4, 16, 0, FULL, 1e4, 16, 4, 0, 48, 0, -1, 2},
    {GOLDEN "qwen2", "qwen2", 64, 3, 512, 32768, 1e-6, 176, 1, F32, 4, 2, 16, 1, NO, 1e6, 0, 0, 0, 0, 0, 1, 2},
    {GOLDEN "qwen2_moe", "qwen2_moe", 64, 3, 512, 8192, 1e-6, 0, 0, F32, 4, 4, 16, 1, NO, 1e6, 16, 4, 0, 40, 96, 1, 2},
    {GOLDEN "qwen3", "qwen3", 64, 3, 512, 40960, 1e-6, 192, 1, BF16, 4, 2, 32, 0, PER_HEAD, 1e6, 0, 0, 0, 0, 0, 1, 2},
    {GOLDEN "qwen3_moe", "qwen3_moe", 64, 3, 512, 40960, 1e-6, 0, 0, BF16, 4, 2, 32, 0, PER_HEAD, 1e6, 16, 4, 1, 40, 0, 1, 2},
    {CONFIGS "meta-llama--Meta-Llama-3.1-8B", "llama", 4096, 32, 128256, 131072, 1e-5, 14336, 0, BF16, 32, 8, 128, 0, NO, 5e5, 0, 0, 0, 0, 0, 128000, 128001},
    {CONFIGS "mistralai--Mixtral-8x7B-v0.1", "mixtral", 4096, 32, 32000, 32768, 1e-5, 0, 0, BF16, 32, 8, 128, 0, NO, 1e6, 8, 2, 1, 14336, 0, 1, 2},
    {CONFIGS "mistralai--Mixtral-8x22B-v0.1", "mixtral", 6144, 56, 32000, 65536, 1e-5, 0, 0, BF16, 48, 8, 128, 0, NO, 1e6, 8, 2, 1, 16384, 0, 1, 2},
    {CONFIGS "allenai--OLMoE-1B-7B-0924", "olmoe", 2048, 16, 50304, 4096, 1e-5, 0, 0, BF16, 16, 16, 128, 0, FULL, 1e4, 64, 8, 0, 1024, 0, -1, 50279},
    {CONFIGS "Qwen--Qwen1.5-MoE-A2.7B", "qwen2_moe", 2048, 24, 151936, 8192, 1e-6, 0, 0, BF16, 16, 16, 128, 1, NO, 1e6, 60, 4, 0, 1408, 5632, 151643, 151643},
    {CONFIGS "Qwen--Qwen3-0.6B", "qwen3", 1024, 28, 151936, 40960, 1e-6, 3072, 1, BF16, 16, 8, 128, 0, PER_HEAD, 1e6, 0, 0, 0, 0, 0, 151643, 151645},
    {CONFIGS "Qwen--Qwen3-8B", "qwen3", 4096, 36, 151936, 40960, 1e-6, 12288, 0, BF16, 32, 8, 128, 0, PER_HEAD, 1e6, 0, 0, 0, 0, 0, 151643, 151645},
    {CONFIGS "Qwen--Qwen3-30B-A3B", "qwen3_moe", 2048, 48, 151936, 40960, 1e-6, 0, 0, BF16, 32, 4, 128, 0, PER_HEAD, 1e6, 128, 8, 1, 768, 0, 151643, 151645},
    {CONFIGS "Qwen--Qwen3-235B-A22B", "qwen3_moe", 4096, 94, 151936, 40960, 1e-6, 0, 0, BF16, 64, 4, 128, 0, PER_HEAD, 1e6, 128, 8, 1, 1536, 0, 151643, 151645},
    {CONFIGS "Qwen--Qwen3-Coder-480B-A35B-Instruct", "qwen3_moe", 6144, 62, 151936, 262144, 1e-6, 0, 0, BF16, 96, 8, 128, 0, PER_HEAD, 1e7, 160, 8, 1, 2560, 0, -1, 151645},
    {"launcher/demo-moe", "qwen3_moe", 128, 6, 4096, 2048, 1e-6, 0, 1, BF16, 4, 2, 32, 0, PER_HEAD, 1e4, 32, 4, 1, 64, 0, 4093, 4095},
};
/* clang-format on */

static void check_sizes(const struct expectation *want, const struct model_spec *spec) {
    assert_string_equal(spec->family, want->family);
    assert_int_equal(spec->hidden, want->hidden);
    assert_int_equal(spec->layers, want->layers);
    assert_int_equal(spec->vocabulary, want->vocabulary);
    assert_int_equal(spec->max_positions, want->positions);
    assert_true(spec->norm_epsilon == (float)want->epsilon);
    assert_int_equal(spec->dense_intermediate, want->dense);
    assert_false(spec->mlp_bias);
    assert_int_equal(spec->tied_embedding, want->tied);
    assert_int_equal(spec->stored_dtype, want->dtype);
    assert_int_equal(spec->bos_id, want->bos);
    assert_true(spec->eos_count >= 1);
    assert_int_equal(spec->eos_ids[0], want->eos);
}

static void check_blocks(const struct expectation *want, const struct model_spec *spec) {
    const struct attention_spec *attention = &spec->attention;
    assert_int_equal(attention->heads, want->heads);
    assert_int_equal(attention->kv_heads, want->kv_heads);
    assert_int_equal(attention->head_dim, want->head_dim);
    assert_int_equal(attention->qkv_bias, want->qkv_bias);
    assert_false(attention->output_bias);
    assert_int_equal(attention->qk_norm, want->norm);
    assert_true(attention->clip_qkv == 0.0f);
    assert_true(fabs((double)attention->scale * sqrt(want->head_dim) - 1.0) < 1e-7);
    assert_true(spec->rope.theta == want->theta);
    assert_int_equal(spec->rope.rotary_dim, want->head_dim);
    assert_false(spec->rope.interleaved);
    assert_true(spec->rope.attention_factor == 1.0);
    const struct moe_spec *moe = &spec->moe;
    assert_int_equal(moe->router.experts, want->experts);
    assert_int_equal(moe->router.top_k, want->top_k);
    assert_int_equal(moe->router.normalize, want->normalize);
    assert_int_equal(moe->expert_intermediate, want->expert_width);
    assert_int_equal(moe->shared_intermediate, want->shared_width);
    assert_int_equal(moe->shared_gate, want->shared_width > 0);
    assert_false(moe->router_bias || moe->router_correction);
    if (want->experts > 0) {
        assert_int_equal(moe->router.score, ROUTER_SOFTMAX);
        assert_true(moe->router.scale == 1.0f);
        assert_int_equal(moe->router.groups, 1);
        assert_int_equal(moe->router.groups_kept, 1);
    }
    for (int32_t i = 0; i < spec->layers; i++) {
        assert_int_equal(spec->layer[i].moe, want->experts > 0);
        assert_int_equal(spec->layer[i].window, 0);
    }
}

static void real_configs_give_their_specs(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof expectations / sizeof expectations[0]; i++) {
        struct model_spec spec;
        const struct family *family = NULL;
        assert_int_equal(family_parse(expectations[i].folder, &family, &spec), STATUS_OK);
        assert_string_equal(family->model_type, expectations[i].family);
        check_sizes(&expectations[i], &spec);
        check_blocks(&expectations[i], &spec);
    }
}

static void load_text(const char *path, char *text) {
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(text, 1, TEXT_MAX - 1, file);
    text[size] = '\0';
    assert_true(feof(file));
    fclose(file);
}

static void both_forms_of_a_config_are_one_spec(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "llama3",    "mixtral", "olmoe",
                                        "qwen2", "qwen2_moe", "qwen3",   "qwen3_moe"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128], text[TEXT_MAX];
        struct model_spec hub, five;
        const struct family *family;
        snprintf(path, sizeof path, GOLDEN "%s/config.json", names[i]);
        load_text(path, text);
        assert_int_equal(family_parse_memory(path, text, strlen(text), &family, &hub), STATUS_OK);
        snprintf(path, sizeof path, GOLDEN "%s/config.transformers5.json", names[i]);
        load_text(path, text);
        assert_int_equal(family_parse_memory(path, text, strlen(text), &family, &five), STATUS_OK);
        assert_memory_equal(&hub, &five, sizeof hub);
        config_edit_set(text, "hidden_size", "256", text, sizeof text);
        config_edit_set(text, "head_dim", NULL, text, sizeof text);
        assert_int_equal(family_parse_memory(path, text, strlen(text), &family, &five), STATUS_OK);
        assert_memory_not_equal(&hub, &five, sizeof hub);
    }
}

static void llama3_scaling_is_read(void **state) {
    (void)state;
    struct model_spec spec;
    const struct family *family;
    assert_int_equal(family_parse(GOLDEN "llama3", &family, &spec), STATUS_OK);
    assert_int_equal(spec.rope.kind, ROPE_LLAMA3);
    assert_true(spec.rope.factor == 32.0);
    assert_true(spec.rope.low_freq_factor == 1.0);
    assert_true(spec.rope.high_freq_factor == 4.0);
    assert_int_equal(spec.rope.original_positions, 8192);
    assert_int_equal(family_parse(CONFIGS "meta-llama--Meta-Llama-3.1-8B", &family, &spec),
                     STATUS_OK);
    assert_int_equal(spec.rope.kind, ROPE_LLAMA3);
    assert_true(spec.rope.factor == 8.0);
}

static void generation_config_wins(void **state) {
    (void)state;
    struct model_spec spec;
    const struct family *family;
    assert_int_equal(family_parse("launcher/demo-moe", &family, &spec), STATUS_OK);
    assert_int_equal(spec.eos_count, 2);
    assert_int_equal(spec.eos_ids[0], 4095);
    assert_int_equal(spec.eos_ids[1], 4093);
    assert_true(spec.defaults.sample);
    assert_true(spec.defaults.temperature == 0.7f);
    assert_true(spec.defaults.top_p == 0.9f);
    assert_true(spec.defaults.min_p == 0.0f);
    assert_true(spec.defaults.repetition_penalty == 1.0f);
    assert_int_equal(spec.defaults.top_k, 20);
    assert_int_equal(family_parse(GOLDEN "qwen3", &family, &spec), STATUS_OK);
    assert_false(spec.defaults.sample);
    assert_true(spec.defaults.temperature == 1.0f && spec.defaults.top_p == 1.0f);
    assert_int_equal(spec.defaults.top_k, 0);
}

static void unknown_families_are_refused_by_name(void **state) {
    (void)state;
    static const char *const folders[][2] = {
        {"deepseek-ai--DeepSeek-V3", "got \"deepseek_v3\""},
        {"openai--gpt-oss-20b", "got \"gpt_oss\""},
        {"ibm-granite--granite-3.1-1b-a400m-instruct", "got \"granitemoe\""},
        {"microsoft--Phi-tiny-MoE-instruct", "got \"phimoe\""},
    };
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char path[128], message[2048];
        snprintf(path, sizeof path, CONFIGS "%s", folders[i][0]);
        struct log_capture capture;
        struct model_spec spec;
        const struct family *family;
        log_capture_begin(&capture);
        enum status status = family_parse(path, &family, &spec);
        assert_int_equal(log_capture_end(&capture, message, sizeof message), 1);
        assert_int_equal(status, STATUS_UNSUPPORTED);
        assert_non_null(strstr(message, path));
        assert_non_null(strstr(message, "field model_type"));
        assert_non_null(strstr(message, folders[i][1]));
        for (const struct family *const *known = family_list(); *known != NULL; known++)
            assert_non_null(strstr(message, (*known)->model_type));
    }
}

/* The spec of a small config with edits: pairs of key and JSON value (NULL takes the key out),
 * ended by a NULL key. */
struct edit {
    const char *key, *value;
};

static struct model_spec spec_of(const char *base, const struct edit *edits) {
    char text[TEXT_MAX];
    snprintf(text, sizeof text, "%s", base);
    for (; edits->key != NULL; edits++)
        config_edit_set(text, edits->key, edits->value, text, sizeof text);
    struct model_spec spec;
    const struct family *family;
    assert_int_equal(family_parse_memory("test", text, strlen(text), &family, &spec), STATUS_OK);
    return spec;
}

#define SPEC(base, ...) spec_of(base, (const struct edit[]){__VA_ARGS__, {NULL, NULL}})

/* Only what must be there: all else is the class's default. */
#define SMALL_SIZES                                                                                \
    "\"hidden_size\":64,\"num_hidden_layers\":4,\"num_attention_heads\":8,\"vocab_size\":60000,"
static const char small_llama[] =
    "{\"model_type\":\"llama\"," SMALL_SIZES "\"intermediate_size\":96}";
static const char small_mixtral[] =
    "{\"model_type\":\"mixtral\"," SMALL_SIZES "\"intermediate_size\":96,\"num_local_experts\":8}";
static const char small_olmoe[] =
    "{\"model_type\":\"olmoe\"," SMALL_SIZES "\"intermediate_size\":96,\"num_experts\":16}";
static const char small_qwen2[] =
    "{\"model_type\":\"qwen2\"," SMALL_SIZES "\"intermediate_size\":96,\"num_key_value_heads\":8}";
static const char small_qwen3[] =
    "{\"model_type\":\"qwen3\"," SMALL_SIZES "\"intermediate_size\":96,\"num_key_value_heads\":8}";
static const char small_qwen2_moe[] =
    "{\"model_type\":\"qwen2_moe\"," SMALL_SIZES
    "\"num_key_value_heads\":8,\"num_experts\":16,\"moe_intermediate_size\":24,"
    "\"shared_expert_intermediate_size\":48,\"intermediate_size\":96}";
static const char small_qwen3_moe[] =
    "{\"model_type\":\"qwen3_moe\"," SMALL_SIZES
    "\"num_experts\":16,\"moe_intermediate_size\":24,\"intermediate_size\":96}";

struct class_defaults {
    const char *base;
    double epsilon, theta;
    int32_t positions, kv_heads, head_dim, top_k;
    bool normalize, qkv_bias;
    int32_t bos, eos;
};

static void missing_keys_take_the_class_defaults(void **state) {
    (void)state;
    static const struct class_defaults all[] = {
        {small_llama, 1e-6, 1e4, 2048, 8, 8, 0, false, false, 1, 2},
        {small_mixtral, 1e-5, 1e6, 131072, 8, 8, 2, true, false, 1, 2},
        {small_olmoe, 1e-5, 1e4, 4096, 8, 8, 8, false, false, -1, 50279},
        {small_qwen2, 1e-6, 1e4, 32768, 8, 8, 0, false, true, -1, -1},
        {small_qwen3, 1e-6, 1e4, 32768, 8, 128, 0, false, false, -1, -1},
        {small_qwen2_moe, 1e-6, 1e4, 32768, 8, 8, 4, false, true, -1, -1},
        {small_qwen3_moe, 1e-6, 1e4, 32768, 4, 8, 8, false, false, -1, -1},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct model_spec spec = SPEC(all[i].base, {"unknown_key", "[1]"});
        assert_true(spec.norm_epsilon == (float)all[i].epsilon);
        assert_true(spec.rope.theta == all[i].theta);
        assert_int_equal(spec.max_positions, all[i].positions);
        assert_int_equal(spec.attention.kv_heads, all[i].kv_heads);
        assert_int_equal(spec.attention.head_dim, all[i].head_dim);
        assert_int_equal(spec.moe.router.top_k, all[i].top_k);
        assert_int_equal(spec.moe.router.normalize, all[i].normalize);
        assert_int_equal(spec.attention.qkv_bias, all[i].qkv_bias);
        assert_false(spec.attention.output_bias || spec.tied_embedding);
        assert_int_equal(spec.stored_dtype, DTYPE_F32);
        assert_int_equal(spec.bos_id, all[i].bos);
        assert_int_equal(spec.eos_count, all[i].eos >= 0);
        assert_int_equal(spec.eos_ids[0], all[i].eos >= 0 ? all[i].eos : 0);
    }
}

static void missing_kv_heads_may_be_a_number(void **state) {
    (void)state;
    struct model_spec spec = SPEC(small_mixtral, {"num_attention_heads", "32"});
    assert_int_equal(spec.attention.kv_heads, 8);
    spec = SPEC(small_mixtral, {"num_key_value_heads", "null"}, {"num_attention_heads", "32"});
    assert_int_equal(spec.attention.kv_heads, 32);
    spec = SPEC(small_llama, {"num_attention_heads", "32"});
    assert_int_equal(spec.attention.kv_heads, 32);
    spec = SPEC(small_qwen2, {"num_attention_heads", "64"}, {"num_key_value_heads", NULL},
                {"hidden_size", "512"});
    assert_int_equal(spec.attention.kv_heads, 32);
}

static void numbers_may_be_written_in_any_form(void **state) {
    (void)state;
    static const char *const thetas[] = {"1000000", "1000000.0", "1e6", "1.0E+6"};
    for (int i = 0; i < 4; i++) {
        struct model_spec spec = SPEC(small_llama, {"rope_theta", thetas[i]},
                                      {"hidden_size", i % 2 == 0 ? "6.4e1" : "64.0"});
        assert_true(spec.rope.theta == 1e6);
        assert_int_equal(spec.hidden, 64);
    }
}

static void biases_follow_the_class(void **state) {
    (void)state;
    static const char *const both[] = {small_llama, small_olmoe, small_qwen3, small_qwen3_moe};
    for (int i = 0; i < 4; i++) {
        struct model_spec spec = SPEC(both[i], {"attention_bias", "true"});
        assert_true(spec.attention.qkv_bias && spec.attention.output_bias);
    }
    struct model_spec spec = SPEC(small_qwen2_moe, {"qkv_bias", "false"});
    assert_false(spec.attention.qkv_bias || spec.attention.output_bias);
    spec = SPEC(small_qwen2, {"attention_bias", "false"}, {"qkv_bias", "false"});
    assert_true(spec.attention.qkv_bias);
    assert_false(spec.attention.output_bias);
    spec = SPEC(small_mixtral, {"attention_bias", "true"});
    assert_false(spec.attention.qkv_bias || spec.attention.output_bias);
}

static void routing_keys_are_honoured(void **state) {
    (void)state;
    struct model_spec spec = SPEC(small_olmoe, {"norm_topk_prob", "true"}, {"clip_qkv", "8"});
    assert_true(spec.moe.router.normalize);
    assert_true(spec.attention.clip_qkv == 8.0f);
    spec = SPEC(small_mixtral, {"norm_topk_prob", "false"});
    assert_true(spec.moe.router.normalize);
    spec = SPEC(small_qwen3_moe, {"num_experts", NULL}, {"num_local_experts", "12"},
                {"num_experts_per_tok", "3"});
    assert_int_equal(spec.moe.router.experts, 12);
    assert_int_equal(spec.moe.router.top_k, 3);
    assert_int_equal(spec.dense_intermediate, 0);
}

/* One letter a layer: M an MoE layer, d a dense one. */
static void check_layers(struct model_spec spec, const char *letters) {
    assert_int_equal(spec.layers, strlen(letters));
    for (int32_t i = 0; i < spec.layers; i++)
        assert_int_equal(spec.layer[i].moe, letters[i] == 'M');
    bool any_dense = strchr(letters, 'd') != NULL, any_moe = strchr(letters, 'M') != NULL;
    assert_int_equal(spec.dense_intermediate, any_dense ? 96 : 0);
    assert_int_equal(spec.moe.router.experts, any_moe ? 16 : 0);
    assert_int_equal(spec.moe.expert_intermediate, any_moe ? 24 : 0);
}

static void dense_layers_stand_where_the_config_says(void **state) {
    (void)state;
    static const char *const bases[] = {small_qwen2_moe, small_qwen3_moe};
    for (int i = 0; i < 2; i++) {
        check_layers(SPEC(bases[i], {"mlp_only_layers", "null"}), "MMMM");
        check_layers(SPEC(bases[i], {"mlp_only_layers", "[]"}, {"intermediate_size", NULL}),
                     "MMMM");
        check_layers(SPEC(bases[i], {"mlp_only_layers", "[0, 3]"}), "dMMd");
        check_layers(SPEC(bases[i], {"decoder_sparse_step", "2"}), "dMdM");
        check_layers(SPEC(bases[i], {"decoder_sparse_step", "3"}), "ddMd");
        check_layers(SPEC(bases[i], {"decoder_sparse_step", "2"}, {"mlp_only_layers", "[1, 1]"}),
                     "dddM");
        check_layers(SPEC(bases[i], {"decoder_sparse_step", "5"}), "dddd");
    }
}

static void check_windows(struct model_spec spec, int32_t a, int32_t b, int32_t c, int32_t d) {
    assert_int_equal(spec.layers, 4);
    assert_int_equal(spec.layer[0].window, a);
    assert_int_equal(spec.layer[1].window, b);
    assert_int_equal(spec.layer[2].window, c);
    assert_int_equal(spec.layer[3].window, d);
}

/* clang-format off */
#define USE {"use_sliding_window", "true"}, {"sliding_window", "16"}
#define TYPES {"layer_types", "[\"sliding_attention\",\"full_attention\",\"full_attention\",\"sliding_attention\"]"}
/* clang-format on */

static void windows_follow_the_class(void **state) {
    (void)state;
    check_windows(SPEC(small_mixtral, {"sliding_window", "16"}), 16, 16, 16, 16);
    check_windows(SPEC(small_mixtral, {"sliding_window", "null"}), 0, 0, 0, 0);
    check_windows(SPEC(small_qwen3_moe, USE), 16, 16, 16, 16);
    check_windows(SPEC(small_qwen3_moe, USE, {"use_sliding_window", "null"}), 0, 0, 0, 0);
    check_windows(SPEC(small_qwen3_moe, {"use_sliding_window", "true"}), 4096, 4096, 4096, 4096);
    static const char *const upper[] = {small_qwen2, small_qwen3};
    for (int i = 0; i < 2; i++) {
        check_windows(SPEC(upper[i], USE), 0, 0, 0, 0); /* max_window_layers is 28 */
        check_windows(SPEC(upper[i], USE, {"max_window_layers", "1"}), 0, 16, 16, 16);
        check_windows(SPEC(upper[i], USE, {"max_window_layers", "0"}, {"sliding_window", NULL}),
                      4096, 4096, 4096, 4096);
        check_windows(SPEC(upper[i], USE, {"max_window_layers", "1"}, {"sliding_window", "null"}),
                      0, 0, 0, 0);
        check_windows(SPEC(upper[i], {"sliding_window", "16"}, {"max_window_layers", "0"}), 0, 0, 0,
                      0);
        check_windows(SPEC(upper[i], USE, {"max_window_layers", "1"}, TYPES), 16, 0, 0, 16);
    }
    check_windows(SPEC(small_qwen2_moe, USE), 16, 0, 16, 0);
    check_windows(SPEC(small_qwen2_moe, USE, {"max_window_layers", "2"}), 16, 0, 0, 0);
    check_windows(SPEC(small_qwen2_moe, {"sliding_window", "16"}), 0, 0, 0, 0);
    check_windows(SPEC(small_qwen2_moe, USE, TYPES), 16, 0, 0, 16);
    check_windows(SPEC(small_llama, {"sliding_window", "16"}), 0, 0, 0, 0);
}

static void tokens_are_numbers_lists_or_none(void **state) {
    (void)state;
    struct model_spec spec = SPEC(small_llama, {"eos_token_id", "[5, 7, 9]"});
    assert_int_equal(spec.eos_count, 3);
    assert_int_equal(spec.eos_ids[2], 9);
    spec = SPEC(small_llama, {"eos_token_id", "null"}, {"bos_token_id", "null"});
    assert_int_equal(spec.eos_count, 0);
    assert_int_equal(spec.bos_id, -1);
    struct log_capture capture;
    char message[1024];
    log_capture_begin(&capture);
    spec = SPEC(small_llama, {"eos_token_id", "[70000, 3]"}, {"bos_token_id", "70000"});
    assert_int_equal(log_capture_end(&capture, message, sizeof message), 2);
    assert_int_equal(spec.eos_count, 1);
    assert_int_equal(spec.eos_ids[0], 3);
    assert_int_equal(spec.bos_id, -1);
}

static void dtypes_have_two_keys(void **state) {
    (void)state;
    assert_int_equal(SPEC(small_llama, {"torch_dtype", "\"float16\""}).stored_dtype, DTYPE_F16);
    assert_int_equal(SPEC(small_llama, {"dtype", "\"bfloat16\""}).stored_dtype, DTYPE_BF16);
    assert_int_equal(SPEC(small_llama, {"torch_dtype", "null"}).stored_dtype, DTYPE_F32);
    assert_int_equal(
        SPEC(small_llama, {"torch_dtype", "\"float16\""}, {"dtype", "\"bfloat16\""}).stored_dtype,
        DTYPE_BF16);
}

static void yarn_scaling_is_read(void **state) {
    (void)state;
    struct rope_spec rope = SPEC(small_qwen3, {"rope_scaling", "{\"type\":\"yarn\",\"factor\":4}"},
                                 {"max_position_embeddings", "4000"})
                                .rope;
    assert_int_equal(rope.kind, ROPE_YARN);
    assert_true(rope.factor == 4.0 && rope.beta_fast == 32.0 && rope.beta_slow == 1.0);
    assert_true(rope.truncate);
    assert_int_equal(rope.original_positions, 4000);
    assert_true(fabs(rope.attention_factor - 1.1386294361119891) < 1e-15); /* 0.1 ln 4 + 1 */
    rope = SPEC(small_qwen3, {"rope_parameters",
                              "{\"rope_type\":\"yarn\",\"factor\":40.0,\"mscale\":0.5,"
                              "\"mscale_all_dim\":1.0,\"original_max_position_embeddings\":4096,"
                              "\"rope_theta\":20000,\"beta_fast\":16,\"beta_slow\":0,"
                              "\"truncate\":false}"})
               .rope;
    assert_true(rope.theta == 20000.0 && rope.beta_fast == 16.0 && rope.beta_slow == 1.0);
    assert_false(rope.truncate);
    assert_int_equal(rope.original_positions, 4096);
    /* (0.05 ln 40 + 1) / (0.1 ln 40 + 1) */
    assert_true(fabs(rope.attention_factor - 0.865259992007406) < 1e-12);
    rope =
        SPEC(small_qwen3, {"rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":null,\"mscale\":1.0,"
                                           "\"attention_factor\":1.5,"
                                           "\"original_max_position_embeddings\":1024}"})
            .rope;
    assert_true(rope.factor == 32.0 && rope.attention_factor == 1.5);
    rope = SPEC(small_qwen3,
                {"rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":2.0,"
                                 "\"original_max_position_embeddings\":1024}"},
                {"original_max_position_embeddings", "2048"})
               .rope;
    assert_int_equal(rope.original_positions, 2048);
}

static void other_scalings_are_read(void **state) {
    (void)state;
    struct rope_spec rope =
        SPEC(small_llama, {"rope_scaling", "{\"type\":\"linear\",\"factor\":2.5}"}).rope;
    assert_int_equal(rope.kind, ROPE_LINEAR);
    assert_true(rope.factor == 2.5 && rope.attention_factor == 1.0);
    rope = SPEC(small_llama, {"rope_scaling", "{\"rope_type\":\"default\"}"}).rope;
    assert_int_equal(rope.kind, ROPE_DEFAULT);
    rope = SPEC(small_llama, {"rope_scaling", "{}"}, {"rope_parameters", "{\"rope_theta\":7e4}"},
                {"rope_theta", "5e5"})
               .rope;
    assert_int_equal(rope.kind, ROPE_DEFAULT);
    assert_true(rope.theta == 7e4);
}

static void check_name(const struct family *family, enum tensor_role role, const char *want) {
    char name[128];
    family_tensor_name(family, role, 12, 345, name, sizeof name);
    assert_string_equal(name, want);
}

static const struct family *find(const char *model_type) {
    const struct family *const *family = family_list();
    while (strcmp((*family)->model_type, model_type) != 0)
        family++;
    return *family;
}

static void tensors_have_their_stored_names(void **state) {
    (void)state;
    for (const struct family *const *f = family_list(); *f != NULL; f++) {
        check_name(*f, ROLE_EMBEDDING, "model.embed_tokens.weight");
        check_name(*f, ROLE_FINAL_NORM, "model.norm.weight");
        check_name(*f, ROLE_OUTPUT, "lm_head.weight");
        check_name(*f, ROLE_Q, "model.layers.12.self_attn.q_proj.weight");
        check_name(*f, ROLE_O, "model.layers.12.self_attn.o_proj.weight");
        check_name(*f, ROLE_INPUT_NORM, "model.layers.12.input_layernorm.weight");
        check_name(*f, ROLE_POST_NORM, "model.layers.12.post_attention_layernorm.weight");
    }
    const struct family *mixtral = find("mixtral"), *olmoe = find("olmoe");
    check_name(mixtral, ROLE_ROUTER, "model.layers.12.block_sparse_moe.gate.weight");
    check_name(mixtral, ROLE_EXPERT_GATE, "model.layers.12.block_sparse_moe.experts.345.w1.weight");
    check_name(mixtral, ROLE_EXPERT_UP, "model.layers.12.block_sparse_moe.experts.345.w3.weight");
    check_name(mixtral, ROLE_EXPERT_DOWN, "model.layers.12.block_sparse_moe.experts.345.w2.weight");
    assert_null(mixtral->names[ROLE_Q_BIAS]);
    check_name(olmoe, ROLE_EXPERT_DOWN, "model.layers.12.mlp.experts.345.down_proj.weight");
    check_name(olmoe, ROLE_K_NORM, "model.layers.12.self_attn.k_norm.weight");
    const struct family *shared = find("qwen2_moe");
    check_name(shared, ROLE_SHARED_UP, "model.layers.12.mlp.shared_expert.up_proj.weight");
    check_name(shared, ROLE_SHARED_EXPERT_GATE, "model.layers.12.mlp.shared_expert_gate.weight");
    check_name(shared, ROLE_V_BIAS, "model.layers.12.self_attn.v_proj.bias");
    check_name(shared, ROLE_DENSE_DOWN, "model.layers.12.mlp.down_proj.weight");
    assert_null(shared->names[ROLE_O_BIAS]);
    check_name(find("llama"), ROLE_O_BIAS, "model.layers.12.self_attn.o_proj.bias");
}

static void stored_frequencies_are_ignored(void **state) {
    (void)state;
    const struct family *family = find("llama");
    assert_true(family_ignores(family, "model.layers.31.self_attn.rotary_emb.inv_freq"));
    assert_false(family_ignores(family, "model.layers..self_attn.rotary_emb.inv_freq"));
    assert_false(family_ignores(family, "model.layers.31.self_attn.rotary_emb.inv_freq2"));
    assert_false(family_ignores(family, "model.layers.31.self_attn.rotary_emb"));
    assert_false(family_ignores(family, "model.layers.31.self_attn.q_proj.weight"));
    assert_false(family_ignores(family, ""));
    static const char *const patterns[] = {"model.layers.4.*", NULL};
    const struct family rest = {.ignored = patterns};
    assert_true(family_ignores(&rest, "model.layers.4.anything"));
    assert_false(family_ignores(&rest, "model.layers.40.anything"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_configs_give_their_specs),
        cmocka_unit_test(both_forms_of_a_config_are_one_spec),
        cmocka_unit_test(llama3_scaling_is_read),
        cmocka_unit_test(generation_config_wins),
        cmocka_unit_test(unknown_families_are_refused_by_name),
        cmocka_unit_test(missing_keys_take_the_class_defaults),
        cmocka_unit_test(missing_kv_heads_may_be_a_number),
        cmocka_unit_test(numbers_may_be_written_in_any_form),
        cmocka_unit_test(biases_follow_the_class),
        cmocka_unit_test(routing_keys_are_honoured),
        cmocka_unit_test(dense_layers_stand_where_the_config_says),
        cmocka_unit_test(windows_follow_the_class),
        cmocka_unit_test(tokens_are_numbers_lists_or_none),
        cmocka_unit_test(dtypes_have_two_keys),
        cmocka_unit_test(yarn_scaling_is_read),
        cmocka_unit_test(other_scalings_are_read),
        cmocka_unit_test(tensors_have_their_stored_names),
        cmocka_unit_test(stored_frequencies_are_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
