/* The lexer of the template language. First on a template's way to text: lex, parse, run. The rules
 * follow Jinja2's lexer step by step, since a lost or kept newline is a different prompt. */
#include "runtime/jinja_lex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/jinja_string.h"

#define BRACES_MAX 200
#define NUMBER_BYTES_MAX 60

struct lexer {
    struct jinja_memory *memory;
    struct jinja_string source; /* newlines are \n */
    size_t at;
    size_t counted; /* bytes whose newlines are in `line` */
    int32_t line;
    bool line_start; /* the last tag took a newline: text goes on at the start of a line */
    struct jinja_token *tokens;
    int64_t count;
    int64_t capacity;
    char braces[BRACES_MAX];
    int32_t brace_count;
};

static int32_t line_here(struct lexer *lexer) {
    for (; lexer->counted < lexer->at; lexer->counted++)
        lexer->line += lexer->source.text[lexer->counted] == '\n';
    return lexer->line;
}

static enum status fail(struct lexer *lexer, enum status status, const char *what) {
    LOG_ERROR("%s: line %d: %s", lexer->memory->origin, line_here(lexer), what);
    return status;
}

static char byte_at(const struct lexer *lexer, size_t at) {
    return at < lexer->source.length ? lexer->source.text[at] : '\0';
}

static bool comes(const struct lexer *lexer, size_t at, const char *text) {
    size_t length = strlen(text);
    return at <= lexer->source.length && length <= lexer->source.length - at &&
           memcmp(lexer->source.text + at, text, length) == 0;
}

static struct jinja_string rest(const struct lexer *lexer, size_t at) {
    return jinja_string_part(lexer->source, at, lexer->source.length);
}

static size_t skip_space(const struct lexer *lexer, size_t at) {
    struct jinja_string left = rest(lexer, at);
    return lexer->source.length - jinja_string_strip_start(left, NULL).length;
}

static enum status push(struct lexer *lexer, const struct jinja_token *token) {
    if (lexer->count == lexer->capacity) {
        int64_t capacity = lexer->capacity == 0 ? 64 : 2 * lexer->capacity;
        void *tokens = NULL;
        RETURN_IF_ERROR(
            jinja_memory_take(lexer->memory, (size_t)capacity * sizeof *token, &tokens));
        if (lexer->count > 0)
            memcpy(tokens, lexer->tokens, (size_t)lexer->count * sizeof *token);
        lexer->tokens = tokens;
        lexer->capacity = capacity;
    }
    lexer->tokens[lexer->count++] = *token;
    return STATUS_OK;
}

/* Adds a token of `length` bytes and goes behind it. */
static enum status take(struct lexer *lexer, enum jinja_token_kind kind, size_t length) {
    struct jinja_token token = {
        .kind = kind,
        .line = line_here(lexer),
        .text = jinja_string_part(lexer->source, lexer->at, lexer->at + length)};
    lexer->at += length;
    return push(lexer, &token);
}

/* Goes behind a tag's end of `length` bytes, which stripped the whitespace behind it ('-'), kept it
 * all ('+') or takes one newline (trim_blocks). */
static void close_tag(struct lexer *lexer, size_t length, char sign, bool trims) {
    lexer->at += length;
    if (sign == '-')
        lexer->at = skip_space(lexer, lexer->at);
    else if (sign != '+' && trims && byte_at(lexer, lexer->at) == '\n')
        lexer->at++;
    lexer->line_start = lexer->source.text[lexer->at - 1] == '\n';
}

/* The text before a tag, shortened as the tag's sign and lstrip_blocks ask. */
static struct jinja_string text_before(const struct lexer *lexer, size_t tag, char sign,
                                       bool prints) {
    struct jinja_string text = jinja_string_part(lexer->source, lexer->at, tag);
    if (sign == '-')
        return jinja_string_strip_end(text, NULL);
    if (sign == '+' || prints)
        return text;
    size_t line = text.length;
    while (line > 0 && text.text[line - 1] != '\n')
        line--;
    if (line == 0 && !lexer->line_start)
        return text;
    struct jinja_string last = jinja_string_part(text, line, text.length);
    if (jinja_string_strip_start(last, NULL).length == 0)
        text.length = line;
    return text;
}

static enum status push_text(struct lexer *lexer, struct jinja_string text) {
    if (text.length == 0)
        return STATUS_OK;
    struct jinja_token token = {.kind = JINJA_TOKEN_TEXT, .line = line_here(lexer), .text = text};
    return push(lexer, &token);
}

