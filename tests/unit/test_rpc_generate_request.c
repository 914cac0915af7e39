/* runtime/rpc_generate_request.c: every field of a GenerateRequest arrives where it belongs, and
 * what cannot be honoured is refused by name. */
#include <math.h>
#include <string.h>

#include "runtime/rpc_generate_request.h"
#include "tests/unit/unit_test.h"

/* A request with one word of text, and everything that it may have beside. */
static struct wire {
    Moebius__V1__GenerateRequest request;
    Moebius__V1__TokenIds tokens;
    Moebius__V1__ChatMessages chat;
    Moebius__V1__ChatMessage message;
    Moebius__V1__ChatMessage *messages[1];
    Moebius__V1__SamplingParams sampling;
    Moebius__V1__SamplingParams__LogitBiasEntry bias;
    Moebius__V1__SamplingParams__LogitBiasEntry *biases[SAMPLING_BIAS_MAX + 1];
    Moebius__V1__StopParams stop;
    ProtobufCBinaryData stops[2];
    Moebius__V1__OutputParams output;
} wire;

static struct rpc_arena arena;
static struct generation_request request;
static struct generation_message message;

static ProtobufCBinaryData bytes_of(const char *text, size_t length) {
    static uint8_t kept[16][256];
    static int next;
    uint8_t *copy = kept[next++ % 16];
    memcpy(copy, text, length);
    return (ProtobufCBinaryData){length, copy};
}

static ProtobufCBinaryData text_of(const char *text) {
    return bytes_of(text, strlen(text));
}

static void begin(void) {
    memset(&wire, 0, sizeof wire);
    moebius__v1__generate_request__init(&wire.request);
    moebius__v1__token_ids__init(&wire.tokens);
    moebius__v1__chat_messages__init(&wire.chat);
    moebius__v1__chat_message__init(&wire.message);
    moebius__v1__sampling_params__init(&wire.sampling);
    moebius__v1__sampling_params__logit_bias_entry__init(&wire.bias);
    moebius__v1__stop_params__init(&wire.stop);
    moebius__v1__output_params__init(&wire.output);
    wire.messages[0] = &wire.message;
    for (size_t i = 0; i < sizeof wire.biases / sizeof wire.biases[0]; i++)
        wire.biases[i] = &wire.bias;
    wire.chat.messages = wire.messages;
    wire.sampling.logit_bias = wire.biases;
    wire.stop.stop = wire.stops;
    wire.request.prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT_TEXT;
    wire.request.text = text_of("word");
    wire.request.sampling = &wire.sampling;
    wire.request.stop = &wire.stop;
    wire.request.output = &wire.output;
    rpc_arena_reset(&arena);
    memset(&message, 0, sizeof message);
}

static enum generation_error map(void) {
    return rpc_generate_request_map(&wire.request, &arena, &request, &message);
}

static void expect_refused(enum generation_error error, const char *said) {
    assert_int_equal(map(), error);
    if (strstr(message.text, said) == NULL)
        fail_msg("no '%s' in: %s", said, message.text);
    assert_null(strchr(message.text, '\n'));
}

static void what_is_not_set_is_a_default(void **state) {
    (void)state;
    begin();
    wire.request.sampling = NULL;
    wire.request.stop = NULL;
    wire.request.output = NULL;
    assert_int_equal(map(), GENERATION_ERROR_NONE);
    struct generation_request expected = generation_request_default();
    assert_null(request.request_id);
    assert_null(request.model);
    assert_int_equal(request.given, 0);
    assert_int_equal(request.n, 1);
    assert_int_equal(request.max_tokens, expected.max_tokens);
    assert_int_equal(request.sampling.logprobs, -1);
    assert_int_equal(request.prompt_logprobs, -1);
    assert_true(request.sampling.top_p == expected.sampling.top_p);
    assert_int_equal(request.text_bytes, 4);
    assert_memory_equal(request.text, "word", 4);
    begin(); /* empty groups say the same as none */
    assert_int_equal(map(), GENERATION_ERROR_NONE);
    assert_int_equal(request.given, 0);
    assert_int_equal(request.sampling.logprobs, -1);
    assert_int_equal(request.time_limit_ns, 0);
}

