/* Runs a template's statements. Behind the parser; expressions are jinja_eval's. Scopes as in
 * Jinja2: each turn of a loop, each macro and each set block has its own, `if` has none, and a name
 * that is set stays where it was set. */
#include "runtime/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>

#include "kernels/base/log.h"
#include "runtime/jinja_access.h"
#include "runtime/jinja_eval.h"
#include "runtime/jinja_string.h"
#include "runtime/jinja_text.h"

#define DEPTH_MAX 600
#define STEP_BYTES 256 /* bytes copied or compared that count as one step */
#define TEXT_FACTOR 8  /* all text made, in outputs */

enum status jinja_run_fail(const struct jinja_run *run, int32_t line, enum status status,
                           const char *format, ...) {
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    LOG_ERROR("%s: line %d: %s", run->memory.origin, line, text);
    return status;
}

enum status jinja_run_spend(struct jinja_run *run, int32_t line, size_t bytes) {
    size_t steps = 1 + bytes / STEP_BYTES;
    if (run->steps_left < 0 || steps > (size_t)run->steps_left)
        return jinja_run_fail(run, line, STATUS_LIMIT, "the template takes more steps than it may");
    run->steps_left -= (int64_t)steps;
    return STATUS_OK;
}

enum status jinja_run_enter(struct jinja_run *run, int32_t line) {
    RETURN_IF_ERROR(jinja_run_spend(run, line, 0));
    if (run->depth >= DEPTH_MAX)
        return jinja_run_fail(run, line, STATUS_LIMIT, "calls within calls, too deep");
    run->depth++;
    return STATUS_OK;
}

enum status jinja_run_append(struct jinja_run *run, int32_t line, struct text_buffer *buffer,
                             struct jinja_string text) {
    if (text.length > run->output_bytes_max - buffer->length || text.length > run->text_bytes_left)
        return jinja_run_fail(run, line, STATUS_LIMIT, "the text is longer than %zu bytes",
                              run->output_bytes_max);
    run->text_bytes_left -= text.length;
    return text_buffer_append(buffer, text.text, text.length);
}

static enum status run_body(struct jinja_run *run, const struct jinja_node *body);

enum status jinja_run_capture(struct jinja_run *run, const struct jinja_node *body, int32_t line,
                              struct jinja_string *text) {
    struct text_buffer captured = {0};
    struct text_buffer *outer = run->out;
    run->out = &captured;
    enum status status = jinja_run_enter(run, line);
    if (status == STATUS_OK)
        status = run_body(run, body);
    if (status == STATUS_OK)
        status = jinja_memory_copy(&run->memory, captured.data, captured.length, text);
    run->depth--;
    run->out = outer;
    text_buffer_deinit(&captured);
    return status;
}

enum status jinja_run_scope(struct jinja_run *run, struct jinja_scope *parent,
                            struct jinja_scope **scope) {
    void *bytes = NULL;
    RETURN_IF_ERROR(jinja_memory_take_zeroed(&run->memory, 1, sizeof **scope, &bytes));
    *scope = bytes;
    (*scope)->parent = parent;
    return STATUS_OK;
}

enum status jinja_run_note_read(struct jinja_run *run, int32_t line, struct jinja_string name) {
    bool inner = false;
    for (struct jinja_scope *scope = run->scope; scope->parent != NULL; scope = scope->parent) {
        RETURN_IF_ERROR(jinja_run_spend(run, line, (size_t)scope->reads.count * 8));
        if (!inner || jinja_value_get(&scope->reads, name) == NULL)
            RETURN_IF_ERROR(
                jinja_value_set(&run->memory, &scope->reads, name, jinja_value_bool(!inner)));
        inner = true;
    }
    return STATUS_OK;
}

/* Whether a scope within this one has read the name from outside, and neither this scope nor one
 * around it has a claim to it from before. */