/* Whether `{% raw %}` (or endraw) stands at `at`; *end is behind its name. */
static bool is_raw_tag(const struct lexer *lexer, size_t at, const char *name, size_t *end) {
    char sign = byte_at(lexer, at + 2);
    at = skip_space(lexer, at + 2 + (sign == '-' || sign == '+'));
    if (!comes(lexer, at, name))
        return false;
    *end = skip_space(lexer, at + strlen(name));
    return comes(lexer, *end, "-%}") || comes(lexer, *end, "%}") ||
           (strcmp(name, "endraw") == 0 && comes(lexer, *end, "+%}"));
}

static char sign_at(const struct lexer *lexer, size_t at) {
    char sign = byte_at(lexer, at);
    return sign == '-' || sign == '+' ? sign : '\0';
}

/* {% raw %} ... {% endraw %}: lexer->at is at the tag, `name_end` behind "raw". */
static enum status lex_raw(struct lexer *lexer, size_t name_end) {
    char sign = sign_at(lexer, name_end);
    lexer->at = name_end;
    close_tag(lexer, sign == '\0' ? 2 : 3, sign, false);
    size_t tag = lexer->at;
    size_t end = 0;
    while (tag < lexer->source.length &&
           !(comes(lexer, tag, "{%") && is_raw_tag(lexer, tag, "endraw", &end)))
        tag++;
    if (tag >= lexer->source.length)
        return fail(lexer, STATUS_BAD_TOKENIZER, "the end of a raw block is missing");
    RETURN_IF_ERROR(push_text(lexer, text_before(lexer, tag, sign_at(lexer, tag + 2), false)));
    sign = sign_at(lexer, end);
    lexer->at = end;
    close_tag(lexer, sign == '\0' ? 2 : 3, sign, true);
    return STATUS_OK;
}

