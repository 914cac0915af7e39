/* Binds arguments to parameters and calls what an expression names: builtins, methods, macros. */
#include "runtime/jinja_call.h"

#include <string.h>

#include "runtime/jinja_eval.h"
#include "runtime/jinja_string.h"

const struct jinja_builtin *jinja_call_find(const struct jinja_builtin *table,
                                            struct jinja_string name) {
    for (const struct jinja_builtin *builtin = table; builtin->name != NULL; builtin++)
        if (jinja_string_is(name, builtin->name))
            return builtin;
    return NULL;
}

enum status jinja_call_fail(const struct jinja_call *call, enum status status, const char *what) {
    return jinja_run_fail(call->run, call->line, status, "%s: %s", call->builtin->name, what);
}

static int32_t parameter_count(const struct jinja_builtin *builtin) {
    int32_t count = 0;
    while (count < JINJA_PARAMETERS_MAX && builtin->parameters[count] != NULL)
        count++;
    return count;
}

/* The parameter of argument `i`, or -1. */
static int32_t parameter_of(const struct jinja_call *call, int64_t i) {
    int32_t count = parameter_count(call->builtin);
    struct jinja_string name = call->arguments->names[i];
    if (name.text == NULL)
        return i < count ? (int32_t)i : -1;
    for (int32_t k = 0; k < count; k++)
        if (jinja_string_is(name, call->builtin->parameters[k]))
            return k;
    return -1;
}

static enum status bind(struct jinja_call *call) {
    for (int64_t i = 0; i < call->arguments->count; i++) {
        int32_t index = parameter_of(call, i);
        if (index < 0 || call->parameters[index] != NULL)
            return jinja_call_fail(call, STATUS_BAD_REQUEST, "an argument that it does not take");
        call->parameters[index] = &call->arguments->values[i];
    }
    for (int32_t k = 0; k < call->builtin->required; k++)
        if (call->parameters[k] == NULL)
            return jinja_call_fail(call, STATUS_BAD_REQUEST, "an argument is missing");
    return STATUS_OK;
}

enum status jinja_call_builtin(struct jinja_run *run, int32_t line,
                               const struct jinja_builtin *builtin, const struct jinja_value *self,
                               const struct jinja_arguments *arguments, struct jinja_value *out) {
    struct jinja_call call = {
        .run = run, .line = line, .builtin = builtin, .self = *self, .arguments = arguments};
    if (builtin->run == NULL)
        return jinja_call_fail(&call, STATUS_UNSUPPORTED, "is not supported");
    if (builtin->required >= 0)
        RETURN_IF_ERROR(bind(&call));
    return builtin->run(&call, out);
}

/* The argument for parameter `index` of a macro, or NULL; *used counts what was found. */
static const struct jinja_value *macro_argument(const struct jinja_arguments *arguments,
                                                const struct jinja_node *parameter, int64_t index,
                                                int64_t *used) {
    const struct jinja_value *found = NULL;
    for (int64_t i = 0; i < arguments->count; i++) {
        struct jinja_string name = arguments->names[i];
        if (name.text == NULL ? i == index : jinja_string_equal(name, parameter->text)) {
            found = &arguments->values[i];
            ++*used;
        }
    }
    return found;
}

static enum status bind_macro(struct jinja_run *run, int32_t line, const struct jinja_node *node,
                              const struct jinja_arguments *arguments) {
    int64_t index = 0;
    int64_t used = 0;
    for (const struct jinja_node *parameter = node->others; parameter != NULL;
         parameter = parameter->next, index++) {
        struct jinja_value value = jinja_value_undefined(parameter->text);
        const struct jinja_value *given = macro_argument(arguments, parameter, index, &used);
        RETURN_IF_ERROR(jinja_run_spend(run, line, (size_t)arguments->count * 16));
        if (given != NULL)
            value = *given;
        else if (parameter->a != NULL)
            RETURN_IF_ERROR(jinja_eval(run, parameter->a, &value));
        RETURN_IF_ERROR(jinja_run_set(run, line, parameter->text, value));
    }
    if (used != arguments->count)
        return jinja_run_fail(
            run, line, STATUS_BAD_REQUEST, "macro '%.*s': an argument that it does not take",
            (int)(node->text.length < 80 ? node->text.length : 80), node->text.text);
    return STATUS_OK;
}

static enum status call_macro(struct jinja_run *run, int32_t line, const struct jinja_macro *macro,
                              const struct jinja_arguments *arguments, struct jinja_value *out) {
    struct jinja_string text;
    struct jinja_scope *outer = run->scope;
    RETURN_IF_ERROR(jinja_run_scope(run, macro->scope, &run->scope));
    RETURN_IF_ERROR(bind_macro(run, line, macro->node, arguments));
    RETURN_IF_ERROR(jinja_run_capture(run, macro->node->items, line, &text));
    run->scope = outer;
    *out = jinja_value_string(text);
    return STATUS_OK;
}

enum status jinja_call_value(struct jinja_run *run, int32_t line, const struct jinja_value *callee,
                             const struct jinja_arguments *arguments, struct jinja_value *out) {
    if (callee->kind == JINJA_MACRO)
        return call_macro(run, line, callee->as.macro, arguments, out);
    if (callee->kind == JINJA_METHOD)
        return jinja_call_builtin(run, line, callee->as.method->builtin, &callee->as.method->self,
                                  arguments, out);
    if (callee->kind == JINJA_FUNCTION) {
        struct jinja_value nobody = jinja_value_undefined((struct jinja_string){"", 0});
        return jinja_call_builtin(run, line, callee->as.function, &nobody, arguments, out);
    }
    if (callee->kind == JINJA_UNDEFINED) {
        struct jinja_string name = callee->as.undefined;
        return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "'%.*s' is undefined, it is called",
                              (int)(name.length < 80 ? name.length : 80), name.text);
    }
    return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "a %s is called",
                          jinja_value_type(callee));
}

enum status jinja_call_string(const struct jinja_call *call, int32_t index,
                              struct jinja_string *out) {
    const struct jinja_value *value = call->parameters[index];
    if (value == NULL)
        return STATUS_OK;
    if (value->kind != JINJA_STRING_VALUE)
        return jinja_run_fail(call->run, call->line, STATUS_BAD_REQUEST,
                              "%s: expected a str, got a %s", call->builtin->name,
                              jinja_value_type(value));
    *out = value->as.string;
    return STATUS_OK;
}

enum status jinja_call_integer(const struct jinja_call *call, int32_t index, int64_t *out) {
    const struct jinja_value *value = call->parameters[index];
    if (value == NULL || jinja_value_integer(value, out))
        return STATUS_OK;
    return jinja_run_fail(call->run, call->line, STATUS_BAD_REQUEST,
                          "%s: expected an int, got a %s", call->builtin->name,
                          jinja_value_type(value));
}

bool jinja_call_truth(const struct jinja_call *call, int32_t index, bool otherwise) {
    const struct jinja_value *value = call->parameters[index];
    return value == NULL ? otherwise : jinja_value_truth(value);
}