static bool was_read_through(const struct jinja_scope *scope, struct jinja_string name) {
    const struct jinja_value *read = jinja_value_get(&scope->reads, name);
    if (read == NULL || read->as.boolean || jinja_value_get(&scope->variables, name) != NULL)
        return false;
    for (scope = scope->parent; scope != NULL && scope->parent != NULL; scope = scope->parent) {
        read = jinja_value_get(&scope->reads, name);
        if (jinja_value_get(&scope->variables, name) != NULL || (read != NULL && read->as.boolean))
            return false;
    }
    return true;
}

enum status jinja_run_set(struct jinja_run *run, int32_t line, struct jinja_string name,
                          struct jinja_value value) {
    struct jinja_dict *variables = &run->scope->variables;
    if (run->scope->reads.count > 0 && was_read_through(run->scope, name))
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED,
                              "setting '%.*s' after a loop or macro has read it is not supported",
                              (int)(name.length < 80 ? name.length : 80), name.text);
    RETURN_IF_ERROR(jinja_run_spend(run, line, (size_t)variables->count * 16));
    return jinja_value_set(&run->memory, variables, name, value);
}

/* ns.name = value. */
static enum status assign_attribute(struct jinja_run *run, const struct jinja_node *target,
                                    struct jinja_value value) {
    struct jinja_value space;
    RETURN_IF_ERROR(jinja_eval(run, target->a, &space));
    if (space.kind != JINJA_NAMESPACE)
        return jinja_run_fail(run, target->line, STATUS_BAD_REQUEST,
                              "an attribute of a %s cannot be set, of a namespace it can",
                              jinja_value_type(&space));
    RETURN_IF_ERROR(jinja_run_spend(run, target->line, (size_t)space.as.dict->count * 16));
    return jinja_value_set(&run->memory, space.as.dict, target->text, value);
}

static enum status assign_part(struct jinja_run *run, const struct jinja_node *target,
                               struct jinja_value value) {
    if (target->kind == JINJA_NODE_ATTRIBUTE)
        return assign_attribute(run, target, value);
    return jinja_run_set(run, target->line, target->text, value);
}

static enum status assign(struct jinja_run *run, const struct jinja_node *target,
                          struct jinja_value value) {
    if (target->kind != JINJA_NODE_TUPLE)
        return assign_part(run, target, value);
    struct jinja_list *list = NULL;
    RETURN_IF_ERROR(jinja_access_items(run, target->line, &value, &list));
    if (list->count != target->item_count)
        return jinja_run_fail(run, target->line, STATUS_BAD_REQUEST,
                              "%d values were expected to unpack, got %lld", target->item_count,
                              (long long)list->count);
    int64_t i = 0;
    for (const struct jinja_node *part = target->items; part != NULL; part = part->next)
        RETURN_IF_ERROR(assign_part(run, part, list->items[i++]));
    return STATUS_OK;
}

static enum status run_text(struct jinja_run *run, const struct jinja_node *node) {
    return jinja_run_append(run, node->line, run->out, node->text);
}

static enum status run_print(struct jinja_run *run, const struct jinja_node *node) {
    struct jinja_value value;
    RETURN_IF_ERROR(jinja_eval(run, node->a, &value));
    return jinja_text_append(run, node->line, &value, run->out);
}

static enum status run_if(struct jinja_run *run, const struct jinja_node *node) {
    for (const struct jinja_node *branch = node->items; branch != NULL; branch = branch->next) {
        struct jinja_value condition = jinja_value_bool(true);
        if (branch->a != NULL)
            RETURN_IF_ERROR(jinja_eval(run, branch->a, &condition));
        if (jinja_value_truth(&condition))
            return run_body(run, branch->items);
    }
    return STATUS_OK;
}

static enum status passes(struct jinja_run *run, const struct jinja_loop *loop,
                          struct jinja_value item, bool *does) {
    struct jinja_scope *outer = run->scope;
    struct jinja_value verdict;
    RETURN_IF_ERROR(jinja_run_scope(run, loop->scope, &run->scope));
    RETURN_IF_ERROR(assign(run, loop->node->a, item));
    RETURN_IF_ERROR(jinja_eval(run, loop->node->c, &verdict));
    run->scope = outer;
    *does = jinja_value_truth(&verdict);
    return STATUS_OK;
}

