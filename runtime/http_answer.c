/* What HTTP clients read. Field names and shapes are OpenAI's; stop_reason, prompt_logprobs,
 * token_ids and prompt_token_ids are vLLM's additions. Called by http_openai.c. */
#include "runtime/http_answer.h"

#include <math.h>

#include "kernels/base/check.h"
#include "runtime/http_offset.h"
#include "runtime/json_writer.h"

/* ---- log-probabilities ---- */

/* How one token is written: its own bytes, or its id as vLLM spells it. */
struct spelling {
    char own[24];
    const char *bytes; /* [length], not NUL-terminated */
    size_t length;
};

static void spell(const struct http_answer *answer, int32_t id, struct spelling *spelling) {
    spelling->bytes = spelling->own;
    if (answer->tokens_as_ids)
        spelling->length = (size_t)snprintf(spelling->own, sizeof spelling->own, "token_id:%d", id);
    else
        spelling->bytes = generation_service_token_bytes(answer->service, id, &spelling->length);
}

static void write_token(struct json_writer *json, const struct http_answer *answer, int32_t id) {
    struct spelling token;
    spell(answer, id, &token);
    json_writer_string(json, NULL, token.bytes, token.length);
}

/* The likeliest ids that are told of a token: more may be known. */
static int32_t tops_of(const struct generation_logprob *logprob, int32_t most) {
    return logprob->top_count < most ? logprob->top_count : most;
}

/* Whether a likelier token has the same text already. */
static bool is_taken(const struct spelling *spellings, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (json_writer_is_same(spellings[i].bytes, spellings[i].length, spellings[count].bytes,
                                spellings[count].length))
            return true;
    return false;
}

/* {"token": logprob, ...} of the likeliest, and of the token itself where it is none of them: one
 * more then, as OpenAI and vLLM have it. null where nothing comes before the token. */
static void write_top_map(struct json_writer *json, const struct http_answer *answer,
                          const struct generation_logprob *logprob) {
    struct spelling spellings[SAMPLING_LOGPROBS_MAX + 1];
    int32_t count = tops_of(logprob, answer->tops);
    bool has_own = false;
    if (isnan(logprob->logprob)) {
        json_writer_null(json, NULL);
        return;
    }
    json_writer_begin_object(json, NULL);
    for (int32_t i = 0; i < count + !has_own; i++) {
        bool is_own = i == count;
        int32_t id = is_own ? logprob->id : logprob->top[i].id;
        has_own = has_own || id == logprob->id;
        spell(answer, id, &spellings[i]);
        if (!is_taken(spellings, i))
            json_writer_number_of(json, spellings[i].bytes, spellings[i].length,
                                  is_own ? logprob->logprob : logprob->top[i].logprob);
    }
    json_writer_end_object(json);
}

/* The prompt's tokens, where they are echoed, then the choice's. */
static const struct generation_logprob *logprob_at(const struct http_choice *choice, int32_t i) {
    return i < choice->echoed_count ? &choice->echoed[i]
                                    : &choice->logprobs[i - choice->echoed_count];
}

static void write_echo_offsets(struct json_writer *json, const struct http_answer *answer,
                               struct http_choice *choice) {
    struct http_offset offset = {.text = choice->text, .bytes = choice->echo_bytes};
    for (int32_t i = 0; i < choice->echoed_count; i++) {
        size_t length;
        int32_t id = choice->echoed[i].id;
        const char *bytes = generation_service_token_bytes(answer->service, id, &length);
        json_writer_integer(json, NULL, http_offset_begin(offset.characters, bytes, length));
        http_offset_pass(&offset, bytes, length,
                         generation_service_is_special(answer->service, id));
    }
    choice->text_offset = http_offset_count(choice->text, choice->echo_bytes);
}

