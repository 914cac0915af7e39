/* From the wire to the service: what rpc_inference does with a request before it is submitted. Each
 * group of fields has its function; the first that refuses says why. */
#include "runtime/rpc_generate_request.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/tokenizer_utf8.h"

/* What all the functions below work with. */
struct mapping {
    const Moebius__V1__GenerateRequest *wire;
    struct rpc_arena *arena;
    struct generation_request *request;
    struct generation_message *message;
};

static enum generation_error refuse(struct generation_message *message, enum generation_error error,
                                    const char *format, ...) __attribute__((format(printf, 3, 4)));

static enum generation_error refuse(struct generation_message *message, enum generation_error error,
                                    const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message->text, sizeof message->text, format, arguments);
    va_end(arguments);
    message->retry_after_ms = 0;
    return error;
}

static enum generation_error refuse_memory(struct generation_message *message) {
    return refuse(message, GENERATION_ERROR_FULL,
                  "request: expected fewer parts, got more than one request may hold");
}

static enum generation_error unsupported(struct generation_message *message, const char *field) {
    return refuse(message, GENERATION_ERROR_UNSUPPORTED, "%s: this server does not know it", field);
}

enum generation_error rpc_generate_request_text(const ProtobufCBinaryData *bytes, const char *field,
                                                struct rpc_arena *arena, const char **text,
                                                struct generation_message *message) {
    *text = NULL;
    if (bytes->len == 0)
        return GENERATION_ERROR_NONE;
    size_t wrong = tokenizer_utf8_invalid_at((const char *)bytes->data, bytes->len);
    if (wrong < bytes->len)
        return refuse(message, GENERATION_ERROR_INVALID,
                      "%s: expected UTF-8, got byte 0x%02x at offset %zu", field,
                      bytes->data[wrong], wrong);
    if (memchr(bytes->data, 0, bytes->len) != NULL)
        return refuse(message, GENERATION_ERROR_INVALID,
                      "%s: expected text without NUL characters, got one", field);
    char *copy = rpc_arena_take(arena, bytes->len + 1);
    if (copy == NULL)
        return refuse_memory(message);
    memcpy(copy, bytes->data, bytes->len);
    *text = copy;
    return GENERATION_ERROR_NONE;
}

enum generation_error rpc_generate_request_ids(const uint32_t *wire, size_t count,
                                               const char *field, struct rpc_arena *arena,
                                               const int32_t **ids,
                                               struct generation_message *message) {
    *ids = NULL;
    if (count == 0)
        return GENERATION_ERROR_NONE;
    int32_t *copy = count <= INT32_MAX ? rpc_arena_take(arena, count * sizeof *copy) : NULL;
    if (copy == NULL)
        return refuse_memory(message);
    for (size_t i = 0; i < count; i++) {
        if (wire[i] > INT32_MAX)
            return refuse(message, GENERATION_ERROR_INVALID,
                          "%s[%zu]: expected an id of the vocabulary, got %u", field, i, wire[i]);
        copy[i] = (int32_t)wire[i];
    }
    *ids = copy;
    return GENERATION_ERROR_NONE;
}

/* A count of the wire where the service has int32_t. */
static enum generation_error map_count(const struct mapping *mapping, uint32_t value,
                                       const char *field, int32_t *count) {
    if (value > INT32_MAX)
        return refuse(mapping->message, GENERATION_ERROR_INVALID,
                      "%s: expected at most 2147483647, got %u", field, value);
    *count = (int32_t)value;
    return GENERATION_ERROR_NONE;
}

static enum generation_error map_name(const struct mapping *mapping) {
    const struct generation_request *request = mapping->request;
    const Moebius__V1__GenerateRequest *wire = mapping->wire;
    enum generation_error error =
        rpc_generate_request_text(&wire->request_id, "request_id", mapping->arena,
                                  &mapping->request->request_id, mapping->message);
    if (error != GENERATION_ERROR_NONE)
        return error;
    if (wire->request_id.len > RPC_GENERATE_REQUEST_ID_MAX)
        return refuse(mapping->message, GENERATION_ERROR_INVALID,
                      "request_id: expected at most %d bytes, got %zu", RPC_GENERATE_REQUEST_ID_MAX,
                      wire->request_id.len);
    for (const char *c = request->request_id; c != NULL && *c != '\0'; c++)
        if (*c < 0x21 || *c > 0x7e)
            return refuse(mapping->message, GENERATION_ERROR_INVALID,
                          "request_id: expected printable ASCII without blanks, got byte 0x%02x",
                          (unsigned)(unsigned char)*c);
    if (wire->adapter_id.len > 0)
        return unsupported(mapping->message, "adapter_id");
    return rpc_generate_request_text(&wire->model, "model", mapping->arena,
                                     &mapping->request->model, mapping->message);
}

