/* What lies inside of values: attributes, items, slices, the items of a loop. */
#ifndef MOEBIUS_RUNTIME_JINJA_ACCESS_H
#define MOEBIUS_RUNTIME_JINJA_ACCESS_H

#include "runtime/jinja_run.h"

/* What iterating over a value gives: the items of sequences, the keys of dicts, the code points of
 * strings, nothing of an undefined value. An iterator is used up. The list may be the value's own:
 * do not change it. Local. */
enum status jinja_access_items(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                               struct jinja_list **list);

/* value.name and value[key], as Jinja2's sandbox has them: a missing one is undefined. Local. */
enum status jinja_access_attribute(struct jinja_run *run, int32_t line,
                                   const struct jinja_value *value, struct jinja_string name,
                                   struct jinja_value *out);
enum status jinja_access_item(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                              const struct jinja_value *key, struct jinja_value *out);

/* value[start:stop:step]; NULL where not given. Local. */
enum status jinja_access_slice(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                               const struct jinja_value *const bounds[3], struct jinja_value *out);

/* The number of items; undefined has none. Local. */
enum status jinja_access_length(struct jinja_run *run, int32_t line,
                                const struct jinja_value *value, int64_t *length);

#endif
