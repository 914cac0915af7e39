/* Rewrites a split pattern of tokenizer.json for PCRE2: only what differs between the two engines
 * is touched, and what differs too much is refused by name. */
#include "runtime/tokenizer_regex_syntax.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"

/* White_Space; PCRE2's own \s also has U+180E. Between brackets already. */
#define SPACE                                                                                      \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define NOT_SPACE                                                                                  \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{"     \
    "1fff}"                                                                                        \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"                 \
    "\\x{3001}-\\x{10ffff}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"

struct rewriter {
    const char *name;
    const char *pattern;
    size_t length;
    size_t at; /* next byte to read */
    bool in_class;
    struct text_buffer *out;
};

static enum status put(struct rewriter *r, const char *text) {
    return text_buffer_append(r->out, text, strlen(text));
}

/* Copies `count` bytes of the pattern. */
static enum status copy(struct rewriter *r, size_t count) {
    RETURN_IF_ERROR(text_buffer_append(r->out, r->pattern + r->at, count));
    r->at += count;
    return STATUS_OK;
}

static enum status refuse(const struct rewriter *r, const char *what) {
    LOG_ERROR("%s: not supported: expected a pattern that PCRE2 can carry over, got %s at byte %zu",
              r->name, what, r->at);
    return STATUS_UNSUPPORTED;
}

/* The byte `ahead` of the next one; NUL beyond the end. */
static char peek(const struct rewriter *r, size_t ahead) {
    return ahead < r->length - r->at ? r->pattern[r->at + ahead] : '\0';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \p{Name}, \P{Name}, \p{^Name}: one or two letters are a general category; a longer name is a
 * script, which PCRE2 would read as script extensions. */
static enum status rewrite_property(struct rewriter *r) {
    size_t end = r->at + 2;
    if (peek(r, 2) != '{')
        return refuse(r, "a property without braces");
    while (end < r->length && r->pattern[end] != '}')
        end++;
    size_t start = r->at + 3;
    bool negated = peek(r, 3) == '^';
    start += negated ? 1 : 0;
    if (end == r->length || end - start < 1 || end - start > 40)
        return refuse(r, "a property without a name");
    for (size_t i = start; i < end; i++)
        if (!is_letter(r->pattern[i]) && r->pattern[i] != '_')
            return refuse(r, "a property with an unknown kind of name");
    char text[64];
    bool is_script = end - start > 2;
    snprintf(text, sizeof text, "\\%c{%s%s%.*s}", r->pattern[r->at + 1], negated ? "^" : "",
             is_script ? "sc:" : "", (int)(end - start), r->pattern + start);
    r->at = end + 1;
    return put(r, text);
}

/* \xHH below 0x80, \x{H...}, \uHHHH */
static enum status rewrite_code_point(struct rewriter *r) {
    bool braces = peek(r, 1) == 'x' && peek(r, 2) == '{';
    size_t start = r->at + (braces ? 3 : 2);
    size_t wanted = peek(r, 1) == 'u' ? 4 : 2;
    size_t count = 0;
    while (start + count < r->length && is_hex(r->pattern[start + count]) &&
           (braces || count < wanted))
        count++;
    if ((braces && (count == 0 || count > 6 || start + count == r->length ||
                    r->pattern[start + count] != '}')) ||
        (!braces && (count != wanted || (wanted == 2 && r->pattern[start] > '7'))))
        return refuse(r, "a code point that is not \\x{H}, \\uHHHH or \\xHH below 80");
    char text[24];
    snprintf(text, sizeof text, "\\x{%.*s}", (int)count, r->pattern + start);
    r->at = start + count + (braces ? 1 : 0);
    return put(r, text);
}

/* What stands for a letter escape inside and outside of a class; NULL: refused. */
static const struct {
    char letter;
    const char *inside;
    const char *outside;
} letter_escapes[] = {
    {'s', SPACE, "[" SPACE "]"}, {'S', NOT_SPACE, "[^" SPACE "]"},
    {'d', "\\p{Nd}", "\\p{Nd}"}, {'D', "\\P{Nd}", "\\P{Nd}"},
    {'w', WORD, "[" WORD "]"},   {'W', NULL, "[^" WORD "]"},
    {'r', "\\r", "\\r"},         {'n', "\\n", "\\n"},
    {'t', "\\t", "\\t"},         {'f', "\\f", "\\f"},
    {'a', "\\a", "\\a"},         {'e', "\\e", "\\e"},
    {'v', "\\x{b}", "\\x{b}"},   {'A', NULL, "\\A"},
    {'z', NULL, "\\z"},          {'Z', NULL, "\\Z"},
};

static enum status rewrite_escape(struct rewriter *r) {
    char next = peek(r, 1);
    if (r->at + 1 >= r->length)
        return refuse(r, "a backslash at the end");
    if (next == 'p' || next == 'P')
        return rewrite_property(r);
    if (next == 'x' || next == 'u')
        return rewrite_code_point(r);
    if (is_letter(next) || is_digit(next)) {
        for (size_t i = 0; i < sizeof letter_escapes / sizeof letter_escapes[0]; i++) {
            const char *text = r->in_class ? letter_escapes[i].inside : letter_escapes[i].outside;
            if (letter_escapes[i].letter != next || text == NULL)
                continue;
            r->at += 2;
            return put(r, text);
        }
        return refuse(r, "an escape of a letter or digit that means something else there");
    }
    if ((unsigned char)next >= 0x80) { /* an escaped character that needs no escape */
        r->at += 1;
        return STATUS_OK;
    }
    return copy(r, 2);
}

static enum status rewrite_in_class(struct rewriter *r) {
    char c = peek(r, 0);
    if (c == '\\')
        return rewrite_escape(r);
    if (c == '[')
        return refuse(r, "a class within a class");
    if (c == '&' && peek(r, 1) == '&')
        return refuse(r, "an intersection of classes");
    if (c == ']')
        r->in_class = false;
    return copy(r, 1);
}

static enum status rewrite_class_start(struct rewriter *r) {
    r->in_class = true;
    RETURN_IF_ERROR(copy(r, peek(r, 1) == '^' ? 2 : 1));
    if (peek(r, 0) == ']')
        return refuse(r, "a class that starts with ]");
    return STATUS_OK;
}

/* A group: plain, or one of the forms that mean the same in both syntaxes. */
static enum status rewrite_group(struct rewriter *r) {
    static const char *const known[] = {
        "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"};
    if (peek(r, 1) == '*')
        return refuse(r, "a group that starts with (*");
    if (peek(r, 1) != '?')
        return copy(r, 1);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t length = strlen(known[i]);
        if (r->length - r->at >= length && memcmp(r->pattern + r->at, known[i], length) == 0)
            return copy(r, length);
    }
    if (r->at == 0 && r->length >= 4 && memcmp(r->pattern, "(?i)", 4) == 0)
        return copy(r, 4);
    return refuse(r, "an unknown kind of group");
}

