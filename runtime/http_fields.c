/* The table of fields. A field that is in none of its rows would be one that a client counts on and
 * nobody reads, so it is refused. Called by http_body.c. */
#include "runtime/http_fields.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "runtime/json_file.h"

#define FIELD_TEXT_BYTES 64 /* of a client's name for a field, in a message */

enum field_use {
    FIELD_READ, /* http_body.c, http_messages.c */
    FIELD_IDLE, /* whatever it says, the answer is the same */
    FIELD_NOT_BUILT,
};

enum field_place { FIELD_TEXT = 1, FIELD_CHAT = 2, FIELD_BOTH = 3 };

struct field {
    const char *name;
    enum field_place place;
    enum field_use use;
    /* Of FIELD_NOT_BUILT: values that ask for nothing, as "a|b", beside null, false and whatever is
     * empty. */
    const char *nothing;
};

static const struct field fields[] = {
    {"prompt", FIELD_TEXT, FIELD_READ, NULL},
    {"messages", FIELD_CHAT, FIELD_READ, NULL},
    {"chat_template_kwargs", FIELD_CHAT, FIELD_READ, NULL},
    {"add_generation_prompt", FIELD_CHAT, FIELD_READ, NULL},
    {"add_special_tokens", FIELD_TEXT, FIELD_READ, NULL},
    {"truncate_prompt_tokens", FIELD_BOTH, FIELD_READ, NULL},
    {"model", FIELD_BOTH, FIELD_READ, NULL},
    {"request_id", FIELD_BOTH, FIELD_READ, NULL},
    {"priority", FIELD_BOTH, FIELD_READ, NULL},
    {"n", FIELD_BOTH, FIELD_READ, NULL},
    {"best_of", FIELD_BOTH, FIELD_READ, NULL},
    {"temperature", FIELD_BOTH, FIELD_READ, NULL},
    {"top_p", FIELD_BOTH, FIELD_READ, NULL},
    {"top_k", FIELD_BOTH, FIELD_READ, NULL},
    {"min_p", FIELD_BOTH, FIELD_READ, NULL},
    {"seed", FIELD_BOTH, FIELD_READ, NULL},
    {"frequency_penalty", FIELD_BOTH, FIELD_READ, NULL},
    {"presence_penalty", FIELD_BOTH, FIELD_READ, NULL},
    {"repetition_penalty", FIELD_BOTH, FIELD_READ, NULL},
    {"logit_bias", FIELD_BOTH, FIELD_READ, NULL},
    {"max_tokens", FIELD_BOTH, FIELD_READ, NULL},
    {"max_completion_tokens", FIELD_CHAT, FIELD_READ, NULL},
    {"min_tokens", FIELD_BOTH, FIELD_READ, NULL},
    {"stop", FIELD_BOTH, FIELD_READ, NULL},
    {"stop_token_ids", FIELD_BOTH, FIELD_READ, NULL},
    {"ignore_eos", FIELD_BOTH, FIELD_READ, NULL},
    {"include_stop_str_in_output", FIELD_BOTH, FIELD_READ, NULL},
    {"time_limit_ms", FIELD_BOTH, FIELD_READ, NULL},
    {"stream", FIELD_BOTH, FIELD_READ, NULL},
    {"stream_options", FIELD_BOTH, FIELD_READ, NULL},
    {"echo", FIELD_BOTH, FIELD_READ, NULL},
    {"logprobs", FIELD_BOTH, FIELD_READ, NULL},
    {"top_logprobs", FIELD_CHAT, FIELD_READ, NULL},
    {"prompt_logprobs", FIELD_BOTH, FIELD_READ, NULL},
    {"return_token_ids", FIELD_BOTH, FIELD_READ, NULL},
    {"return_tokens_as_token_ids", FIELD_BOTH, FIELD_READ, NULL},
    {"skip_special_tokens", FIELD_BOTH, FIELD_READ, NULL},

    /* Who asks, what it costs, what is kept elsewhere. */
    {"user", FIELD_BOTH, FIELD_IDLE, NULL},
    {"safety_identifier", FIELD_BOTH, FIELD_IDLE, NULL},
    {"store", FIELD_BOTH, FIELD_IDLE, NULL},
    {"metadata", FIELD_BOTH, FIELD_IDLE, NULL},
    {"service_tier", FIELD_BOTH, FIELD_IDLE, NULL},
    {"prompt_cache_key", FIELD_BOTH, FIELD_IDLE, NULL},
    {"prompt_cache_options", FIELD_BOTH, FIELD_IDLE, NULL},
    {"prompt_cache_retention", FIELD_BOTH, FIELD_IDLE, NULL},
    {"prediction", FIELD_CHAT, FIELD_IDLE, NULL}, /* is to make the same answer sooner */
    /* Settings of what is refused where it is asked for: tools, reasoning, beams, grammars. */
    {"parallel_tool_calls", FIELD_CHAT, FIELD_IDLE, NULL},
    {"include_reasoning", FIELD_CHAT, FIELD_IDLE, NULL},
    {"length_penalty", FIELD_BOTH, FIELD_IDLE, NULL},
    {"early_stopping", FIELD_BOTH, FIELD_IDLE, NULL},
    {"guided_decoding_backend", FIELD_BOTH, FIELD_IDLE, NULL},
    {"guided_whitespace_pattern", FIELD_BOTH, FIELD_IDLE, NULL},
    {"spaces_between_special_tokens", FIELD_BOTH, FIELD_IDLE, NULL}, /* of slow tokenizers */

    {"suffix", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"prompt_embeds", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"truncation_side", FIELD_BOTH, FIELD_NOT_BUILT, "left"},
    {"use_beam_search", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"typical_p", FIELD_BOTH, FIELD_NOT_BUILT, "0|1"},
    {"allowed_token_ids", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"bad_words", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"logits_processors", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"repetition_detection", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"response_format", FIELD_BOTH, FIELD_NOT_BUILT, "text"},
    {"structured_outputs", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"structural_tag", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"guided_json", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"guided_regex", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"guided_choice", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"guided_grammar", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"adapter", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"lora", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"lora_request", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"cache_salt", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"kv_transfer_params", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"vllm_xargs", FIELD_BOTH, FIELD_NOT_BUILT, NULL},
    {"add_special_tokens", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"tools", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"tool_choice", FIELD_CHAT, FIELD_NOT_BUILT, "none|auto"},
    {"functions", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"function_call", FIELD_CHAT, FIELD_NOT_BUILT, "none|auto"},
    {"documents", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"chat_template", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"continue_final_message", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"mm_processor_kwargs", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"media_io_kwargs", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"reasoning_effort", FIELD_CHAT, FIELD_NOT_BUILT, "none"},
    {"thinking_token_budget", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"verbosity", FIELD_CHAT, FIELD_NOT_BUILT, "medium"},
    {"modalities", FIELD_CHAT, FIELD_NOT_BUILT, "text"},
    {"audio", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"moderation", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
    {"web_search_options", FIELD_CHAT, FIELD_NOT_BUILT, NULL},
};

static const struct field *find(const char *name, enum field_place place) {
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if ((fields[i].place & place) != 0 && strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

/* Whether `words` ("a|b", or NULL) has this one. */
static bool has_word(const char *words, const char *word) {
    size_t length = strlen(word);
    while (words != NULL) {
        if (strncmp(words, word, length) == 0 && (words[length] == '|' || words[length] == '\0'))
            return true;
        words = strchr(words, '|');
        words = words != NULL ? words + 1 : NULL;
    }
    return false;
}

/* Clients send fields that ask for nothing. ["text"] is text, and so is {"type": "text"}. */
static bool asks_nothing(const json_t *value, const char *nothing) {
    char number[32];
    if (json_is_null(value) || json_is_false(value) ||
        (json_is_object(value) && json_object_size(value) == 0) ||
        (json_is_array(value) && json_array_size(value) == 0) ||
        (json_is_string(value) && json_string_length(value) == 0))
        return true;
    if (json_is_object(value))
        value = json_object_get(value, "type");
    else if (json_is_array(value) && json_array_size(value) == 1)
        value = json_array_get(value, 0);
    if (json_is_string(value))
        return has_word(nothing, json_string_value(value));
    snprintf(number, sizeof number, "%.17g", json_number_value(value));
    return json_is_number(value) && has_word(nothing, number);
}

static enum generation_error refuse_not_built(const struct http_reader *reader,
                                              const struct field *field, const json_t *value) {
    const char *nothing = field->nothing;
    snprintf(reader->message->text, sizeof reader->message->text,
             "%s: is not supported: expected it left out%s%s%s, got %s", field->name,
             nothing != NULL ? " or one of \"" : "", nothing != NULL ? nothing : "",
             nothing != NULL ? "\"" : "", json_file_kind(value));
    return GENERATION_ERROR_UNSUPPORTED;
}

enum generation_error http_fields_check(const struct http_reader *reader) {
    bool is_chat = reader->body->is_chat;
    const char *name;
    json_t *value;
    json_object_foreach(reader->body->root, name, value) {
        const struct field *field = find(name, is_chat ? FIELD_CHAT : FIELD_TEXT);
        if (field == NULL) {
            char text[FIELD_TEXT_BYTES];
            snprintf(text, sizeof text, "%s", name);
            return http_reader_refuse(reader, GENERATION_ERROR_INVALID, text,
                                      is_chat ? "a field of /v1/chat/completions"
                                              : "a field of /v1/completions",
                                      "one that it does not have");
        }
        if (field->use == FIELD_NOT_BUILT && !asks_nothing(value, field->nothing))
            return refuse_not_built(reader, field, value);
    }
    return GENERATION_ERROR_NONE;
}
