/* The parser's half for statements: {% if %}, {% for %}, {% set %}, {% macro %} and their like.
 * Between the lexer and the run. */
#include "runtime/jinja_parse.h"

#include <string.h>

#include "kernels/base/log.h"
#include "runtime/jinja_expression.h"
#include "runtime/jinja_string.h"

#define PROGRAM_BYTES_MAX ((size_t)256 << 20)

/* What a body ends at: one of up to three names. */
struct ends {
    const char *names[3];
};

static enum status parse_body(struct jinja_parser *parser, const struct ends *ends,
                              struct jinja_node **body);

/* parse_body inside a loop or, for what Jinja2 makes a function of its own, outside of all. */
static enum status parse_inner_body(struct jinja_parser *parser, bool in_loop,
                                    const struct ends *ends, struct jinja_node **body) {
    bool outer = parser->in_loop;
    parser->in_loop = in_loop;
    RETURN_IF_ERROR(parse_body(parser, ends, body));
    parser->in_loop = outer;
    return STATUS_OK;
}

static enum status expect_end(struct jinja_parser *parser) {
    const struct jinja_token *token = jinja_expression_token(parser);
    if (token->kind != JINJA_TOKEN_BLOCK_END)
        return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER, "expected %}, got",
                                     &token->text);
    parser->at++;
    return STATUS_OK;
}

static enum status parse_identifier(struct jinja_parser *parser, struct jinja_string *name) {
    const struct jinja_token *token = jinja_expression_token(parser);
    if (token->kind != JINJA_TOKEN_NAME)
        return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER, "expected a name, got",
                                     &token->text);
    *name = token->text;
    parser->at++;
    return STATUS_OK;
}

static bool is_reserved(struct jinja_string name) {
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (jinja_string_is(name, reserved[i]))
            return true;
    return false;
}

static enum status parse_target_name(struct jinja_parser *parser, struct jinja_node **target) {
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_NAME, target));
    RETURN_IF_ERROR(parse_identifier(parser, &(*target)->text));
    if (is_reserved((*target)->text))
        return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER,
                                     "cannot be assigned to:", &(*target)->text);
    return STATUS_OK;
}

/* One target: a name, or where `attributes` is allowed, namespace.name. */
static enum status parse_target_part(struct jinja_parser *parser, bool attributes,
                                     struct jinja_node **target) {
    RETURN_IF_ERROR(parse_target_name(parser, target));
    if (!attributes || !jinja_expression_skip(parser, "."))
        return STATUS_OK;
    struct jinja_node *attribute = NULL;
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_ATTRIBUTE, &attribute));
    RETURN_IF_ERROR(parse_identifier(parser, &attribute->text));
    attribute->a = *target;
    *target = attribute;
    return jinja_expression_finish(parser, attribute);
}

/* a, or a, b, or (a, b). */
static enum status parse_target(struct jinja_parser *parser, bool attributes,
                                struct jinja_node **target) {
    bool parentheses = jinja_expression_skip(parser, "(");
    RETURN_IF_ERROR(parse_target_part(parser, attributes, target));
    if (jinja_expression_at(parser, ",")) {
        struct jinja_node *tuple = NULL;
        struct jinja_node *tail = NULL;
        RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_TUPLE, &tuple));
        jinja_expression_append(&tuple->items, &tail, *target);
        while (jinja_expression_skip(parser, ",")) {
            struct jinja_node *part = NULL;
            if (jinja_expression_token(parser)->kind != JINJA_TOKEN_NAME ||
                jinja_expression_at_name(parser, "in"))
                break;
            RETURN_IF_ERROR(parse_target_part(parser, attributes, &part));
            jinja_expression_append(&tuple->items, &tail, part);
        }
        RETURN_IF_ERROR(jinja_expression_finish(parser, tuple));
        *target = tuple;
    }
    return parentheses ? jinja_expression_expect(parser, ")") : STATUS_OK;
}

/* Behind `if` or `elif`, up to endif. */
static enum status parse_if(struct jinja_parser *parser, struct jinja_node *node) {
    static const struct ends ends = {{"endif", "elif", "else"}};
    static const struct ends last = {{"endif", NULL, NULL}};
    struct jinja_node *tail = NULL;
    node->kind = JINJA_NODE_IF;
    bool conditional = true;
    for (;;) {
        struct jinja_node *branch = NULL;
        RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_BRANCH, &branch));
        if (conditional)
            RETURN_IF_ERROR(jinja_expression_parse_tuple(parser, false, &branch->a));
        RETURN_IF_ERROR(expect_end(parser));
        RETURN_IF_ERROR(parse_body(parser, conditional ? &ends : &last, &branch->items));
        RETURN_IF_ERROR(jinja_expression_finish(parser, branch));
        jinja_expression_append(&node->items, &tail, branch);
        if (jinja_expression_skip_name(parser, "endif"))
            return STATUS_OK;
        conditional = jinja_expression_skip_name(parser, "elif");
        if (!conditional)
            parser->at++; /* else */
    }
}

