/* From a POST body to a request: types are checked here, ranges by the generation service, so that
 * both doors refuse alike. Called by http_openai.c. */
#include "runtime/http_body.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/http_fields.h"
#include "runtime/http_messages.h"
#include "runtime/http_reader.h"
#include "runtime/json_file.h"

/* ---- sampling ---- */

static enum generation_error read_numbers(const struct http_reader *reader) {
    struct generation_request *request = &reader->body->request;
    const struct {
        const char *field;
        float *into;
        uint32_t given;
    } numbers[] = {
        {"temperature", &request->sampling.temperature, GENERATION_GIVEN_TEMPERATURE},
        {"top_p", &request->sampling.top_p, GENERATION_GIVEN_TOP_P},
        {"min_p", &request->sampling.min_p, GENERATION_GIVEN_MIN_P},
        {"repetition_penalty", &request->sampling.repetition_penalty,
         GENERATION_GIVEN_REPETITION_PENALTY},
        {"frequency_penalty", &request->sampling.frequency_penalty, 0},
        {"presence_penalty", &request->sampling.presence_penalty, 0},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const json_t *value = http_reader_member(reader, numbers[i].field);
        if (value == NULL)
            continue;
        if (!json_is_number(value))
            return http_reader_wrong_type(reader, numbers[i].field, "a number", value);
        *numbers[i].into = (float)json_number_value(value);
        request->given |= numbers[i].given;
    }
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_top_k(const struct http_reader *reader) {
    struct generation_request *request = &reader->body->request;
    if (http_reader_member(reader, "top_k") == NULL)
        return GENERATION_ERROR_NONE;
    RETURN_IF_REFUSED(http_reader_integer(reader, "top_k", -1, &request->sampling.top_k));
    if (request->sampling.top_k < 0) /* vLLM's word for off */
        request->sampling.top_k = 0;
    request->given |= GENERATION_GIVEN_TOP_K;
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_seed(const struct http_reader *reader) {
    const json_t *value = http_reader_member(reader, "seed");
    if (value == NULL)
        return GENERATION_ERROR_NONE;
    if (!json_is_integer(value))
        return http_reader_wrong_type(reader, "seed", "an integer", value);
    reader->body->request.sampling.seed = (uint64_t)json_integer_value(value);
    reader->body->request.given |= GENERATION_GIVEN_SEED;
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_bias(const struct http_reader *reader) {
    struct sampling_params *sampling = &reader->body->request.sampling;
    json_t *map = http_reader_member(reader, "logit_bias"), *bias;
    const char *key;
    if (map == NULL)
        return GENERATION_ERROR_NONE;
    if (!json_is_object(map))
        return http_reader_wrong_type(reader, "logit_bias", "an object", map);
    json_object_foreach(map, key, bias) {
        char *end;
        long id = strtol(key, &end, 10);
        if (*key == '\0' || *end != '\0' || id < 0 || id > INT32_MAX)
            return http_reader_refuse(reader, GENERATION_ERROR_INVALID, "logit_bias",
                                      "token ids as keys", key);
        if (!json_is_number(bias))
            return http_reader_wrong_type(reader, "logit_bias", "numbers as values", bias);
        if (sampling->bias_count == SAMPLING_BIAS_MAX)
            return http_reader_refuse(reader, GENERATION_ERROR_INVALID, "logit_bias",
                                      "at most 300 ids", "more");
        sampling->bias[sampling->bias_count++] =
            (struct sampling_bias){.id = (int32_t)id, .bias = (float)json_number_value(bias)};
    }
    return GENERATION_ERROR_NONE;
}

/* completions: logprobs = how many; chat: logprobs = whether, top_logprobs = how many. */
static enum generation_error read_logprobs(const struct http_reader *reader) {
    struct generation_request *request = &reader->body->request;
    RETURN_IF_REFUSED(
        http_reader_integer(reader, "prompt_logprobs", -1, &request->prompt_logprobs));
    reader->body->prompt_logprobs = request->prompt_logprobs;
    if (!reader->body->is_chat) {
        RETURN_IF_REFUSED(http_reader_integer(reader, "logprobs", 0, &request->sampling.logprobs));
        if (request->echo && request->sampling.logprobs > request->prompt_logprobs)
            request->prompt_logprobs = request->sampling.logprobs;
        return GENERATION_ERROR_NONE;
    }
    bool wanted = false;
    int32_t top = 0;
    RETURN_IF_REFUSED(http_reader_boolean(reader, "logprobs", &wanted));
    RETURN_IF_REFUSED(http_reader_integer(reader, "top_logprobs", 0, &top));
    if (top > 0 && !wanted)
        return http_reader_refuse(reader, GENERATION_ERROR_INVALID, "top_logprobs",
                                  "0 unless logprobs is true", "more");
    if (wanted)
        request->sampling.logprobs = top;
    return GENERATION_ERROR_NONE;
}

/* ---- ends and output ---- */

static enum generation_error read_stop(const struct http_reader *reader) {
    struct http_body *body = reader->body;
    const json_t *value = http_reader_member(reader, "stop");
    if (value == NULL)
        return GENERATION_ERROR_NONE;
    bool one = json_is_string(value);
    if (!one && !json_is_array(value))
        return http_reader_wrong_type(reader, "stop", "a string or an array of strings", value);
    size_t count = one ? 1 : json_array_size(value);
    body->stop = calloc(count + 1, sizeof *body->stop);
    if (body->stop == NULL)
        return http_reader_no_memory(reader);
    for (size_t i = 0; i < count; i++) {
        const json_t *text = one ? value : json_array_get(value, i);
        if (!json_is_string(text))
            return http_reader_wrong_type(reader, "stop", "strings", text);
        body->stop[i] = json_string_value(text);
    }
    body->request.stop = body->stop;
    body->request.stop_count = (int32_t)count;
    return GENERATION_ERROR_NONE;
}

/* An array of ids into memory of its own. */
static enum generation_error read_ids(const struct http_reader *reader, const char *field,
                                      const json_t *array, int32_t **ids, int32_t *count) {
    size_t size = json_array_size(array);
    *ids = calloc(size + 1, sizeof **ids);
    if (*ids == NULL)
        return http_reader_no_memory(reader);
    for (size_t i = 0; i < size; i++) {
        const json_t *id = json_array_get(array, i);
        if (!json_is_integer(id))
            return http_reader_wrong_type(reader, field, "token ids", id);
        json_int_t number = json_integer_value(id);
        (*ids)[i] = number < 0 || number > INT32_MAX ? -1 : (int32_t)number;
    }
    *count = (int32_t)size;
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_ends(const struct http_reader *reader) {
    struct http_body *body = reader->body;
    struct generation_request *request = &body->request;
    request->max_tokens = body->is_chat ? 0 : 16;            /* OpenAI's defaults */
    int32_t least = !body->is_chat && request->echo ? 0 : 1; /* 0: the echo alone, scored */
    RETURN_IF_REFUSED(http_reader_integer(reader, "max_tokens", least, &request->max_tokens));
    request->prompt_only = !body->is_chat && request->max_tokens == 0;
    if (body->is_chat)
        RETURN_IF_REFUSED(
            http_reader_integer(reader, "max_completion_tokens", 1, &request->max_tokens));
    RETURN_IF_REFUSED(http_reader_integer(reader, "min_tokens", 0, &request->min_tokens));
    int32_t time_limit_ms = 0;
    RETURN_IF_REFUSED(http_reader_integer(reader, "time_limit_ms", 0, &time_limit_ms));
    request->time_limit_ns = time_limit_ms * INT64_C(1000000);
    RETURN_IF_REFUSED(http_reader_boolean(reader, "ignore_eos", &request->ignore_eos));
    RETURN_IF_REFUSED(
        http_reader_boolean(reader, "include_stop_str_in_output", &request->include_stop));
    const json_t *ids = http_reader_member(reader, "stop_token_ids");
    if (ids != NULL && !json_is_array(ids))
        return http_reader_wrong_type(reader, "stop_token_ids", "an array", ids);
    if (ids != NULL)
        RETURN_IF_REFUSED(
            read_ids(reader, "stop_token_ids", ids, &body->stop_ids, &request->stop_id_count));
    request->stop_ids = body->stop_ids;
    return read_stop(reader);
}

/* Members of another object than the body. No event is padded: include_obfuscation changes nothing
 * that a client reads. */
static enum generation_error read_stream_options(const struct http_reader *reader) {
    json_t *options = http_reader_member(reader, "stream_options"), *value;
    const char *name;
    if (options != NULL && !json_is_object(options))
        return http_reader_wrong_type(reader, "stream_options", "an object", options);
    json_object_foreach(options, name, value) {
        bool is_usage = strcmp(name, "include_usage") == 0;
        bool is_continuous = strcmp(name, "continuous_usage_stats") == 0;
        bool is_known = is_usage || is_continuous || strcmp(name, "include_obfuscation") == 0;
        char field[96];
        snprintf(field, sizeof field, "stream_options.%.64s", name);
        if (!is_known)
            return http_reader_refuse(reader, GENERATION_ERROR_INVALID, field,
                                      "include_usage or continuous_usage_stats",
                                      "one that is not known");
        if (!json_is_null(value) && !json_is_boolean(value))
            return http_reader_wrong_type(reader, field, "true or false", value);
        if (is_usage)
            reader->body->include_usage = json_is_true(value);
        if (is_continuous)
            reader->body->continuous_usage = json_is_true(value);
    }
    return GENERATION_ERROR_NONE;
}

/* As many are made as are told. */
static enum generation_error read_counts(const struct http_reader *reader) {
    int32_t best_of = 0;
    RETURN_IF_REFUSED(http_reader_integer(reader, "n", 1, &reader->body->request.n));
    RETURN_IF_REFUSED(http_reader_integer(reader, "best_of", 1, &best_of));
    if (best_of != 0 && best_of != reader->body->request.n)
        return http_reader_refuse(reader, GENERATION_ERROR_UNSUPPORTED, "best_of",
                                  "the same as n (more is not supported)", "another number");
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_output(const struct http_reader *reader) {
    struct http_body *body = reader->body;
    bool skip_special = true, add_special = true;
    RETURN_IF_REFUSED(http_reader_boolean(reader, "stream", &body->stream));
    RETURN_IF_REFUSED(read_stream_options(reader));
    RETURN_IF_REFUSED(http_reader_boolean(reader, "return_token_ids", &body->return_token_ids));
    RETURN_IF_REFUSED(
        http_reader_boolean(reader, "return_tokens_as_token_ids", &body->tokens_as_ids));
    RETURN_IF_REFUSED(http_reader_boolean(reader, "echo", &body->request.echo));
    RETURN_IF_REFUSED(http_reader_boolean(reader, "skip_special_tokens", &skip_special));
    RETURN_IF_REFUSED(http_reader_boolean(reader, "add_special_tokens", &add_special));
    body->request.keep_special_tokens = !skip_special;
    body->request.plain_prompt = !add_special;
    RETURN_IF_REFUSED(http_reader_integer(reader, "truncate_prompt_tokens", 1,
                                          &body->request.truncate_prompt_tokens));
    RETURN_IF_REFUSED(http_reader_integer(reader, "priority", INT32_MIN, &body->request.priority));
    RETURN_IF_REFUSED(http_reader_string(reader, "model", &body->request.model));
    RETURN_IF_REFUSED(http_reader_string(reader, "request_id", &body->request.request_id));
    return read_counts(reader);
}

/* ---- prompts ---- */

static enum generation_error read_prompt(const struct http_reader *reader, const json_t *value,
                                         struct http_prompt *prompt) {
    if (json_is_string(value)) {
        prompt->text = json_string_value(value);
        prompt->text_bytes = json_string_length(value);
        return GENERATION_ERROR_NONE;
    }
    if (json_is_array(value))
        return read_ids(reader, "prompt", value, &prompt->ids, &prompt->id_count);
    return http_reader_wrong_type(reader, "prompt",
                                  "a string, an array of token ids, or an array of these", value);
}

static enum generation_error read_prompts(const struct http_reader *reader) {
    struct http_body *body = reader->body;
    const json_t *value = http_reader_member(reader, "prompt");
    const json_t *first = json_array_get(value, 0);
    bool many = json_is_string(first) || json_is_array(first);
    size_t count = many ? json_array_size(value) : 1;
    if (value == NULL || count > HTTP_BODY_PROMPTS_MAX)
        return http_reader_refuse(reader, GENERATION_ERROR_INVALID, "prompt", "1 to 128 prompts",
                                  value == NULL ? "nothing" : "more");
    body->prompts = calloc(count, sizeof *body->prompts);
    if (body->prompts == NULL)
        return http_reader_no_memory(reader);
    body->prompt_count = (int32_t)count;
    for (size_t i = 0; i < count; i++)
        RETURN_IF_REFUSED(
            read_prompt(reader, many ? json_array_get(value, i) : value, &body->prompts[i]));
    return GENERATION_ERROR_NONE;
}

/* ---- all of it ---- */

static enum generation_error read_json(const struct http_reader *reader, const char *text,
                                       size_t length) {
    json_error_t error;
    reader->body->root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (reader->body->root == NULL) {
        snprintf(reader->message->text, sizeof reader->message->text,
                 "the body: expected a JSON object, got line %d, column %d: %s", error.line,
                 error.column, error.text);
        return GENERATION_ERROR_INVALID;
    }
    if (!json_is_object(reader->body->root))
        return http_reader_wrong_type(reader, "the body", "a JSON object", reader->body->root);
    return GENERATION_ERROR_NONE;
}

enum generation_error http_body_parse(const char *text, size_t length, bool is_chat,
                                      struct http_body *body, struct generation_message *message) {
    const struct http_reader reader = {.body = body, .message = message};
    *body = (struct http_body){.is_chat = is_chat, .request = generation_request_default()};
    RETURN_IF_REFUSED(read_json(&reader, text, length));
    RETURN_IF_REFUSED(http_fields_check(&reader));
    RETURN_IF_REFUSED(read_output(&reader));
    RETURN_IF_REFUSED(read_numbers(&reader));
    RETURN_IF_REFUSED(read_top_k(&reader));
    RETURN_IF_REFUSED(read_seed(&reader));
    RETURN_IF_REFUSED(read_bias(&reader));
    RETURN_IF_REFUSED(read_logprobs(&reader));
    RETURN_IF_REFUSED(read_ends(&reader));
    return is_chat ? http_messages_read(&reader) : read_prompts(&reader);
}

void http_body_deinit(struct http_body *body) {
    for (int32_t i = 0; body->prompts != NULL && i < body->prompt_count; i++) {
        free(body->prompts[i].ids);
        token_list_deinit(&body->prompts[i].encoding.ids);
    }
    free(body->prompts);
    free(body->messages_json);
    free(body->variables_json);
    free(body->stop);
    free(body->stop_ids);
    json_file_release(body->root);
    *body = (struct http_body){0};
}

void http_body_choose(struct http_body *body, int32_t index) {
    const struct http_prompt *prompt = &body->prompts[index];
    bool is_encoded =
        prompt->encoding.error != GENERATION_ERROR_NONE || prompt->encoding.ids.count > 0;
    body->request.text = prompt->text;
    body->request.text_bytes = prompt->text_bytes;
    body->request.ids = prompt->ids;
    body->request.id_count = prompt->id_count;
    body->request.encoding = is_encoded ? &prompt->encoding : NULL;
}
