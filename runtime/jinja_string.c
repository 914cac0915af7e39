/* Python's str on UTF-8: counting, searching, stripping. The lexer, the filters and the methods of
 * the template language stand on it. */
#define _GNU_SOURCE /* memmem */
#include "runtime/jinja_string.h"

#include <string.h>

static bool continues(unsigned char byte) {
    return (byte & 0xc0) == 0x80;
}

/* Bytes of the valid sequence at `text`, 0 if there is none. */
static size_t valid_sequence(const unsigned char *text, size_t length) {
    unsigned char first = text[0];
    size_t bytes = first < 0x80   ? 1
                   : first < 0xc2 ? 0
                   : first < 0xe0 ? 2
                   : first < 0xf0 ? 3
                   : first < 0xf5 ? 4
                                  : 0;
    if (bytes == 0 || bytes > length)
        return 0;
    for (size_t i = 1; i < bytes; i++)
        if (!continues(text[i]))
            return 0;
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) ||
        (first == 0xf0 && text[1] < 0x90) || (first == 0xf4 && text[1] > 0x8f))
        return 0;
    return bytes;
}

bool jinja_string_valid(const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        size_t step = valid_sequence(bytes + i, length - i);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}

bool jinja_string_equal(struct jinja_string a, struct jinja_string b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.text, b.text, a.length) == 0);
}

bool jinja_string_is(struct jinja_string string, const char *text) {
    return jinja_string_equal(string, (struct jinja_string){text, strlen(text)});
}

int jinja_string_compare(struct jinja_string a, struct jinja_string b) {
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter == 0 ? 0 : memcmp(a.text, b.text, shorter);
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

/* FNV-1a. */
uint32_t jinja_string_hash(struct jinja_string string) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < string.length; i++)
        hash = (hash ^ (unsigned char)string.text[i]) * 16777619u;
    return hash;
}

int64_t jinja_string_count(struct jinja_string string) {
    int64_t count = 0;
    for (size_t i = 0; i < string.length; i++)
        count += !continues((unsigned char)string.text[i]);
    return count;
}

size_t jinja_string_step(const char *text) {
    unsigned char first = (unsigned char)text[0];
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

size_t jinja_string_offset(struct jinja_string string, int64_t index) {
    size_t offset = 0;
    for (int64_t i = 0; i < index && offset < string.length; i++)
        offset += jinja_string_step(string.text + offset);
    return offset;
}

struct jinja_string jinja_string_part(struct jinja_string string, size_t start, size_t end) {
    return (struct jinja_string){string.text + start, end - start};
}

int64_t jinja_string_find(struct jinja_string string, struct jinja_string part, size_t from) {
    if (from > string.length || part.length > string.length - from)
        return -1;
    if (part.length == 0)
        return (int64_t)from;
    const char *found = memmem(string.text + from, string.length - from, part.text, part.length);
    return found == NULL ? -1 : found - string.text;
}

int64_t jinja_string_find_last(struct jinja_string string, struct jinja_string part) {
    if (part.length == 0)
        return (int64_t)string.length;
    int64_t last = -1;
    for (size_t from = 0;;) {
        int64_t found = jinja_string_find(string, part, from);
        if (found < 0)
            return last;
        last = found;
        from = (size_t)found + 1;
    }
}

bool jinja_string_starts(struct jinja_string string, struct jinja_string part) {
    return part.length <= string.length &&
           (part.length == 0 || memcmp(string.text, part.text, part.length) == 0);
}

bool jinja_string_ends(struct jinja_string string, struct jinja_string part) {
    if (part.length > string.length)
        return false;
    return part.length == 0 ||
           memcmp(string.text + string.length - part.length, part.text, part.length) == 0;
}

bool jinja_string_is_ascii(struct jinja_string string) {
    for (size_t i = 0; i < string.length; i++)
        if ((unsigned char)string.text[i] >= 0x80)
            return false;
    return true;
}

uint32_t jinja_string_decode(const char *text) {
    const unsigned char *bytes = (const unsigned char *)text;
    if (bytes[0] < 0x80)
        return bytes[0];
    if (bytes[0] < 0xe0)
        return ((uint32_t)(bytes[0] & 0x1f) << 6) | (bytes[1] & 0x3fu);
    if (bytes[0] < 0xf0)
        return ((uint32_t)(bytes[0] & 0x0f) << 12) | ((uint32_t)(bytes[1] & 0x3f) << 6) |
               (bytes[2] & 0x3fu);
    return ((uint32_t)(bytes[0] & 0x07) << 18) | ((uint32_t)(bytes[1] & 0x3f) << 12) |
           ((uint32_t)(bytes[2] & 0x3f) << 6) | (bytes[3] & 0x3fu);
}

size_t jinja_string_encode(uint32_t code_point, char bytes[4]) {
    static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    if (code_point < 0x80) {
        bytes[0] = (char)code_point;
        return 1;
    }
    size_t length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (code_point & 0x3f));
        code_point >>= 6;
    }
    bytes[0] = (char)(leads[length] | code_point);
    return length;
}

/* Python's str.isspace for one code point: bidirectional type WS, B or S, or category Zs. */
static bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t jinja_string_space_at_start(struct jinja_string string) {
    if (string.length == 0 || !is_space(jinja_string_decode(string.text)))
        return 0;
    return jinja_string_step(string.text);
}

/* Bytes of the last code point of a string that is not empty. */
static size_t step_back(struct jinja_string string) {
    size_t bytes = 1;
    while (bytes < string.length && continues((unsigned char)string.text[string.length - bytes]))
        bytes++;
    return bytes;
}

static size_t space_at_end(struct jinja_string string) {
    if (string.length == 0)
        return 0;
    size_t bytes = step_back(string);
    return is_space(jinja_string_decode(string.text + string.length - bytes)) ? bytes : 0;
}

static bool among(struct jinja_string characters, struct jinja_string character) {
    return jinja_string_find(characters, character, 0) >= 0;
}

struct jinja_string jinja_string_strip_start(struct jinja_string string,
                                             const struct jinja_string *characters) {
    while (string.length > 0) {
        size_t bytes = jinja_string_step(string.text);
        if (characters == NULL ? jinja_string_space_at_start(string) == 0
                               : !among(*characters, jinja_string_part(string, 0, bytes)))
            break;
        string = jinja_string_part(string, bytes, string.length);
    }
    return string;
}

struct jinja_string jinja_string_strip_end(struct jinja_string string,
                                           const struct jinja_string *characters) {
    while (string.length > 0) {
        size_t kept = string.length - step_back(string);
        if (characters == NULL
                ? space_at_end(string) == 0
                : !among(*characters, jinja_string_part(string, kept, string.length)))
            break;
        string.length = kept;
    }
    return string;
}
