/* The parser's half for expressions. The grammar and its precedences are Jinja2's, function by
 * function, oddities included: what parses here parses there to the same tree. */
#include "runtime/jinja_expression.h"

#include <stdio.h>

#include "kernels/base/log.h"
#include "runtime/jinja_filter.h"
#include "runtime/jinja_string.h"
#include "runtime/jinja_verdict.h"

#define CALLS_MAX 300 /* of the parser's functions within each other */

enum status jinja_expression_fail(const struct jinja_parser *parser, enum status status,
                                  const char *what, const struct jinja_string *name) {
    const char *origin = parser->program->memory.origin;
    int32_t line = jinja_expression_token(parser)->line;
    if (name == NULL)
        LOG_ERROR("%s: line %d: %s", origin, line, what);
    else
        LOG_ERROR("%s: line %d: %s '%.*s'", origin, line, what,
                  (int)(name->length < 80 ? name->length : 80), name->text);
    return status;
}

const struct jinja_token *jinja_expression_token(const struct jinja_parser *parser) {
    return &parser->tokens[parser->at];
}

bool jinja_expression_at(const struct jinja_parser *parser, const char *operator_text) {
    const struct jinja_token *token = jinja_expression_token(parser);
    return token->kind == JINJA_TOKEN_OPERATOR && jinja_string_is(token->text, operator_text);
}

bool jinja_expression_at_name(const struct jinja_parser *parser, const char *name) {
    const struct jinja_token *token = jinja_expression_token(parser);
    return token->kind == JINJA_TOKEN_NAME && jinja_string_is(token->text, name);
}

bool jinja_expression_skip(struct jinja_parser *parser, const char *operator_text) {
    bool is = jinja_expression_at(parser, operator_text);
    parser->at += is;
    return is;
}

bool jinja_expression_skip_name(struct jinja_parser *parser, const char *name) {
    bool is = jinja_expression_at_name(parser, name);
    parser->at += is;
    return is;
}

static enum status fail_here(const struct jinja_parser *parser, const char *expected) {
    const struct jinja_token *token = jinja_expression_token(parser);
    char what[100];
    bool named = token->text.length > 0 && token->kind != JINJA_TOKEN_TEXT;
    snprintf(what, sizeof what, "expected %s, got%s", expected, named ? "" : " the end of the tag");
    return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER, what, named ? &token->text : NULL);
}

enum status jinja_expression_expect(struct jinja_parser *parser, const char *operator_text) {
    if (jinja_expression_skip(parser, operator_text))
        return STATUS_OK;
    return fail_here(parser, operator_text);
}

enum status jinja_expression_node(struct jinja_parser *parser, enum jinja_node_kind kind,
                                  struct jinja_node **node) {
    void *bytes = NULL;
    RETURN_IF_ERROR(jinja_memory_take_zeroed(&parser->program->memory, 1, sizeof **node, &bytes));
    *node = bytes;
    (*node)->kind = kind;
    (*node)->line = jinja_expression_token(parser)->line;
    (*node)->height = 1;
    return STATUS_OK;
}

static int32_t height_of(const struct jinja_node *node) {
    int32_t height = 0;
    for (; node != NULL; node = node->next)
        if (node->height > height)
            height = node->height;
    return height;
}

enum status jinja_expression_finish(struct jinja_parser *parser, struct jinja_node *node) {
    const struct jinja_node *children[] = {node->a, node->b,     node->c,
                                           node->d, node->items, node->others};
    int32_t height = 0;
    for (size_t i = 0; i < sizeof children / sizeof children[0]; i++) {
        int32_t child = height_of(children[i]);
        if (child > height)
            height = child;
    }
    node->height = height + 1;
    node->item_count = 0;
    for (const struct jinja_node *item = node->items; item != NULL; item = item->next)
        node->item_count++;
    if (node->height > JINJA_HEIGHT_MAX)
        return jinja_expression_fail(parser, STATUS_LIMIT, "the template is nested too deep", NULL);
    return STATUS_OK;
}

void jinja_expression_append(struct jinja_node **first, struct jinja_node **tail,
                             struct jinja_node *node) {
    if (*tail == NULL)
        *first = node;
    else
        (*tail)->next = node;
    *tail = node;
}

enum status jinja_expression_enter(struct jinja_parser *parser) {
    if (parser->depth >= CALLS_MAX)
        return jinja_expression_fail(parser, STATUS_LIMIT, "the template is nested too deep", NULL);
    parser->depth++;
    return STATUS_OK;
}

