/* runtime/family_common, rope_config, config_reader, generation_config: every broken config is
 * refused with the right status and one line that names file, field, expected and got. */
#include "runtime/family_common.h"

#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/generation_config.h"
#include "tests/support/config_edit.h"
#include "tests/support/log_capture.h"
#include "tests/unit/unit_test.h"

#define TEXT_MAX 32768

/* Good configs, each with every key that its family reads. */
#define COMMON                                                                                     \
    "\"hidden_act\":\"silu\",\"hidden_size\":64,\"num_hidden_layers\":4,"                          \
    "\"num_attention_heads\":8,\"num_key_value_heads\":4,\"vocab_size\":512,"                      \
    "\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-6,\"rope_theta\":10000,"                 \
    "\"bos_token_id\":1,\"eos_token_id\":2,\"tie_word_embeddings\":false,"                         \
    "\"torch_dtype\":\"float32\",\"rope_scaling\":null,"

static const char llama[] =
    "{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"]," COMMON
    "\"intermediate_size\":96,\"attention_bias\":false,\"mlp_bias\":false,\"head_dim\":8}";
static const char mixtral[] =
    "{\"model_type\":\"mixtral\",\"architectures\":[\"MixtralForCausalLM\"]," COMMON
    "\"intermediate_size\":96,\"num_local_experts\":8,\"num_experts_per_tok\":2,"
    "\"sliding_window\":null}";
static const char olmoe[] =
    "{\"model_type\":\"olmoe\",\"architectures\":[\"OlmoeForCausalLM\"]," COMMON
    "\"intermediate_size\":96,\"num_experts\":16,\"num_experts_per_tok\":4,\"clip_qkv\":null}";
static const char qwen3[] =
    "{\"model_type\":\"qwen3\",\"architectures\":[\"Qwen3ForCausalLM\"]," COMMON
    "\"intermediate_size\":96,\"head_dim\":16,\"use_sliding_window\":false}";
static const char qwen2_moe[] =
    "{\"model_type\":\"qwen2_moe\",\"architectures\":[\"Qwen2MoeForCausalLM\"]," COMMON
    "\"intermediate_size\":96,\"moe_intermediate_size\":24,\"num_experts\":16,"
    "\"shared_expert_intermediate_size\":48,\"num_experts_per_tok\":4,\"decoder_sparse_step\":1,"
    "\"mlp_only_layers\":[]}";
static const char qwen3_moe[] =
    "{\"model_type\":\"qwen3_moe\",\"architectures\":[\"Qwen3MoeForCausalLM\"]," COMMON
    "\"moe_intermediate_size\":24,\"num_experts\":16,\"num_experts_per_tok\":4,\"head_dim\":16}";

/* One key set to a value (NULL: taken out), and what must come of it. `field` is what the message
 * names when it is not the key. */
struct broken {
    const char *base, *key, *value;
    enum status status;
    const char *field;
};

#define BAD STATUS_BAD_CONFIG
#define NOT_YET STATUS_UNSUPPORTED
#define ROPE "rope_scaling"

