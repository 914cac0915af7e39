/* The methods of values: `text.split(',')`, `message.items()`. */
#ifndef MOEBIUS_RUNTIME_JINJA_METHOD_H
#define MOEBIUS_RUNTIME_JINJA_METHOD_H

#include "runtime/jinja_call.h"

/* The method `name` of the value's type, or NULL. *hidden is set for a method that changes its
 * value: the sandbox hides those. Local. */
const struct jinja_builtin *jinja_method_find(const struct jinja_value *value,
                                              struct jinja_string name, bool *hidden);

#endif
