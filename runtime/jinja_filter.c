/* The filters of the template language. Those that give a generator in Jinja2 give an iterator
 * here: it has no length and is gone after one pass. */
#include "runtime/jinja_filter.h"

#include "runtime/jinja_access.h"
#include "runtime/jinja_method.h"
#include "runtime/jinja_string.h"
#include "runtime/jinja_text.h"
#include "runtime/jinja_verdict.h"

/* Filters that are str(value).method(arguments). */
static enum status as_method(struct jinja_call *call, struct jinja_value *out) {
    bool hidden = false;
    struct jinja_string text;
    struct jinja_string name = {call->builtin->name, 0};
    while (name.text[name.length] != '\0')
        name.length++;
    if (jinja_string_is(name, "trim"))
        name = JINJA_STRING("strip");
    RETURN_IF_ERROR(jinja_text_of(call->run, call->line, &call->self, &text));
    call->self = jinja_value_string(text);
    const struct jinja_builtin *method = jinja_method_find(&call->self, name, &hidden);
    return method->run(call, out);
}

/* str(value).replace(str(old), str(new), count). */
static enum status run_replace(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_value texts[2];
    for (int i = 0; i < 2; i++) {
        struct jinja_string text;
        RETURN_IF_ERROR(jinja_text_of(call->run, call->line, call->parameters[i], &text));
        texts[i] = jinja_value_string(text);
        call->parameters[i] = &texts[i];
    }
    return as_method(call, out);
}

static enum status run_length(struct jinja_call *call, struct jinja_value *out) {
    int64_t length = 0;
    RETURN_IF_ERROR(jinja_access_length(call->run, call->line, &call->self, &length));
    *out = jinja_value_int(length);
    return STATUS_OK;
}

static enum status run_default(struct jinja_call *call, struct jinja_value *out) {
    bool falsy = jinja_call_truth(call, 1, false) && !jinja_value_truth(&call->self);
    if (call->self.kind != JINJA_UNDEFINED && !falsy)
        *out = call->self;
    else if (call->parameters[0] != NULL)
        *out = *call->parameters[0];
    else
        *out = jinja_value_string((struct jinja_string){"", 0});
    return STATUS_OK;
}

static enum status items_of(struct jinja_call *call, struct jinja_list **list) {
    return jinja_access_items(call->run, call->line, &call->self, list);
}

static enum status run_first(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_list *list = NULL;
    if (call->self.kind == JINJA_LIST && call->self.as.list->flavour == JINJA_FLAVOUR_ITERATOR)
        return jinja_call_fail(call, STATUS_UNSUPPORTED, "of a generator is not supported");
    RETURN_IF_ERROR(items_of(call, &list));
    *out = list->count > 0 ? list->items[0]
                           : jinja_value_undefined(JINJA_STRING("the first item of nothing"));
    return STATUS_OK;
}

static enum status run_last(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_list *list = NULL;
    if (call->self.kind == JINJA_LIST && call->self.as.list->flavour == JINJA_FLAVOUR_ITERATOR)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "a generator has no last item");
    RETURN_IF_ERROR(items_of(call, &list));
    *out = list->count > 0 ? list->items[list->count - 1]
                           : jinja_value_undefined(JINJA_STRING("the last item of nothing"));
    return STATUS_OK;
}

static enum status make_list(struct jinja_call *call, const struct jinja_list *from, bool backwards,
                             enum jinja_flavour flavour, struct jinja_value *out) {
    struct jinja_value made;
    RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, (size_t)from->count * 32));
    RETURN_IF_ERROR(jinja_value_list(&call->run->memory, from->count, flavour, &made));
    for (int64_t i = 0; i < from->count; i++)
        made.as.list->items[i] = from->items[backwards ? from->count - 1 - i : i];
    *out = made;
    return STATUS_OK;
}

static enum status run_list(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_list *list = NULL;
    RETURN_IF_ERROR(items_of(call, &list));
    return make_list(call, list, false, JINJA_FLAVOUR_LIST, out);
}

static enum status run_reverse(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_list *list = NULL;
    struct jinja_value step = jinja_value_int(-1);
    const struct jinja_value *const bounds[3] = {NULL, NULL, &step};
    if (call->self.kind == JINJA_STRING_VALUE)
        return jinja_access_slice(call->run, call->line, &call->self, bounds, out);
    bool generator =
        call->self.kind == JINJA_LIST && call->self.as.list->flavour == JINJA_FLAVOUR_ITERATOR;
    RETURN_IF_ERROR(items_of(call, &list));
    return make_list(call, list, true, generator ? JINJA_FLAVOUR_LIST : JINJA_FLAVOUR_ITERATOR,
                     out);
}

static enum status run_string(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string text;
    RETURN_IF_ERROR(jinja_text_of(call->run, call->line, &call->self, &text));
    *out = jinja_value_string(text);
    return STATUS_OK;
}

