/* Evaluates expressions: one function for each kind of node, over the operators, accesses and
 * calls of the other jinja_* files. */
#include "runtime/jinja_eval.h"

#include "runtime/jinja_access.h"
#include "runtime/jinja_call.h"
#include "runtime/jinja_global.h"
#include "runtime/jinja_operate.h"
#include "runtime/jinja_string.h"
#include "runtime/jinja_text.h"

static enum status eval_literal(struct jinja_run *run, const struct jinja_node *node,
                                struct jinja_value *out) {
    (void)run;
    *out = node->value;
    return STATUS_OK;
}

static enum status eval_name(struct jinja_run *run, const struct jinja_node *node,
                             struct jinja_value *out) {
    for (const struct jinja_scope *scope = run->scope; scope != NULL; scope = scope->parent) {
        RETURN_IF_ERROR(jinja_run_spend(run, node->line, (size_t)scope->variables.count * 8));
        const struct jinja_value *value = jinja_value_get(&scope->variables, node->text);
        if (value == NULL)
            continue;
        *out = *value;
        return scope->parent == NULL ? jinja_run_note_read(run, node->line, node->text) : STATUS_OK;
    }
    const struct jinja_builtin *global = jinja_global_find(node->text);
    if (global == NULL) {
        *out = jinja_value_undefined(node->text);
        return STATUS_OK;
    }
    *out = (struct jinja_value){.kind = JINJA_FUNCTION, .as.function = global};
    return jinja_run_note_read(run, node->line, node->text);
}

static enum status eval_attribute(struct jinja_run *run, const struct jinja_node *node,
                                  struct jinja_value *out) {
    struct jinja_value value;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &value));
    return jinja_access_attribute(run, node->line, &value, node->text, out);
}

static enum status eval_item(struct jinja_run *run, const struct jinja_node *node,
                             struct jinja_value *out) {
    struct jinja_value value;
    struct jinja_value key;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &value));
    RETURN_IF_ERROR(jinja_eval(run, node->b, &key));
    return jinja_access_item(run, node->line, &value, &key, out);
}

static enum status eval_slice(struct jinja_run *run, const struct jinja_node *node,
                              struct jinja_value *out) {
    const struct jinja_node *parts[] = {node->b, node->c, node->d};
    struct jinja_value values[3];
    const struct jinja_value *bounds[3] = {NULL, NULL, NULL};
    struct jinja_value value;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &value));
    for (int i = 0; i < 3; i++) {
        if (parts[i] == NULL)
            continue;
        RETURN_IF_ERROR(jinja_eval(run, parts[i], &values[i]));
        bounds[i] = &values[i];
    }
    return jinja_access_slice(run, node->line, &value, bounds, out);
}

static enum status eval_arguments(struct jinja_run *run, const struct jinja_node *node,
                                  struct jinja_arguments *arguments) {
    size_t count = (size_t)node->item_count;
    void *values = NULL;
    void *names = NULL;
    RETURN_IF_ERROR(
        jinja_memory_take_zeroed(&run->memory, count, sizeof(struct jinja_value), &values));
    RETURN_IF_ERROR(
        jinja_memory_take_zeroed(&run->memory, count, sizeof(struct jinja_string), &names));
    *arguments = (struct jinja_arguments){values, names, (int64_t)count};
    int64_t i = 0;
    for (const struct jinja_node *item = node->items; item != NULL; item = item->next, i++) {
        bool named = item->kind == JINJA_NODE_KEYWORD;
        if (named)
            arguments->names[i] = item->text;
        RETURN_IF_ERROR(jinja_eval(run, named ? item->a : item, &arguments->values[i]));
    }
    return STATUS_OK;
}

static enum status eval_call(struct jinja_run *run, const struct jinja_node *node,
                             struct jinja_value *out) {
    struct jinja_value callee;
    struct jinja_arguments arguments;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &callee));
    RETURN_IF_ERROR(eval_arguments(run, node, &arguments));
    return jinja_call_value(run, node->line, &callee, &arguments, out);
}

/* Filters and tests. */
static enum status eval_builtin(struct jinja_run *run, const struct jinja_node *node,
                                struct jinja_value *out) {
    struct jinja_value subject;
    struct jinja_arguments arguments;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &subject));
    RETURN_IF_ERROR(eval_arguments(run, node, &arguments));
    return jinja_call_builtin(run, node->line, node->builtin, &subject, &arguments, out);
}

static enum status eval_ternary(struct jinja_run *run, const struct jinja_node *node,
                                struct jinja_value *out) {
    struct jinja_value condition;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &condition));
    if (jinja_value_truth(&condition))
        return jinja_eval(run, node->b, out);
    if (node->c != NULL)
        return jinja_eval(run, node->c, out);
    *out = jinja_value_undefined(JINJA_STRING("an if without else"));
    return STATUS_OK;
}

static enum status eval_and(struct jinja_run *run, const struct jinja_node *node,
                            struct jinja_value *out) {
    RETURN_IF_ERROR(jinja_eval(run, node->a, out));
    return jinja_value_truth(out) ? jinja_eval(run, node->b, out) : STATUS_OK;
}

static enum status eval_or(struct jinja_run *run, const struct jinja_node *node,
                           struct jinja_value *out) {
    RETURN_IF_ERROR(jinja_eval(run, node->a, out));
    return jinja_value_truth(out) ? STATUS_OK : jinja_eval(run, node->b, out);
}

static enum status eval_not(struct jinja_run *run, const struct jinja_node *node,
                            struct jinja_value *out) {
    RETURN_IF_ERROR(jinja_eval(run, node->a, out));
    *out = jinja_value_bool(!jinja_value_truth(out));
    return STATUS_OK;
}