static enum status parse_for(struct jinja_parser *parser, struct jinja_node *node) {
    static const struct ends ends = {{"endfor", "else", NULL}};
    static const struct ends last = {{"endfor", NULL, NULL}};
    node->kind = JINJA_NODE_FOR;
    RETURN_IF_ERROR(parse_target(parser, false, &node->a));
    if (!jinja_expression_skip_name(parser, "in"))
        return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER, "expected 'in', got",
                                     &jinja_expression_token(parser)->text);
    RETURN_IF_ERROR(jinja_expression_parse_tuple(parser, false, &node->b));
    if (jinja_expression_skip_name(parser, "if"))
        RETURN_IF_ERROR(jinja_expression_parse(parser, true, &node->c));
    if (jinja_expression_at_name(parser, "recursive"))
        return jinja_expression_fail(parser, STATUS_UNSUPPORTED,
                                     "a recursive loop is not supported", NULL);
    RETURN_IF_ERROR(expect_end(parser));
    RETURN_IF_ERROR(parse_inner_body(parser, true, &ends, &node->items));
    if (jinja_expression_skip_name(parser, "else")) {
        RETURN_IF_ERROR(expect_end(parser));
        RETURN_IF_ERROR(parse_body(parser, &last, &node->others));
    }
    parser->at++; /* endfor */
    return STATUS_OK;
}

static enum status parse_set(struct jinja_parser *parser, struct jinja_node *node) {
    static const struct ends ends = {{"endset", NULL, NULL}};
    node->kind = JINJA_NODE_SET;
    RETURN_IF_ERROR(parse_target(parser, true, &node->a));
    if (jinja_expression_skip(parser, "="))
        return jinja_expression_parse_tuple(parser, true, &node->b);
    if (jinja_expression_at(parser, "|"))
        return jinja_expression_fail(parser, STATUS_UNSUPPORTED,
                                     "a filter on a set block is not supported", NULL);
    node->kind = JINJA_NODE_SET_BLOCK;
    RETURN_IF_ERROR(expect_end(parser));
    RETURN_IF_ERROR(parse_body(parser, &ends, &node->items));
    parser->at++; /* endset */
    return STATUS_OK;
}

static enum status parse_parameters(struct jinja_parser *parser, struct jinja_node *node) {
    struct jinja_node *tail = NULL;
    bool defaults = false;
    RETURN_IF_ERROR(jinja_expression_expect(parser, "("));
    while (!jinja_expression_at(parser, ")")) {
        if (tail != NULL)
            RETURN_IF_ERROR(jinja_expression_expect(parser, ","));
        struct jinja_node *parameter = NULL;
        RETURN_IF_ERROR(parse_target_name(parser, &parameter));
        parameter->kind = JINJA_NODE_PARAMETER;
        if (jinja_expression_skip(parser, "=")) {
            defaults = true;
            RETURN_IF_ERROR(jinja_expression_parse(parser, true, &parameter->a));
        } else if (defaults) {
            return jinja_expression_fail(
                parser, STATUS_BAD_TOKENIZER,
                "a parameter without a default behind one with:", &parameter->text);
        }
        RETURN_IF_ERROR(jinja_expression_finish(parser, parameter));
        jinja_expression_append(&node->others, &tail, parameter);
    }
    return jinja_expression_expect(parser, ")");
}

static enum status parse_macro(struct jinja_parser *parser, struct jinja_node *node) {
    static const struct ends ends = {{"endmacro", NULL, NULL}};
    node->kind = JINJA_NODE_MACRO;
    RETURN_IF_ERROR(parse_identifier(parser, &node->text));
    RETURN_IF_ERROR(parse_parameters(parser, node));
    RETURN_IF_ERROR(expect_end(parser));
    RETURN_IF_ERROR(parse_inner_body(parser, false, &ends, &node->items));
    parser->at++; /* endmacro */
    return STATUS_OK;
}

static enum status parse_generation(struct jinja_parser *parser, struct jinja_node *node) {
    static const struct ends ends = {{"endgeneration", NULL, NULL}};
    node->kind = JINJA_NODE_GENERATION;
    RETURN_IF_ERROR(expect_end(parser));
    RETURN_IF_ERROR(parse_inner_body(parser, false, &ends, &node->items));
    parser->at++; /* endgeneration */
    return STATUS_OK;
}

static enum status parse_jump(struct jinja_parser *parser, struct jinja_node *node) {
    if (!parser->in_loop)
        return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER,
                                     "break or continue outside of a loop", NULL);
    bool breaks = jinja_string_is(parser->tokens[parser->at - 1].text, "break");
    node->kind = breaks ? JINJA_NODE_BREAK : JINJA_NODE_CONTINUE;
    return STATUS_OK;
}

