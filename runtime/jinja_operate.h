/* Operators between values, with Python's rules. */
#ifndef MOEBIUS_RUNTIME_JINJA_OPERATE_H
#define MOEBIUS_RUNTIME_JINJA_OPERATE_H

#include "runtime/jinja_run.h"

/* a + b and its like; what Python computes with unbounded integers is refused when it does not fit
 * 64 bits. Local. */
enum status jinja_operate_binary(struct jinja_run *run, int32_t line,
                                 enum jinja_operation operation, const struct jinja_value *a,
                                 const struct jinja_value *b, struct jinja_value *out);

/* a == b, a < b, a in b and their like. Local. */
enum status jinja_operate_compare(struct jinja_run *run, int32_t line,
                                  enum jinja_operation operation, const struct jinja_value *a,
                                  const struct jinja_value *b, bool *out);

/* a == b. Local. */
enum status jinja_operate_equal(struct jinja_run *run, int32_t line, const struct jinja_value *a,
                                const struct jinja_value *b, bool *out);

/* -a or +a. Local. */
enum status jinja_operate_sign(struct jinja_run *run, int32_t line, bool negate,
                               const struct jinja_value *a, struct jinja_value *out);

#endif