enum status jinja_run_loop_has(struct jinja_run *run, struct jinja_loop *loop, int64_t index,
                               bool *has) {
    while (loop->passed_count <= index && loop->source_next < loop->source->count) {
        struct jinja_value item = loop->source->items[loop->source_next++];
        bool does = true;
        RETURN_IF_ERROR(jinja_run_spend(run, loop->node->line, 0));
        if (loop->node->c != NULL)
            RETURN_IF_ERROR(passes(run, loop, item, &does));
        if (does)
            loop->passed[loop->passed_count++] = item;
    }
    *has = index < loop->passed_count;
    return STATUS_OK;
}

/* One turn with the item at loop->index0. */
static enum status run_turn(struct jinja_run *run, struct jinja_loop *loop) {
    RETURN_IF_ERROR(jinja_run_scope(run, loop->scope, &run->scope));
    RETURN_IF_ERROR(jinja_run_set(run, loop->node->line, JINJA_STRING("loop"),
                                  (struct jinja_value){.kind = JINJA_LOOP, .as.loop = loop}));
    RETURN_IF_ERROR(assign(run, loop->node->a, loop->passed[loop->index0]));
    return run_body(run, loop->node->items);
}

static enum status start_loop(struct jinja_run *run, const struct jinja_node *node,
                              struct jinja_loop **loop) {
    void *bytes = NULL;
    struct jinja_value sequence;
    RETURN_IF_ERROR(jinja_eval(run, node->b, &sequence));
    RETURN_IF_ERROR(jinja_memory_take_zeroed(&run->memory, 1, sizeof **loop, &bytes));
    *loop = bytes;
    (*loop)->node = node;
    (*loop)->scope = run->scope;
    RETURN_IF_ERROR(jinja_access_items(run, node->line, &sequence, &(*loop)->source));
    RETURN_IF_ERROR(jinja_memory_take_zeroed(&run->memory, (size_t)(*loop)->source->count,
                                             sizeof *(*loop)->passed, &bytes));
    (*loop)->passed = bytes;
    return STATUS_OK;
}

/* The else of a loop runs unless a turn came to its end: after turns that all broke off or went on
 * early it runs too, as in Jinja2. */
static enum status run_for(struct jinja_run *run, const struct jinja_node *node) {
    struct jinja_loop *loop = NULL;
    struct jinja_scope *outer = run->scope;
    enum jinja_flow flow = JINJA_FLOW_ON;
    bool has = false;
    bool ended = false;
    RETURN_IF_ERROR(start_loop(run, node, &loop));
    for (; flow != JINJA_FLOW_BREAK; loop->index0++) {
        RETURN_IF_ERROR(jinja_run_loop_has(run, loop, loop->index0, &has));
        if (!has)
            break;
        RETURN_IF_ERROR(run_turn(run, loop));
        run->scope = outer;
        flow = run->flow;
        run->flow = JINJA_FLOW_ON;
        ended = ended || flow == JINJA_FLOW_ON;
    }
    if (ended || node->others == NULL)
        return STATUS_OK;
    RETURN_IF_ERROR(jinja_run_scope(run, outer, &run->scope));
    RETURN_IF_ERROR(run_body(run, node->others));
    run->scope = outer;
    return STATUS_OK;
}

static enum status run_set(struct jinja_run *run, const struct jinja_node *node) {
    struct jinja_value value;
    RETURN_IF_ERROR(jinja_eval(run, node->b, &value));
    return assign(run, node->a, value);
}