static void write_offsets(struct json_writer *json, const struct http_answer *answer,
                          struct http_choice *choice) {
    json_writer_begin_array(json, "text_offset");
    if (choice->echoed != NULL)
        write_echo_offsets(json, answer, choice);
    for (int32_t i = 0; i < choice->logprob_count; i++) {
        size_t length;
        int32_t id = choice->logprobs[i].id;
        const char *bytes = generation_service_token_bytes(answer->service, id, &length);
        json_writer_integer(json, NULL, http_offset_begin(choice->text_offset, bytes, length));
        if (answer->keep_special || !generation_service_is_special(answer->service, id))
            choice->text_offset += http_offset_count(bytes, length);
    }
    json_writer_end_array(json);
}

/* completions: four parallel arrays. */
static void write_parallel_logprobs(struct json_writer *json, const struct http_answer *answer,
                                    struct http_choice *choice) {
    int32_t count = choice->echoed_count + choice->logprob_count;
    ASSERT(choice->logprobs != NULL || choice->logprob_count == 0);
    json_writer_begin_object(json, "logprobs");
    json_writer_begin_array(json, "tokens");
    for (int32_t i = 0; i < count; i++)
        write_token(json, answer, logprob_at(choice, i)->id);
    json_writer_end_array(json);
    json_writer_begin_array(json, "token_logprobs");
    for (int32_t i = 0; i < count; i++)
        json_writer_number(json, NULL, logprob_at(choice, i)->logprob);
    json_writer_end_array(json);
    json_writer_begin_array(json, "top_logprobs");
    for (int32_t i = 0; i < count; i++)
        write_top_map(json, answer, logprob_at(choice, i));
    json_writer_end_array(json);
    write_offsets(json, answer, choice);
    json_writer_end_object(json);
}

static void write_one_logprob(struct json_writer *json, const struct http_answer *answer,
                              int32_t id, double logprob) {
    struct spelling token;
    spell(answer, id, &token);
    json_writer_string(json, "token", token.bytes, token.length);
    json_writer_number(json, "logprob", logprob);
    json_writer_begin_array(json, "bytes");
    for (size_t i = 0; i < token.length; i++)
        json_writer_integer(json, NULL, (unsigned char)token.bytes[i]);
    json_writer_end_array(json);
}

/* chat: one object a token. */
static void write_chat_logprobs(struct json_writer *json, const struct http_answer *answer,
                                const struct http_choice *choice) {
    json_writer_begin_object(json, "logprobs");
    json_writer_begin_array(json, "content");
    for (int32_t i = 0; i < choice->logprob_count; i++) {
        const struct generation_logprob *logprob = &choice->logprobs[i];
        json_writer_begin_object(json, NULL);
        write_one_logprob(json, answer, logprob->id, logprob->logprob);
        json_writer_begin_array(json, "top_logprobs");
        for (int32_t k = 0; k < logprob->top_count; k++) {
            json_writer_begin_object(json, NULL);
            write_one_logprob(json, answer, logprob->top[k].id, logprob->top[k].logprob);
            json_writer_end_object(json);
        }
        json_writer_end_array(json);
        json_writer_end_object(json);
    }
    json_writer_end_array(json);
    json_writer_end_object(json);
}

static void write_decoded(struct json_writer *json, const struct http_answer *answer, int32_t id) {
    size_t length;
    const char *bytes = generation_service_token_bytes(answer->service, id, &length);
    if (generation_service_has_text(answer->service))
        json_writer_string(json, "decoded_token", bytes, length);
    else
        json_writer_null(json, "decoded_token");
}

/* vLLM's: null for the first token, then {"id": {"logprob", "rank", "decoded_token"}, ...}. */
static void write_prompt_logprobs(struct json_writer *json, const struct http_answer *answer,
                                  const struct http_choice *choice) {
    json_writer_begin_array(json, "prompt_logprobs");
    for (int32_t i = 0; i < choice->prompt_count; i++) {
        const struct generation_logprob *logprob = &choice->prompt_logprobs[i];
        if (isnan(logprob->logprob)) {
            json_writer_null(json, NULL);
            continue;
        }
        json_writer_begin_object(json, NULL);
        for (int32_t k = -1; k < tops_of(logprob, answer->prompt_tops); k++) {
            char key[16];
            int32_t id = k < 0 ? logprob->id : logprob->top[k].id;
            if (k >= 0 && id == logprob->id)
                continue;
            snprintf(key, sizeof key, "%d", id);
            json_writer_begin_object(json, key);
            json_writer_number(json, "logprob", k < 0 ? logprob->logprob : logprob->top[k].logprob);
            json_writer_integer(json, "rank", k < 0 ? logprob->rank : k + 1);
            write_decoded(json, answer, id);
            json_writer_end_object(json);
        }
        json_writer_end_object(json);
    }
    json_writer_end_array(json);
}

