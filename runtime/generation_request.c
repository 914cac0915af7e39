/* The gate: what a client asks for is checked field by field, in one place for all doors, and
 * turned into token ids and sampling parameters. */
#include "runtime/generation_request.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "runtime/stop_matcher.h"

#define REQUEST_ID_BYTES_MAX 128
#define STOP_BYTES_MAX 1024
#define NO_TOKENIZER "this server has no tokenizer: --skip-tokenizer-init"

struct generation_request generation_request_default(void) {
    return (struct generation_request){
        .n = 1, .prompt_logprobs = -1, .sampling = sampling_params_default()};
}

/* FNV-1a. */
uint64_t generation_request_client(const char *name) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return hash != 0 ? hash : 1;
}

/* ---- refusals ---- */

enum generation_error generation_request_refuse(struct generation_message *message,
                                                enum generation_error error, const char *format,
                                                ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message->text, sizeof message->text, format, arguments);
    va_end(arguments);
    return error;
}

enum generation_error generation_request_status(struct generation_message *message,
                                                enum status status, const char *text) {
    if (status == STATUS_OK)
        return GENERATION_ERROR_NONE;
    enum generation_error error = GENERATION_ERROR_INTERNAL;
    if (status == STATUS_BAD_REQUEST || status == STATUS_LIMIT)
        error = GENERATION_ERROR_INVALID;
    else if (status == STATUS_UNSUPPORTED)
        error = GENERATION_ERROR_UNSUPPORTED;
    else if (status == STATUS_NO_MEMORY)
        error = GENERATION_ERROR_FULL;
    return generation_request_refuse(message, error, "%s",
                                     text[0] != '\0' ? text : status_name(status));
}

/* What is being checked. Each check returns whether to go on; else the refusal is in error and
 * message. */
struct gate {
    const struct generation_request *request;
    const struct generation_request_limits *limits;
    struct generation *like;
    struct token_list *prompt;
    struct generation_message *message;
    enum generation_error error;
};

