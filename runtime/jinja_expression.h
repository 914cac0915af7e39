/* The parser's inside, shared by its two files: the position in the tokens, and expressions. */
#ifndef MOEBIUS_RUNTIME_JINJA_EXPRESSION_H
#define MOEBIUS_RUNTIME_JINJA_EXPRESSION_H

#include "runtime/jinja_parse.h"

struct jinja_parser {
    struct jinja_program *program;
    const struct jinja_token *tokens;
    int64_t at;
    int32_t depth; /* of the parser's own calls */
    bool in_loop;  /* break and continue may stand here */
};

/* Logs "origin: line N: what 'name'" and gives `status` back. `name` may be NULL. Local. */
enum status jinja_expression_fail(const struct jinja_parser *parser, enum status status,
                                  const char *what, const struct jinja_string *name);

const struct jinja_token *jinja_expression_token(const struct jinja_parser *parser);

/* Whether the current token is this operator (this name). Local. */
bool jinja_expression_at(const struct jinja_parser *parser, const char *operator_text);
bool jinja_expression_at_name(const struct jinja_parser *parser, const char *name);

/* The same, and goes behind it if so. Local. */
bool jinja_expression_skip(struct jinja_parser *parser, const char *operator_text);
bool jinja_expression_skip_name(struct jinja_parser *parser, const char *name);

/* Goes behind this operator, or fails. Local. */
enum status jinja_expression_expect(struct jinja_parser *parser, const char *operator_text);

/* A new node at the current line. Local. */
enum status jinja_expression_node(struct jinja_parser *parser, enum jinja_node_kind kind,
                                  struct jinja_node **node);

/* Computes a node's height from its children, refuses one that is too high. Local. */
enum status jinja_expression_finish(struct jinja_parser *parser, struct jinja_node *node);

/* Appends to a list linked by `next`; *tail is its last node (NULL at first). Local. */
void jinja_expression_append(struct jinja_node **first, struct jinja_node **tail,
                             struct jinja_node *node);

/* Counts a call deeper, refuses too many; pair with parser->depth--. Local. */
enum status jinja_expression_enter(struct jinja_parser *parser);

/* One expression; with `ternary` also "x if y else z". Local. */
enum status jinja_expression_parse(struct jinja_parser *parser, bool ternary,
                                   struct jinja_node **node);

/* One expression, or a tuple without parentheses: "a, b". Local. */
enum status jinja_expression_parse_tuple(struct jinja_parser *parser, bool ternary,
                                         struct jinja_node **node);

#endif