static enum status parse_unary(struct jinja_parser *parser, bool filters, struct jinja_node **node);

/* A node with two children. */
static enum status make_pair(struct jinja_parser *parser, enum jinja_node_kind kind,
                             struct jinja_node *a, struct jinja_node *b, struct jinja_node **node) {
    struct jinja_node *pair = NULL;
    RETURN_IF_ERROR(jinja_expression_node(parser, kind, &pair));
    pair->a = a;
    pair->b = b;
    pair->line = a->line;
    *node = pair;
    return jinja_expression_finish(parser, pair);
}

static enum status parse_product(struct jinja_parser *parser, struct jinja_node **node) {
    static const struct {
        const char *text;
        enum jinja_operation operation;
    } operators[] = {{"*", JINJA_MULTIPLY},
                     {"/", JINJA_DIVIDE},
                     {"//", JINJA_FLOOR_DIVIDE},
                     {"%", JINJA_MODULO}};
    RETURN_IF_ERROR(parse_unary(parser, true, node));
    for (size_t i = 0; i < sizeof operators / sizeof operators[0];) {
        if (!jinja_expression_skip(parser, operators[i].text)) {
            i++;
            continue;
        }
        struct jinja_node *right = NULL;
        RETURN_IF_ERROR(parse_unary(parser, true, &right));
        RETURN_IF_ERROR(make_pair(parser, JINJA_NODE_BINARY, *node, right, node));
        (*node)->operation = operators[i].operation;
        i = 0;
    }
    if (jinja_expression_at(parser, "**"))
        return jinja_expression_fail(parser, STATUS_UNSUPPORTED,
                                     "the operator '**' is not supported", NULL);
    return STATUS_OK;
}

static enum status parse_concat(struct jinja_parser *parser, struct jinja_node **node) {
    RETURN_IF_ERROR(parse_product(parser, node));
    if (!jinja_expression_at(parser, "~"))
        return STATUS_OK;
    struct jinja_node *concat = NULL;
    struct jinja_node *tail = NULL;
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_CONCAT, &concat));
    jinja_expression_append(&concat->items, &tail, *node);
    while (jinja_expression_skip(parser, "~")) {
        struct jinja_node *item = NULL;
        RETURN_IF_ERROR(parse_product(parser, &item));
        jinja_expression_append(&concat->items, &tail, item);
    }
    *node = concat;
    return jinja_expression_finish(parser, concat);
}

static enum status parse_sum(struct jinja_parser *parser, struct jinja_node **node) {
    RETURN_IF_ERROR(parse_concat(parser, node));
    for (;;) {
        bool adds = jinja_expression_skip(parser, "+");
        if (!adds && !jinja_expression_skip(parser, "-"))
            return STATUS_OK;
        struct jinja_node *right = NULL;
        RETURN_IF_ERROR(parse_concat(parser, &right));
        RETURN_IF_ERROR(make_pair(parser, JINJA_NODE_BINARY, *node, right, node));
        (*node)->operation = adds ? JINJA_ADD : JINJA_SUBTRACT;
    }
}

static bool skip_not_in(struct jinja_parser *parser) {
    if (!jinja_expression_at_name(parser, "not"))
        return false;
    parser->at++;
    if (jinja_expression_skip_name(parser, "in"))
        return true;
    parser->at--;
    return false;
}

static bool skip_comparison(struct jinja_parser *parser, enum jinja_operation *operation) {
    static const struct {
        const char *text;
        enum jinja_operation operation;
    } operators[] = {{"==", JINJA_EQUAL},  {"!=", JINJA_NOT_EQUAL},
                     {"<", JINJA_LESS},    {"<=", JINJA_LESS_EQUAL},
                     {">", JINJA_GREATER}, {">=", JINJA_GREATER_EQUAL}};
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (jinja_expression_skip(parser, operators[i].text)) {
            *operation = operators[i].operation;
            return true;
        }
    }
    *operation = JINJA_IN;
    if (jinja_expression_skip_name(parser, "in"))
        return true;
    *operation = JINJA_NOT_IN;
    return skip_not_in(parser);
}

