/* Calls in templates: arguments, and the functions that C gives to templates. */
#ifndef MOEBIUS_RUNTIME_JINJA_CALL_H
#define MOEBIUS_RUNTIME_JINJA_CALL_H

#include "runtime/jinja_run.h"

#define JINJA_PARAMETERS_MAX 4

/* Arguments as written: a positional one has no name (text NULL). */
struct jinja_arguments {
    struct jinja_value *values;
    struct jinja_string *names;
    int64_t count;
};

/* One call of a builtin. */
struct jinja_call {
    struct jinja_run *run;
    int32_t line;
    const struct jinja_builtin *builtin;
    struct jinja_value self;                                    /* of filters, tests, methods */
    const struct jinja_value *parameters[JINJA_PARAMETERS_MAX]; /* NULL where not given */
    const struct jinja_arguments *arguments;
};

/* A filter, test, method or global function. */
struct jinja_builtin {
    const char *name;
    /* NULL: known to Jinja2 or Python, not to us; a call is refused by name */
    enum status (*run)(struct jinja_call *call, struct jinja_value *out);
    int32_t required; /* of the parameters; -1: takes any arguments, from call->arguments */
    const char *parameters[JINJA_PARAMETERS_MAX]; /* names; "" can only be given by position */
};

/* Finds `name` in a table that ends with a NULL name, or gives NULL. Local. */
const struct jinja_builtin *jinja_call_find(const struct jinja_builtin *table,
                                            struct jinja_string name);

/* Fails a call with "name(): ...". Local. */
enum status jinja_call_fail(const struct jinja_call *call, enum status status, const char *what);

/* Calls a builtin on `self` (an undefined value for global functions). Local. */
enum status jinja_call_builtin(struct jinja_run *run, int32_t line,
                               const struct jinja_builtin *builtin, const struct jinja_value *self,
                               const struct jinja_arguments *arguments, struct jinja_value *out);

/* Calls a value: a function, a method or a macro; others are no functions. Local. */
enum status jinja_call_value(struct jinja_run *run, int32_t line, const struct jinja_value *callee,
                             const struct jinja_arguments *arguments, struct jinja_value *out);

/* A parameter that must be a string (an int, a bool); absent: *out is left as it is. Errors are
 * logged. Local. */
enum status jinja_call_string(const struct jinja_call *call, int32_t index,
                              struct jinja_string *out);
enum status jinja_call_integer(const struct jinja_call *call, int32_t index, int64_t *out);
bool jinja_call_truth(const struct jinja_call *call, int32_t index, bool otherwise);

#endif