static bool refuse(struct gate *gate, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(struct gate *gate, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(gate->message->text, sizeof gate->message->text, format, arguments);
    va_end(arguments);
    gate->error = GENERATION_ERROR_INVALID;
    return false;
}

static bool pass_status(struct gate *gate, enum status status, const struct log_diverted *said) {
    gate->error = generation_request_status(gate->message, status, said != NULL ? said->text : "");
    return gate->error == GENERATION_ERROR_NONE;
}

static bool check_int(struct gate *gate, const char *field, int64_t value, int64_t low,
                      int64_t high) {
    if (value >= low && value <= high)
        return true;
    return refuse(gate, "%s: expected %lld to %lld, got %lld", field, (long long)low,
                  (long long)high, (long long)value);
}

/* ---- names ---- */

static bool check_model(struct gate *gate) {
    const struct generation_request_limits *limits = gate->limits;
    const char *model = gate->request->model;
    if (model == NULL || model[0] == '\0')
        return true;
    for (int32_t i = 0; i < limits->model_name_count; i++)
        if (strcmp(model, limits->model_names[i]) == 0)
            return true;
    gate->error = generation_request_refuse(gate->message, GENERATION_ERROR_NOT_FOUND,
                                            "model: expected '%.128s', got '%.128s'",
                                            limits->model_names[0], model);
    return false;
}

/* It stands in logs and headers: printable ASCII only. */
static bool check_request_id(struct gate *gate) {
    const char *id = gate->request->request_id;
    if (id == NULL)
        return true;
    if (strlen(id) > REQUEST_ID_BYTES_MAX)
        return refuse(gate, "request_id: expected at most %d characters, got %zu",
                      REQUEST_ID_BYTES_MAX, strlen(id));
    for (const char *at = id; *at != '\0'; at++)
        if (*at < 0x21 || *at > 0x7e)
            return refuse(gate,
                          "request_id: expected printable ASCII without spaces, got byte "
                          "0x%02x",
                          (unsigned)(unsigned char)*at);
    return true;
}

/* ---- the prompt ---- */

/* A text that cannot fit is refused unread, or when its tokens have become too many. */
static bool encode(struct gate *gate, const char *text, size_t bytes, unsigned flags) {
    struct log_diverted said;
    int64_t ids_max =
        gate->request->truncate_prompt_tokens > 0 ? INT64_MAX : gate->limits->positions;
    size_t most =
        (size_t)gate->limits->positions * tokenizer_token_bytes_max(gate->limits->tokenizer);
    if (bytes > most) {
        gate->error = generation_request_refuse(
            gate->message, GENERATION_ERROR_TOO_LONG,
            "prompt: expected at most %zu bytes (--max-model-len times the longest token's), got "
            "%zu",
            most, bytes);
        return false;
    }
    log_divert_begin(&said);
    enum status status = tokenizer_encode_at_most(gate->limits->tokenizer, text, bytes, flags,
                                                  ids_max, gate->prompt);
    log_divert_end();
    return pass_status(gate, status, &said);
}

static bool encode_chat(struct gate *gate) {
    if (gate->limits->chat == NULL) {
        gate->error = generation_request_refuse(
            gate->message, GENERATION_ERROR_UNSUPPORTED,
            "messages: expected a model with a chat template, got one without");
        return false;
    }
    struct text_buffer text = {0};
    struct log_diverted said;
    log_divert_begin(&said);
    enum status status = chat_template_render(gate->limits->chat, gate->request->chat, &text);
    log_divert_end();
    /* The template writes the special tokens itself. */
    bool encoded = pass_status(gate, status, &said) &&
                   encode(gate, text.data != NULL ? text.data : "", text.length, 0);
    text_buffer_deinit(&text);
    return encoded;
}

static bool copy_ids(struct gate *gate) {
    const struct generation_request *request = gate->request;
    int32_t vocabulary = gate->limits->spec->vocabulary;
    enum status status = token_list_reserve(gate->prompt, request->id_count);
    for (int32_t i = 0; status == STATUS_OK && i < request->id_count; i++) {
        if (request->ids[i] < 0 || request->ids[i] >= vocabulary)
            return refuse(gate, "prompt: token %d: expected an id from 0 to %d, got %d", i,
                          vocabulary - 1, request->ids[i]);
        status = token_list_append(gate->prompt, request->ids[i]);
    }
    return pass_status(gate, status, NULL);
}

static bool tokenize(struct gate *gate) {
    const struct generation_request *request = gate->request;
    int given = (request->text != NULL) + (request->ids != NULL) + (request->chat != NULL);
    if (given != 1)
        return refuse(gate, "prompt: expected one of text, token ids or messages, got %d of them",
                      given);
    if (request->ids == NULL && gate->limits->tokenizer == NULL)
        return refuse(gate, "prompt: expected token ids (" NO_TOKENIZER "), got %s",
                      request->text != NULL ? "text" : "a conversation");
    if (request->text != NULL)
        return encode(gate, request->text, request->text_bytes,
                      request->plain_prompt ? 0 : TOKENIZER_ADD_SPECIAL);
    return request->ids != NULL ? copy_ids(gate) : encode_chat(gate);
}

static bool encode_prompt(struct gate *gate) {
    int32_t positions = gate->limits->positions, keep = gate->request->truncate_prompt_tokens;
    struct token_list *prompt = gate->prompt;
    if (!check_int(gate, "truncate_prompt_tokens", keep, 0, positions - 1) || !tokenize(gate))
        return false;
    if (keep > 0 && prompt->count > keep) {
        memmove(prompt->ids, prompt->ids + (prompt->count - keep),
                sizeof *prompt->ids * (size_t)keep);
        prompt->count = keep;
    }
    if (prompt->count >= 1 && prompt->count < positions)
        return true;
    gate->error = generation_request_refuse(
        gate->message, prompt->count < 1 ? GENERATION_ERROR_INVALID : GENERATION_ERROR_TOO_LONG,
        "prompt: expected 1 to %d tokens (--max-model-len less one), got %s%lld", positions - 1,
        prompt->count > positions ? "at least " : "", (long long)prompt->count);
    return false;
}

void generation_request_encode(const struct generation_request *request,
                               const struct generation_request_limits *limits,
                               struct generation_encoding *encoding) {
    struct gate gate = {.request = request,
                        .limits = limits,
                        .prompt = &encoding->ids,
                        .message = &encoding->message};
    encode_prompt(&gate);
    encoding->error = gate.error;
}

static bool make_prompt(struct gate *gate) {
    const struct generation_encoding *encoding = gate->request->encoding;
    const struct token_list *prompt = encoding != NULL ? &encoding->ids : gate->prompt;
    if (encoding == NULL && !encode_prompt(gate))
        return false;
    if (encoding != NULL && encoding->error != GENERATION_ERROR_NONE) {
        gate->error = encoding->error;
        *gate->message = encoding->message;
        return false;
    }
    gate->like->prompt = prompt->ids;
    gate->like->prompt_count = (int32_t)prompt->count;
    return true;
}

/* ---- lengths and ends ---- */

static bool check_lengths(struct gate *gate) {
    const struct generation_request *request = gate->request;
    struct generation *like = gate->like;
    int32_t most = gate->limits->positions - like->prompt_count;
    if (request->max_tokens < 0 || request->max_tokens > most) {
        gate->error = generation_request_refuse(
            gate->message,
            request->max_tokens < 0 ? GENERATION_ERROR_INVALID : GENERATION_ERROR_TOO_LONG,
            "max_tokens: expected at most %d (--max-model-len %d less %d of the prompt), got %d",
            most, gate->limits->positions, like->prompt_count, request->max_tokens);
        return false;
    }
    like->max_tokens = request->max_tokens > 0 ? request->max_tokens : most;
    like->prompt_only = request->prompt_only;
    if (request->prompt_only)
        like->max_tokens = 1; /* the engine's way to say that a prompt is computed */
    like->min_tokens = request->min_tokens;
    return check_int(gate, "min_tokens", request->min_tokens, 0,
                     request->prompt_only ? 0 : like->max_tokens);
}

static bool check_stop_strings(struct gate *gate) {
    const struct generation_request *request = gate->request;
    if (request->stop_count > 0 && gate->limits->tokenizer == NULL)
        return refuse(gate, "stop: expected no strings (" NO_TOKENIZER "), got %d",
                      request->stop_count);
    if (request->stop_count < 0 || request->stop_count > STOP_MATCHER_STRINGS_MAX)
        return refuse(gate, "stop: expected at most %d strings, got %d", STOP_MATCHER_STRINGS_MAX,
                      request->stop_count);
    for (int32_t i = 0; i < request->stop_count; i++) {
        size_t bytes = strlen(request->stop[i]);
        if (bytes < 1 || bytes > STOP_BYTES_MAX)
            return refuse(gate, "stop[%d]: expected 1 to %d bytes, got %zu", i, STOP_BYTES_MAX,
                          bytes);
    }
    return true;
}

static bool check_stop_ids(struct gate *gate) {
    const struct generation_request *request = gate->request;
    int32_t vocabulary = gate->limits->spec->vocabulary;
    if (request->stop_id_count < 0 || request->stop_id_count > GENERATION_STOP_IDS_MAX)
        return refuse(gate, "stop_token_ids: expected at most %d, got %d", GENERATION_STOP_IDS_MAX,
                      request->stop_id_count);
    for (int32_t i = 0; i < request->stop_id_count; i++) {
        if (request->stop_ids[i] < 0 || request->stop_ids[i] >= vocabulary)
            return refuse(gate, "stop_token_ids[%d]: expected an id from 0 to %d, got %d", i,
                          vocabulary - 1, request->stop_ids[i]);
        gate->like->stop_ids[i] = request->stop_ids[i];
    }
    gate->like->stop_id_count = request->stop_id_count;
    gate->like->ignore_eos = request->ignore_eos;
    return true;
}

static bool check_times(struct gate *gate) {
    const struct generation_request *request = gate->request;
    struct generation *like = gate->like;
    int64_t now_ns = clock_now_ns();
    like->submitted_ns = request->arrived_ns != 0 ? request->arrived_ns : now_ns;
    like->deadline_ns = request->deadline_ns;
    if (request->deadline_ns != 0 && request->deadline_ns <= now_ns) {
        gate->error =
            generation_request_refuse(gate->message, GENERATION_ERROR_DEADLINE,
                                      "deadline: expected one to come, got one that has passed");
        return false;
    }
    if (request->time_limit_ns < 0)
        return refuse(gate, "time_limit: expected 0 (none) or more, got %lld ns",
                      (long long)request->time_limit_ns);
    if (request->time_limit_ns > 0 && request->time_limit_ns < INT64_MAX - like->submitted_ns)
        like->time_limit_ns = like->submitted_ns + request->time_limit_ns;
    return true;
}

/* ---- sampling ---- */

/* Fields that the client left out: the model's own, as vLLM applies generation_config.json. */
static void fill_defaults(const struct gate *gate, struct sampling_params *sampling) {
    static const struct generation_defaults off = {
        .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};
    const struct generation_defaults *from =
        gate->limits->no_model_defaults ? &off : &gate->limits->spec->defaults;
    uint32_t given = gate->request->given;
    if ((given & GENERATION_GIVEN_TEMPERATURE) == 0)
        sampling->temperature = from->temperature;
    if ((given & GENERATION_GIVEN_TOP_K) == 0)
        sampling->top_k = from->top_k;
    if ((given & GENERATION_GIVEN_TOP_P) == 0)
        sampling->top_p = from->top_p;
    if ((given & GENERATION_GIVEN_MIN_P) == 0)
        sampling->min_p = from->min_p;
    if ((given & GENERATION_GIVEN_REPETITION_PENALTY) == 0)
        sampling->repetition_penalty = from->repetition_penalty;
}

static bool check_sampling(struct gate *gate) {
    const struct generation_request *request = gate->request;
    struct sampling_params *sampling = &gate->like->sampling;
    *sampling = request->sampling;
    fill_defaults(gate, sampling);
    if ((request->given & GENERATION_GIVEN_SEED) == 0 &&
        getrandom(&sampling->seed, sizeof sampling->seed, 0) != (ssize_t)sizeof sampling->seed) {
        gate->error = generation_request_refuse(gate->message, GENERATION_ERROR_INTERNAL,
                                                "seed: the system gives no random numbers");
        return false;
    }
    struct log_diverted said;
    log_divert_begin(&said);
    enum status status = sampling_params_check(sampling, gate->limits->spec->vocabulary);
    log_divert_end();
    return pass_status(gate, status, &said);
}

static bool check_outputs(struct gate *gate) {
    const struct generation_request *request = gate->request;
    int32_t choices = gate->limits->sequences;
    if (choices > GENERATION_CHOICES_MAX)
        choices = GENERATION_CHOICES_MAX;
    gate->like->n = request->n;
    gate->like->prompt_logprobs = request->prompt_logprobs;
    gate->like->priority = request->priority;
    gate->like->client = request->client;
    return check_int(gate, "n", request->n, 1, choices) &&
           check_int(gate, "prompt_logprobs", request->prompt_logprobs, -1,
                     SAMPLING_LOGPROBS_MAX) &&
           check_int(gate, "stream_interval", request->stream_interval, 0, INT32_MAX);
}

enum generation_error generation_request_prepare(const struct generation_request *request,
                                                 const struct generation_request_limits *limits,
                                                 struct generation *like, struct token_list *prompt,
                                                 struct generation_message *message) {
    struct gate gate = {request, limits, like, prompt, message, GENERATION_ERROR_NONE};
    memset(like, 0, sizeof *like);
    bool passed = check_model(&gate) && check_request_id(&gate) && check_sampling(&gate) &&
                  check_outputs(&gate) && check_stop_strings(&gate) && check_stop_ids(&gate) &&
                  check_times(&gate) && make_prompt(&gate) && check_lengths(&gate);
    return passed ? GENERATION_ERROR_NONE : gate.error;
}