static enum status parse_compare(struct jinja_parser *parser, struct jinja_node **node) {
    RETURN_IF_ERROR(parse_sum(parser, node));
    struct jinja_node *compare = NULL;
    struct jinja_node *tail = NULL;
    enum jinja_operation operation;
    while (skip_comparison(parser, &operation)) {
        if (compare == NULL) {
            RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_COMPARE, &compare));
            compare->a = *node;
        }
        struct jinja_node *compared = NULL;
        RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_COMPARED, &compared));
        compared->operation = operation;
        RETURN_IF_ERROR(parse_sum(parser, &compared->a));
        RETURN_IF_ERROR(jinja_expression_finish(parser, compared));
        jinja_expression_append(&compare->items, &tail, compared);
    }
    if (compare == NULL)
        return STATUS_OK;
    *node = compare;
    return jinja_expression_finish(parser, compare);
}

static enum status parse_not(struct jinja_parser *parser, struct jinja_node **node) {
    if (!jinja_expression_at_name(parser, "not"))
        return parse_compare(parser, node);
    RETURN_IF_ERROR(jinja_expression_enter(parser));
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_NOT, node));
    parser->at++;
    RETURN_IF_ERROR(parse_not(parser, &(*node)->a));
    parser->depth--;
    return jinja_expression_finish(parser, *node);
}

static enum status parse_and(struct jinja_parser *parser, struct jinja_node **node) {
    RETURN_IF_ERROR(parse_not(parser, node));
    while (jinja_expression_skip_name(parser, "and")) {
        struct jinja_node *right = NULL;
        RETURN_IF_ERROR(parse_not(parser, &right));
        RETURN_IF_ERROR(make_pair(parser, JINJA_NODE_AND, *node, right, node));
    }
    return STATUS_OK;
}

static enum status parse_or(struct jinja_parser *parser, struct jinja_node **node) {
    RETURN_IF_ERROR(parse_and(parser, node));
    while (jinja_expression_skip_name(parser, "or")) {
        struct jinja_node *right = NULL;
        RETURN_IF_ERROR(parse_and(parser, &right));
        RETURN_IF_ERROR(make_pair(parser, JINJA_NODE_OR, *node, right, node));
    }
    return STATUS_OK;
}

enum status jinja_expression_parse(struct jinja_parser *parser, bool ternary,
                                   struct jinja_node **node) {
    RETURN_IF_ERROR(jinja_expression_enter(parser));
    RETURN_IF_ERROR(parse_or(parser, node));
    while (ternary && jinja_expression_skip_name(parser, "if")) {
        struct jinja_node *choice = NULL;
        RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_TERNARY, &choice));
        choice->b = *node;
        RETURN_IF_ERROR(parse_or(parser, &choice->a));
        if (jinja_expression_skip_name(parser, "else"))
            RETURN_IF_ERROR(jinja_expression_parse(parser, true, &choice->c));
        *node = choice;
        RETURN_IF_ERROR(jinja_expression_finish(parser, choice));
    }
    parser->depth--;
    return STATUS_OK;
}

/* Whether a tuple ends here: at the end of the tag, a closing parenthesis, or `in`. */
static bool at_tuple_end(const struct jinja_parser *parser) {
    enum jinja_token_kind kind = jinja_expression_token(parser)->kind;
    return kind == JINJA_TOKEN_BLOCK_END || kind == JINJA_TOKEN_PRINT_END ||
           jinja_expression_at(parser, ")");
}

enum status jinja_expression_parse_tuple(struct jinja_parser *parser, bool ternary,
                                         struct jinja_node **node) {
    RETURN_IF_ERROR(jinja_expression_parse(parser, ternary, node));
    if (!jinja_expression_at(parser, ","))
        return STATUS_OK;
    struct jinja_node *tuple = NULL;
    struct jinja_node *tail = NULL;
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_TUPLE, &tuple));
    jinja_expression_append(&tuple->items, &tail, *node);
    while (jinja_expression_skip(parser, ",") && !at_tuple_end(parser)) {
        struct jinja_node *item = NULL;
        RETURN_IF_ERROR(jinja_expression_parse(parser, ternary, &item));
        jinja_expression_append(&tuple->items, &tail, item);
    }
    *node = tuple;
    return jinja_expression_finish(parser, tuple);
}

static enum status parse_literal(struct jinja_parser *parser, struct jinja_value value,
                                 struct jinja_node **node) {
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_LITERAL, node));
    (*node)->value = value;
    parser->at++;
    return STATUS_OK;
}

