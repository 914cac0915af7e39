/* Where chat templates touch JSON and files. Jansson reads, the values of the template language
 * hold the result. */
#include "runtime/chat_json.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/jinja_string.h"

#define CONFIG_BYTES_MAX ((size_t)32 << 20)
#define PATH_BYTES_MAX 4096

static enum status convert(struct jinja_memory *memory, const char *what, json_t *json, int depth,
                           struct jinja_value *value);

static enum status convert_array(struct jinja_memory *memory, const char *what, json_t *json,
                                 int depth, struct jinja_value *value) {
    size_t count = json_array_size(json);
    RETURN_IF_ERROR(jinja_value_list(memory, (int64_t)count, JINJA_FLAVOUR_LIST, value));
    for (size_t i = 0; i < count; i++)
        RETURN_IF_ERROR(
            convert(memory, what, json_array_get(json, i), depth + 1, &value->as.list->items[i]));
    return STATUS_OK;
}

/* Jansson keeps the order of keys and has dropped repeated ones. */
static enum status convert_object(struct jinja_memory *memory, const char *what, json_t *json,
                                  int depth, struct jinja_value *value) {
    RETURN_IF_ERROR(jinja_value_dict(memory, (int64_t)json_object_size(json), value));
    for (void *at = json_object_iter(json); at != NULL; at = json_object_iter_next(json, at)) {
        const char *name = json_object_iter_key(at);
        struct jinja_string key;
        struct jinja_value item;
        RETURN_IF_ERROR(jinja_memory_copy(memory, name, strlen(name), &key));
        RETURN_IF_ERROR(convert(memory, what, json_object_iter_value(at), depth + 1, &item));
        RETURN_IF_ERROR(jinja_value_add(memory, value->as.dict, key, item));
    }
    return STATUS_OK;
}

static enum status convert_string(struct jinja_memory *memory, const json_t *json,
                                  struct jinja_value *value) {
    struct jinja_string text;
    RETURN_IF_ERROR(
        jinja_memory_copy(memory, json_string_value(json), json_string_length(json), &text));
    *value = jinja_value_string(text);
    return STATUS_OK;
}

static enum status convert(struct jinja_memory *memory, const char *what, json_t *json, int depth,
                           struct jinja_value *value) {
    if (depth > JINJA_NESTING_MAX) {
        LOG_ERROR("%s: more than %d levels of lists and objects", what, JINJA_NESTING_MAX);
        return STATUS_BAD_REQUEST;
    }
    if (json_is_array(json))
        return convert_array(memory, what, json, depth, value);
    if (json_is_object(json))
        return convert_object(memory, what, json, depth, value);
    if (json_is_string(json))
        return convert_string(memory, json, value);
    if (json_is_integer(json))
        *value = jinja_value_int(json_integer_value(json));
    else if (json_is_real(json))
        *value = jinja_value_float(json_real_value(json));
    else if (json_is_boolean(json))
        *value = jinja_value_bool(json_is_true(json));
    else
        *value = jinja_value_none();
    return STATUS_OK;
}

enum status chat_json_parse(struct jinja_memory *memory, const char *what, const char *text,
                            struct jinja_value *value) {
    json_error_t error;
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (json == NULL) {
        const char *near = strstr(error.text, " near '"); /* a user's text follows: not for logs */
        int shown = near == NULL ? (int)strlen(error.text) : (int)(near - error.text);
        LOG_ERROR("%s: no JSON: line %d, column %d: %.*s", what, error.line, error.column, shown,
                  error.text);
        return STATUS_BAD_REQUEST;
    }
    enum status status = convert(memory, what, json, 0, value);
    json_decref(json);
    return status;
}

static enum status read_all(struct jinja_memory *memory, const char *path, FILE *file,
                            size_t bytes_max, struct jinja_string *text) {
    void *bytes = NULL;
    if (fseek(file, 0, SEEK_END) != 0)
        goto unreadable;
    long size = ftell(file);
    if (size < 0 || fseek(file, 0, SEEK_SET) != 0)
        goto unreadable;
    if ((size_t)size > bytes_max) {
        LOG_ERROR("%s: %ld bytes, at most %zu are read", path, size, bytes_max);
        return STATUS_LIMIT;
    }
    RETURN_IF_ERROR(jinja_memory_take(memory, (size_t)size, &bytes));
    if (fread(bytes, 1, (size_t)size, file) != (size_t)size)
        goto unreadable;
    *text = (struct jinja_string){bytes, (size_t)size};
    return STATUS_OK;
unreadable:
    LOG_ERROR("%s: cannot be read", path);
    return STATUS_IO;
}

enum status chat_json_file(struct jinja_memory *memory, const char *path, size_t bytes_max,
                           bool *found, struct jinja_string *text) {
    FILE *file = fopen(path, "rb");
    *found = file != NULL;
    if (file == NULL) {
        if (errno == ENOENT)
            return STATUS_OK;
        LOG_ERROR("%s: cannot be opened: %s", path, strerror(errno));
        return STATUS_IO;
    }
    enum status status = read_all(memory, path, file, bytes_max, text);
    fclose(file);
    return status;
}

