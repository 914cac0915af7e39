/* Chat templates: where a request's messages become the text that is encoded. Finds and parses a
 * model's template once, renders it for each request with the template language of jinja_*. */
#include "runtime/chat_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/base/log.h"
#include "runtime/chat_json.h"
#include "runtime/jinja_parse.h"
#include "runtime/jinja_run.h"
#include "runtime/jinja_string.h"

#define OUTPUT_BYTES_MAX ((size_t)16 << 20)
#define MEMORY_BYTES_MAX ((size_t)256 << 20)
#define STEPS_MAX ((int64_t)20000000)
#define ORIGIN_BYTES_MAX 4200

struct chat_template {
    char *origin;
    struct jinja_program program;
    struct jinja_memory memory; /* of `config` */
    struct chat_json_config config;
};

void chat_template_destroy(struct chat_template *chat) {
    if (chat == NULL)
        return;
    jinja_parse_deinit(&chat->program);
    jinja_memory_deinit(&chat->memory);
    free(chat->origin);
    free(chat);
}

static enum status create(const char *origin, struct chat_template **out) {
    size_t bytes = strlen(origin) + 1;
    struct chat_template *chat = calloc(1, sizeof *chat);
    char *copy = malloc(bytes);
    if (chat == NULL || copy == NULL) {
        free(chat);
        free(copy);
        LOG_ERROR("%s: cannot take memory for the chat template", origin);
        return STATUS_NO_MEMORY;
    }
    memcpy(copy, origin, bytes);
    chat->origin = copy;
    chat->memory = (struct jinja_memory){.origin = copy, .bytes_left = MEMORY_BYTES_MAX};
    *out = chat;
    return STATUS_OK;
}

enum status chat_template_parse(const char *origin, const char *text, size_t length,
                                struct chat_template **out) {
    struct chat_template *chat = NULL;
    RETURN_IF_ERROR(create(origin, &chat));
    enum status status = jinja_value_dict(&chat->memory, 0, &chat->config.tokens);
    if (status == STATUS_OK)
        status = jinja_parse(chat->origin, (struct jinja_string){text, length}, &chat->program);
    if (status != STATUS_OK) {
        chat_template_destroy(chat);
        return status;
    }
    *out = chat;
    return STATUS_OK;
}

/* A class that brings a default bos or eos token would fill in what the folder does not say: the
 * text would be a guess. */
static enum status check_tokens(const struct chat_template *chat) {
    const struct chat_json_config *config = &chat->config;
    if (!config->token_defaults)
        return STATUS_OK;
    bool bos = chat->program.mentions_bos_token && !config->has_bos_token;
    bool eos = chat->program.mentions_eos_token && !config->has_eos_token;
    if (!bos && !eos)
        return STATUS_OK;
    LOG_ERROR("%s: the chat template uses '%s', which neither tokenizer_config.json nor "
              "special_tokens_map.json has",
              chat->origin, bos ? "bos_token" : "eos_token");
    return STATUS_BAD_TOKENIZER;
}

static enum status load_into(struct chat_template *chat, const char *model_folder) {
    char path[ORIGIN_BYTES_MAX];
    bool found = false;
    struct jinja_string text = {NULL, 0};
    RETURN_IF_ERROR(chat_json_config(&chat->memory, model_folder, &chat->config));
    snprintf(path, sizeof path, "%s/chat_template.jinja", model_folder);
    RETURN_IF_ERROR(chat_json_file(&chat->memory, path, JINJA_TEMPLATE_BYTES_MAX, &found, &text));
    if (found)
        chat->config.has_tool_template = false;
    else
        text = chat->config.text;
    if (text.text == NULL) {
        LOG_ERROR("%s: the model has no chat template (no chat_template.jinja, no 'chat_template' "
                  "in tokenizer_config.json)",
                  model_folder);
        return STATUS_UNSUPPORTED;
    }
    RETURN_IF_ERROR(jinja_parse(chat->origin, text, &chat->program));
    return check_tokens(chat);
}

enum status chat_template_load(const char *model_folder, struct chat_template **out) {
    char origin[ORIGIN_BYTES_MAX];
    struct chat_template *chat = NULL;
    int length = snprintf(origin, sizeof origin, "%s: chat template", model_folder);
    if (length < 0 || (size_t)length >= sizeof origin) {
        LOG_ERROR("%.200s...: the path is too long", model_folder);
        return STATUS_IO;
    }
    RETURN_IF_ERROR(create(origin, &chat));
    enum status status = load_into(chat, model_folder);
    if (status != STATUS_OK) {
        chat_template_destroy(chat);
        return status;
    }
    *out = chat;
    return STATUS_OK;
}

static enum status text_value(struct jinja_memory *memory, const char *what, const char *text,
                              struct jinja_value *value) {
    struct jinja_string copy;
    if (text == NULL) {
        *value = jinja_value_none();
        return STATUS_OK;
    }
    if (!jinja_string_valid(text, strlen(text))) {
        LOG_ERROR("%s: a message's %s is not valid UTF-8", memory->origin, what);
        return STATUS_BAD_REQUEST;
    }
    RETURN_IF_ERROR(jinja_memory_copy(memory, text, strlen(text), &copy));
    *value = jinja_value_string(copy);
    return STATUS_OK;
}