/* ---- choices ---- */

static const char *finish_name(enum generation_finish finish) {
    switch (finish) {
    case GENERATION_EOS:
    case GENERATION_STOP_TEXT:
    case GENERATION_STOP_TOKEN:
        return "stop";
    case GENERATION_LENGTH:
    case GENERATION_TIME_LIMIT:
        return "length";
    case GENERATION_RUNNING:
    case GENERATION_DEADLINE:
    case GENERATION_ABORTED:
    case GENERATION_FAILED:
        break;
    }
    return "abort";
}

static void write_end(struct json_writer *json, const struct generation_end_of_choice *end) {
    if (end == NULL) {
        json_writer_null(json, "finish_reason");
        return;
    }
    json_writer_text(json, "finish_reason", finish_name(end->finish));
    if (end->matched_stop != NULL)
        json_writer_text(json, "stop_reason", end->matched_stop);
    else if (end->finish == GENERATION_STOP_TOKEN)
        json_writer_integer(json, "stop_reason", end->matched_id);
    else
        json_writer_null(json, "stop_reason");
}

static void write_chat_message(struct json_writer *json, const struct http_answer *answer,
                               const struct http_choice *choice) {
    json_writer_begin_object(json, answer->is_stream ? "delta" : "message");
    if (!answer->is_stream || choice->is_first)
        json_writer_text(json, "role", "assistant");
    if (!answer->is_stream || choice->is_first || choice->text_bytes > 0)
        json_writer_string(json, "content", choice->text, choice->text_bytes);
    json_writer_end_object(json);
}

/* What was asked about the prompt stands in the choice, or beside the only prompt's choices. */
static void write_prompt(struct json_writer *json, const struct http_answer *answer,
                         const struct http_choice *choice) {
    const struct token_list *ids = choice->prompt_ids;
    if (ids != NULL)
        json_writer_integers(json, "prompt_token_ids", ids->ids, ids->count);
    if (choice->prompt_logprobs != NULL)
        write_prompt_logprobs(json, answer, choice);
}

static void write_choice(struct json_writer *json, const struct http_answer *answer,
                         struct http_choice *choice) {
    json_writer_begin_object(json, NULL);
    json_writer_integer(json, "index", choice->index);
    if (answer->is_chat)
        write_chat_message(json, answer, choice);
    else
        json_writer_string(json, "text", choice->text, choice->text_bytes);
    bool has_logprobs = choice->logprobs != NULL;
    if (answer->is_chat && has_logprobs)
        write_chat_logprobs(json, answer, choice);
    else if (!answer->is_chat && (has_logprobs || choice->echoed != NULL))
        write_parallel_logprobs(json, answer, choice);
    else
        json_writer_null(json, "logprobs");
    write_end(json, choice->end);
    if (answer->has_ids)
        json_writer_integers(json, "token_ids", choice->ids, choice->id_count);
    if (!answer->is_chat)
        write_prompt(json, answer, choice);
    json_writer_end_object(json);
}

static void write_usage(struct json_writer *json, const struct generation_usage *usage) {
    json_writer_begin_object(json, "usage");
    json_writer_integer(json, "prompt_tokens", usage->prompt_tokens);
    json_writer_integer(json, "completion_tokens", usage->completion_tokens);
    json_writer_integer(json, "total_tokens", usage->prompt_tokens + usage->completion_tokens);
    json_writer_begin_object(json, "prompt_tokens_details");
    json_writer_integer(json, "cached_tokens", usage->cached_tokens);
    json_writer_end_object(json);
    json_writer_end_object(json);
}