/* clang-format off */
static const struct broken broken[] = {
    {llama, "model_type", NULL, BAD, NULL},
    {llama, "model_type", "\"bert\"", NOT_YET, NULL},
    {llama, "model_type", "\"Llama\"", NOT_YET, NULL},
    {llama, "model_type", "7", BAD, NULL},
    {llama, "model_type", "null", BAD, NULL},
    {llama, "architectures", "[\"LlamaForSequenceClassification\"]", NOT_YET, NULL},
    {llama, "architectures", "\"LlamaForCausalLM\"", BAD, NULL},
    {llama, "architectures", "[7]", BAD, "architectures[0]"},
    {llama, "quantization_config", "{\"quant_method\":\"fp8\"}", NOT_YET, "quantization_config.quant_method"},
    {llama, "quantization_config", "{\"quant_method\":\"awq\",\"bits\":4}", NOT_YET, "quantization_config.quant_method"},
    {llama, "quantization_config", "{\"bits\":4}", NOT_YET, NULL},
    {llama, "quantization_config", "\"gptq\"", BAD, NULL},
    {llama, "compression_config", "{\"format\":\"pack\"}", NOT_YET, NULL},
    {llama, "hidden_act", "\"gelu\"", NOT_YET, NULL},
    {llama, "hidden_act", "1", BAD, NULL},
    {llama, "lm_head_bias", "true", NOT_YET, NULL},
    {llama, "mlp_bias", "true", NOT_YET, NULL},
    {llama, "mlp_bias", "1", BAD, NULL},
    {llama, "attention_bias", "\"yes\"", BAD, NULL},
    {llama, "tie_word_embeddings", "0", BAD, NULL},
    {llama, "torch_dtype", "\"float8_e4m3fn\"", NOT_YET, NULL},
    {llama, "torch_dtype", "16", BAD, NULL},
    {llama, "dtype", "\"int8\"", NOT_YET, NULL},
    {llama, "hidden_size", NULL, BAD, NULL},
    {llama, "hidden_size", "null", BAD, NULL},
    {llama, "hidden_size", "0", BAD, NULL},
    {llama, "hidden_size", "-64", BAD, NULL},
    {llama, "hidden_size", "64.5", BAD, NULL},
    {llama, "hidden_size", "\"64\"", BAD, NULL},
    {llama, "hidden_size", "[64]", BAD, NULL},
    {llama, "hidden_size", "1e30", BAD, NULL},
    {llama, "hidden_size", "4294967360", BAD, NULL},
    {llama, "hidden_size", "9223372036854775807", BAD, NULL},
    {mixtral, "hidden_size", "65", BAD, NULL},
    {mixtral, "hidden_size", "72", BAD, NULL},
    {mixtral, "hidden_size", "16384", BAD, NULL},
    {llama, "head_dim", "7", BAD, NULL},
    {llama, "head_dim", "0", BAD, NULL},
    {llama, "head_dim", "514", BAD, NULL},
    {qwen3, "head_dim", "null", BAD, NULL},
    {olmoe, "head_dim", "16", BAD, NULL},
    {llama, "num_hidden_layers", "0", BAD, NULL},
    {llama, "num_hidden_layers", "513", BAD, NULL},
    {llama, "num_attention_heads", "0", BAD, NULL},
    {llama, "num_attention_heads", NULL, BAD, NULL},
    {llama, "num_attention_heads", "1000000", BAD, NULL},
    {llama, "num_key_value_heads", "0", BAD, NULL},
    {llama, "num_key_value_heads", "3", BAD, NULL},
    {llama, "num_key_value_heads", "16", BAD, NULL},
    {qwen3_moe, "num_key_value_heads", "null", BAD, NULL},
    {qwen2_moe, "num_key_value_heads", NULL, BAD, NULL},
    {llama, "vocab_size", "0", BAD, NULL},
    {llama, "vocab_size", "true", BAD, NULL},
    {llama, "vocab_size", "4000000000", BAD, NULL},
    {llama, "max_position_embeddings", "0", BAD, NULL},
    {llama, "max_position_embeddings", "1e12", BAD, NULL},
    {llama, "intermediate_size", NULL, BAD, NULL},
    {llama, "intermediate_size", "0", BAD, NULL},
    {llama, "intermediate_size", "1e9", BAD, NULL},
    {llama, "rms_norm_eps", "-1e-6", BAD, NULL},
    {llama, "rms_norm_eps", "0", BAD, NULL},
    {llama, "rms_norm_eps", "1e300", BAD, NULL},
    {llama, "rms_norm_eps", "null", BAD, NULL},
    {llama, "rms_norm_eps", "\"1e-6\"", BAD, NULL},
    {llama, "rope_theta", "0", BAD, NULL},
    {llama, "rope_theta", "-10000.0", BAD, NULL},
    {llama, "rope_theta", "{}", BAD, NULL},
    {llama, "eos_token_id", "-1", BAD, NULL},
    {llama, "eos_token_id", "\"</s>\"", BAD, NULL},
    {llama, "eos_token_id", "[1, 2.5]", BAD, "eos_token_id[1]"},
    {llama, "eos_token_id", "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", BAD, NULL},
    {llama, "bos_token_id", "[1, 2]", BAD, NULL},
    {llama, "partial_rotary_factor", "0.5", NOT_YET, NULL},
    {llama, "partial_rotary_factor", "2", BAD, NULL},
    {llama, ROPE, "7", BAD, NULL},
    {llama, ROPE, "{\"type\":\"dynamic\",\"factor\":2}", NOT_YET, ROPE ".type"},
    {llama, ROPE, "{\"rope_type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[2]}", NOT_YET, ROPE ".rope_type"},
    {llama, ROPE, "{\"rope_type\":\"mrope\",\"mrope_section\":[1]}", NOT_YET, ROPE ".rope_type"},
    {llama, ROPE, "{\"rope_type\":3}", BAD, ROPE ".rope_type"},
    {llama, ROPE, "{\"factor\":2}", BAD, ROPE ".rope_type"},
    {llama, ROPE, "{\"type\":\"linear\",\"rope_type\":\"yarn\",\"factor\":2}", BAD, ROPE ".type"},
    {llama, ROPE, "{\"type\":\"linear\"}", BAD, ROPE ".factor"},
    {llama, ROPE, "{\"type\":\"linear\",\"factor\":0}", BAD, ROPE ".factor"},
    {llama, ROPE, "{\"type\":\"linear\",\"factor\":-2}", BAD, ROPE ".factor"},
    {llama, ROPE, "{\"type\":\"linear\",\"factor\":2,\"partial_rotary_factor\":0.25}", NOT_YET, ROPE ".partial_rotary_factor"},
    {llama, ROPE, "{\"type\":\"yarn\"}", BAD, ROPE ".factor"},
    {llama, ROPE, "{\"type\":\"yarn\",\"factor\":2,\"beta_fast\":1,\"beta_slow\":32}", BAD, ROPE ".beta_fast"},
    {llama, ROPE, "{\"type\":\"yarn\",\"factor\":2,\"attention_factor\":0}", BAD, ROPE ".attention_factor"},
    {llama, ROPE, "{\"type\":\"yarn\",\"factor\":2,\"original_max_position_embeddings\":0}", BAD, ROPE ".original_max_position_embeddings"},
    {llama, ROPE, "{\"type\":\"yarn\",\"factor\":2,\"truncate\":\"no\"}", BAD, ROPE ".truncate"},
    {llama, ROPE, "{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1}", BAD, ROPE ".high_freq_factor"},
    {llama, ROPE, "{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}", BAD, ROPE ".high_freq_factor"},
    {llama, ROPE, "{\"type\":\"llama3\",\"low_freq_factor\":1,\"high_freq_factor\":4}", BAD, ROPE ".factor"},
    {llama, "rope_parameters", "{\"full_attention\":{\"rope_type\":\"default\"}}", NOT_YET, NULL},
    {llama, "rope_parameters", "{\"rope_type\":\"default\",\"rope_theta\":null}", BAD, "rope_parameters.rope_theta"},
    {mixtral, "num_local_experts", "0", BAD, NULL},
    {mixtral, "num_local_experts", "1025", BAD, NULL},
    {mixtral, "num_local_experts", NULL, BAD, NULL},
    {mixtral, "num_experts", "4", BAD, NULL},
    {mixtral, "num_experts_per_tok", "9", BAD, NULL},
    {mixtral, "num_experts_per_tok", "0", BAD, NULL},
    {mixtral, "num_experts_per_tok", "-1", BAD, NULL},
    {mixtral, "sliding_window", "0", BAD, NULL},
    {mixtral, "sliding_window", "-1", BAD, NULL},
    {mixtral, "sliding_window", "\"none\"", BAD, NULL},
    {mixtral, "intermediate_size", "true", BAD, NULL},
    {olmoe, "clip_qkv", "0", BAD, NULL},
    {olmoe, "clip_qkv", "-8", BAD, NULL},
    {olmoe, "norm_topk_prob", "\"true\"", BAD, NULL},
    {qwen2_moe, "mlp_only_layers", "[4]", BAD, "mlp_only_layers[0]"},
    {qwen2_moe, "mlp_only_layers", "[0, -1]", BAD, "mlp_only_layers[1]"},
    {qwen2_moe, "mlp_only_layers", "2", BAD, NULL},
    {qwen2_moe, "mlp_only_layers", "[\"0\"]", BAD, "mlp_only_layers[0]"},
    {qwen2_moe, "decoder_sparse_step", "0", BAD, NULL},
    {qwen2_moe, "shared_expert_intermediate_size", "0", BAD, NULL},
    {qwen2_moe, "shared_expert_intermediate_size", NULL, BAD, NULL},
    {qwen2_moe, "moe_intermediate_size", NULL, BAD, NULL},
    {qwen3_moe, "decoder_sparse_step", "2", BAD, "intermediate_size"},
    {qwen3, "layer_types", "[\"full_attention\"]", BAD, NULL},
    {qwen3, "layer_types", "[\"full_attention\",\"full_attention\",\"full_attention\",\"chunked_attention\"]", NOT_YET, NULL},
    {qwen3, "layer_types", "[\"full_attention\",\"full_attention\",\"full_attention\",\"sliding_attention\"]", BAD, "use_sliding_window"},
    {qwen3, "layer_types", "[1,2,3,4]", BAD, "layer_types[0]"},
    {qwen3, "use_sliding_window", "3", BAD, NULL},
};
/* clang-format on */

