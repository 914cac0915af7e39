/* JSON for chat templates: files, messages and variables as values of the template language. */
#ifndef MOEBIUS_RUNTIME_CHAT_JSON_H
#define MOEBIUS_RUNTIME_CHAT_JSON_H

#include "runtime/jinja_value.h"

/* The special tokens and the template that a tokenizer_config.json holds. */
struct chat_json_config {
    struct jinja_value tokens; /* dict: bos_token and its like, those that are not null */
    bool has_bos_token;        /* the key is there, be it null */
    bool has_eos_token;
    bool has_tool_template;   /* a template named "tool_use" stands beside the default one */
    bool token_defaults;      /* the tokenizer's class may have special tokens of its own */
    struct jinja_string text; /* the template; text NULL: none */
};

/* Reads JSON text into a value. `what` names it in messages. Errors: STATUS_BAD_REQUEST (logged),
 * or as jinja_memory_take. Local. */
enum status chat_json_parse(struct jinja_memory *memory, const char *what, const char *text,
                            struct jinja_value *value);

/* Reads tokenizer_config.json and, where it is there, special_tokens_map.json. A folder without the
 * first gives an empty config. STATUS_BAD_TOKENIZER, STATUS_IO (logged), or as jinja_memory_take.
 * Local. */
enum status chat_json_config(struct jinja_memory *memory, const char *model_folder,
                             struct chat_json_config *config);

/* A file of at most `bytes_max` as a string; *found is false where there is none. STATUS_IO,
 * STATUS_LIMIT (logged). Local. */
enum status chat_json_file(struct jinja_memory *memory, const char *path, size_t bytes_max,
                           bool *found, struct jinja_string *text);

#endif