/* lexer->at is behind {# and its sign. */
static enum status lex_comment(struct lexer *lexer) {
    int64_t end = jinja_string_find(lexer->source, JINJA_STRING("#}"), lexer->at);
    if (end < 0)
        return fail(lexer, STATUS_BAD_TOKENIZER, "the end of a comment is missing");
    char sign = (size_t)end > lexer->at ? sign_at(lexer, (size_t)end - 1) : '\0';
    lexer->at = (size_t)end;
    close_tag(lexer, 2, sign, true);
    return STATUS_OK;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static size_t skip_digits(const struct lexer *lexer, size_t at) {
    while (is_digit(byte_at(lexer, at)))
        at++;
    return at;
}

/* The end of a float at lexer->at, or lexer->at if there is none: digits, then a fraction, an
 * exponent or both. Behind a dot (a.0.1) there are only integers. */
static size_t float_end(const struct lexer *lexer, size_t digits) {
    if (lexer->at > 0 && lexer->source.text[lexer->at - 1] == '.')
        return lexer->at;
    size_t end = digits;
    if (byte_at(lexer, end) == '.' && is_digit(byte_at(lexer, end + 1)))
        end = skip_digits(lexer, end + 1);
    if (byte_at(lexer, end) == 'e' || byte_at(lexer, end) == 'E') {
        size_t exponent = end + 1;
        exponent += sign_at(lexer, exponent) != '\0';
        if (is_digit(byte_at(lexer, exponent)))
            end = skip_digits(lexer, exponent);
    }
    return end == digits ? lexer->at : end;
}

static enum status lex_number(struct lexer *lexer) {
    size_t digits = skip_digits(lexer, lexer->at);
    size_t end = float_end(lexer, digits);
    bool whole = end == lexer->at;
    if (whole)
        end = digits;
    char next = byte_at(lexer, end);
    char number[NUMBER_BYTES_MAX + 1] = {0};
    size_t length = end - lexer->at;
    bool zeros = byte_at(lexer, lexer->at) == '0' && length > 1 && whole;
    if (length > NUMBER_BYTES_MAX || is_letter(next) || zeros)
        return fail(lexer, STATUS_UNSUPPORTED, "a number that is not plainly decimal");
    memcpy(number, lexer->source.text + lexer->at, length);
    errno = 0;
    int64_t integer = whole ? (int64_t)strtoll(number, NULL, 10) : 0;
    double value = whole ? 0 : strtod(number, NULL);
    if (errno == ERANGE && (whole || value > 1))
        return fail(lexer, STATUS_UNSUPPORTED, "a number that is too large");
    RETURN_IF_ERROR(take(lexer, whole ? JINJA_TOKEN_INTEGER : JINJA_TOKEN_FLOAT, length));
    lexer->tokens[lexer->count - 1].integer = integer;
    lexer->tokens[lexer->count - 1].number = value;
    return STATUS_OK;
}

static int hex_digit(char c) {
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* \x41 \u0041 \U00000041: `digits` hex digits at `text`. */
static bool unescape_hex(struct jinja_string text, size_t digits, char **out) {
    uint32_t code = 0;
    if (text.length < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_digit(text.text[i]);
        if (digit < 0 || code > 0x10ffff)
            return false;
        code = code * 16 + (uint32_t)digit;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return false;
    *out += jinja_string_encode(code, *out);
    return true;
}

/* One to three octal digits. */
static size_t unescape_octal(struct jinja_string text, char **out) {
    uint32_t code = 0;
    size_t used = 0;
    while (used < 3 && used < text.length && text.text[used] >= '0' && text.text[used] <= '7')
        code = code * 8 + (uint32_t)(text.text[used++] - '0');
    *out += jinja_string_encode(code, *out);
    return used;
}

/* One escape of a string literal; `text` starts behind the backslash. Gives the bytes used, 0 for
 * an escape that is none. An unknown escape keeps its backslash, as in Python. */
static size_t unescape(struct jinja_string text, char **out) {
    static const char from[] = "\\'\"abfnrtv";
    static const char to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = text.text[0];
    const char *simple = c == '\0' ? NULL : strchr(from, c);
    if (simple != NULL) {
        *(*out)++ = to[simple - from];
        return 1;
    }
    if (c == '\n')
        return 1;
    if (c >= '0' && c <= '7')
        return unescape_octal(text, out);
    struct jinja_string digits = jinja_string_part(text, 1, text.length);
    size_t hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (hex > 0)
        return unescape_hex(digits, hex, out) ? 1 + hex : 0;
    if (c == 'N' || (unsigned char)c >= 0x80)
        return 0;
    *(*out)++ = '\\';
    *(*out)++ = c;
    return 1;
}

static enum status lex_string(struct lexer *lexer) {
    char quote = byte_at(lexer, lexer->at);
    size_t end = lexer->at + 1;
    while (end < lexer->source.length && lexer->source.text[end] != quote)
        end += lexer->source.text[end] == '\\' ? 2 : 1;
    if (end >= lexer->source.length)
        return fail(lexer, STATUS_BAD_TOKENIZER, "the end of a string is missing");
    struct jinja_string text = jinja_string_part(lexer->source, lexer->at + 1, end);
    void *bytes = NULL;
    RETURN_IF_ERROR(jinja_memory_take(lexer->memory, text.length, &bytes));
    char *out = bytes;
    for (size_t i = 0; i < text.length;) {
        if (text.text[i] != '\\') {
            *out++ = text.text[i++];
            continue;
        }
        size_t used = unescape(jinja_string_part(text, i + 1, text.length), &out);
        if (used == 0)
            return fail(lexer, STATUS_UNSUPPORTED, "an escape of a string literal");
        i += 1 + used;
    }
    RETURN_IF_ERROR(take(lexer, JINJA_TOKEN_STRING, end + 1 - lexer->at));
    lexer->tokens[lexer->count - 1].text =
        (struct jinja_string){bytes, (size_t)(out - (char *)bytes)};
    return STATUS_OK;
}

static enum status lex_operator(struct lexer *lexer) {
    static const char *const pairs[] = {"//", "**", "==", "!=", ">=", "<="};
    static const char openers[] = "([{";
    static const char closers[] = ")]}";
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (comes(lexer, lexer->at, pairs[i]))
            return take(lexer, JINJA_TOKEN_OPERATOR, 2);
    char c = byte_at(lexer, lexer->at);
    if (c == '\0' || strchr("+-*/%~[](){}<>=.:|,;", c) == NULL)
        return fail(lexer, (unsigned char)c >= 0x80 ? STATUS_UNSUPPORTED : STATUS_BAD_TOKENIZER,
                    "a character that no tag may have");
    const char *closer = strchr(closers, c);
    if (strchr(openers, c) != NULL) {
        if (lexer->brace_count == BRACES_MAX)
            return fail(lexer, STATUS_UNSUPPORTED, "brackets within brackets, too deep");
        lexer->braces[lexer->brace_count++] = closers[strchr(openers, c) - openers];
    } else if (closer != NULL) {
        if (lexer->brace_count == 0 || lexer->braces[lexer->brace_count - 1] != c)
            return fail(lexer, STATUS_BAD_TOKENIZER, "a closing bracket that was not opened");
        lexer->brace_count--;
    }
    return take(lexer, JINJA_TOKEN_OPERATOR, 1);
}

/* Bytes of the end of the tag at lexer->at, 0 where it goes on. */
static size_t tag_end(const struct lexer *lexer, bool prints) {
    if (lexer->brace_count > 0)
        return 0;
    const char *end = prints ? "}}" : "%}";
    if (comes(lexer, lexer->at, end))
        return 2;
    char sign = sign_at(lexer, lexer->at);
    bool signs = sign == '-' || (sign == '+' && !prints);
    return signs && comes(lexer, lexer->at + 1, end) ? 3 : 0;
}

/* What stands between {% and %} or {{ and }}; lexer->at is behind the opening. */
static enum status lex_tag(struct lexer *lexer, bool prints) {
    lexer->brace_count = 0;
    for (;;) {
        size_t end = tag_end(lexer, prints);
        if (end > 0) {
            char sign = sign_at(lexer, lexer->at);
            struct jinja_token token = {.kind =
                                            prints ? JINJA_TOKEN_PRINT_END : JINJA_TOKEN_BLOCK_END,
                                        .line = line_here(lexer)};
            close_tag(lexer, end, sign, !prints);
            return push(lexer, &token);
        }
        size_t next = skip_space(lexer, lexer->at);
        char c = byte_at(lexer, next);
        if (next > lexer->at) {
            lexer->at = next;
            continue;
        }
        if (next >= lexer->source.length)
            return fail(lexer, STATUS_BAD_TOKENIZER, "the end of a tag is missing");
        if (is_digit(c)) {
            RETURN_IF_ERROR(lex_number(lexer));
        } else if (is_letter(c)) {
            while (is_letter(byte_at(lexer, next)) || is_digit(byte_at(lexer, next)))
                next++;
            RETURN_IF_ERROR(take(lexer, JINJA_TOKEN_NAME, next - lexer->at));
            if ((unsigned char)byte_at(lexer, next) >= 0x80)
                return fail(lexer, STATUS_UNSUPPORTED, "a name with other than ASCII letters");
        } else if (c == '\'' || c == '"') {
            RETURN_IF_ERROR(lex_string(lexer));
        } else {
            RETURN_IF_ERROR(lex_operator(lexer));
        }
    }
}

/* Text up to the next tag, then that tag. */
static enum status lex_next(struct lexer *lexer) {
    size_t tag = lexer->at;
    while (tag < lexer->source.length &&
           !(comes(lexer, tag, "{{") || comes(lexer, tag, "{%") || comes(lexer, tag, "{#")))
        tag++;
    if (tag >= lexer->source.length) {
        RETURN_IF_ERROR(push_text(lexer, rest(lexer, lexer->at)));
        lexer->at = lexer->source.length;
        return STATUS_OK;
    }
    char type = lexer->source.text[tag + 1];
    char sign = sign_at(lexer, tag + 2);
    RETURN_IF_ERROR(push_text(lexer, text_before(lexer, tag, sign, type == '{')));
    lexer->at = tag;
    lexer->line_start = false;
    size_t name_end = 0;
    if (type == '%' && is_raw_tag(lexer, tag, "raw", &name_end))
        return lex_raw(lexer, name_end);
    lexer->at = tag + 2 + (sign != '\0');
    if (type == '#')
        return lex_comment(lexer);
    struct jinja_token token = {.kind =
                                    type == '{' ? JINJA_TOKEN_PRINT_BEGIN : JINJA_TOKEN_BLOCK_BEGIN,
                                .line = line_here(lexer)};
    RETURN_IF_ERROR(push(lexer, &token));
    return lex_tag(lexer, type == '{');
}

/* A copy with \r\n and \r as \n, without the newline at the end. */
static enum status normalise(struct jinja_memory *memory, struct jinja_string source,
                             struct jinja_string *normal) {
    void *bytes = NULL;
    RETURN_IF_ERROR(jinja_memory_take(memory, source.length, &bytes));
    char *out = bytes;
    size_t length = 0;
    for (size_t i = 0; i < source.length; i++) {
        bool carriage = source.text[i] == '\r';
        if (carriage && i + 1 < source.length && source.text[i + 1] == '\n')
            i++;
        out[length++] = carriage ? '\n' : source.text[i];
    }
    if (length > 0 && out[length - 1] == '\n')
        length--;
    *normal = (struct jinja_string){out, length};
    return STATUS_OK;
}

enum status jinja_lex(struct jinja_memory *memory, struct jinja_string source,
                      struct jinja_tokens *tokens) {
    struct lexer lexer = {.memory = memory, .line = 1, .line_start = true};
    RETURN_IF_ERROR(normalise(memory, source, &lexer.source));
    while (lexer.at < lexer.source.length)
        RETURN_IF_ERROR(lex_next(&lexer));
    struct jinja_token end = {.kind = JINJA_TOKEN_END, .line = line_here(&lexer)};
    RETURN_IF_ERROR(push(&lexer, &end));
    *tokens = (struct jinja_tokens){lexer.tokens, lexer.count};
    return STATUS_OK;
}