static const char origin[] = "somewhere/config.json";

/* The one line of a refusal: file, field, expected, got. */
static void check_message(const char *message, int lines, const char *field) {
    char start[256];
    snprintf(start, sizeof start, " %s: field %s: expected ", origin, field);
    if (lines != 1 || strstr(message, start) == NULL || strstr(message, ", got ") == NULL)
        fail_msg("expected one line with \"%s\", got %d: %s", start, lines, message);
}

static enum status parse(const char *text, char *message, int *lines) {
    struct log_capture capture;
    struct model_spec spec;
    const struct family *family;
    log_capture_begin(&capture);
    enum status status = family_parse_memory(origin, text, strlen(text), &family, &spec);
    *lines = log_capture_end(&capture, message, 2048);
    return status;
}

static void the_unbroken_ones_are_taken(void **state) {
    (void)state;
    static const char *const good[] = {llama, mixtral, olmoe, qwen3, qwen2_moe, qwen3_moe};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char message[2048];
        int lines;
        assert_int_equal(parse(good[i], message, &lines), STATUS_OK);
        assert_int_equal(lines, 0);
    }
}

static void broken_values_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        char text[TEXT_MAX], message[2048];
        int lines;
        config_edit_set(broken[i].base, broken[i].key, broken[i].value, text, sizeof text);
        enum status status = parse(text, message, &lines);
        if (status != broken[i].status)
            fail_msg("%s = %s: expected %s, got %s", broken[i].key,
                     broken[i].value != NULL ? broken[i].value : "(missing)",
                     status_name(broken[i].status), status_name(status));
        check_message(message, lines, broken[i].field != NULL ? broken[i].field : broken[i].key);
    }
}

