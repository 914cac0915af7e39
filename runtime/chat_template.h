/* A model's chat template: messages in, the prompt's text out, as transformers renders it (Jinja2
 * in its sandbox, trim_blocks and lstrip_blocks on). A template or a conversation that cannot be
 * rendered to exactly the same text is refused with the reason. */
#ifndef MOEBIUS_RUNTIME_CHAT_TEMPLATE_H
#define MOEBIUS_RUNTIME_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/text_buffer.h"

struct chat_template;

/* UTF-8, NUL-terminated. */
struct chat_message {
    const char *role;    /* "system", "user", "assistant", or what the template knows */
    const char *content; /* NULL: null */
};

/* What is rendered. {0} and messages is a plain conversation. */
struct chat_input {
    const struct chat_message *messages;
    int32_t message_count;
    const char *messages_json;  /* if not NULL, a JSON array of objects, instead of `messages`: for
                                   tool calls, reasoning and content in parts */
    bool add_generation_prompt; /* end with the start of the assistant's answer */
    const char *variables_json; /* NULL or a JSON object of further variables (tools, documents,
                                   enable_thinking, ...); they go before the special tokens */
    int64_t now_s;              /* Unix time for templates that print the date; 0: now */
    size_t output_bytes_max;    /* 0: 16 MiB */
    int64_t steps_max;          /* 0: 20 million, about a second */
};

/* Reads a template from its text, not NUL-terminated. `origin` names it in messages (copied). Free
 * with chat_template_destroy. STATUS_BAD_TOKENIZER: no template; STATUS_UNSUPPORTED: one that uses
 * what we do not have, named in the message; STATUS_LIMIT; STATUS_NO_MEMORY. Logged with origin and
 * line. Local. */
enum status chat_template_parse(const char *origin, const char *text, size_t length,
                                struct chat_template **out);

/* The template of a model's folder: chat_template.jinja, else `chat_template` of
 * tokenizer_config.json (a string, or the one named "default" of a list), with the special tokens
 * of tokenizer_config.json and special_tokens_map.json as variables. A model without one is
 * refused: STATUS_UNSUPPORTED. Else as chat_template_parse, or STATUS_IO. Local. */
enum status chat_template_load(const char *model_folder, struct chat_template **out);

/* Frees it; NULL is allowed. Local. */
void chat_template_destroy(struct chat_template *chat);

/* Renders and appends to `out`, on success only. The text holds the special tokens as text: encode
 * it with special tokens recognised and without adding any. STATUS_BAD_REQUEST: the input is no
 * valid JSON or UTF-8, or the template refuses these messages (its own words are logged);
 * STATUS_UNSUPPORTED: they lead to something that we do not have; STATUS_LIMIT: too long, too many
 * steps; STATUS_NO_MEMORY. Logged with origin and line. The template is not changed: threads may
 * render at once. Local. */
enum status chat_template_render(const struct chat_template *chat, const struct chat_input *input,
                                 struct text_buffer *out);

#endif