static enum status run_set_block(struct jinja_run *run, const struct jinja_node *node) {
    struct jinja_string text;
    struct jinja_scope *outer = run->scope;
    RETURN_IF_ERROR(jinja_run_scope(run, outer, &run->scope));
    RETURN_IF_ERROR(jinja_run_capture(run, node->items, node->line, &text));
    run->scope = outer;
    if (run->flow != JINJA_FLOW_ON)
        return STATUS_OK; /* a break leaves the block before it sets anything */
    return assign(run, node->a, jinja_value_string(text));
}

static enum status run_macro(struct jinja_run *run, const struct jinja_node *node) {
    void *bytes = NULL;
    RETURN_IF_ERROR(jinja_memory_take(&run->memory, sizeof(struct jinja_macro), &bytes));
    struct jinja_macro *macro = bytes;
    *macro = (struct jinja_macro){.node = node, .scope = run->scope};
    return jinja_run_set(run, node->line, node->text,
                         (struct jinja_value){.kind = JINJA_MACRO, .as.macro = macro});
}

static enum status run_break(struct jinja_run *run, const struct jinja_node *node) {
    (void)node;
    run->flow = JINJA_FLOW_BREAK;
    return STATUS_OK;
}

static enum status run_continue(struct jinja_run *run, const struct jinja_node *node) {
    (void)node;
    run->flow = JINJA_FLOW_CONTINUE;
    return STATUS_OK;
}

static enum status run_generation(struct jinja_run *run, const struct jinja_node *node) {
    struct jinja_scope *outer = run->scope;
    RETURN_IF_ERROR(jinja_run_scope(run, outer, &run->scope));
    RETURN_IF_ERROR(run_body(run, node->items));
    run->scope = outer;
    return STATUS_OK;
}

static enum status run_statement(struct jinja_run *run, const struct jinja_node *node) {
    static enum status (*const runs[])(struct jinja_run * run, const struct jinja_node *node) = {
        [JINJA_NODE_TEXT] = run_text,
        [JINJA_NODE_PRINT] = run_print,
        [JINJA_NODE_IF] = run_if,
        [JINJA_NODE_FOR] = run_for,
        [JINJA_NODE_SET] = run_set,
        [JINJA_NODE_SET_BLOCK] = run_set_block,
        [JINJA_NODE_MACRO] = run_macro,
        [JINJA_NODE_BREAK] = run_break,
        [JINJA_NODE_CONTINUE] = run_continue,
        [JINJA_NODE_GENERATION] = run_generation};
    RETURN_IF_ERROR(jinja_run_enter(run, node->line));
    RETURN_IF_ERROR(runs[node->kind](run, node));
    run->depth--;
    return STATUS_OK;
}

static enum status run_body(struct jinja_run *run, const struct jinja_node *body) {
    for (const struct jinja_node *node = body; node != NULL; node = node->next) {
        RETURN_IF_ERROR(run_statement(run, node));
        if (run->flow != JINJA_FLOW_ON)
            return STATUS_OK;
    }
    return STATUS_OK;
}

enum status jinja_run_program(const struct jinja_program *program, struct jinja_memory *memory,
                              const struct jinja_dict *variables, const struct jinja_bounds *bounds,
                              int64_t now_s, struct text_buffer *out) {
    size_t text_bytes = bounds->output_bytes <= SIZE_MAX / TEXT_FACTOR
                            ? bounds->output_bytes * TEXT_FACTOR
                            : SIZE_MAX;
    struct jinja_scope context = {.parent = NULL, .variables = *variables};
    struct jinja_scope top = {.parent = &context};
    struct text_buffer text = {0};
    struct jinja_run run = {.memory = *memory,
                            .out = &text,
                            .output_bytes_max = bounds->output_bytes,
                            .text_bytes_left = text_bytes,
                            .steps_left = bounds->steps,
                            .scope = &top,
                            .now_s = now_s};
    enum status status = run_body(&run, program->body);
    if (status == STATUS_OK)
        status = text_buffer_append(out, text.data, text.length);
    text_buffer_deinit(&text);
    *memory = run.memory;
    return status;
}
