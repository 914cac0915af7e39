/* Where a request's words become numbers, for moebius generate. */
#include "launcher/generate_prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/chat_template.h"

#define PROMPT_BYTES_MAX ((size_t)64 << 20)
#define SEPARATORS " \t\r\n,"

enum status generate_prompt_parse_ids(const char *what, const char *text, struct token_list *ids) {
    const char *at = text;
    for (;;) {
        at += strspn(at, SEPARATORS);
        if (*at == '\0')
            break;
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        bool ends = *end == '\0' || strchr(SEPARATORS, *end) != NULL;
        if (end == at || !ends || errno != 0 || id < 0 || id > INT32_MAX) {
            LOG_ERROR("%s: expected whole numbers from 0 to %d, got '%.*s'", what, INT32_MAX,
                      (int)strcspn(at, SEPARATORS), at);
            return STATUS_BAD_REQUEST;
        }
        RETURN_IF_ERROR(token_list_append(ids, (int32_t)id));
        at = end;
    }
    if (ids->count == 0) {
        LOG_ERROR("%s: expected at least one id, got none", what);
        return STATUS_BAD_REQUEST;
    }
    return STATUS_OK;
}

enum status generate_prompt_read_file(const char *path, struct text_buffer *text) {
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    if (file == NULL) {
        LOG_ERROR("--file: %s: cannot open: %s", path, strerror(errno));
        return STATUS_IO;
    }
    char piece[65536];
    size_t length;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (length = fread(piece, 1, sizeof piece, file)) > 0) {
        status = text_buffer_append(text, piece, length);
        if (text->length > PROMPT_BYTES_MAX) {
            LOG_ERROR("--file: %s: expected at most %zu bytes, got more", path, PROMPT_BYTES_MAX);
            status = STATUS_BAD_REQUEST;
        }
    }
    if (status == STATUS_OK && ferror(file)) {
        LOG_ERROR("--file: %s: cannot read: %s", path, strerror(errno));
        status = STATUS_IO;
    }
    if (file != stdin)
        fclose(file);
    return status;
}

static enum status encode_file(const char *path, const struct tokenizer *tokenizer,
                               struct token_list *ids) {
    struct text_buffer text = {0};
    enum status status = generate_prompt_read_file(path, &text);
    if (status == STATUS_OK)
        status = tokenizer_encode(tokenizer, text.data, text.length, TOKENIZER_ADD_SPECIAL, ids);
    text_buffer_deinit(&text);
    return status;
}

/* --system and --chat through the model's own template, which writes the special tokens itself. */
static enum status encode_chat(const struct generate_flags *flags, const char *folder,
                               const struct tokenizer *tokenizer, struct token_list *ids) {
    struct chat_message messages[2];
    struct chat_input input = {.messages = messages, .add_generation_prompt = true};
    if (flags->system != NULL)
        messages[input.message_count++] =
            (struct chat_message){.role = "system", .content = flags->system};
    messages[input.message_count++] = (struct chat_message){.role = "user", .content = flags->chat};
    struct chat_template *chat;
    RETURN_IF_ERROR(chat_template_load(folder, &chat));
    struct text_buffer text = {0};
    enum status status = chat_template_render(chat, &input, &text);
    if (status == STATUS_OK)
        status = tokenizer_encode(tokenizer, text.data, text.length, 0, ids);
    text_buffer_deinit(&text);
    chat_template_destroy(chat);
    return status;
}

enum status generate_prompt_build(const struct generate_flags *flags, const char *folder,
                                  const struct tokenizer *tokenizer, struct token_list *ids) {
    if (flags->token_ids != NULL)
        return generate_prompt_parse_ids("--token-ids", flags->token_ids, ids);
    if (flags->chat != NULL)
        RETURN_IF_ERROR(encode_chat(flags, folder, tokenizer, ids));
    else if (flags->file != NULL)
        RETURN_IF_ERROR(encode_file(flags->file, tokenizer, ids));
    else
        RETURN_IF_ERROR(tokenizer_encode(tokenizer, flags->prompt, strlen(flags->prompt),
                                         TOKENIZER_ADD_SPECIAL, ids));
    if (ids->count == 0) {
        LOG_ERROR("prompt: expected at least one token, got an empty text");
        return STATUS_BAD_REQUEST;
    }
    return STATUS_OK;
}

enum status generate_prompt_parse_bias(const char *text, struct sampling_params *sampling) {
    char *end;
    errno = 0;
    long id = strtol(text, &end, 10);
    if (end != text && *end == '=' && errno == 0 && id >= 0 && id <= INT32_MAX &&
        sampling->bias_count < SAMPLING_BIAS_MAX) {
        const char *number = end + 1;
        float bias = strtof(number, &end);
        if (end != number && *end == '\0') {
            sampling->bias[sampling->bias_count++] =
                (struct sampling_bias){.id = (int32_t)id, .bias = bias};
            return STATUS_OK;
        }
    }
    LOG_ERROR("--logit-bias: expected ID=BIAS, got '%s'", text);
    return STATUS_USAGE;
}

enum status generate_prompt_sampling(const struct generate_flags *flags,
                                     struct sampling_params *sampling) {
    *sampling = sampling_params_default();
    sampling->temperature = flags->temperature;
    sampling->top_k = flags->top_k > 0 ? flags->top_k : 0;
    sampling->top_p = flags->top_p;
    sampling->min_p = flags->min_p;
    sampling->repetition_penalty = flags->repetition_penalty;
    sampling->frequency_penalty = flags->frequency_penalty;
    sampling->presence_penalty = flags->presence_penalty;
    sampling->seed = flags->seed;
    sampling->logprobs = flags->logprobs;
    for (int32_t i = 0; i < flags->logit_bias.count; i++)
        RETURN_IF_ERROR(generate_prompt_parse_bias(flags->logit_bias.values[i], sampling));
    return sampling_params_check(sampling, INT32_MAX);
}
