/* A rendering of a template: its bounds, its variables, its output. */
#ifndef MOEBIUS_RUNTIME_JINJA_RUN_H
#define MOEBIUS_RUNTIME_JINJA_RUN_H

#include "runtime/jinja_parse.h"
#include "runtime/jinja_value.h"
#include "runtime/text_buffer.h"

/* Variables of the template, of a macro or of one turn of a loop. */
struct jinja_scope {
    struct jinja_scope *parent; /* NULL: these are the variables that were passed */
    struct jinja_dict variables;
    struct jinja_dict reads; /* passed variables and functions that were read here (true), or by a
                                scope within (false) */
};

enum jinja_flow { JINJA_FLOW_ON, JINJA_FLOW_BREAK, JINJA_FLOW_CONTINUE };

struct jinja_run {
    struct jinja_memory memory; /* of the values; origin: the template's */
    struct text_buffer *out;    /* where text goes now: the output, or what a block sets */
    size_t output_bytes_max;
    size_t text_bytes_left; /* of all text made, outputs of macros and JSON included */
    int64_t steps_left;     /* about 50 ns each */
    int32_t depth;          /* of this code's own calls */
    enum jinja_flow flow;
    struct jinja_scope *scope;
    int64_t now_s; /* Unix time for strftime_now */
};

struct jinja_macro {
    const struct jinja_node *node;
    struct jinja_scope *scope; /* where it was defined */
};

/* A loop, as its body sees it. With a test, items are looked for one by one, as the body asks. */
struct jinja_loop {
    const struct jinja_node *node;
    struct jinja_scope *scope; /* around it */
    struct jinja_list *source;
    int64_t source_next;
    struct jinja_value *passed; /* items that passed the test, in order */
    int64_t passed_count;
    int64_t index0;
};

/* Logs "origin: line N: ..." and gives `status` back. Local. */
enum status jinja_run_fail(const struct jinja_run *run, int32_t line, enum status status,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Takes `bytes` of work off the budget. STATUS_LIMIT (logged). Local. */
enum status jinja_run_spend(struct jinja_run *run, int32_t line, size_t bytes);

/* Counts a call deeper; pair with run->depth--. STATUS_LIMIT (logged). Local. */
enum status jinja_run_enter(struct jinja_run *run, int32_t line);

/* Appends to a buffer within the run's bounds. STATUS_LIMIT or STATUS_NO_MEMORY (logged). Local. */
enum status jinja_run_append(struct jinja_run *run, int32_t line, struct text_buffer *buffer,
                             struct jinja_string text);

/* Runs statements into a string of their own. Local. */
enum status jinja_run_capture(struct jinja_run *run, const struct jinja_node *body, int32_t line,
                              struct jinja_string *text);

/* A new scope within `parent`. Local. */
enum status jinja_run_scope(struct jinja_run *run, struct jinja_scope *parent,
                            struct jinja_scope **scope);

/* Remembers that a passed variable or a function was read, for jinja_run_set. Local. */
enum status jinja_run_note_read(struct jinja_run *run, int32_t line, struct jinja_string name);

/* Sets a variable of the innermost scope. Jinja2 decides before it runs whose variable a name is:
 * one that a loop or macro has read from outside before the scope around it sets its own would
 * there have been undefined. That is refused: STATUS_UNSUPPORTED. Local. */
enum status jinja_run_set(struct jinja_run *run, int32_t line, struct jinja_string name,
                          struct jinja_value value);

/* Whether the loop has an item `index`; looks for it if need be. Local. */
enum status jinja_run_loop_has(struct jinja_run *run, struct jinja_loop *loop, int64_t index,
                               bool *has);

/* Bounds of one rendering. */
struct jinja_bounds {
    size_t output_bytes;
    int64_t steps;
};

/* Renders: appends to `out`, on success only. `variables` and
 * everything below it must stay for the call; `memory` is where they lie and where the run goes on
 * taking. STATUS_BAD_REQUEST: the template refuses these messages (raise_exception, or an operation
 * that these values do not have); STATUS_UNSUPPORTED, STATUS_LIMIT, STATUS_NO_MEMORY. All are
 * logged with the origin and the line. Local. */
enum status jinja_run_program(const struct jinja_program *program, struct jinja_memory *memory,
                              const struct jinja_dict *variables, const struct jinja_bounds *bounds,
                              int64_t now_s, struct text_buffer *out);

#endif
