/* The functions that every template has: namespace, range, dict, raise_exception, strftime_now. */
#ifndef MOEBIUS_RUNTIME_JINJA_GLOBAL_H
#define MOEBIUS_RUNTIME_JINJA_GLOBAL_H

#include "runtime/jinja_call.h"

/* The function of a name, or NULL. Local. */
const struct jinja_builtin *jinja_global_find(struct jinja_string name);

#endif
