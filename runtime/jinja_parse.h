/* The tree of a template, and how it is made from text. */
#ifndef MOEBIUS_RUNTIME_JINJA_PARSE_H
#define MOEBIUS_RUNTIME_JINJA_PARSE_H

#include "runtime/jinja_lex.h"
#include "runtime/jinja_value.h"

/* Nodes above each other in one tree; the run's depth of calls follows from it. */
#define JINJA_HEIGHT_MAX 150

#define JINJA_TEMPLATE_BYTES_MAX ((size_t)512 << 10)

enum jinja_node_kind {
    /* statements */
    JINJA_NODE_TEXT,       /* text */
    JINJA_NODE_PRINT,      /* a */
    JINJA_NODE_IF,         /* items: BRANCH */
    JINJA_NODE_BRANCH,     /* a: condition or NULL for else; items: body */
    JINJA_NODE_FOR,        /* a: target, b: sequence, c: test or NULL; items: body; others: else */
    JINJA_NODE_SET,        /* a: target, b: value */
    JINJA_NODE_SET_BLOCK,  /* a: target; items: body */
    JINJA_NODE_MACRO,      /* text: name; others: PARAMETER; items: body */
    JINJA_NODE_PARAMETER,  /* text: name, a: default or NULL */
    JINJA_NODE_BREAK,      /* - */
    JINJA_NODE_CONTINUE,   /* - */
    JINJA_NODE_GENERATION, /* items: body ({% generation %} of transformers: a scope) */
    /* expressions */
    JINJA_NODE_LITERAL,   /* value */
    JINJA_NODE_NAME,      /* text */
    JINJA_NODE_ATTRIBUTE, /* a . text; as a target: of the namespace that a names */
    JINJA_NODE_ITEM,      /* a [ b ] */
    JINJA_NODE_SLICE,     /* a [ b : c : d ], each may be NULL */
    JINJA_NODE_CALL,      /* a ( items ), named ones as KEYWORD */
    JINJA_NODE_KEYWORD,   /* text = a */
    JINJA_NODE_FILTER,    /* a | text ( items ) */
    JINJA_NODE_TEST,      /* a is text ( items ) */
    JINJA_NODE_TERNARY,   /* b if a else c (NULL: undefined) */
    JINJA_NODE_AND,       /* a, b */
    JINJA_NODE_OR,
    JINJA_NODE_NOT,      /* a */
    JINJA_NODE_NEGATE,   /* - a */
    JINJA_NODE_POSITIVE, /* + a */
    JINJA_NODE_BINARY,   /* a operation b */
    JINJA_NODE_CONCAT,   /* items ~ */
    JINJA_NODE_COMPARE,  /* a, items: COMPARED */
    JINJA_NODE_COMPARED, /* operation a */
    JINJA_NODE_LIST,     /* items */
    JINJA_NODE_TUPLE,    /* items; also a target */
    JINJA_NODE_DICT,     /* items: PAIR */
    JINJA_NODE_PAIR,     /* a : b */
    JINJA_NODE_KIND_COUNT
};

enum jinja_operation {
    JINJA_ADD,
    JINJA_SUBTRACT,
    JINJA_MULTIPLY,
    JINJA_DIVIDE,
    JINJA_FLOOR_DIVIDE,
    JINJA_MODULO,
    JINJA_EQUAL,
    JINJA_NOT_EQUAL,
    JINJA_LESS,
    JINJA_LESS_EQUAL,
    JINJA_GREATER,
    JINJA_GREATER_EQUAL,
    JINJA_IN,
    JINJA_NOT_IN
};

struct jinja_node {
    enum jinja_node_kind kind;
    enum jinja_operation operation;
    int32_t line;
    int32_t height; /* 1 for a leaf */
    int32_t item_count;
    struct jinja_string text;
    struct jinja_value value;
    const struct jinja_builtin *builtin; /* of FILTER and TEST */
    struct jinja_node *a, *b, *c, *d;
    struct jinja_node *items, *others; /* lists linked by `next` */
    struct jinja_node *next;
};

struct jinja_program {
    struct jinja_memory memory; /* its nodes and strings */
    struct jinja_node *body;    /* statements, linked by `next`; NULL: an empty template */
    bool mentions_bos_token;    /* whether these names stand in it anywhere */
    bool mentions_eos_token;
};

/* Reads a template. `origin` names it in messages and is borrowed for as long as the program lives;
 * `source` only for the call. STATUS_BAD_TOKENIZER: no template; STATUS_UNSUPPORTED: one that needs
 * what this language lacks; STATUS_LIMIT: too long or too deep; STATUS_NO_MEMORY. Each is logged
 * with the origin and the line. Local. */
enum status jinja_parse(const char *origin, struct jinja_string source,
                        struct jinja_program *program);

/* Frees it. Local. */
void jinja_parse_deinit(struct jinja_program *program);

#endif