/* A decimal int in a string, signs and spaces around it allowed, as Python's int(). */
static bool parse_decimal(struct jinja_string text, int64_t *integer) {
    text = jinja_string_strip_end(jinja_string_strip_start(text, NULL), NULL);
    bool negative = text.length > 0 && text.text[0] == '-';
    size_t at = negative || (text.length > 0 && text.text[0] == '+') ? 1 : 0;
    if (at == text.length)
        return false;
    int64_t value = 0;
    for (; at < text.length; at++) {
        int digit = text.text[at] - '0';
        if (digit < 0 || digit > 9 || value > (INT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *integer = negative ? -value : value;
    return true;
}

/* Whether Python could still read a number in it (floats, other digits, underscores). */
static bool may_be_number(struct jinja_string text) {
    for (size_t i = 0; i < text.length; i++)
        if ((text.text[i] >= '0' && text.text[i] <= '9') || (unsigned char)text.text[i] >= 0x80)
            return true;
    return false;
}

static enum status run_int(struct jinja_call *call, struct jinja_value *out) {
    int64_t integer = 0;
    const struct jinja_value *self = &call->self;
    bool text = self->kind == JINJA_STRING_VALUE;
    if (self->kind == JINJA_UNDEFINED)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "of an undefined value");
    if (jinja_value_integer(self, &integer) || (text && parse_decimal(self->as.string, &integer))) {
        *out = jinja_value_int(integer);
    } else if (self->kind == JINJA_FLOAT && self->as.number > -9e15 && self->as.number < 9e15) {
        *out = jinja_value_int((int64_t)self->as.number);
    } else if (self->kind == JINJA_FLOAT || (text && may_be_number(self->as.string))) {
        return jinja_call_fail(call, STATUS_UNSUPPORTED, "this number is not supported");
    } else {
        *out = call->parameters[0] != NULL ? *call->parameters[0] : jinja_value_int(0);
    }
    return STATUS_OK;
}

static enum status run_abs(struct jinja_call *call, struct jinja_value *out) {
    int64_t integer = 0;
    if (call->self.kind == JINJA_FLOAT) {
        *out = jinja_value_float(__builtin_fabs(call->self.as.number));
        return STATUS_OK;
    }
    if (!jinja_value_integer(&call->self, &integer) || integer == INT64_MIN)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "of what is no number");
    *out = jinja_value_int(integer < 0 ? -integer : integer);
    return STATUS_OK;
}

/* The indent and separators of tojson's arguments, with the defaults of json.dumps. */
static enum status json_style(struct jinja_call *call, struct jinja_json_style *style) {
    const struct jinja_value *indent = call->parameters[1];
    const struct jinja_value *separators = call->parameters[2];
    *style = (struct jinja_json_style){-1, jinja_call_truth(call, 0, false), JINJA_STRING(", "),
                                       JINJA_STRING(": ")};
    if (jinja_call_truth(call, 3, false))
        return jinja_call_fail(call, STATUS_UNSUPPORTED, "sort_keys is not supported");
    if (indent != NULL && indent->kind != JINJA_NONE) {
        RETURN_IF_ERROR(jinja_call_integer(call, 1, &style->indent));
        style->item_separator = JINJA_STRING(",");
        if (style->indent < 0)
            style->indent = 0;
    }
    if (separators == NULL || separators->kind == JINJA_NONE)
        return STATUS_OK;
    if (separators->kind != JINJA_LIST || separators->as.list->count != 2 ||
        separators->as.list->items[0].kind != JINJA_STRING_VALUE ||
        separators->as.list->items[1].kind != JINJA_STRING_VALUE)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "separators are two strings");
    style->item_separator = separators->as.list->items[0].as.string;
    style->key_separator = separators->as.list->items[1].as.string;
    return STATUS_OK;
}

static enum status run_tojson(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_json_style style;
    struct jinja_string text;
    RETURN_IF_ERROR(json_style(call, &style));
    RETURN_IF_ERROR(jinja_text_json(call->run, call->line, &call->self, &style, &text));
    *out = jinja_value_string(text);
    return STATUS_OK;
}

static enum status run_items(struct jinja_call *call, struct jinja_value *out) {
    bool hidden = false;
    if (call->self.kind == JINJA_UNDEFINED)
        return jinja_value_list(&call->run->memory, 0, JINJA_FLAVOUR_ITERATOR, out);
    if (call->self.kind != JINJA_DICT)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "of what is no dict");
    const struct jinja_builtin *method =
        jinja_method_find(&call->self, JINJA_STRING("items"), &hidden);
    RETURN_IF_ERROR(method->run(call, out));
    out->as.list->flavour = JINJA_FLAVOUR_ITERATOR;
    return STATUS_OK;
}

