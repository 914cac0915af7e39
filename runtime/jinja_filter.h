/* The filters: `value | name(arguments)`. */
#ifndef MOEBIUS_RUNTIME_JINJA_FILTER_H
#define MOEBIUS_RUNTIME_JINJA_FILTER_H

#include "runtime/jinja_call.h"

/* The filter of a name, or NULL: one that we do not have. Local. */
const struct jinja_builtin *jinja_filter_find(struct jinja_string name);

#endif