static enum status parse_name(struct jinja_parser *parser, struct jinja_node **node) {
    struct jinja_string name = jinja_expression_token(parser)->text;
    if (jinja_string_is(name, "true") || jinja_string_is(name, "True"))
        return parse_literal(parser, jinja_value_bool(true), node);
    if (jinja_string_is(name, "false") || jinja_string_is(name, "False"))
        return parse_literal(parser, jinja_value_bool(false), node);
    if (jinja_string_is(name, "none") || jinja_string_is(name, "None"))
        return parse_literal(parser, jinja_value_none(), node);
    if (jinja_string_is(name, "varargs") || jinja_string_is(name, "kwargs") ||
        jinja_string_is(name, "caller") || jinja_string_is(name, "self"))
        return jinja_expression_fail(parser, STATUS_UNSUPPORTED, "not supported: the variable",
                                     &name);
    if (jinja_string_is(name, "bos_token"))
        parser->program->mentions_bos_token = true;
    if (jinja_string_is(name, "eos_token"))
        parser->program->mentions_eos_token = true;
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_NAME, node));
    (*node)->text = name;
    parser->at++;
    return STATUS_OK;
}

/* Adjacent string literals are one. */
static enum status parse_strings(struct jinja_parser *parser, struct jinja_node **node) {
    struct jinja_string text = {"", 0};
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_LITERAL, node));
    while (jinja_expression_token(parser)->kind == JINJA_TOKEN_STRING) {
        RETURN_IF_ERROR(jinja_memory_join(&parser->program->memory, text,
                                          jinja_expression_token(parser)->text, &text));
        parser->at++;
    }
    (*node)->value = jinja_value_string(text);
    return STATUS_OK;
}

/* [a, b] and {a: b}; behind the opening bracket. */
static enum status parse_display(struct jinja_parser *parser, bool pairs,
                                 struct jinja_node **node) {
    const char *closing = pairs ? "}" : "]";
    struct jinja_node *tail = NULL;
    RETURN_IF_ERROR(jinja_expression_node(parser, pairs ? JINJA_NODE_DICT : JINJA_NODE_LIST, node));
    while (!jinja_expression_at(parser, closing)) {
        if (tail != NULL)
            RETURN_IF_ERROR(jinja_expression_expect(parser, ","));
        if (jinja_expression_at(parser, closing))
            break;
        struct jinja_node *item = NULL;
        RETURN_IF_ERROR(jinja_expression_parse(parser, true, &item));
        if (pairs) {
            struct jinja_node *value = NULL;
            RETURN_IF_ERROR(jinja_expression_expect(parser, ":"));
            RETURN_IF_ERROR(jinja_expression_parse(parser, true, &value));
            RETURN_IF_ERROR(make_pair(parser, JINJA_NODE_PAIR, item, value, &item));
        }
        jinja_expression_append(&(*node)->items, &tail, item);
    }
    RETURN_IF_ERROR(jinja_expression_expect(parser, closing));
    return jinja_expression_finish(parser, *node);
}

static enum status parse_primary(struct jinja_parser *parser, struct jinja_node **node) {
    const struct jinja_token *token = jinja_expression_token(parser);
    if (token->kind == JINJA_TOKEN_NAME)
        return parse_name(parser, node);
    if (token->kind == JINJA_TOKEN_STRING)
        return parse_strings(parser, node);
    if (token->kind == JINJA_TOKEN_INTEGER)
        return parse_literal(parser, jinja_value_int(token->integer), node);
    if (token->kind == JINJA_TOKEN_FLOAT)
        return parse_literal(parser, jinja_value_float(token->number), node);
    if (jinja_expression_skip(parser, "[") || jinja_expression_skip(parser, "{"))
        return parse_display(parser, token->text.text[0] == '{', node);
    if (!jinja_expression_skip(parser, "("))
        return fail_here(parser, "an expression");
    if (jinja_expression_skip(parser, ")"))
        return jinja_expression_node(parser, JINJA_NODE_TUPLE, node);
    RETURN_IF_ERROR(jinja_expression_parse_tuple(parser, true, node));
    return jinja_expression_expect(parser, ")");
}

