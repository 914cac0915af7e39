/* The tests of the language: `value is name(arguments)`. */
#ifndef MOEBIUS_RUNTIME_JINJA_VERDICT_H
#define MOEBIUS_RUNTIME_JINJA_VERDICT_H

#include "runtime/jinja_call.h"

/* The test of a name, or NULL: one that we do not have. Local. */
const struct jinja_builtin *jinja_verdict_find(struct jinja_string name);

#endif
