/* From a POST body to a request: types are checked here, ranges by the generation service, so that
 * both doors refuse alike. Called by http_openai.c. */
#include "runtime/http_body.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/json_file.h"

/* What the small functions below share. */
struct reader {
    struct http_body *body;
    struct generation_message *message;
};

static enum generation_error refuse(const struct reader *reader, enum generation_error error,
                                    const char *field, const char *expected, const char *got) {
    snprintf(reader->message->text, sizeof reader->message->text, "%s: expected %s, got %s", field,
             expected, got);
    return error;
}

static enum generation_error wrong_type(const struct reader *reader, const char *field,
                                        const char *expected, const json_t *value) {
    return refuse(reader, GENERATION_ERROR_INVALID, field, expected, json_file_kind(value));
}

static enum generation_error no_memory(const struct reader *reader) {
    snprintf(reader->message->text, sizeof reader->message->text, "the server is out of memory");
    return GENERATION_ERROR_INTERNAL;
}

/* The member, NULL where it is absent or null. */
static json_t *member(const struct reader *reader, const char *field) {
    json_t *value = json_object_get(reader->body->root, field);
    return json_is_null(value) ? NULL : value;
}

static enum generation_error read_integer(const struct reader *reader, const char *field,
                                          int64_t least, int32_t *into) {
    const json_t *value = member(reader, field);
    if (value == NULL)
        return GENERATION_ERROR_NONE;
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value))
        return wrong_type(reader, field, "an integer", value);
    if (number < least || number > INT32_MAX) {
        char expected[64], got[32];
        snprintf(expected, sizeof expected, "an integer from %lld to %d", (long long)least,
                 INT32_MAX);
        snprintf(got, sizeof got, "%lld", (long long)number);
        return refuse(reader, GENERATION_ERROR_INVALID, field, expected, got);
    }
    *into = (int32_t)number;
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_boolean(const struct reader *reader, const char *field,
                                          bool *into) {
    const json_t *value = member(reader, field);
    if (value == NULL)
        return GENERATION_ERROR_NONE;
    if (!json_is_boolean(value))
        return wrong_type(reader, field, "true or false", value);
    *into = json_is_true(value);
    return GENERATION_ERROR_NONE;
}

#define RETURN_IF_REFUSED(expression)                                                              \
    do {                                                                                           \
        enum generation_error return_error_ = (expression);                                        \
        if (return_error_ != GENERATION_ERROR_NONE)                                                \
            return return_error_;                                                                  \
    } while (0)

/* ---- sampling ---- */