/* The rest of a[...]; behind the bracket. */
static enum status parse_subscript(struct jinja_parser *parser, struct jinja_node **node) {
    struct jinja_node *item = NULL;
    struct jinja_node *parts[3] = {NULL, NULL, NULL};
    int colons = 0;
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_ITEM, &item));
    while (!jinja_expression_at(parser, "]")) {
        if (jinja_expression_skip(parser, ":")) {
            if (++colons > 2)
                return fail_here(parser, "]");
            continue;
        }
        if (jinja_expression_at(parser, ","))
            return jinja_expression_fail(parser, STATUS_UNSUPPORTED,
                                         "a subscript of several parts is not supported", NULL);
        if (parts[colons] != NULL)
            return fail_here(parser, "]");
        RETURN_IF_ERROR(jinja_expression_parse(parser, true, &parts[colons]));
    }
    if (colons == 0 && parts[0] == NULL)
        return fail_here(parser, "an expression");
    RETURN_IF_ERROR(jinja_expression_expect(parser, "]"));
    item->kind = colons == 0 ? JINJA_NODE_ITEM : JINJA_NODE_SLICE;
    item->a = *node;
    item->b = parts[0];
    item->c = parts[1];
    item->d = parts[2];
    *node = item;
    return jinja_expression_finish(parser, item);
}

/* The rest of a.name or a.0; behind the dot. */
static enum status parse_attribute(struct jinja_parser *parser, struct jinja_node **node) {
    const struct jinja_token *token = jinja_expression_token(parser);
    struct jinja_node *attribute = NULL;
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_ATTRIBUTE, &attribute));
    attribute->a = *node;
    if (token->kind == JINJA_TOKEN_INTEGER) {
        attribute->kind = JINJA_NODE_ITEM;
        RETURN_IF_ERROR(parse_literal(parser, jinja_value_int(token->integer), &attribute->b));
    } else if (token->kind == JINJA_TOKEN_NAME) {
        attribute->text = token->text;
        parser->at++;
    } else {
        return fail_here(parser, "a name");
    }
    *node = attribute;
    return jinja_expression_finish(parser, attribute);
}

/* One argument of a call. */
static enum status parse_argument(struct jinja_parser *parser, bool *named,
                                  struct jinja_node **node) {
    if (jinja_expression_at(parser, "*") || jinja_expression_at(parser, "**"))
        return jinja_expression_fail(parser, STATUS_UNSUPPORTED,
                                     "arguments by * or ** are not supported", NULL);
    const struct jinja_token *token = jinja_expression_token(parser);
    if (token->kind == JINJA_TOKEN_NAME && token[1].kind == JINJA_TOKEN_OPERATOR &&
        jinja_string_is(token[1].text, "=")) {
        RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_KEYWORD, node));
        (*node)->text = token->text;
        parser->at += 2;
        *named = true;
        RETURN_IF_ERROR(jinja_expression_parse(parser, true, &(*node)->a));
        return jinja_expression_finish(parser, *node);
    }
    if (*named)
        return fail_here(parser, "a named argument");
    return jinja_expression_parse(parser, true, node);
}

/* (a, b, c=d): the arguments become items of `node`. */
static enum status parse_arguments(struct jinja_parser *parser, struct jinja_node *node) {
    struct jinja_node *tail = NULL;
    bool named = false;
    RETURN_IF_ERROR(jinja_expression_expect(parser, "("));
    while (!jinja_expression_at(parser, ")")) {
        if (tail != NULL)
            RETURN_IF_ERROR(jinja_expression_expect(parser, ","));
        if (jinja_expression_at(parser, ")"))
            break;
        struct jinja_node *argument = NULL;
        RETURN_IF_ERROR(parse_argument(parser, &named, &argument));
        jinja_expression_append(&node->items, &tail, argument);
    }
    return jinja_expression_expect(parser, ")");
}

static enum status parse_call(struct jinja_parser *parser, struct jinja_node **node) {
    struct jinja_node *call = NULL;
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_CALL, &call));
    call->a = *node;
    RETURN_IF_ERROR(parse_arguments(parser, call));
    *node = call;
    return jinja_expression_finish(parser, call);
}

static enum status parse_postfix(struct jinja_parser *parser, struct jinja_node **node) {
    for (;;) {
        if (jinja_expression_skip(parser, "."))
            RETURN_IF_ERROR(parse_attribute(parser, node));
        else if (jinja_expression_skip(parser, "["))
            RETURN_IF_ERROR(parse_subscript(parser, node));
        else if (jinja_expression_at(parser, "("))
            RETURN_IF_ERROR(parse_call(parser, node));
        else
            return STATUS_OK;
    }
}