static enum status message_value(struct jinja_memory *memory, const struct chat_message *message,
                                 struct jinja_value *value) {
    struct jinja_value role;
    struct jinja_value content;
    RETURN_IF_ERROR(text_value(memory, "role", message->role, &role));
    RETURN_IF_ERROR(text_value(memory, "content", message->content, &content));
    RETURN_IF_ERROR(jinja_value_dict(memory, 2, value));
    RETURN_IF_ERROR(jinja_value_add(memory, value->as.dict, JINJA_STRING("role"), role));
    return jinja_value_add(memory, value->as.dict, JINJA_STRING("content"), content);
}

static enum status messages_value(struct jinja_memory *memory, const struct chat_input *input,
                                  struct jinja_value *value) {
    if (input->messages_json != NULL) {
        RETURN_IF_ERROR(chat_json_parse(memory, "messages", input->messages_json, value));
        if (value->kind == JINJA_LIST)
            return STATUS_OK;
        LOG_ERROR("messages: expected a JSON array, got a %s", jinja_value_type(value));
        return STATUS_BAD_REQUEST;
    }
    RETURN_IF_ERROR(jinja_value_list(memory, input->message_count, JINJA_FLAVOUR_LIST, value));
    for (int32_t i = 0; i < input->message_count; i++)
        RETURN_IF_ERROR(message_value(memory, &input->messages[i], &value->as.list->items[i]));
    return STATUS_OK;
}

static enum status set_all(struct jinja_memory *memory, struct jinja_dict *variables,
                           const struct jinja_dict *from) {
    for (int64_t i = 0; i < from->count; i++)
        RETURN_IF_ERROR(
            jinja_value_set(memory, variables, from->entries[i].key, from->entries[i].value));
    return STATUS_OK;
}

/* The variables of a rendering, as apply_chat_template of transformers passes them: `tools` and
 * `documents` are there, as none, where nothing else is given. */
static enum status make_variables(struct jinja_memory *memory, const struct chat_template *chat,
                                  const struct chat_input *input, struct jinja_dict *variables) {
    struct jinja_value messages;
    struct jinja_value given;
    RETURN_IF_ERROR(messages_value(memory, input, &messages));
    RETURN_IF_ERROR(set_all(memory, variables, chat->config.tokens.as.dict));
    RETURN_IF_ERROR(jinja_value_set(memory, variables, JINJA_STRING("tools"), jinja_value_none()));
    RETURN_IF_ERROR(
        jinja_value_set(memory, variables, JINJA_STRING("documents"), jinja_value_none()));
    RETURN_IF_ERROR(jinja_value_set(memory, variables, JINJA_STRING("add_generation_prompt"),
                                    jinja_value_bool(input->add_generation_prompt)));
    RETURN_IF_ERROR(jinja_value_set(memory, variables, JINJA_STRING("messages"), messages));
    if (input->variables_json == NULL)
        return STATUS_OK;
    RETURN_IF_ERROR(
        chat_json_parse(memory, "variables of the chat template", input->variables_json, &given));
    if (given.kind == JINJA_DICT && given.as.dict->count <= 1000)
        return set_all(memory, variables, given.as.dict);
    LOG_ERROR("variables of the chat template: expected a JSON object of at most 1000, got a %s",
              jinja_value_type(&given));
    return STATUS_BAD_REQUEST;
}

static enum status render(const struct chat_template *chat, const struct chat_input *input,
                          struct jinja_memory *memory, struct text_buffer *out) {
    struct jinja_dict variables = {0};
    struct jinja_bounds bounds = {OUTPUT_BYTES_MAX, STEPS_MAX};
    if (input->output_bytes_max != 0)
        bounds.output_bytes = input->output_bytes_max;
    if (input->steps_max != 0)
        bounds.steps = input->steps_max;
    RETURN_IF_ERROR(make_variables(memory, chat, input, &variables));
    const struct jinja_value *tools = jinja_value_get(&variables, JINJA_STRING("tools"));
    if (chat->config.has_tool_template && tools != NULL && tools->kind != JINJA_NONE) {
        LOG_ERROR("%s: tools would need the template named 'tool_use', which is not supported",
                  chat->origin);
        return STATUS_UNSUPPORTED;
    }
    int64_t now_s = input->now_s != 0 ? input->now_s : (int64_t)time(NULL);
    return jinja_run_program(&chat->program, memory, &variables, &bounds, now_s, out);
}

enum status chat_template_render(const struct chat_template *chat, const struct chat_input *input,
                                 struct text_buffer *out) {
    struct jinja_memory memory = {.origin = chat->origin, .bytes_left = MEMORY_BYTES_MAX};
    enum status status = render(chat, input, &memory, out);
    jinja_memory_deinit(&memory);
    return status;
}