static enum generation_error read_numbers(const struct reader *reader) {
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
        const json_t *value = member(reader, numbers[i].field);
        if (value == NULL)
            continue;
        if (!json_is_number(value))
            return wrong_type(reader, numbers[i].field, "a number", value);
        *numbers[i].into = (float)json_number_value(value);
        request->given |= numbers[i].given;
    }
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_top_k(const struct reader *reader) {
    struct generation_request *request = &reader->body->request;
    if (member(reader, "top_k") == NULL)
        return GENERATION_ERROR_NONE;
    RETURN_IF_REFUSED(read_integer(reader, "top_k", -1, &request->sampling.top_k));
    if (request->sampling.top_k < 0) /* vLLM's word for off */
        request->sampling.top_k = 0;
    request->given |= GENERATION_GIVEN_TOP_K;
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_seed(const struct reader *reader) {
    const json_t *value = member(reader, "seed");
    if (value == NULL)
        return GENERATION_ERROR_NONE;
    if (!json_is_integer(value))
        return wrong_type(reader, "seed", "an integer", value);
    reader->body->request.sampling.seed = (uint64_t)json_integer_value(value);
    reader->body->request.given |= GENERATION_GIVEN_SEED;
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_bias(const struct reader *reader) {
    struct sampling_params *sampling = &reader->body->request.sampling;
    json_t *map = member(reader, "logit_bias"), *bias;
    const char *key;
    if (map == NULL)
        return GENERATION_ERROR_NONE;
    if (!json_is_object(map))
        return wrong_type(reader, "logit_bias", "an object", map);
    json_object_foreach(map, key, bias) {
        char *end;
        long id = strtol(key, &end, 10);
        if (*key == '\0' || *end != '\0' || id < 0 || id > INT32_MAX)
            return refuse(reader, GENERATION_ERROR_INVALID, "logit_bias", "token ids as keys", key);
        if (!json_is_number(bias))
            return wrong_type(reader, "logit_bias", "numbers as values", bias);
        if (sampling->bias_count == SAMPLING_BIAS_MAX)
            return refuse(reader, GENERATION_ERROR_INVALID, "logit_bias", "at most 300 ids",
                          "more");
        sampling->bias[sampling->bias_count++] =
            (struct sampling_bias){.id = (int32_t)id, .bias = (float)json_number_value(bias)};
    }
    return GENERATION_ERROR_NONE;
}

/* completions: logprobs = how many; chat: logprobs = whether, top_logprobs = how many. */
static enum generation_error read_logprobs(const struct reader *reader) {
    struct generation_request *request = &reader->body->request;
    RETURN_IF_REFUSED(read_integer(reader, "prompt_logprobs", -1, &request->prompt_logprobs));
    reader->body->prompt_logprobs = request->prompt_logprobs;
    if (!reader->body->is_chat) {
        RETURN_IF_REFUSED(read_integer(reader, "logprobs", 0, &request->sampling.logprobs));
        if (request->echo && request->sampling.logprobs > request->prompt_logprobs)
            request->prompt_logprobs = request->sampling.logprobs;
        return GENERATION_ERROR_NONE;
    }
    bool wanted = false;
    int32_t top = 0;
    RETURN_IF_REFUSED(read_boolean(reader, "logprobs", &wanted));
    RETURN_IF_REFUSED(read_integer(reader, "top_logprobs", 0, &top));
    if (top > 0 && !wanted)
        return refuse(reader, GENERATION_ERROR_INVALID, "top_logprobs", "0 unless logprobs is true",
                      "more");
    if (wanted)
        request->sampling.logprobs = top;
    return GENERATION_ERROR_NONE;
}

/* ---- ends and output ---- */

static enum generation_error read_stop(const struct reader *reader) {
    struct http_body *body = reader->body;
    const json_t *value = member(reader, "stop");
    if (value == NULL)
        return GENERATION_ERROR_NONE;
    bool one = json_is_string(value);
    if (!one && !json_is_array(value))
        return wrong_type(reader, "stop", "a string or an array of strings", value);
    size_t count = one ? 1 : json_array_size(value);
    body->stop = calloc(count + 1, sizeof *body->stop);
    if (body->stop == NULL)
        return no_memory(reader);
    for (size_t i = 0; i < count; i++) {
        const json_t *text = one ? value : json_array_get(value, i);
        if (!json_is_string(text))
            return wrong_type(reader, "stop", "strings", text);
        body->stop[i] = json_string_value(text);
    }
    body->request.stop = body->stop;
    body->request.stop_count = (int32_t)count;
    return GENERATION_ERROR_NONE;
}

/* An array of ids into memory of its own. */
static enum generation_error read_ids(const struct reader *reader, const char *field,
                                      const json_t *array, int32_t **ids, int32_t *count) {
    size_t size = json_array_size(array);
    *ids = calloc(size + 1, sizeof **ids);
    if (*ids == NULL)
        return no_memory(reader);
    for (size_t i = 0; i < size; i++) {
        const json_t *id = json_array_get(array, i);
        if (!json_is_integer(id))
            return wrong_type(reader, field, "token ids", id);
        json_int_t number = json_integer_value(id);
        (*ids)[i] = number < 0 || number > INT32_MAX ? -1 : (int32_t)number;
    }
    *count = (int32_t)size;
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_ends(const struct reader *reader) {
    struct http_body *body = reader->body;
    struct generation_request *request = &body->request;
    request->max_tokens = body->is_chat ? 0 : 16;            /* OpenAI's defaults */
    int32_t least = !body->is_chat && request->echo ? 0 : 1; /* 0: the echo alone, scored */
    RETURN_IF_REFUSED(read_integer(reader, "max_tokens", least, &request->max_tokens));
    request->prompt_only = !body->is_chat && request->max_tokens == 0;
    if (body->is_chat)
        RETURN_IF_REFUSED(read_integer(reader, "max_completion_tokens", 1, &request->max_tokens));
    RETURN_IF_REFUSED(read_integer(reader, "min_tokens", 0, &request->min_tokens));
    RETURN_IF_REFUSED(read_boolean(reader, "ignore_eos", &request->ignore_eos));
    RETURN_IF_REFUSED(read_boolean(reader, "include_stop_str_in_output", &request->include_stop));
    const json_t *ids = member(reader, "stop_token_ids");
    if (ids != NULL && !json_is_array(ids))
        return wrong_type(reader, "stop_token_ids", "an array", ids);
    if (ids != NULL)
        RETURN_IF_REFUSED(
            read_ids(reader, "stop_token_ids", ids, &body->stop_ids, &request->stop_id_count));
    request->stop_ids = body->stop_ids;
    return read_stop(reader);
}

static enum generation_error read_output(const struct reader *reader) {
    struct http_body *body = reader->body;
    bool skip_special = true, add_special = true;
    RETURN_IF_REFUSED(read_boolean(reader, "stream", &body->stream));
    const json_t *options = member(reader, "stream_options");
    if (options != NULL && !json_is_object(options))
        return wrong_type(reader, "stream_options", "an object", options);
    const json_t *usage = json_object_get(options, "include_usage");
    body->include_usage = json_is_true(usage);
    RETURN_IF_REFUSED(read_boolean(reader, "return_token_ids", &body->return_token_ids));
    RETURN_IF_REFUSED(read_boolean(reader, "return_tokens_as_token_ids", &body->tokens_as_ids));
    RETURN_IF_REFUSED(read_boolean(reader, "echo", &body->request.echo));
    RETURN_IF_REFUSED(read_boolean(reader, "skip_special_tokens", &skip_special));
    RETURN_IF_REFUSED(read_boolean(reader, "add_special_tokens", &add_special));
    body->request.keep_special_tokens = !skip_special;
    body->request.plain_prompt = !add_special;
    RETURN_IF_REFUSED(
        read_integer(reader, "truncate_prompt_tokens", 1, &body->request.truncate_prompt_tokens));
    RETURN_IF_REFUSED(read_integer(reader, "priority", INT32_MIN, &body->request.priority));
    RETURN_IF_REFUSED(read_integer(reader, "n", 1, &body->request.n));
    body->request.model = json_string_value(member(reader, "model"));
    body->request.request_id = json_string_value(member(reader, "request_id"));
    return GENERATION_ERROR_NONE;
}

/* Some clients send fields that ask for nothing. */
static bool asks_nothing(const json_t *value) {
    return value == NULL || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

/* Fields that ask for something else than what would be answered. */
static enum generation_error refuse_unbuilt(const struct reader *reader) {
    static const char *const fields[] = {
        "suffix",       "tools",         "functions",      "guided_json",
        "guided_regex", "guided_choice", "guided_grammar", "structured_outputs",
        "audio",        "modalities",    "adapter"};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (!asks_nothing(member(reader, fields[i])))
            return refuse(reader, GENERATION_ERROR_UNSUPPORTED, fields[i], "nothing",
                          "a value: this server cannot do that");
    const json_t *format = member(reader, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (type == NULL)
        type = "something else";
    if (format != NULL && strcmp(type, "text") != 0)
        return refuse(reader, GENERATION_ERROR_UNSUPPORTED, "response_format", "type text", type);
    const json_t *beams = member(reader, "use_beam_search");
    if (json_is_true(beams))
        return refuse(reader, GENERATION_ERROR_UNSUPPORTED, "use_beam_search", "false", "true");
    int32_t best_of = 0;
    RETURN_IF_REFUSED(read_integer(reader, "best_of", 1, &best_of));
    if (best_of != 0 && best_of != reader->body->request.n)
        return refuse(reader, GENERATION_ERROR_UNSUPPORTED, "best_of", "the same as n",
                      "another number");
    return GENERATION_ERROR_NONE;
}

/* ---- prompts ---- */

static enum generation_error read_prompt(const struct reader *reader, const json_t *value,
                                         struct http_prompt *prompt) {
    if (json_is_string(value)) {
        prompt->text = json_string_value(value);
        prompt->text_bytes = json_string_length(value);
        return GENERATION_ERROR_NONE;
    }
    if (json_is_array(value))
        return read_ids(reader, "prompt", value, &prompt->ids, &prompt->id_count);
    return wrong_type(reader, "prompt", "a string, an array of token ids, or an array of these",
                      value);
}

static enum generation_error read_prompts(const struct reader *reader) {
    struct http_body *body = reader->body;
    const json_t *value = member(reader, "prompt");
    const json_t *first = json_array_get(value, 0);
    bool many = json_is_string(first) || json_is_array(first);
    size_t count = many ? json_array_size(value) : 1;
    if (value == NULL || count > HTTP_BODY_PROMPTS_MAX)
        return refuse(reader, GENERATION_ERROR_INVALID, "prompt", "1 to 128 prompts",
                      value == NULL ? "nothing" : "more");
    body->prompts = calloc(count, sizeof *body->prompts);
    if (body->prompts == NULL)
        return no_memory(reader);
    body->prompt_count = (int32_t)count;
    for (size_t i = 0; i < count; i++)
        RETURN_IF_REFUSED(
            read_prompt(reader, many ? json_array_get(value, i) : value, &body->prompts[i]));
    return GENERATION_ERROR_NONE;
}

/* Content in parts becomes one text, a part a line; parts that are not text are refused. */
static enum generation_error join_parts(const struct reader *reader, json_t *message) {
    const json_t *parts = json_object_get(message, "content");
    if (!json_is_array(parts))
        return GENERATION_ERROR_NONE;
    struct text_buffer joined = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < json_array_size(parts) && status == STATUS_OK; i++) {
        const json_t *part = json_array_get(parts, i), *text = json_object_get(part, "text");
        if (!json_is_string(text)) {
            text_buffer_deinit(&joined);
            return refuse(reader, GENERATION_ERROR_UNSUPPORTED, "messages",
                          "content as text, or parts of type text", "another part");
        }
        if (i > 0)
            status = text_buffer_append(&joined, "\n", 1);
        if (status == STATUS_OK)
            status = text_buffer_append(&joined, json_string_value(text), json_string_length(text));
    }
    json_t *content = json_stringn(joined.length > 0 ? joined.data : "", joined.length);
    text_buffer_deinit(&joined);
    if (status != STATUS_OK || json_object_set_new(message, "content", content) != 0)
        return no_memory(reader);
    return GENERATION_ERROR_NONE;
}

/* What templates take for granted. An answer of the model that had no text is an empty one. */
static enum generation_error check_message(const struct reader *reader, size_t index,
                                           json_t *message) {
    const json_t *role = json_object_get(message, "role");
    const json_t *content = json_object_get(message, "content");
    char field[48];
    if (!json_is_object(message))
        return wrong_type(reader, "messages", "objects", message);
    if (!json_is_string(role)) {
        snprintf(field, sizeof field, "messages[%zu].role", index);
        return wrong_type(reader, field, "a string", role);
    }
    if (json_is_string(content) || json_is_array(content))
        return GENERATION_ERROR_NONE;
    if ((content == NULL || json_is_null(content)) &&
        strcmp(json_string_value(role), "assistant") == 0)
        return json_object_set_new(message, "content", json_string("")) == 0 ? GENERATION_ERROR_NONE
                                                                             : no_memory(reader);
    snprintf(field, sizeof field, "messages[%zu].content", index);
    return wrong_type(reader, field, "a string or an array of parts", content);
}

static enum generation_error read_chat(const struct reader *reader) {
    struct http_body *body = reader->body;
    json_t *messages = member(reader, "messages"), *message;
    size_t i;
    if (!json_is_array(messages))
        return wrong_type(reader, "messages", "an array of messages", messages);
    if (json_array_size(messages) == 0)
        return refuse(reader, GENERATION_ERROR_INVALID, "messages", "at least one", "none");
    json_array_foreach(messages, i, message) {
        RETURN_IF_REFUSED(check_message(reader, i, message));
        RETURN_IF_REFUSED(join_parts(reader, message));
    }
    const json_t *variables = member(reader, "chat_template_kwargs");
    if (variables != NULL && !json_is_object(variables))
        return wrong_type(reader, "chat_template_kwargs", "an object", variables);
    body->messages_json = json_dumps(messages, JSON_COMPACT);
    body->variables_json = variables != NULL ? json_dumps(variables, JSON_COMPACT) : NULL;
    if (body->messages_json == NULL || (variables != NULL && body->variables_json == NULL))
        return no_memory(reader);
    body->chat = (struct chat_input){.messages_json = body->messages_json,
                                     .variables_json = body->variables_json,
                                     .add_generation_prompt = true};
    RETURN_IF_REFUSED(
        read_boolean(reader, "add_generation_prompt", &body->chat.add_generation_prompt));
    body->request.chat = &body->chat;
    body->prompts = calloc(1, sizeof *body->prompts);
    if (body->prompts == NULL)
        return no_memory(reader);
    body->prompt_count = 1;
    return GENERATION_ERROR_NONE;
}

/* ---- all of it ---- */

static enum generation_error read_json(const struct reader *reader, const char *text,
                                       size_t length) {
    json_error_t error;
    reader->body->root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (reader->body->root == NULL) {
        snprintf(reader->message->text, sizeof reader->message->text,
                 "body: expected a JSON object, got line %d, column %d: %s", error.line,
                 error.column, error.text);
        return GENERATION_ERROR_INVALID;
    }
    if (!json_is_object(reader->body->root))
        return wrong_type(reader, "body", "a JSON object", reader->body->root);
    return GENERATION_ERROR_NONE;
}

enum generation_error http_body_parse(const char *text, size_t length, bool is_chat,
                                      struct http_body *body, struct generation_message *message) {
    const struct reader reader = {.body = body, .message = message};
    *body = (struct http_body){.is_chat = is_chat, .request = generation_request_default()};
    RETURN_IF_REFUSED(read_json(&reader, text, length));
    RETURN_IF_REFUSED(read_output(&reader));
    RETURN_IF_REFUSED(refuse_unbuilt(&reader));
    RETURN_IF_REFUSED(read_numbers(&reader));
    RETURN_IF_REFUSED(read_top_k(&reader));
    RETURN_IF_REFUSED(read_seed(&reader));
    RETURN_IF_REFUSED(read_bias(&reader));
    RETURN_IF_REFUSED(read_logprobs(&reader));
    RETURN_IF_REFUSED(read_ends(&reader));
    return is_chat ? read_chat(&reader) : read_prompts(&reader);
}

void http_body_deinit(struct http_body *body) {
    for (int32_t i = 0; body->prompts != NULL && i < body->prompt_count; i++)
        free(body->prompts[i].ids);
    free(body->prompts);
    free(body->messages_json);
    free(body->variables_json);
    free(body->stop);
    free(body->stop_ids);
    json_file_release(body->root);
    *body = (struct http_body){0};
}
