/* Any bytes as a tokenizer.json. What loads must encode and decode text without a crash, with ids
 * that it has tokens for. */
#include <stdint.h>
#include <stdlib.h>

#include "kernels/base/check.h"
#include "runtime/detokenizer.h"
#include "runtime/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] =
    "Hello <s> wo\xcc\x81rld\n\n  123 \xe2\x96\x81<0x41>'s \xf0\x9f\x98\x80 \0x";

static void stream(const struct tokenizer *tokenizer, const struct token_list *ids) {
    struct detokenizer detokenizer;
    char *delta = malloc(detokenizer_delta_bytes_max(tokenizer));
    ASSERT(delta != NULL);
    detokenizer_init(&detokenizer, tokenizer, false);
    for (int64_t i = 0; i < ids->count; i++)
        ASSERT(detokenizer_push(&detokenizer, ids->ids[i], delta) <=
               detokenizer_delta_bytes_max(tokenizer));
    ASSERT(detokenizer_finish(&detokenizer, delta) <= detokenizer_delta_bytes_max(tokenizer));
    free(delta);
}

static void use(const struct tokenizer *tokenizer) {
    struct token_list ids = {0};
    struct text_buffer again = {0};
    enum status status =
        tokenizer_encode(tokenizer, text, sizeof text - 1, TOKENIZER_ADD_SPECIAL, &ids);
    ASSERT(status == STATUS_OK || status == STATUS_LIMIT);
    for (int64_t i = 0; i < ids.count; i++) {
        size_t length;
        ASSERT(tokenizer_id_to_token(tokenizer, ids.ids[i], &length) != NULL);
    }
    stream(tokenizer, &ids);
    ASSERT(tokenizer_decode(tokenizer, ids.ids, ids.count, true, &again) == STATUS_OK);
    token_list_deinit(&ids);
    text_buffer_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tokenizer *tokenizer = NULL;
    enum status status = tokenizer_load_memory("fuzz", (const char *)data, size, &tokenizer);
    if (status == STATUS_OK) {
        use(tokenizer);
        tokenizer_destroy(tokenizer);
    } else {
        ASSERT(status == STATUS_BAD_TOKENIZER || status == STATUS_UNSUPPORTED);
        ASSERT(tokenizer == NULL);
    }
    return 0;
}