static enum status eval_sign(struct jinja_run *run, const struct jinja_node *node,
                             struct jinja_value *out) {
    struct jinja_value value;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &value));
    return jinja_operate_sign(run, node->line, node->kind == JINJA_NODE_NEGATE, &value, out);
}

static enum status eval_binary(struct jinja_run *run, const struct jinja_node *node,
                               struct jinja_value *out) {
    struct jinja_value a;
    struct jinja_value b;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &a));
    RETURN_IF_ERROR(jinja_eval(run, node->b, &b));
    return jinja_operate_binary(run, node->line, node->operation, &a, &b, out);
}

static enum status eval_concat(struct jinja_run *run, const struct jinja_node *node,
                               struct jinja_value *out) {
    struct jinja_string joined = {"", 0};
    for (const struct jinja_node *item = node->items; item != NULL; item = item->next) {
        struct jinja_value value;
        struct jinja_string text;
        RETURN_IF_ERROR(jinja_eval(run, item, &value));
        RETURN_IF_ERROR(jinja_text_of(run, item->line, &value, &text));
        RETURN_IF_ERROR(jinja_run_spend(run, node->line, joined.length + text.length));
        RETURN_IF_ERROR(jinja_memory_join(&run->memory, joined, text, &joined));
    }
    *out = jinja_value_string(joined);
    return STATUS_OK;
}

/* a < b < c: each neighbour, up to the first that does not hold. */
static enum status eval_compare(struct jinja_run *run, const struct jinja_node *node,
                                struct jinja_value *out) {
    struct jinja_value left;
    bool holds = true;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &left));
    for (const struct jinja_node *item = node->items; item != NULL && holds; item = item->next) {
        struct jinja_value right;
        RETURN_IF_ERROR(jinja_eval(run, item->a, &right));
        RETURN_IF_ERROR(
            jinja_operate_compare(run, node->line, item->operation, &left, &right, &holds));
        left = right;
    }
    *out = jinja_value_bool(holds);
    return STATUS_OK;
}

static enum status eval_sequence(struct jinja_run *run, const struct jinja_node *node,
                                 struct jinja_value *out) {
    struct jinja_value list;
    int64_t i = 0;
    RETURN_IF_ERROR(jinja_value_list(
        &run->memory, node->item_count,
        node->kind == JINJA_NODE_TUPLE ? JINJA_FLAVOUR_TUPLE : JINJA_FLAVOUR_LIST, &list));
    for (const struct jinja_node *item = node->items; item != NULL; item = item->next)
        RETURN_IF_ERROR(jinja_eval(run, item, &list.as.list->items[i++]));
    *out = list;
    return STATUS_OK;
}

static enum status eval_dict(struct jinja_run *run, const struct jinja_node *node,
                             struct jinja_value *out) {
    struct jinja_value dict;
    RETURN_IF_ERROR(jinja_value_dict(&run->memory, node->item_count, &dict));
    for (const struct jinja_node *pair = node->items; pair != NULL; pair = pair->next) {
        struct jinja_value key;
        struct jinja_value value;
        RETURN_IF_ERROR(jinja_eval(run, pair->a, &key));
        RETURN_IF_ERROR(jinja_eval(run, pair->b, &value));
        if (key.kind != JINJA_STRING_VALUE)
            return jinja_run_fail(run, pair->line, STATUS_UNSUPPORTED,
                                  "a dict's key that is a %s is not supported",
                                  jinja_value_type(&key));
        RETURN_IF_ERROR(jinja_run_spend(run, pair->line, (size_t)dict.as.dict->count * 16));
        RETURN_IF_ERROR(jinja_value_set(&run->memory, dict.as.dict, key.as.string, value));
    }
    *out = dict;
    return STATUS_OK;
}

enum status jinja_eval(struct jinja_run *run, const struct jinja_node *node,
                       struct jinja_value *out) {
    static enum status (*const evals[JINJA_NODE_KIND_COUNT])(
        struct jinja_run * run, const struct jinja_node *node,
        struct jinja_value *out) = {[JINJA_NODE_LITERAL] = eval_literal,
                                    [JINJA_NODE_NAME] = eval_name,
                                    [JINJA_NODE_ATTRIBUTE] = eval_attribute,
                                    [JINJA_NODE_ITEM] = eval_item,
                                    [JINJA_NODE_SLICE] = eval_slice,
                                    [JINJA_NODE_CALL] = eval_call,
                                    [JINJA_NODE_FILTER] = eval_builtin,
                                    [JINJA_NODE_TEST] = eval_builtin,
                                    [JINJA_NODE_TERNARY] = eval_ternary,
                                    [JINJA_NODE_AND] = eval_and,
                                    [JINJA_NODE_OR] = eval_or,
                                    [JINJA_NODE_NOT] = eval_not,
                                    [JINJA_NODE_NEGATE] = eval_sign,
                                    [JINJA_NODE_POSITIVE] = eval_sign,
                                    [JINJA_NODE_BINARY] = eval_binary,
                                    [JINJA_NODE_CONCAT] = eval_concat,
                                    [JINJA_NODE_COMPARE] = eval_compare,
                                    [JINJA_NODE_LIST] = eval_sequence,
                                    [JINJA_NODE_TUPLE] = eval_sequence,
                                    [JINJA_NODE_DICT] = eval_dict};
    RETURN_IF_ERROR(jinja_run_enter(run, node->line));
    RETURN_IF_ERROR(evals[node->kind](run, node, out));
    run->depth--;
    return STATUS_OK;
}