static enum generation_error map_text(const struct mapping *mapping,
                                      const ProtobufCBinaryData *text) {
    size_t wrong = tokenizer_utf8_invalid_at((const char *)text->data, text->len);
    if (wrong < text->len)
        return refuse(mapping->message, GENERATION_ERROR_INVALID,
                      "text: expected UTF-8, got byte 0x%02x at offset %zu", text->data[wrong],
                      wrong);
    mapping->request->text = text->data != NULL ? (const char *)text->data : "";
    mapping->request->text_bytes = text->len;
    return GENERATION_ERROR_NONE;
}

static enum generation_error map_chat(const struct mapping *mapping,
                                      const Moebius__V1__ChatMessages *chat) {
    if (chat->n_messages == 0 || chat->n_messages > INT32_MAX)
        return refuse(mapping->message, GENERATION_ERROR_INVALID,
                      "chat.messages: expected at least one, got %zu", chat->n_messages);
    struct chat_input *input = rpc_arena_take(mapping->arena, sizeof *input);
    struct chat_message *messages =
        rpc_arena_take(mapping->arena, chat->n_messages * sizeof *messages);
    if (input == NULL || messages == NULL)
        return refuse_memory(mapping->message);
    for (size_t i = 0; i < chat->n_messages; i++) {
        const Moebius__V1__ChatMessage *wire = chat->messages[i];
        char field[64];
        snprintf(field, sizeof field, "chat.messages[%zu].role", i);
        enum generation_error error = rpc_generate_request_text(
            &wire->role, field, mapping->arena, &messages[i].role, mapping->message);
        if (error != GENERATION_ERROR_NONE)
            return error;
        if (messages[i].role == NULL)
            return refuse(mapping->message, GENERATION_ERROR_INVALID,
                          "%s: expected a role such as user, got none", field);
        snprintf(field, sizeof field, "chat.messages[%zu].content", i);
        error = rpc_generate_request_text(&wire->content, field, mapping->arena,
                                          &messages[i].content, mapping->message);
        if (error != GENERATION_ERROR_NONE)
            return error;
        if (messages[i].content == NULL)
            messages[i].content = "";
    }
    *input = (struct chat_input){.messages = messages,
                                 .message_count = (int32_t)chat->n_messages,
                                 .add_generation_prompt = true};
    mapping->request->chat = input;
    return GENERATION_ERROR_NONE;
}

static enum generation_error map_prompt(const struct mapping *mapping) {
    const Moebius__V1__GenerateRequest *wire = mapping->wire;
    enum generation_error error =
        map_count(mapping, wire->truncate_prompt_tokens, "truncate_prompt_tokens",
                  &mapping->request->truncate_prompt_tokens);
    if (error != GENERATION_ERROR_NONE)
        return error;
    switch (wire->prompt_case) {
    case MOEBIUS__V1__GENERATE_REQUEST__PROMPT_TEXT:
        return map_text(mapping, &wire->text);
    case MOEBIUS__V1__GENERATE_REQUEST__PROMPT_CHAT:
        return map_chat(mapping, wire->chat);
    case MOEBIUS__V1__GENERATE_REQUEST__PROMPT_TOKENS:
        if (wire->tokens->n_ids == 0)
            return refuse(mapping->message, GENERATION_ERROR_INVALID,
                          "tokens.ids: expected at least one, got none");
        mapping->request->id_count = (int32_t)wire->tokens->n_ids;
        return rpc_generate_request_ids(wire->tokens->ids, wire->tokens->n_ids, "tokens.ids",
                                        mapping->arena, &mapping->request->ids, mapping->message);
    case MOEBIUS__V1__GENERATE_REQUEST__PROMPT__NOT_SET:
    case _MOEBIUS__V1__GENERATE_REQUEST__PROMPT__CASE_IS_INT_SIZE:
        break;
    }
    return refuse(mapping->message, GENERATION_ERROR_INVALID,
                  "prompt: expected one of text, tokens and chat, got none");
}