static void names_and_numbers(void **state) {
    (void)state;
    begin();
    wire.request.request_id = text_of("job-1!");
    wire.request.model = text_of("demo");
    wire.request.n = 3;
    wire.request.priority = -7;
    wire.request.truncate_prompt_tokens = 9;
    assert_int_equal(map(), GENERATION_ERROR_NONE);
    assert_string_equal(request.request_id, "job-1!");
    assert_string_equal(request.model, "demo");
    assert_int_equal(request.n, 3);
    assert_int_equal(request.priority, -7);
    assert_int_equal(request.truncate_prompt_tokens, 9);
}

static void prompts_of_three_kinds(void **state) {
    (void)state;
    uint32_t ids[] = {1, 2, INT32_MAX};
    begin();
    wire.request.text = bytes_of("a\0b", 3); /* NUL is a character of a prompt */
    assert_int_equal(map(), GENERATION_ERROR_NONE);
    assert_int_equal(request.text_bytes, 3);
    begin();
    wire.request.prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT_TOKENS;
    wire.request.tokens = &wire.tokens;
    wire.tokens.ids = ids;
    wire.tokens.n_ids = 3;
    assert_int_equal(map(), GENERATION_ERROR_NONE);
    assert_null(request.text);
    assert_int_equal(request.id_count, 3);
    assert_int_equal(request.ids[2], INT32_MAX);
    begin();
    wire.request.prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT_CHAT;
    wire.request.chat = &wire.chat;
    wire.chat.n_messages = 1;
    wire.message.role = text_of("user");
    assert_int_equal(map(), GENERATION_ERROR_NONE);
    assert_null(request.text);
    assert_int_equal(request.chat->message_count, 1);
    assert_true(request.chat->add_generation_prompt);
    assert_string_equal(request.chat->messages[0].role, "user");
    assert_string_equal(request.chat->messages[0].content, "");
}

static void sampling_fields(void **state) {
    (void)state;
    begin();
    Moebius__V1__SamplingParams *sampling = &wire.sampling;
    sampling->optional_temperature_case =
        MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TEMPERATURE_TEMPERATURE;
    sampling->temperature = 0.0f; /* given, and greedy */
    sampling->optional_top_k_case = MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TOP_K_TOP_K;
    sampling->top_k = 40;
    sampling->optional_top_p_case = MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TOP_P_TOP_P;
    sampling->top_p = 0.9f;
    sampling->optional_min_p_case = MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_MIN_P_MIN_P;
    sampling->min_p = 0.1f;
    sampling->optional_repetition_penalty_case =
        MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_REPETITION_PENALTY_REPETITION_PENALTY;
    sampling->repetition_penalty = 1.5f;
    sampling->optional_seed_case = MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_SEED_SEED;
    sampling->seed = UINT64_MAX;
    sampling->frequency_penalty = -1.0f;
    sampling->presence_penalty = 2.0f;
    sampling->typical_p = 1.0f;
    sampling->n_logit_bias = 1;
    wire.bias.key = 17;
    wire.bias.value = -3.5f;
    assert_int_equal(map(), GENERATION_ERROR_NONE);
    assert_int_equal(request.given, GENERATION_GIVEN_TEMPERATURE | GENERATION_GIVEN_TOP_K |
                                        GENERATION_GIVEN_TOP_P | GENERATION_GIVEN_MIN_P |
                                        GENERATION_GIVEN_REPETITION_PENALTY |
                                        GENERATION_GIVEN_SEED);
    assert_true(request.sampling.temperature == 0.0f);
    assert_int_equal(request.sampling.top_k, 40);
    assert_true(request.sampling.top_p == 0.9f && request.sampling.min_p == 0.1f);
    assert_true(request.sampling.repetition_penalty == 1.5f);
    assert_true(request.sampling.seed == UINT64_MAX);
    assert_true(request.sampling.frequency_penalty == -1.0f);
    assert_true(request.sampling.presence_penalty == 2.0f);
    assert_int_equal(request.sampling.bias_count, 1);
    assert_int_equal(request.sampling.bias[0].id, 17);
    assert_true(request.sampling.bias[0].bias == -3.5f);
}