void http_answer_write(FILE *out, const struct http_answer *answer, struct http_choice *choices,
                       int32_t choice_count, const struct generation_usage *usage) {
    struct json_writer json = {.out = out};
    char id[160];
    snprintf(id, sizeof id, "%s-%s", answer->is_chat ? "chatcmpl" : "cmpl", answer->id);
    json_writer_begin_object(&json, NULL);
    json_writer_text(&json, "id", id);
    json_writer_text(&json, "object",
                     !answer->is_chat    ? "text_completion"
                     : answer->is_stream ? "chat.completion.chunk"
                                         : "chat.completion");
    json_writer_integer(&json, "created", answer->created_s);
    json_writer_text(&json, "model", answer->model);
    json_writer_begin_array(&json, "choices");
    for (int32_t i = 0; i < choice_count; i++)
        write_choice(&json, answer, &choices[i]);
    json_writer_end_array(&json);
    if (answer->is_chat && choice_count > 0)
        write_prompt(&json, answer, &choices[0]);
    if (usage != NULL)
        write_usage(&json, usage);
    json_writer_end_object(&json);
}

/* ---- errors ---- */

/* By enum generation_error. OpenAI's clients look at `code`, which is a word or null, and come
 * again by themselves after 429 and 5xx. */
static const struct {
    int32_t status;
    bool names_field; /* with which its message begins */
    const char *type, *code;
} errors[] = {
    [GENERATION_ERROR_NONE] = {200, false, "none", NULL},
    [GENERATION_ERROR_INVALID] = {400, true, "invalid_request_error", NULL},
    [GENERATION_ERROR_TOO_LONG] = {400, true, "invalid_request_error", "context_length_exceeded"},
    [GENERATION_ERROR_NO_TEXT] = {400, false, "invalid_request_error", NULL},
    [GENERATION_ERROR_NOT_FOUND] = {404, true, "not_found_error", "model_not_found"},
    [GENERATION_ERROR_UNSUPPORTED] = {400, true, "not_implemented_error", NULL},
    [GENERATION_ERROR_FULL] = {429, false, "rate_limit_error", "rate_limit_exceeded"},
    [GENERATION_ERROR_UNAVAILABLE] = {503, false, "service_unavailable_error", NULL},
    [GENERATION_ERROR_DEADLINE] = {504, false, "timeout_error", NULL},
    [GENERATION_ERROR_INTERNAL] = {500, false, "internal_error", NULL},
};

int32_t http_answer_code(enum generation_error error) {
    return errors[error].status;
}

/* The field of "FIELD: ...", as messages begin, into field[size]; false: it begins otherwise. */
static bool find_field(const char *message, char *field, size_t size) {
    static const char prefix[] = "sampling parameter ";
    if (strncmp(message, prefix, sizeof prefix - 1) == 0)
        message += sizeof prefix - 1;
    size_t length = strcspn(message, ": ");
    if (length == 0 || length >= size || strncmp(message + length, ": ", 2) != 0)
        return false;
    memcpy(field, message, length);
    field[length] = '\0';
    return true;
}

void http_answer_error(FILE *out, enum generation_error error, const char *message) {
    struct json_writer json = {.out = out};
    char field[96];
    json_writer_begin_object(&json, NULL);
    json_writer_begin_object(&json, "error");
    json_writer_text(&json, "message", message);
    json_writer_text(&json, "type", errors[error].type);
    if (errors[error].names_field && find_field(message, field, sizeof field))
        json_writer_text(&json, "param", field);
    else
        json_writer_null(&json, "param");
    if (errors[error].code != NULL)
        json_writer_text(&json, "code", errors[error].code);
    else
        json_writer_null(&json, "code");
    json_writer_end_object(&json);
    json_writer_end_object(&json);
    fputc('\n', out);
}