static void impossible_totals_are_refused(void **state) {
    (void)state;
    char text[TEXT_MAX], message[2048];
    int lines;
    config_edit_set(mixtral, "num_local_experts", "1024", text, sizeof text);
    config_edit_set(text, "num_hidden_layers", "512", text, sizeof text);
    config_edit_set(text, "intermediate_size", "1048576", text, sizeof text);
    config_edit_set(text, "hidden_size", "131072", text, sizeof text);
    config_edit_set(text, "num_attention_heads", "512", text, sizeof text);
    assert_int_equal(parse(text, message, &lines), STATUS_BAD_CONFIG);
    check_message(message, lines, "num_hidden_layers");
}

static void what_is_no_json_object_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        " ",
                                        "[]",
                                        "7",
                                        "\"llama\"",
                                        "null",
                                        "{",
                                        "{}}",
                                        "{\"a\":1,}",
                                        "{\"a\":NaN}",
                                        "{\"model_type\":\"llama\",\"model_type\":\"llama\"}",
                                        "{\"a\":1e999}",
                                        "\xff\xfe{}",
                                        "{\"hidden_size\":99999999999999999999}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char message[2048];
        int lines;
        assert_int_equal(parse(texts[i], message, &lines), STATUS_BAD_CONFIG);
        assert_int_equal(lines, 1);
        assert_non_null(strstr(message, origin));
        assert_non_null(strstr(message, "expected "));
    }
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    struct model_spec spec;
    const struct family *family;
    struct log_capture capture;
    char message[64];
    log_capture_begin(&capture);
    int wrong = 0;
    for (size_t size = 0; size + 1 < sizeof qwen2_moe; size++)
        wrong += family_parse_memory(origin, qwen2_moe, size, &family, &spec) != STATUS_BAD_CONFIG;
    log_capture_end(&capture, message, sizeof message);
    assert_int_equal(wrong, 0);
}

