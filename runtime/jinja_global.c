/* Global functions of templates: Jinja2's own, and the two that transformers adds. */
#include "runtime/jinja_global.h"

#include <time.h>

#include "runtime/jinja_string.h"

#define RANGE_MAX 100000 /* Jinja2's sandbox has the same */

/* The named arguments as a dict; positional ones are refused. */
static enum status take_named(struct jinja_call *call, enum jinja_kind kind,
                              struct jinja_value *out) {
    struct jinja_value dict;
    const struct jinja_arguments *arguments = call->arguments;
    RETURN_IF_ERROR(jinja_value_dict(&call->run->memory, arguments->count, &dict));
    for (int64_t i = 0; i < arguments->count; i++) {
        if (arguments->names[i].text == NULL)
            return jinja_call_fail(call, STATUS_UNSUPPORTED,
                                   "an argument without a name is not supported");
        RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, (size_t)i * 16));
        RETURN_IF_ERROR(jinja_value_set(&call->run->memory, dict.as.dict, arguments->names[i],
                                        arguments->values[i]));
    }
    dict.kind = kind;
    *out = dict;
    return STATUS_OK;
}

static enum status run_namespace(struct jinja_call *call, struct jinja_value *out) {
    return take_named(call, JINJA_NAMESPACE, out);
}

static enum status run_dict(struct jinja_call *call, struct jinja_value *out) {
    return take_named(call, JINJA_DICT, out);
}

static enum status run_range(struct jinja_call *call, struct jinja_value *out) {
    int64_t start = 0;
    int64_t stop = 0;
    int64_t step = 1;
    bool one = call->parameters[1] == NULL;
    RETURN_IF_ERROR(jinja_call_integer(call, 0, one ? &stop : &start));
    RETURN_IF_ERROR(jinja_call_integer(call, 1, &stop));
    RETURN_IF_ERROR(jinja_call_integer(call, 2, &step));
    bool backwards = step < 0;
    if (step == 0)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "a step of 0");
    int64_t span = 0;
    if (__builtin_sub_overflow(backwards ? start : stop, backwards ? stop : start, &span) ||
        step == INT64_MIN)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "too many items");
    int64_t stride = backwards ? -step : step;
    int64_t count = span <= 0 ? 0 : (span - 1) / stride + 1;
    if (count > RANGE_MAX)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "too many items");
    struct jinja_value list;
    RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, (size_t)count * 32));
    RETURN_IF_ERROR(jinja_value_list(&call->run->memory, count, JINJA_FLAVOUR_RANGE, &list));
    for (int64_t i = 0; i < count; i++)
        list.as.list->items[i] = jinja_value_int(start + i * step);
    *out = list;
    return STATUS_OK;
}

static enum status run_raise_exception(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string text = {"", 0};
    (void)out;
    RETURN_IF_ERROR(jinja_call_string(call, 0, &text));
    return jinja_run_fail(call->run, call->line, STATUS_BAD_REQUEST,
                          "the template refuses these messages: %.*s",
                          (int)(text.length < 400 ? text.length : 400), text.text);
}

/* Directives whose text is the same in C and in Python without a time zone. */
static bool is_plain_format(struct jinja_string format) {
    static const char *const directives = "aAbBcdHIjmMpSUwWxXyYDeFhnRTu%";
    for (size_t i = 0; i < format.length; i++) {
        if (format.text[i] == '\0')
            return false;
        if (format.text[i] != '%')
            continue;
        i += i + 2 < format.length && format.text[i + 1] == '-' ? 2 : 1;
        bool found = false;
        for (const char *c = directives; i < format.length && *c != '\0'; c++)
            found = found || *c == format.text[i];
        if (!found)
            return false;
    }
    return true;
}

static enum status run_strftime_now(struct jinja_call *call, struct jinja_value *out) {
    char format[256];
    char text[1024];
    struct jinja_string given = {"", 0};
    RETURN_IF_ERROR(jinja_call_string(call, 0, &given));
    if (given.length >= sizeof format || !is_plain_format(given))
        return jinja_call_fail(call, STATUS_UNSUPPORTED, "this format is not supported");
    for (size_t i = 0; i < given.length; i++)
        format[i] = given.text[i];
    format[given.length] = '\0';
    struct tm local;
    time_t now = (time_t)call->run->now_s;
    if (localtime_r(&now, &local) == NULL)
        return jinja_call_fail(call, STATUS_INTERNAL, "the time has no date");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* checked by is_plain_format */
    size_t length = given.length == 0 ? 0 : strftime(text, sizeof text, format, &local);
#pragma GCC diagnostic pop
    struct jinja_string copy;
    RETURN_IF_ERROR(jinja_memory_copy(&call->run->memory, text, length, &copy));
    *out = jinja_value_string(copy);
    return STATUS_OK;
}

const struct jinja_builtin *jinja_global_find(struct jinja_string name) {
    static const struct jinja_builtin table[] = {
        {"namespace", run_namespace, -1, {NULL}},
        {"dict", run_dict, -1, {NULL}},
        {"range", run_range, 1, {"", "", ""}},
        {"raise_exception", run_raise_exception, 1, {"message"}},
        {"strftime_now", run_strftime_now, 1, {"format"}},
        {"lipsum", NULL, -1, {NULL}},
        {"cycler", NULL, -1, {NULL}},
        {"joiner", NULL, -1, {NULL}},
        {NULL, NULL, 0, {NULL}}};
    return jinja_call_find(table, name);
}
