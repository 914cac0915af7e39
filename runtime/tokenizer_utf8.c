/* UTF-8 for the tokenizer. Text is checked once, where it comes in; everything behind that relies
 * on it. */
#include "runtime/tokenizer_utf8.h"

#include <string.h>
#include <utf8proc.h>

/* Bytes of the character that `lead` starts; 0 if it starts none. */
static size_t sequence_length(unsigned char lead) {
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

/* The second byte is where overlong forms, surrogates and too large code points show. */
static bool second_fits(unsigned char lead, unsigned char second) {
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    return second >= low && second <= high;
}

enum tokenizer_utf8_state tokenizer_utf8_classify(const unsigned char *bytes, size_t length) {
    size_t wanted = sequence_length(bytes[0]);
    if (wanted == 0 || length > wanted)
        return TOKENIZER_UTF8_INVALID;
    if (length > 1 && !second_fits(bytes[0], bytes[1]))
        return TOKENIZER_UTF8_INVALID;
    for (size_t i = 2; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return TOKENIZER_UTF8_INVALID;
    return length == wanted ? TOKENIZER_UTF8_COMPLETE : TOKENIZER_UTF8_INCOMPLETE;
}

size_t tokenizer_utf8_invalid_at(const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = 0;
    while (at < length) {
        uint64_t eight;
        if (length - at >= sizeof eight) {
            memcpy(&eight, bytes + at, sizeof eight);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        size_t size = sequence_length(bytes[at]);
        if (size == 0 || size > length - at ||
            tokenizer_utf8_classify(bytes + at, size) != TOKENIZER_UTF8_COMPLETE)
            return at;
        at += size;
    }
    return length;
}

int32_t tokenizer_utf8_read(const char *text, size_t *size) {
    const unsigned char *bytes = (const unsigned char *)text;
    *size = sequence_length(bytes[0]);
    switch (*size) {
    case 2:
        return (bytes[0] & 0x1f) << 6 | (bytes[1] & 0x3f);
    case 3:
        return (bytes[0] & 0x0f) << 12 | (bytes[1] & 0x3f) << 6 | (bytes[2] & 0x3f);
    case 4:
        return (bytes[0] & 0x07) << 18 | (bytes[1] & 0x3f) << 12 | (bytes[2] & 0x3f) << 6 |
               (bytes[3] & 0x3f);
    default:
        *size = 1;
        return bytes[0];
    }
}

size_t tokenizer_utf8_previous(const char *text, size_t at) {
    do {
        at--;
    } while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

size_t tokenizer_utf8_write(int32_t code_point, char *bytes) {
    uint32_t c = (uint32_t)code_point;
    if (c < 0x80) {
        bytes[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        bytes[0] = (char)(0xc0 | c >> 6);
        bytes[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        bytes[0] = (char)(0xe0 | c >> 12);
        bytes[1] = (char)(0x80 | (c >> 6 & 0x3f));
        bytes[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    bytes[0] = (char)(0xf0 | c >> 18);
    bytes[1] = (char)(0x80 | (c >> 12 & 0x3f));
    bytes[2] = (char)(0x80 | (c >> 6 & 0x3f));
    bytes[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

bool tokenizer_utf8_is_space(int32_t c) {
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool tokenizer_utf8_is_word(int32_t c) {
    if (c == 0x200c || c == 0x200d)
        return true;
    /* Circled and squared letters: symbols that are Alphabetic. */
    if ((c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
        (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189))
        return true;
    utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
           category == UTF8PROC_CATEGORY_PC;
}