static enum generation_error map_bias(const struct mapping *mapping,
                                      const Moebius__V1__SamplingParams *wire) {
    struct sampling_params *sampling = &mapping->request->sampling;
    if (wire->n_logit_bias > SAMPLING_BIAS_MAX)
        return refuse(mapping->message, GENERATION_ERROR_INVALID,
                      "sampling.logit_bias: expected at most %d ids, got %zu", SAMPLING_BIAS_MAX,
                      wire->n_logit_bias);
    for (size_t i = 0; i < wire->n_logit_bias; i++) {
        if (wire->logit_bias[i]->key > INT32_MAX)
            return refuse(mapping->message, GENERATION_ERROR_INVALID,
                          "sampling.logit_bias: expected an id of the vocabulary, got %u",
                          wire->logit_bias[i]->key);
        sampling->bias[i] =
            (struct sampling_bias){(int32_t)wire->logit_bias[i]->key, wire->logit_bias[i]->value};
    }
    sampling->bias_count = (int32_t)wire->n_logit_bias;
    return GENERATION_ERROR_NONE;
}

/* The fields that tell "not set" from 0. */
static void map_given(const Moebius__V1__SamplingParams *wire, struct generation_request *request) {
    struct sampling_params *sampling = &request->sampling;
    if (wire->optional_temperature_case ==
        MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TEMPERATURE_TEMPERATURE) {
        sampling->temperature = wire->temperature;
        request->given |= GENERATION_GIVEN_TEMPERATURE;
    }
    if (wire->optional_top_p_case == MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TOP_P_TOP_P) {
        sampling->top_p = wire->top_p;
        request->given |= GENERATION_GIVEN_TOP_P;
    }
    if (wire->optional_min_p_case == MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_MIN_P_MIN_P) {
        sampling->min_p = wire->min_p;
        request->given |= GENERATION_GIVEN_MIN_P;
    }
    if (wire->optional_repetition_penalty_case ==
        MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_REPETITION_PENALTY_REPETITION_PENALTY) {
        sampling->repetition_penalty = wire->repetition_penalty;
        request->given |= GENERATION_GIVEN_REPETITION_PENALTY;
    }
    if (wire->optional_seed_case == MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_SEED_SEED) {
        sampling->seed = wire->seed;
        request->given |= GENERATION_GIVEN_SEED;
    }
}

static enum generation_error map_sampling(const struct mapping *mapping) {
    const Moebius__V1__SamplingParams *wire = mapping->wire->sampling;
    if (wire == NULL)
        return GENERATION_ERROR_NONE;
    if (wire->guided_case != MOEBIUS__V1__SAMPLING_PARAMS__GUIDED__NOT_SET)
        return unsupported(mapping->message, "sampling.guided");
    if (wire->typical_p < 0.0f || wire->typical_p > 0.0f) {
        if (wire->typical_p < 1.0f || wire->typical_p > 1.0f)
            return unsupported(mapping->message, "sampling.typical_p");
    }
    map_given(wire, mapping->request);
    mapping->request->sampling.frequency_penalty = wire->frequency_penalty;
    mapping->request->sampling.presence_penalty = wire->presence_penalty;
    if (wire->optional_top_k_case == MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TOP_K_TOP_K) {
        mapping->request->given |= GENERATION_GIVEN_TOP_K;
        enum generation_error error =
            map_count(mapping, wire->top_k, "sampling.top_k", &mapping->request->sampling.top_k);
        if (error != GENERATION_ERROR_NONE)
            return error;
    }
    return map_bias(mapping, wire);
}

