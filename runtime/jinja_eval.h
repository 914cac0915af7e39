/* Expressions of a template: a tree in, a value out. */
#ifndef MOEBIUS_RUNTIME_JINJA_EVAL_H
#define MOEBIUS_RUNTIME_JINJA_EVAL_H

#include "runtime/jinja_run.h"

/* The value of an expression in the run's scope. Errors are those of jinja_run_program, logged.
 * Local. */
enum status jinja_eval(struct jinja_run *run, const struct jinja_node *node,
                       struct jinja_value *out);

#endif