/* The statement whose name is at the parser; it ends behind its last %}. */
static enum status parse_statement(struct jinja_parser *parser, struct jinja_node **node) {
    static const struct {
        const char *name;
        enum status (*parse)(struct jinja_parser *parser, struct jinja_node *node);
    } statements[] = {{"if", parse_if},
                      {"for", parse_for},
                      {"set", parse_set},
                      {"macro", parse_macro},
                      {"generation", parse_generation},
                      {"break", parse_jump},
                      {"continue", parse_jump}};
    const struct jinja_token *token = jinja_expression_token(parser);
    if (token->kind != JINJA_TOKEN_NAME)
        return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER,
                                     "expected the name of a statement, got", &token->text);
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (!jinja_expression_skip_name(parser, statements[i].name))
            continue;
        RETURN_IF_ERROR(jinja_expression_enter(parser));
        RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_TEXT, node));
        (*node)->line = token->line;
        RETURN_IF_ERROR(statements[i].parse(parser, *node));
        parser->depth--;
        RETURN_IF_ERROR(jinja_expression_finish(parser, *node));
        return expect_end(parser);
    }
    if (jinja_string_starts(token->text, JINJA_STRING("end")) ||
        jinja_string_starts(token->text, JINJA_STRING("el")))
        return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER, "out of place:", &token->text);
    return jinja_expression_fail(parser, STATUS_UNSUPPORTED, "not supported: the statement",
                                 &token->text);
}

/* `x | safe` is x where nothing is escaped and the result goes to the output as it is. */
static struct jinja_node *without_safe(struct jinja_node *node) {
    while (node->kind == JINJA_NODE_FILTER && jinja_string_is(node->text, "safe") &&
           node->items == NULL)
        node = node->a;
    return node;
}

static enum status parse_print(struct jinja_parser *parser, struct jinja_node **node) {
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_PRINT, node));
    parser->at++;
    RETURN_IF_ERROR(jinja_expression_parse_tuple(parser, true, &(*node)->a));
    (*node)->a = without_safe((*node)->a);
    const struct jinja_token *token = jinja_expression_token(parser);
    if (token->kind != JINJA_TOKEN_PRINT_END)
        return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER, "expected }}, got",
                                     &token->text);
    parser->at++;
    return jinja_expression_finish(parser, *node);
}

static enum status parse_text(struct jinja_parser *parser, struct jinja_node **node) {
    RETURN_IF_ERROR(jinja_expression_node(parser, JINJA_NODE_TEXT, node));
    (*node)->text = jinja_expression_token(parser)->text;
    parser->at++;
    return STATUS_OK;
}

static bool at_body_end(const struct jinja_parser *parser, const struct ends *ends) {
    for (size_t i = 0; ends != NULL && i < 3; i++)
        if (ends->names[i] != NULL && jinja_expression_at_name(parser, ends->names[i]))
            return true;
    return false;
}

/* Statements up to one of `ends` (the parser is then at its name), or with NULL to the end of the
 * template. */
static enum status parse_body(struct jinja_parser *parser, const struct ends *ends,
                              struct jinja_node **body) {
    struct jinja_node *tail = NULL;
    for (;;) {
        struct jinja_node *node = NULL;
        enum jinja_token_kind kind = jinja_expression_token(parser)->kind;
        if (kind == JINJA_TOKEN_END && ends == NULL)
            return STATUS_OK;
        if (kind == JINJA_TOKEN_END) {
            const struct jinja_string name = {ends->names[0],
                                              ends->names[0] == NULL ? 0 : strlen(ends->names[0])};
            return jinja_expression_fail(parser, STATUS_BAD_TOKENIZER, "the template ends without",
                                         &name);
        }
        if (kind == JINJA_TOKEN_TEXT) {
            RETURN_IF_ERROR(parse_text(parser, &node));
        } else if (kind == JINJA_TOKEN_PRINT_BEGIN) {
            RETURN_IF_ERROR(parse_print(parser, &node));
        } else {
            parser->at++;
            if (at_body_end(parser, ends))
                return STATUS_OK;
            RETURN_IF_ERROR(parse_statement(parser, &node));
        }
        jinja_expression_append(body, &tail, node);
    }
}

static enum status parse_program(struct jinja_string source, struct jinja_program *program) {
    struct jinja_tokens tokens = {0};
    RETURN_IF_ERROR(jinja_lex(&program->memory, source, &tokens));
    struct jinja_parser parser = {.program = program, .tokens = tokens.tokens};
    return parse_body(&parser, NULL, &program->body);
}

enum status jinja_parse(const char *origin, struct jinja_string source,
                        struct jinja_program *program) {
    if (source.length > JINJA_TEMPLATE_BYTES_MAX) {
        LOG_ERROR("%s: the template has %zu bytes, at most %zu are read", origin, source.length,
                  JINJA_TEMPLATE_BYTES_MAX);
        return STATUS_LIMIT;
    }
    if (!jinja_string_valid(source.text, source.length)) {
        LOG_ERROR("%s: the template is not valid UTF-8", origin);
        return STATUS_BAD_TOKENIZER;
    }
    struct jinja_program made = {.memory = {.origin = origin, .bytes_left = PROGRAM_BYTES_MAX}};
    enum status status = parse_program(source, &made);
    if (status != STATUS_OK) {
        jinja_parse_deinit(&made);
        return status;
    }
    *program = made;
    return STATUS_OK;
}

void jinja_parse_deinit(struct jinja_program *program) {
    jinja_memory_deinit(&program->memory);
    program->body = NULL;
}