static enum status parse_filter(struct jinja_parser *parser, struct jinja_node **node) {
    struct jinja_node *filter = NULL;
    const struct jinja_token *token = jinja_expression_token(parser);
    if (token->kind != JINJA_TOKEN_NAME)
        return fail_here(parser, "the name of a filter");
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_FILTER, &filter));
    filter->a = *node;
    filter->text = token->text;
    filter->builtin = jinja_filter_find(token->text);
    if (filter->builtin == NULL)
        return jinja_expression_fail(parser, STATUS_UNSUPPORTED, "not supported: the filter",
                                     &token->text);
    parser->at++;
    if (jinja_expression_at(parser, "("))
        RETURN_IF_ERROR(parse_arguments(parser, filter));
    *node = filter;
    return jinja_expression_finish(parser, filter);
}

/* Whether a test's argument without parentheses follows ("is divisibleby 3"). */
static bool at_bare_argument(const struct jinja_parser *parser) {
    const struct jinja_token *token = jinja_expression_token(parser);
    if (token->kind == JINJA_TOKEN_NAME)
        return !jinja_expression_at_name(parser, "else") &&
               !jinja_expression_at_name(parser, "or") && !jinja_expression_at_name(parser, "and");
    return token->kind == JINJA_TOKEN_STRING || token->kind == JINJA_TOKEN_INTEGER ||
           token->kind == JINJA_TOKEN_FLOAT || jinja_expression_at(parser, "[") ||
           jinja_expression_at(parser, "{");
}

static enum status parse_bare_argument(struct jinja_parser *parser, struct jinja_node *test) {
    if (jinja_expression_at_name(parser, "is"))
        return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER, "tests cannot be chained by",
                                     &jinja_expression_token(parser)->text);
    RETURN_IF_ERROR(parse_primary(parser, &test->items));
    return parse_postfix(parser, &test->items);
}

/* Behind `is`. */
static enum status parse_test(struct jinja_parser *parser, struct jinja_node **node) {
    struct jinja_node *test = NULL;
    bool negated = jinja_expression_skip_name(parser, "not");
    const struct jinja_token *token = jinja_expression_token(parser);
    if (token->kind != JINJA_TOKEN_NAME)
        return fail_here(parser, "the name of a test");
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_TEST, &test));
    test->a = *node;
    test->text = token->text;
    test->builtin = jinja_verdict_find(token->text);
    if (test->builtin == NULL)
        return jinja_expression_fail(parser, STATUS_UNSUPPORTED, "not supported: the test",
                                     &token->text);
    parser->at++;
    if (jinja_expression_at(parser, "("))
        RETURN_IF_ERROR(parse_arguments(parser, test));
    else if (at_bare_argument(parser))
        RETURN_IF_ERROR(parse_bare_argument(parser, test));
    RETURN_IF_ERROR(jinja_expression_finish(parser, test));
    *node = test;
    if (!negated)
        return STATUS_OK;
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_NOT, node));
    (*node)->a = test;
    return jinja_expression_finish(parser, *node);
}

static enum status parse_filters(struct jinja_parser *parser, struct jinja_node **node) {
    for (;;) {
        if (jinja_expression_skip(parser, "|"))
            RETURN_IF_ERROR(parse_filter(parser, node));
        else if (jinja_expression_skip_name(parser, "is"))
            RETURN_IF_ERROR(parse_test(parser, node));
        else if (jinja_expression_at(parser, "("))
            RETURN_IF_ERROR(parse_call(parser, node));
        else
            return STATUS_OK;
    }
}

static enum status parse_signed(struct jinja_parser *parser, struct jinja_node **node) {
    RETURN_IF_ERROR(jinja_expression_enter(parser));
    bool negates = jinja_expression_at(parser, "-");
    RETURN_IF_ERROR(
        jinja_expression_node(parser, negates ? JINJA_NODE_NEGATE : JINJA_NODE_POSITIVE, node));
    parser->at++;
    RETURN_IF_ERROR(parse_unary(parser, false, &(*node)->a));
    parser->depth--;
    return jinja_expression_finish(parser, *node);
}

static enum status parse_unary(struct jinja_parser *parser, bool filters,
                               struct jinja_node **node) {
    if (jinja_expression_at(parser, "-") || jinja_expression_at(parser, "+"))
        RETURN_IF_ERROR(parse_signed(parser, node));
    else
        RETURN_IF_ERROR(parse_primary(parser, node));
    RETURN_IF_ERROR(parse_postfix(parser, node));
    return filters ? parse_filters(parser, node) : STATUS_OK;
}