static void stop_and_output_fields(void **state) {
    (void)state;
    uint32_t ids[] = {5, 6};
    begin();
    wire.stop.max_new_tokens = 10;
    wire.stop.min_new_tokens = 2;
    wire.stop.n_stop = 2;
    wire.stops[0] = text_of("\n\n");
    wire.stops[1] = text_of("\xc3\xa4");
    wire.stop.n_stop_token_ids = 2;
    wire.stop.stop_token_ids = ids;
    wire.stop.ignore_eos = wire.stop.include_stop = 1;
    wire.stop.time_limit_ms = 1500;
    wire.output.no_text = wire.output.echo = wire.output.keep_special_tokens = 1;
    wire.output.logprobs = 1;
    wire.output.top_logprobs = 20;
    wire.output.stream_interval = 4;
    assert_int_equal(map(), GENERATION_ERROR_NONE);
    assert_int_equal(request.max_tokens, 10);
    assert_int_equal(request.min_tokens, 2);
    assert_int_equal(request.stop_count, 2);
    assert_string_equal(request.stop[0], "\n\n");
    assert_string_equal(request.stop[1], "\xc3\xa4");
    assert_int_equal(request.stop_id_count, 2);
    assert_int_equal(request.stop_ids[1], 6);
    assert_true(request.ignore_eos && request.include_stop);
    assert_int_equal(request.time_limit_ns, INT64_C(1500000000));
    assert_true(request.no_text && request.echo && request.keep_special_tokens);
    assert_int_equal(request.sampling.logprobs, 20);
    assert_int_equal(request.prompt_logprobs, -1);
    assert_int_equal(request.stream_interval, 4);
    wire.output.logprobs = 0;
    wire.output.prompt_logprobs = 1;
    assert_int_equal(map(), GENERATION_ERROR_NONE);
    assert_int_equal(request.sampling.logprobs, -1);
    assert_int_equal(request.prompt_logprobs, 20);
}

static void refused_names_and_prompts(void **state) {
    (void)state;
    char longer[RPC_GENERATE_REQUEST_ID_MAX + 1];
    memset(longer, 'x', sizeof longer);
    uint32_t large = UINT32_C(1) << 31;
    begin();
    wire.request.request_id = bytes_of(longer, sizeof longer);
    expect_refused(GENERATION_ERROR_INVALID, "request_id: expected at most 128 bytes, got 129");
    begin();
    wire.request.request_id = text_of("a b");
    expect_refused(GENERATION_ERROR_INVALID, "request_id: expected printable ASCII");
    begin();
    wire.request.request_id = bytes_of("a\0b", 3);
    expect_refused(GENERATION_ERROR_INVALID, "request_id: expected text without NUL");
    begin();
    wire.request.model = text_of("\xff");
    expect_refused(GENERATION_ERROR_INVALID, "model: expected UTF-8, got byte 0xff at offset 0");
    begin();
    wire.request.text = text_of("ab\xc3(");
    expect_refused(GENERATION_ERROR_INVALID, "text: expected UTF-8, got byte 0xc3 at offset 2");
    begin();
    wire.request.prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT__NOT_SET;
    expect_refused(GENERATION_ERROR_INVALID, "prompt: expected one of text, tokens and chat");
    begin();
    wire.request.prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT_TOKENS;
    wire.request.tokens = &wire.tokens;
    expect_refused(GENERATION_ERROR_INVALID, "tokens.ids: expected at least one");
    wire.tokens.n_ids = 1;
    wire.tokens.ids = &large;
    expect_refused(GENERATION_ERROR_INVALID, "tokens.ids[0]: expected an id of the vocabulary");
    begin();
    wire.request.prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT_CHAT;
    wire.request.chat = &wire.chat;
    expect_refused(GENERATION_ERROR_INVALID, "chat.messages: expected at least one");
    wire.chat.n_messages = 1;
    expect_refused(GENERATION_ERROR_INVALID, "chat.messages[0].role: expected a role");
    wire.message.role = text_of("user");
    wire.message.content = text_of("\xed\xa0\x80");
    expect_refused(GENERATION_ERROR_INVALID, "chat.messages[0].content: expected UTF-8");
    begin();
    wire.request.n = GENERATION_CHOICES_MAX + 1;
    expect_refused(GENERATION_ERROR_INVALID, "n: expected at most 64, got 65");
    begin();
    wire.request.truncate_prompt_tokens = large;
    expect_refused(GENERATION_ERROR_INVALID, "truncate_prompt_tokens: expected at most");
    begin();
    wire.request.adapter_id = text_of("lora");
    expect_refused(GENERATION_ERROR_UNSUPPORTED, "adapter_id");
}

