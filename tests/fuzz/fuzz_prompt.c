/* Any bytes as a prompt, for one of several committed tokenizers (the first byte says which). Text
 * that is not UTF-8 is refused; other text comes back where the form says so, and the stream's text
 * is the whole sequence's. Runs from the top of the source tree. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "runtime/detokenizer.h"
#include "runtime/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    const char *path;
    bool comes_back; /* no normaliser, nothing left out: decoding gives the text again */
} files[] = {
    {"tests/data/tokenizers/minimind/tokenizer.json", true},
    {"tests/data/tokenizers/mixtral/tokenizer.json", false},
    {"launcher/demo-moe/tokenizer.json", false},
    {"tests/data/tokenizers/forms/added-nfc/tokenizer.json", false},
    {"tests/data/tokenizers/forms/added-spm/tokenizer.json", false},
    {"tests/data/tokenizers/forms/deepseek-v3/tokenizer.json", true},
    {"tests/data/tokenizers/forms/llama-3/tokenizer.json", true},
    {"tests/data/tokenizers/forms/o200k/tokenizer.json", true},
    {"tests/data/tokenizers/forms/metaspace-first-split/tokenizer.json", false},
    {"tests/data/tokenizers/forms/digits-prefix-nfkc/tokenizer.json", false},
    {"tests/data/tokenizers/forms/split-empty/tokenizer.json", true},
    {"tests/data/tokenizers/forms/spm-unk-fused/tokenizer.json", false},
    {"tests/data/tokenizers/forms/word-class/tokenizer.json", false},
};
#define FILE_COUNT (sizeof files / sizeof files[0])

static struct tokenizer *tokenizers[FILE_COUNT];

static void stream(const struct tokenizer *tokenizer, const struct token_list *ids,
                   struct text_buffer *joined) {
    struct detokenizer detokenizer;
    size_t delta_max = detokenizer_delta_bytes_max(tokenizer);
    detokenizer_init(&detokenizer, tokenizer, false);
    for (int64_t i = 0; i < ids->count; i++) {
        ASSERT(text_buffer_reserve(joined, delta_max) == STATUS_OK);
        joined->length +=
            detokenizer_push(&detokenizer, ids->ids[i], joined->data + joined->length);
    }
    ASSERT(text_buffer_reserve(joined, delta_max) == STATUS_OK);
    joined->length += detokenizer_finish(&detokenizer, joined->data + joined->length);
}

static bool same(const struct text_buffer *a, const char *b, size_t length) {
    return a->length == length && (length == 0 || memcmp(a->data, b, length) == 0);
}

static void check(size_t which, const char *text, size_t length, unsigned flags) {
    struct token_list ids = {0};
    struct text_buffer whole = {0};
    struct text_buffer joined = {0};
    enum status status = tokenizer_encode(tokenizers[which], text, length, flags, &ids);
    ASSERT(status == STATUS_OK || status == STATUS_BAD_REQUEST);
    ASSERT(status == STATUS_OK || ids.count == 0);
    ASSERT(tokenizer_decode(tokenizers[which], ids.ids, ids.count, false, &whole) == STATUS_OK);
    stream(tokenizers[which], &ids, &joined);
    ASSERT(same(&whole, joined.data, joined.length));
    if (status == STATUS_OK && files[which].comes_back)
        ASSERT(same(&whole, text, length));
    token_list_deinit(&ids);
    text_buffer_deinit(&whole);
    text_buffer_deinit(&joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    size_t which = (data[0] & 0x7f) % FILE_COUNT;
    unsigned flags = (data[0] & 0x80) != 0 ? TOKENIZER_PLAIN_SPECIAL : 0;
    if (tokenizers[which] == NULL) /* kept for all inputs, freed by the end of the process */
        ASSERT(tokenizer_load(files[which].path, &tokenizers[which]) == STATUS_OK);
    check(which, (const char *)data + 1, size - 1, flags);
    return 0;
}
