/* str() and json.dumps() of the template language's values. Everything a template prints passes
 * through here. */
#include "runtime/jinja_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/jinja_string.h"

#define INDENT_MAX 64

/* Where text goes. */
struct sink {
    struct jinja_run *run;
    int32_t line;
    struct text_buffer *buffer;
    const struct jinja_json_style *style; /* NULL: Python's repr */
};

static enum status put(const struct sink *sink, struct jinja_string text) {
    return jinja_run_append(sink->run, sink->line, sink->buffer, text);
}

static enum status put_c(const struct sink *sink, const char *text) {
    return put(sink, (struct jinja_string){text, strlen(text)});
}

/* The shortest digits that read back as the same double: mantissa digits and decimal exponent. */
static int shortest_digits(double number, char digits[20], int *exponent) {
    char text[40];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, number);
        double back = strtod(text, NULL);
        if (back >= number && back <= number)
            break;
    }
    int count = 0;
    const char *e = strchr(text, 'e');
    for (const char *c = text; c < e; c++)
        if (*c >= '0' && *c <= '9')
            digits[count++] = *c;
    *exponent = (int)strtol(e + 1, NULL, 10);
    return count;
}

/* Python's repr of a float that is finite and not negative. */
static void format_float(double number, char text[64]) {
    char digits[20] = "";
    int exponent = 0;
    int count = shortest_digits(number, digits, &exponent);
    int n = 0;
    if (exponent < -4 || exponent >= 16) {
        text[n++] = digits[0];
        if (count > 1)
            text[n++] = '.';
        for (int i = 1; i < count; i++)
            text[n++] = digits[i];
        snprintf(text + n, (size_t)(64 - n), "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    int first = exponent < 0 ? exponent : 0; /* places before the digits are zeros */
    int last = count - 1 > exponent + 1 ? count - 1 : exponent + 1;
    for (int place = first; place <= last; place++) {
        if (place == exponent + 1)
            text[n++] = '.';
        text[n++] = place >= 0 && place < count ? digits[place] : '0';
    }
    text[n] = '\0';
}

static enum status put_float(const struct sink *sink, double number) {
    char text[64];
    if (signbit(number) && !isnan(number))
        RETURN_IF_ERROR(put_c(sink, "-"));
    if (isnan(number))
        return put_c(sink, sink->style != NULL ? "NaN" : "nan");
    if (isinf(number))
        return put_c(sink, sink->style != NULL ? "Infinity" : "inf");
    format_float(fabs(number), text);
    return put_c(sink, text);
}

/* None, booleans and numbers; *done tells whether it was one. */
static enum status put_simple(const struct sink *sink, const struct jinja_value *value,
                              bool *done) {
    bool json = sink->style != NULL;
    char text[32];
    *done = true;
    if (value->kind == JINJA_NONE)
        return put_c(sink, json ? "null" : "None");
    if (value->kind == JINJA_BOOL && value->as.boolean)
        return put_c(sink, json ? "true" : "True");
    if (value->kind == JINJA_BOOL)
        return put_c(sink, json ? "false" : "False");
    if (value->kind == JINJA_FLOAT)
        return put_float(sink, value->as.number);
    *done = value->kind == JINJA_INT;
    if (!*done)
        return STATUS_OK;
    snprintf(text, sizeof text, "%lld", (long long)value->as.integer);
    return put_c(sink, text);
}

/* How `c` is escaped between quotes, or NULL for as it is. */
static const char *json_escape(const struct sink *sink, uint32_t c, char text[16]) {
    static const char from[] = "\"\\\n\r\t\b\f";
    static const char *const to[] = {"\\\"", "\\\\", "\\n", "\\r", "\\t", "\\b", "\\f"};
    const char *found = c != 0 && c < 0x80 ? strchr(from, (int)c) : NULL;
    if (found != NULL)
        return to[found - from];
    if (c >= 0x20 && (c < 0x7f || !sink->style->ascii))
        return NULL;
    if (c >= 0x10000)
        snprintf(text, 16, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                 0xdc00 + ((c - 0x10000) & 0x3ff));
    else
        snprintf(text, 16, "\\u%04x", c);
    return text;
}

static const char *python_escape(uint32_t c, char quote, char text[16]) {
    if (c == '\\')
        return "\\\\";
    if (c == '\n')
        return "\\n";
    if (c == '\r')
        return "\\r";
    if (c == '\t')
        return "\\t";
    if (c == (uint32_t)quote)
        snprintf(text, 16, "\\%c", quote);
    else if (c < 0x20 || c == 0x7f)
        snprintf(text, 16, "\\x%02x", c);
    else
        return NULL;
    return text;
}

static bool has_byte(struct jinja_string string, char byte) {
    return jinja_string_find(string, (struct jinja_string){&byte, 1}, 0) >= 0;
}

/* A string between quotes. Runs of characters that need no escape are put at once. */
static enum status put_quoted(const struct sink *sink, struct jinja_string string) {
    bool json = sink->style != NULL;
    if (!json && !jinja_string_is_ascii(string))
        return jinja_run_fail(
            sink->run, sink->line, STATUS_UNSUPPORTED,
            "printing a list or dict with other than ASCII text is not supported");
    char quote = json || (has_byte(string, '\'') && !has_byte(string, '"')) ? '"' : '\'';
    size_t start = 0;
    RETURN_IF_ERROR(put(sink, (struct jinja_string){&quote, 1}));
    for (size_t at = 0; at < string.length;) {
        char text[16];
        uint32_t c = jinja_string_decode(string.text + at);
        const char *escape = json ? json_escape(sink, c, text) : python_escape(c, quote, text);
        size_t next = at + jinja_string_step(string.text + at);
        if (escape != NULL) {
            RETURN_IF_ERROR(put(sink, jinja_string_part(string, start, at)));
            RETURN_IF_ERROR(put_c(sink, escape));
            start = next;
        }
        at = next;
    }
    RETURN_IF_ERROR(put(sink, jinja_string_part(string, start, string.length)));
    return put(sink, (struct jinja_string){&quote, 1});
}

static enum status put_inner(const struct sink *sink, const struct jinja_value *value,
                             int32_t level);

/* A newline and the indent of a level, where the style has them. */
static enum status put_indent(const struct sink *sink, int32_t level) {
    if (sink->style == NULL || sink->style->indent < 0)
        return STATUS_OK;
    RETURN_IF_ERROR(put_c(sink, "\n"));
    for (int64_t i = 0; i < sink->style->indent * level; i++)
        RETURN_IF_ERROR(put_c(sink, " "));
    return STATUS_OK;
}

static enum status put_separator(const struct sink *sink, bool between_items) {
    if (sink->style == NULL)
        return put_c(sink, between_items ? ", " : ": ");
    return put(sink, between_items ? sink->style->item_separator : sink->style->key_separator);
}

static enum status put_list(const struct sink *sink, const struct jinja_list *list, int32_t level) {
    bool tuple = sink->style == NULL && list->flavour == JINJA_FLAVOUR_TUPLE;
    RETURN_IF_ERROR(put_c(sink, tuple ? "(" : "["));
    for (int64_t i = 0; i < list->count; i++) {
        if (i > 0)
            RETURN_IF_ERROR(put_separator(sink, true));
        RETURN_IF_ERROR(put_indent(sink, level + 1));
        RETURN_IF_ERROR(put_inner(sink, &list->items[i], level + 1));
    }
    if (list->count > 0)
        RETURN_IF_ERROR(put_indent(sink, level));
    if (tuple)
        return put_c(sink, list->count == 1 ? ",)" : ")");
    return put_c(sink, "]");
}

static enum status put_dict(const struct sink *sink, const struct jinja_dict *dict, int32_t level) {
    RETURN_IF_ERROR(put_c(sink, "{"));
    for (int64_t i = 0; i < dict->count; i++) {
        if (i > 0)
            RETURN_IF_ERROR(put_separator(sink, true));
        RETURN_IF_ERROR(put_indent(sink, level + 1));
        RETURN_IF_ERROR(put_quoted(sink, dict->entries[i].key));
        RETURN_IF_ERROR(put_separator(sink, false));
        RETURN_IF_ERROR(put_inner(sink, &dict->entries[i].value, level + 1));
    }
    if (dict->count > 0)
        RETURN_IF_ERROR(put_indent(sink, level));
    return put_c(sink, "}");
}

/* A value inside of a list or dict, or all of a JSON text. */
static enum status put_inner(const struct sink *sink, const struct jinja_value *value,
                             int32_t level) {
    bool done = false;
    RETURN_IF_ERROR(put_simple(sink, value, &done));
    if (done)
        return STATUS_OK;
    if (value->kind == JINJA_STRING_VALUE)
        return put_quoted(sink, value->as.string);
    if (value->kind == JINJA_UNDEFINED && sink->style == NULL)
        return put_c(sink, "Undefined");
    bool list = value->kind == JINJA_LIST && value->as.list->flavour <= JINJA_FLAVOUR_TUPLE;
    if (!list && value->kind != JINJA_DICT)
        return jinja_run_fail(sink->run, sink->line,
                              sink->style != NULL ? STATUS_BAD_REQUEST : STATUS_UNSUPPORTED,
                              "a %s cannot be written as %s", jinja_value_type(value),
                              sink->style != NULL ? "JSON" : "text");
    RETURN_IF_ERROR(jinja_run_enter(sink->run, sink->line));
    if (list)
        RETURN_IF_ERROR(put_list(sink, value->as.list, level));
    else
        RETURN_IF_ERROR(put_dict(sink, value->as.dict, level));
    sink->run->depth--;
    return STATUS_OK;
}

enum status jinja_text_append(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                              struct text_buffer *buffer) {
    struct sink sink = {.run = run, .line = line, .buffer = buffer};
    if (value->kind == JINJA_STRING_VALUE)
        return put(&sink, value->as.string);
    if (value->kind == JINJA_UNDEFINED)
        return STATUS_OK;
    return put_inner(&sink, value, 0);
}

/* The buffer's bytes as a string of the run, if making them went well; frees the buffer. */
static enum status keep(struct jinja_run *run, enum status status, struct text_buffer *buffer,
                        struct jinja_string *text) {
    if (status == STATUS_OK)
        status = jinja_memory_copy(&run->memory, buffer->data, buffer->length, text);
    text_buffer_deinit(buffer);
    return status;
}

enum status jinja_text_of(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                          struct jinja_string *text) {
    struct text_buffer buffer = {0};
    if (value->kind == JINJA_STRING_VALUE) {
        *text = value->as.string;
        return STATUS_OK;
    }
    return keep(run, jinja_text_append(run, line, value, &buffer), &buffer, text);
}

enum status jinja_text_json(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                            const struct jinja_json_style *style, struct jinja_string *text) {
    struct text_buffer buffer = {0};
    struct sink sink = {.run = run, .line = line, .buffer = &buffer, .style = style};
    if (style->indent > INDENT_MAX)
        return jinja_run_fail(run, line, STATUS_LIMIT, "tojson: an indent of more than %d",
                              INDENT_MAX);
    return keep(run, put_inner(&sink, value, 0), &buffer, text);
}
