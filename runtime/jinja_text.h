/* Values as text: Python's str() and json.dumps(). */
#ifndef MOEBIUS_RUNTIME_JINJA_TEXT_H
#define MOEBIUS_RUNTIME_JINJA_TEXT_H

#include "runtime/jinja_run.h"

/* Appends str(value). What Python would show with an address or its own words is refused. Local. */
enum status jinja_text_append(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                              struct text_buffer *buffer);

/* str(value); a string is itself, without a copy. Local. */
enum status jinja_text_of(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                          struct jinja_string *text);

struct jinja_json_style {
    int64_t indent; /* spaces a level; -1: all on one line */
    bool ascii;     /* escape all beyond ASCII */
    struct jinja_string item_separator;
    struct jinja_string key_separator;
};

/* json.dumps(value) in a style. Local. */
enum status jinja_text_json(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                            const struct jinja_json_style *style, struct jinja_string *text);

#endif
