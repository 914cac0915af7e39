/* text_offset of the prompt's tokens in an echoed text: the text is the client's, so the tokens are
 * laid along it instead of being added up. */
#include "runtime/http_offset.h"

#include <string.h>

static bool begins_character(char byte) {
    return ((unsigned char)byte & 0xc0) != 0x80;
}

int32_t http_offset_count(const char *bytes, size_t length) {
    int32_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += begins_character(bytes[i]);
    return count;
}

int32_t http_offset_begin(int32_t characters, const char *token, size_t length) {
    bool goes_on = characters > 0 && length > 0 && !begins_character(token[0]);
    return characters - goes_on;
}

/* What stands there; false: something else. */
static bool pass_same(struct http_offset *offset, const char *token, size_t length) {
    if (length > offset->bytes - offset->at ||
        (length > 0 && memcmp(offset->text + offset->at, token, length) != 0))
        return false;
    offset->at += length;
    offset->characters += http_offset_count(token, length);
    return true;
}

void http_offset_pass(struct http_offset *offset, const char *token, size_t length,
                      bool is_special) {
    if (pass_same(offset, token, length) || is_special)
        return;
    if (length > 0 && token[0] == ' ' && pass_same(offset, token + 1, length - 1))
        return; /* the space that a tokenizer puts before a text */
    for (int32_t left = http_offset_count(token, length); left > 0 && offset->at < offset->bytes;
         left--) {
        do
            offset->at++;
        while (offset->at < offset->bytes && !begins_character(offset->text[offset->at]));
        offset->characters++;
    }
}