static void long_values_do_not_flood_the_line(void **state) {
    (void)state;
    char text[TEXT_MAX], value[4096], message[2048];
    memset(value, 'x', sizeof value);
    value[0] = '"';
    value[sizeof value - 2] = '"';
    value[sizeof value - 1] = '\0';
    int lines;
    config_edit_set(llama, "hidden_act", value, text, sizeof text);
    assert_int_equal(parse(text, message, &lines), STATUS_UNSUPPORTED);
    check_message(message, lines, "hidden_act");
    assert_true(strlen(message) < 256);
}

static void a_missing_folder_is_an_io_error(void **state) {
    (void)state;
    struct model_spec spec;
    const struct family *family;
    struct log_capture capture;
    char message[1024];
    log_capture_begin(&capture);
    enum status status = family_parse("tests/data/no-such-folder", &family, &spec);
    assert_int_equal(log_capture_end(&capture, message, sizeof message), 1);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(message, "tests/data/no-such-folder/config.json"));
}

/* Parses a generation_config.json; returns its status and leaves the message. */
static enum status generation(const char *text, struct model_spec *spec, char *message) {
    memset(spec, 0, sizeof *spec);
    spec->vocabulary = 100;
    spec->bos_id = -1;
    generation_config_init(&spec->defaults);
    struct log_capture capture;
    struct config_reader config;
    log_capture_begin(&capture);
    enum status status = config_reader_open_memory(origin, text, strlen(text), &config);
    if (status == STATUS_OK) {
        status = generation_config_parse(&config, spec);
        config_reader_close(&config);
    }
    log_capture_end(&capture, message, 2048);
    return status;
}

static void generation_config_is_checked(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"{\"temperature\":-1}", "temperature"},
        {"{\"temperature\":\"hot\"}", "temperature"},
        {"{\"top_p\":1.5}", "top_p"},
        {"{\"top_p\":-0.1}", "top_p"},
        {"{\"min_p\":2}", "min_p"},
        {"{\"top_k\":-2}", "top_k"},
        {"{\"top_k\":1.5}", "top_k"},
        {"{\"repetition_penalty\":0}", "repetition_penalty"},
        {"{\"do_sample\":1}", "do_sample"},
        {"{\"eos_token_id\":{}}", "eos_token_id"},
    };
    struct model_spec spec;
    char message[2048];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(generation(bad[i][0], &spec, message), STATUS_BAD_CONFIG);
        check_message(message, 1, bad[i][1]);
    }
    assert_int_equal(generation("{\"temperature\":null,\"top_p\":null,\"top_k\":null,\"min_p\":0.1,"
                                "\"repetition_penalty\":1.1,\"do_sample\":null,"
                                "\"eos_token_id\":[7,8],\"bos_token_id\":5}",
                                &spec, message),
                     STATUS_OK);
    assert_true(spec.defaults.temperature == 1.0f && spec.defaults.top_p == 1.0f);
    assert_true(spec.defaults.min_p == 0.1f && spec.defaults.repetition_penalty == 1.1f);
    assert_int_equal(spec.defaults.top_k, 0);
    assert_int_equal(spec.eos_count, 2);
    assert_int_equal(spec.bos_id, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_unbroken_ones_are_taken),
        cmocka_unit_test(broken_values_are_refused),
        cmocka_unit_test(impossible_totals_are_refused),
        cmocka_unit_test(what_is_no_json_object_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(long_values_do_not_flood_the_line),
        cmocka_unit_test(a_missing_folder_is_an_io_error),
        cmocka_unit_test(generation_config_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