/* {n}, {n,} and {n,m} are quantifiers in both; another { is a character. */
static enum status rewrite_brace(struct rewriter *r) {
    size_t i = 1;
    while (is_digit(peek(r, i)))
        i++;
    bool has_minimum = i > 1;
    bool is_range = peek(r, i) == ',';
    if (is_range)
        for (i++; is_digit(peek(r, i)); i++)
            ;
    if (peek(r, i) != '}' || !(has_minimum || is_range)) {
        r->at += 1;
        return put(r, "\\{");
    }
    if (!has_minimum)
        return refuse(r, "a quantifier without minimum");
    char after = peek(r, i + 1);
    if (after == '+' || (after == '?' && !is_range))
        return refuse(r, "a quantifier followed by + or ?");
    return copy(r, i + 1);
}

static enum status rewrite_one(struct rewriter *r) {
    if (r->in_class)
        return rewrite_in_class(r);
    switch (peek(r, 0)) {
    case '\\':
        return rewrite_escape(r);
    case '[':
        return rewrite_class_start(r);
    case '(':
        return rewrite_group(r);
    case '{':
        return rewrite_brace(r);
    default:
        return copy(r, 1);
    }
}

enum status tokenizer_regex_syntax_rewrite(const char *name, const char *pattern, size_t length,
                                           struct text_buffer *out) {
    struct rewriter r = {.name = name, .pattern = pattern, .length = length, .out = out};
    while (r.at < r.length)
        RETURN_IF_ERROR(rewrite_one(&r));
    RETURN_IF_ERROR(text_buffer_append(out, "", 1));
    out->length -= 1;
    return STATUS_OK;
}
