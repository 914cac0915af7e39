/* A conversation in the words of OpenAI's API, as templates take it. Called by http_body.c. */
#include "runtime/http_messages.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/http_reader.h"
#include "runtime/json_file.h"

/* Content in parts becomes one text, a part a line; parts that are not text are refused. */
static enum generation_error join_parts(const struct http_reader *reader, json_t *message) {
    const json_t *parts = json_object_get(message, "content");
    if (!json_is_array(parts))
        return GENERATION_ERROR_NONE;
    struct text_buffer joined = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < json_array_size(parts) && status == STATUS_OK; i++) {
        const json_t *part = json_array_get(parts, i), *text = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!json_is_string(text) || type == NULL || strcmp(type, "text") != 0) {
            text_buffer_deinit(&joined);
            return http_reader_refuse(reader, GENERATION_ERROR_UNSUPPORTED, "messages",
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
        return http_reader_no_memory(reader);
    return GENERATION_ERROR_NONE;
}

/* What templates take for granted. An answer of the model that had no text is an empty one. */
static enum generation_error check_message(const struct http_reader *reader, size_t index,
                                           json_t *message) {
    const json_t *role = json_object_get(message, "role");
    const json_t *content = json_object_get(message, "content");
    char field[48];
    if (!json_is_object(message))
        return http_reader_wrong_type(reader, "messages", "objects", message);
    if (!json_is_string(role)) {
        snprintf(field, sizeof field, "messages[%zu].role", index);
        return http_reader_wrong_type(reader, field, "a string", role);
    }
    if (json_is_string(content) || json_is_array(content))
        return GENERATION_ERROR_NONE;
    if ((content == NULL || json_is_null(content)) &&
        strcmp(json_string_value(role), "assistant") == 0)
        return json_object_set_new(message, "content", json_string("")) == 0
                   ? GENERATION_ERROR_NONE
                   : http_reader_no_memory(reader);
    snprintf(field, sizeof field, "messages[%zu].content", index);
    return http_reader_wrong_type(reader, field, "a string or an array of parts", content);
}

enum generation_error http_messages_read(const struct http_reader *reader) {
    struct http_body *body = reader->body;
    json_t *messages = http_reader_member(reader, "messages"), *message;
    size_t i;
    if (!json_is_array(messages))
        return http_reader_wrong_type(reader, "messages", "an array of messages", messages);
    if (json_array_size(messages) == 0)
        return http_reader_refuse(reader, GENERATION_ERROR_INVALID, "messages", "at least one",
                                  "none");
    json_array_foreach(messages, i, message) {
        RETURN_IF_REFUSED(check_message(reader, i, message));
        RETURN_IF_REFUSED(join_parts(reader, message));
    }
    const json_t *variables = http_reader_member(reader, "chat_template_kwargs");
    if (variables != NULL && !json_is_object(variables))
        return http_reader_wrong_type(reader, "chat_template_kwargs", "an object", variables);
    body->messages_json = json_dumps(messages, JSON_COMPACT);
    body->variables_json = variables != NULL ? json_dumps(variables, JSON_COMPACT) : NULL;
    if (body->messages_json == NULL || (variables != NULL && body->variables_json == NULL))
        return http_reader_no_memory(reader);
    body->chat = (struct chat_input){.messages_json = body->messages_json,
                                     .variables_json = body->variables_json,
                                     .add_generation_prompt = true};
    RETURN_IF_REFUSED(
        http_reader_boolean(reader, "add_generation_prompt", &body->chat.add_generation_prompt));
    body->request.chat = &body->chat;
    body->prompts = calloc(1, sizeof *body->prompts);
    if (body->prompts == NULL)
        return http_reader_no_memory(reader);
    body->prompt_count = 1;
    return GENERATION_ERROR_NONE;
}