/* A JSON object from a file; NULL in *json where there is no file. */
static enum status load_object(struct jinja_memory *memory, const char *folder, const char *name,
                               json_t **json) {
    char path[PATH_BYTES_MAX];
    json_error_t error;
    bool found = false;
    struct jinja_string text = {"", 0};
    *json = NULL;
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        LOG_ERROR("%s: the path is too long", folder);
        return STATUS_IO;
    }
    RETURN_IF_ERROR(chat_json_file(memory, path, CONFIG_BYTES_MAX, &found, &text));
    if (!found)
        return STATUS_OK;
    *json = json_loadb(text.text, text.length, JSON_ALLOW_NUL, &error);
    if (json_is_object(*json))
        return STATUS_OK;
    LOG_ERROR("%s: expected a JSON object, got %s", path,
              *json == NULL ? error.text : "another value");
    json_decref(*json);
    *json = NULL;
    return STATUS_BAD_TOKENIZER;
}

/* A special token: a string, or an object with the string in "content". */
static const json_t *token_text(const json_t *json) {
    return json_is_object(json) ? json_object_get(json, "content") : json;
}

static enum status add_token(struct jinja_memory *memory, const char *folder, const char *name,
                             const json_t *json, struct chat_json_config *config) {
    struct jinja_string key = {name, strlen(name)};
    struct jinja_value value;
    const json_t *text = token_text(json);
    if (json == NULL || json_is_null(json) || jinja_value_get(config->tokens.as.dict, key) != NULL)
        return STATUS_OK;
    if (!json_is_string(text)) {
        LOG_ERROR("%s: '%s': expected a string or an object with 'content'", folder, name);
        return STATUS_BAD_TOKENIZER;
    }
    RETURN_IF_ERROR(convert_string(memory, text, &value));
    return jinja_value_add(memory, config->tokens.as.dict, key, value);
}

/* The tokens of one file; those that are there already stay. */
static enum status add_tokens(struct jinja_memory *memory, const char *folder, const json_t *json,
                              struct chat_json_config *config) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    bool had_bos_token = config->has_bos_token;
    bool had_eos_token = config->has_eos_token;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bool decided = (i == 0 && had_bos_token) || (i == 1 && had_eos_token);
        if (!decided)
            RETURN_IF_ERROR(
                add_token(memory, folder, names[i], json_object_get(json, names[i]), config));
    }
    config->has_bos_token = had_bos_token || json_object_get(json, "bos_token") != NULL;
    config->has_eos_token = had_eos_token || json_object_get(json, "eos_token") != NULL;
    return STATUS_OK;
}

/* The template in `chat_template`: a string, or one of a list of {name, template}. */
static enum status find_template(struct jinja_memory *memory, const char *folder,
                                 const json_t *json, struct chat_json_config *config) {
    const json_t *given = json_object_get(json, "chat_template");
    const json_t *chosen = json_is_string(given) ? given : NULL;
    struct jinja_value text;
    if (given == NULL || json_is_null(given))
        return STATUS_OK;
    for (size_t i = 0; i < json_array_size(given); i++) {
        const json_t *entry = json_array_get(given, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name != NULL && strcmp(name, "default") == 0)
            chosen = json_object_get(entry, "template");
        if (name != NULL && strcmp(name, "tool_use") == 0)
            config->has_tool_template = true;
    }
    if (!json_is_string(chosen)) {
        LOG_ERROR("%s/tokenizer_config.json: 'chat_template': expected a string, or a list with a "
                  "template named 'default'",
                  folder);
        return STATUS_BAD_TOKENIZER;
    }
    RETURN_IF_ERROR(convert_string(memory, chosen, &text));
    config->text = text.as.string;
    return STATUS_OK;
}

static enum status read_config(struct jinja_memory *memory, const char *folder, const json_t *json,
                               struct chat_json_config *config) {
    const char *class_name = json_string_value(json_object_get(json, "tokenizer_class"));
    config->token_defaults =
        class_name != NULL && strcmp(class_name, "PreTrainedTokenizerFast") != 0;
    RETURN_IF_ERROR(add_tokens(memory, folder, json, config));
    return find_template(memory, folder, json, config);
}

enum status chat_json_config(struct jinja_memory *memory, const char *model_folder,
                             struct chat_json_config *config) {
    json_t *json = NULL;
    struct chat_json_config made = {.text = {NULL, 0}};
    RETURN_IF_ERROR(jinja_value_dict(memory, 8, &made.tokens));
    RETURN_IF_ERROR(load_object(memory, model_folder, "tokenizer_config.json", &json));
    enum status status = json == NULL ? STATUS_OK : read_config(memory, model_folder, json, &made);
    json_decref(json);
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(load_object(memory, model_folder, "special_tokens_map.json", &json));
    status = json == NULL ? STATUS_OK : add_tokens(memory, model_folder, json, &made);
    json_decref(json);
    if (status == STATUS_OK)
        *config = made;
    return status;
}