static void refused_sampling_stop_and_output(void **state) {
    (void)state;
    uint32_t large = UINT32_C(1) << 31;
    static const float typical[] = {0.5f, -1.0f, 2.0f};
    for (size_t i = 0; i < sizeof typical / sizeof typical[0]; i++) {
        begin();
        wire.sampling.typical_p = typical[i];
        expect_refused(GENERATION_ERROR_UNSUPPORTED, "sampling.typical_p");
    }
    begin();
    wire.sampling.guided_case = MOEBIUS__V1__SAMPLING_PARAMS__GUIDED_JSON_OBJECT;
    expect_refused(GENERATION_ERROR_UNSUPPORTED, "sampling.guided");
    begin();
    wire.sampling.optional_top_k_case = MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TOP_K_TOP_K;
    wire.sampling.top_k = large;
    expect_refused(GENERATION_ERROR_INVALID, "sampling.top_k: expected at most 2147483647");
    begin();
    wire.sampling.n_logit_bias = SAMPLING_BIAS_MAX + 1;
    expect_refused(GENERATION_ERROR_INVALID, "sampling.logit_bias: expected at most 300 ids");
    begin();
    wire.sampling.n_logit_bias = 1;
    wire.bias.key = large;
    expect_refused(GENERATION_ERROR_INVALID, "sampling.logit_bias: expected an id");
    begin();
    wire.stop.max_new_tokens = large;
    expect_refused(GENERATION_ERROR_INVALID, "stop.max_new_tokens: expected at most");
    begin();
    wire.stop.min_new_tokens = large;
    expect_refused(GENERATION_ERROR_INVALID, "stop.min_new_tokens: expected at most");
    begin();
    wire.stop.n_stop = 2;
    wire.stops[0] = text_of("x");
    expect_refused(GENERATION_ERROR_INVALID, "stop.stop[1]: expected text, got an empty one");
    wire.stops[1] = text_of("\x80");
    expect_refused(GENERATION_ERROR_INVALID, "stop.stop[1]: expected UTF-8");
    begin();
    wire.stop.n_stop_token_ids = 1;
    wire.stop.stop_token_ids = &large;
    expect_refused(GENERATION_ERROR_INVALID, "stop.stop_token_ids[0]: expected an id");
    begin();
    wire.output.routed_experts = 1;
    expect_refused(GENERATION_ERROR_UNSUPPORTED, "output.routed_experts");
    begin();
    wire.output.logprobs = 1;
    wire.output.top_logprobs = 21;
    expect_refused(GENERATION_ERROR_INVALID, "output.top_logprobs: expected at most 20, got 21");
    begin();
    wire.output.top_logprobs = 1;
    expect_refused(GENERATION_ERROR_INVALID, "output.top_logprobs: expected logprobs");
    begin();
    wire.output.stream_interval = large;
    expect_refused(GENERATION_ERROR_INVALID, "output.stream_interval: expected at most");
}

/* A request that would take more than its share of memory is refused, not served in part. */
static void the_cap_of_memory(void **state) {
    (void)state;
    begin();
    struct rpc_arena small;
    rpc_arena_init(&small, 64);
    static uint32_t ids[4096];
    wire.request.prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT_TOKENS;
    wire.request.tokens = &wire.tokens;
    wire.tokens.ids = ids;
    wire.tokens.n_ids = sizeof ids / sizeof ids[0];
    assert_int_equal(rpc_generate_request_map(&wire.request, &small, &request, &message),
                     GENERATION_ERROR_FULL);
    assert_int_equal(message.retry_after_ms, 0);
    rpc_arena_deinit(&small);
}

int main(void) {
    rpc_arena_init(&arena, (size_t)16 << 20);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_set_is_a_default),
        cmocka_unit_test(names_and_numbers),
        cmocka_unit_test(prompts_of_three_kinds),
        cmocka_unit_test(sampling_fields),
        cmocka_unit_test(stop_and_output_fields),
        cmocka_unit_test(refused_names_and_prompts),
        cmocka_unit_test(refused_sampling_stop_and_output),
        cmocka_unit_test(the_cap_of_memory),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    rpc_arena_deinit(&arena);
    return failures;
}