static enum generation_error map_stop_texts(const struct mapping *mapping,
                                            const Moebius__V1__StopParams *wire) {
    if (wire->n_stop == 0)
        return GENERATION_ERROR_NONE;
    const char **texts = wire->n_stop <= INT32_MAX
                             ? rpc_arena_take(mapping->arena, wire->n_stop * sizeof *texts)
                             : NULL;
    if (texts == NULL)
        return refuse_memory(mapping->message);
    for (size_t i = 0; i < wire->n_stop; i++) {
        char field[32];
        snprintf(field, sizeof field, "stop.stop[%zu]", i);
        enum generation_error error = rpc_generate_request_text(
            &wire->stop[i], field, mapping->arena, &texts[i], mapping->message);
        if (error != GENERATION_ERROR_NONE)
            return error;
        if (texts[i] == NULL)
            return refuse(mapping->message, GENERATION_ERROR_INVALID,
                          "%s: expected text, got an empty one", field);
    }
    mapping->request->stop = texts;
    mapping->request->stop_count = (int32_t)wire->n_stop;
    return GENERATION_ERROR_NONE;
}

static enum generation_error map_stop(const struct mapping *mapping) {
    const Moebius__V1__StopParams *wire = mapping->wire->stop;
    struct generation_request *request = mapping->request;
    if (wire == NULL)
        return GENERATION_ERROR_NONE;
    enum generation_error error =
        map_count(mapping, wire->max_new_tokens, "stop.max_new_tokens", &request->max_tokens);
    if (error == GENERATION_ERROR_NONE)
        error =
            map_count(mapping, wire->min_new_tokens, "stop.min_new_tokens", &request->min_tokens);
    if (error == GENERATION_ERROR_NONE)
        error = map_stop_texts(mapping, wire);
    if (error == GENERATION_ERROR_NONE)
        error = rpc_generate_request_ids(wire->stop_token_ids, wire->n_stop_token_ids,
                                         "stop.stop_token_ids", mapping->arena, &request->stop_ids,
                                         mapping->message);
    request->stop_id_count = (int32_t)wire->n_stop_token_ids;
    request->ignore_eos = wire->ignore_eos;
    request->include_stop = wire->include_stop;
    request->time_limit_ns = (int64_t)wire->time_limit_ms * 1000000;
    return error;
}

static enum generation_error map_output(const struct mapping *mapping) {
    const Moebius__V1__OutputParams *wire = mapping->wire->output;
    struct generation_request *request = mapping->request;
    if (wire == NULL)
        return GENERATION_ERROR_NONE;
    if (wire->routed_experts)
        return unsupported(mapping->message, "output.routed_experts");
    if (wire->top_logprobs > SAMPLING_LOGPROBS_MAX)
        return refuse(mapping->message, GENERATION_ERROR_INVALID,
                      "output.top_logprobs: expected at most %d, got %u", SAMPLING_LOGPROBS_MAX,
                      wire->top_logprobs);
    if (wire->top_logprobs > 0 && !wire->logprobs && !wire->prompt_logprobs)
        return refuse(mapping->message, GENERATION_ERROR_INVALID,
                      "output.top_logprobs: expected logprobs or prompt_logprobs with it, got "
                      "neither");
    request->sampling.logprobs = wire->logprobs ? (int32_t)wire->top_logprobs : -1;
    request->prompt_logprobs = wire->prompt_logprobs ? (int32_t)wire->top_logprobs : -1;
    request->no_text = wire->no_text;
    request->echo = wire->echo;
    request->keep_special_tokens = wire->keep_special_tokens;
    return map_count(mapping, wire->stream_interval, "output.stream_interval",
                     &request->stream_interval);
}

enum generation_error rpc_generate_request_map(const Moebius__V1__GenerateRequest *wire,
                                               struct rpc_arena *arena,
                                               struct generation_request *request,
                                               struct generation_message *message) {
    static enum generation_error (*const groups[])(const struct mapping *mapping) = {
        map_name, map_prompt, map_sampling, map_stop, map_output};
    struct mapping mapping = {wire, arena, request, message};
    *request = generation_request_default();
    request->priority = wire->priority;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        enum generation_error error = groups[i](&mapping);
        if (error != GENERATION_ERROR_NONE)
            return error;
    }
    if (wire->n > GENERATION_CHOICES_MAX)
        return refuse(message, GENERATION_ERROR_INVALID, "n: expected at most %d, got %u",
                      GENERATION_CHOICES_MAX, wire->n);
    request->n = wire->n > 0 ? (int32_t)wire->n : 1;
    return GENERATION_ERROR_NONE;
}