/* value['a']['b'] for the path "a.b"; a part of digits is an index. */
static enum status follow_path(struct jinja_call *call, const struct jinja_value *value,
                               struct jinja_string path, struct jinja_value *out) {
    struct jinja_value current = *value;
    for (size_t start = 0; start <= path.length;) {
        int64_t dot = jinja_string_find(path, JINJA_STRING("."), start);
        size_t end = dot < 0 ? path.length : (size_t)dot;
        struct jinja_string part = jinja_string_part(path, start, end);
        struct jinja_value key = jinja_value_string(part);
        int64_t index = 0;
        if (part.length > 0 && part.text[0] >= '0' && part.text[0] <= '9' &&
            parse_decimal(part, &index))
            key = jinja_value_int(index);
        struct jinja_value next;
        RETURN_IF_ERROR(jinja_access_item(call->run, call->line, &current, &key, &next));
        current = next;
        start = end + 1;
    }
    *out = current;
    return STATUS_OK;
}

/* The arguments behind the first `skip`, for the test or filter that they are meant for. */
static struct jinja_arguments arguments_behind(const struct jinja_call *call, int64_t skip) {
    int64_t count = call->arguments->count;
    if (skip > count)
        skip = count;
    return (struct jinja_arguments){call->arguments->values + skip, call->arguments->names + skip,
                                    count - skip};
}

static enum status argument_text(const struct jinja_call *call, int64_t index, const char *what,
                                 struct jinja_string *text) {
    const struct jinja_arguments *arguments = call->arguments;
    if (index >= arguments->count || arguments->names[index].text != NULL ||
        arguments->values[index].kind != JINJA_STRING_VALUE)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, what);
    *text = arguments->values[index].as.string;
    return STATUS_OK;
}

/* select, reject, selectattr, rejectattr: `attribute` says whether the first argument is a path. */
static enum status select_items(struct jinja_call *call, bool attribute, bool keep,
                                struct jinja_value *out) {
    struct jinja_list *list = NULL;
    struct jinja_string path = {"", 0};
    struct jinja_string name = {NULL, 0};
    struct jinja_value made;
    int64_t at = attribute ? 1 : 0;
    if (attribute)
        RETURN_IF_ERROR(argument_text(call, 0, "expected the name of an attribute", &path));
    if (call->arguments->count > at)
        RETURN_IF_ERROR(argument_text(call, at, "expected the name of a test", &name));
    const struct jinja_builtin *test = name.text == NULL ? NULL : jinja_verdict_find(name);
    if (name.text != NULL && test == NULL)
        return jinja_call_fail(call, STATUS_UNSUPPORTED, "this test is not supported");
    struct jinja_arguments arguments = arguments_behind(call, at + 1);
    RETURN_IF_ERROR(items_of(call, &list));
    RETURN_IF_ERROR(
        jinja_value_list(&call->run->memory, list->count, JINJA_FLAVOUR_ITERATOR, &made));
    int64_t count = 0;
    for (int64_t i = 0; i < list->count; i++) {
        struct jinja_value verdict = list->items[i];
        RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, 0));
        if (attribute)
            RETURN_IF_ERROR(follow_path(call, &list->items[i], path, &verdict));
        if (test != NULL)
            RETURN_IF_ERROR(
                jinja_call_builtin(call->run, call->line, test, &verdict, &arguments, &verdict));
        if (jinja_value_truth(&verdict) == keep)
            made.as.list->items[count++] = list->items[i];
    }
    made.as.list->count = count;
    *out = made;
    return STATUS_OK;
}

static enum status run_select(struct jinja_call *call, struct jinja_value *out) {
    return select_items(call, false, true, out);
}

static enum status run_reject(struct jinja_call *call, struct jinja_value *out) {
    return select_items(call, false, false, out);
}

static enum status run_selectattr(struct jinja_call *call, struct jinja_value *out) {
    return select_items(call, true, true, out);
}

static enum status run_rejectattr(struct jinja_call *call, struct jinja_value *out) {
    return select_items(call, true, false, out);
}

/* The attribute= and default= of map. */
static enum status map_options(struct jinja_call *call, struct jinja_string *path,
                               const struct jinja_value **otherwise) {
    const struct jinja_arguments *arguments = call->arguments;
    for (int64_t i = 0; i < arguments->count; i++) {
        if (jinja_string_is(arguments->names[i], "default"))
            *otherwise = &arguments->values[i];
        else if (!jinja_string_is(arguments->names[i], "attribute") ||
                 arguments->values[i].kind != JINJA_STRING_VALUE)
            return jinja_call_fail(call, STATUS_UNSUPPORTED, "these arguments are not supported");
        else
            *path = arguments->values[i].as.string;
    }
    return path->text != NULL ? STATUS_OK
                              : jinja_call_fail(call, STATUS_BAD_REQUEST, "an argument is missing");
}

