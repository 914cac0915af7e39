/* Any bytes as a chat template; what stands behind a NUL byte as the messages, else a conversation
 * with tools. A text that comes out must be valid UTF-8 within its limit, and come out again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "runtime/chat_template.h"
#include "runtime/jinja_string.h"

#define OUTPUT_BYTES_MAX ((size_t)64 << 10)
#define STEPS_MAX 50000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char usual_messages[] =
    "[{\"role\": \"system\", \"content\": \"S\\u00e9\"}, {\"role\": \"user\", \"content\": \" u "
    "\"}, "
    "{\"role\": \"assistant\", \"content\": \"<think>t</think>a\", \"tool_calls\": [{\"id\": "
    "\"123456789\", \"function\": {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, null, "
    "true]}}}]}, "
    "{\"role\": \"tool\", \"content\": [{\"type\": \"text\", \"text\": \"r\"}]}, {\"role\": "
    "\"user\", \"content\": \"\"}]";

static const char variables[] =
    "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"enable_thinking\": false, \"x\": 3, "
    "\"tools\": [{\"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\", "
    "\"properties\": {\"a\": {\"type\": \"array\"}}}}}]}";

static void render(const struct chat_template *chat, const char *messages) {
    struct chat_input input = {.messages_json = messages,
                               .variables_json = variables,
                               .add_generation_prompt = true,
                               .now_s = 1753963200,
                               .output_bytes_max = OUTPUT_BYTES_MAX,
                               .steps_max = STEPS_MAX};
    struct text_buffer first = {0};
    struct text_buffer second = {0};
    enum status status = chat_template_render(chat, &input, &first);
    ASSERT(chat_template_render(chat, &input, &second) == status);
    ASSERT(first.length == second.length && first.length <= OUTPUT_BYTES_MAX);
    ASSERT(status == STATUS_OK || first.length == 0);
    if (first.length > 0) {
        ASSERT(memcmp(first.data, second.data, first.length) == 0);
        ASSERT(jinja_string_valid(first.data, first.length));
    }
    text_buffer_deinit(&first);
    text_buffer_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct chat_template *chat = NULL;
    const uint8_t *end = size == 0 ? NULL : memchr(data, 0, size);
    size_t length = end == NULL ? size : (size_t)(end - data);
    char *messages = NULL;
    if (end != NULL) {
        size_t rest = size - length - 1;
        messages = malloc(rest + 1);
        ASSERT(messages != NULL);
        memcpy(messages, end + 1, rest);
        messages[rest] = '\0';
    }
    char *text = malloc(length + 1); /* its own block: a read behind the end is seen */
    ASSERT(text != NULL);
    if (length > 0)
        memcpy(text, data, length);
    text = realloc(text, length > 0 ? length : 1);
    ASSERT(text != NULL);
    if (chat_template_parse("fuzz", text, length, &chat) == STATUS_OK)
        render(chat, messages == NULL ? usual_messages : messages);
    chat_template_destroy(chat);
    free(text);
    free(messages);
    return 0;
}