/* map('filter', ...) or map(attribute='path', default=...). */
static enum status run_map(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_list *list = NULL;
    struct jinja_string text = {NULL, 0};
    const struct jinja_value *otherwise = NULL;
    const struct jinja_builtin *filter = NULL;
    struct jinja_value made;
    bool named = call->arguments->count == 0 || call->arguments->names[0].text != NULL;
    if (named)
        RETURN_IF_ERROR(map_options(call, &text, &otherwise));
    else
        RETURN_IF_ERROR(argument_text(call, 0, "expected the name of a filter", &text));
    if (!named && (filter = jinja_filter_find(text)) == NULL)
        return jinja_call_fail(call, STATUS_UNSUPPORTED, "this filter is not supported");
    struct jinja_arguments arguments = arguments_behind(call, 1);
    RETURN_IF_ERROR(items_of(call, &list));
    RETURN_IF_ERROR(
        jinja_value_list(&call->run->memory, list->count, JINJA_FLAVOUR_ITERATOR, &made));
    for (int64_t i = 0; i < list->count; i++) {
        struct jinja_value *item = &made.as.list->items[i];
        RETURN_IF_ERROR(jinja_run_enter(call->run, call->line));
        if (filter != NULL)
            RETURN_IF_ERROR(jinja_call_builtin(call->run, call->line, filter, &list->items[i],
                                               &arguments, item));
        else
            RETURN_IF_ERROR(follow_path(call, &list->items[i], text, item));
        if (otherwise != NULL && item->kind == JINJA_UNDEFINED)
            *item = *otherwise;
        call->run->depth--;
    }
    *out = made;
    return STATUS_OK;
}

static enum status run_join(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_list *list = NULL;
    struct jinja_string separator = {"", 0};
    struct jinja_string path = {NULL, 0};
    struct jinja_string joined = {"", 0};
    if (call->parameters[0] != NULL)
        RETURN_IF_ERROR(jinja_text_of(call->run, call->line, call->parameters[0], &separator));
    if (call->parameters[1] != NULL && call->parameters[1]->kind != JINJA_NONE)
        RETURN_IF_ERROR(jinja_call_string(call, 1, &path));
    RETURN_IF_ERROR(items_of(call, &list));
    struct text_buffer buffer = {0};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < list->count && status == STATUS_OK; i++) {
        struct jinja_value item = list->items[i];
        if (path.text != NULL)
            status = follow_path(call, &list->items[i], path, &item);
        if (status == STATUS_OK)
            status = jinja_run_spend(call->run, call->line, 0);
        if (status == STATUS_OK && i > 0)
            status = jinja_run_append(call->run, call->line, &buffer, separator);
        if (status == STATUS_OK)
            status = jinja_text_append(call->run, call->line, &item, &buffer);
    }
    if (status == STATUS_OK)
        status = jinja_memory_copy(&call->run->memory, buffer.data, buffer.length, &joined);
    text_buffer_deinit(&buffer);
    if (status == STATUS_OK)
        *out = jinja_value_string(joined);
    return status;
}

const struct jinja_builtin *jinja_filter_find(struct jinja_string name) {
    static const struct jinja_builtin table[] = {
        {"trim", as_method, 0, {"chars"}},
        {"upper", as_method, 0, {NULL}},
        {"lower", as_method, 0, {NULL}},
        {"capitalize", as_method, 0, {NULL}},
        {"replace", run_replace, 2, {"old", "new", "count"}},
        {"length", run_length, 0, {NULL}},
        {"count", run_length, 0, {NULL}},
        {"default", run_default, 0, {"default_value", "boolean"}},
        {"d", run_default, 0, {"default_value", "boolean"}},
        {"first", run_first, 0, {NULL}},
        {"last", run_last, 0, {NULL}},
        {"list", run_list, 0, {NULL}},
        {"reverse", run_reverse, 0, {NULL}},
        {"string", run_string, 0, {NULL}},
        {"int", run_int, 0, {"default"}},
        {"abs", run_abs, 0, {NULL}},
        {"join", run_join, 0, {"d", "attribute"}},
        {"items", run_items, 0, {NULL}},
        {"tojson", run_tojson, 0, {"ensure_ascii", "indent", "separators", "sort_keys"}},
        {"select", run_select, -1, {NULL}},
        {"reject", run_reject, -1, {NULL}},
        {"selectattr", run_selectattr, -1, {NULL}},
        {"rejectattr", run_rejectattr, -1, {NULL}},
        {"map", run_map, -1, {NULL}},
        {"safe", NULL, 0, {NULL}}, /* at the end of a print only, where it changes nothing */
        {NULL, NULL, 0, {NULL}}};
    return jinja_call_find(table, name);
}
