/* Values of the template language (a subset of Jinja2): what expressions give, what messages and
 * variables are turned into. Values are immutable but for namespaces and the consumed mark of
 * iterators; all of their bytes lie in one bounded arena that is thrown away after a rendering. */
#ifndef MOEBIUS_RUNTIME_JINJA_VALUE_H
#define MOEBIUS_RUNTIME_JINJA_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/jinja_memory.h"

/* Lists and dicts within each other, and messages given as JSON. */
#define JINJA_NESTING_MAX 100

enum jinja_kind {
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING_VALUE,
    JINJA_LIST,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_LOOP,
    JINJA_MACRO,
    JINJA_METHOD,
    JINJA_FUNCTION,
    JINJA_KIND_COUNT
};

/* What Python calls the sequence decides what can be done with it. */
enum jinja_flavour {
    JINJA_FLAVOUR_LIST,
    JINJA_FLAVOUR_TUPLE,
    JINJA_FLAVOUR_RANGE,
    JINJA_FLAVOUR_VIEW,    /* dict.items() and its like: a length, no index */
    JINJA_FLAVOUR_ITERATOR /* a generator: no length, no index, gone after one pass */
};

struct jinja_value {
    enum jinja_kind kind;
    union {
        struct jinja_string undefined; /* the name that was looked for */
        bool boolean;
        int64_t integer;
        double number;
        struct jinja_string string;
        struct jinja_list *list;
        struct jinja_dict *dict; /* also of a namespace */
        struct jinja_loop *loop;
        struct jinja_macro *macro;
        const struct jinja_method *method;
        const struct jinja_builtin *function;
    } as;
};

struct jinja_list {
    struct jinja_value *items;
    int64_t count;
    enum jinja_flavour flavour;
    bool consumed; /* iterators only */
};

struct jinja_entry {
    struct jinja_string key;
    uint32_t hash;
    struct jinja_value value;
};

/* Entries in the order in which their keys were first set. */
struct jinja_dict {
    struct jinja_entry *entries;
    int64_t count;
    int64_t capacity;
};

/* A method taken from a value: `'a'.strip`. */
struct jinja_method {
    const struct jinja_builtin *builtin;
    struct jinja_value self;
};

/* Constructors that take no memory. Local. */
struct jinja_value jinja_value_undefined(struct jinja_string name);
struct jinja_value jinja_value_none(void);
struct jinja_value jinja_value_bool(bool boolean);
struct jinja_value jinja_value_int(int64_t integer);
struct jinja_value jinja_value_float(double number);
struct jinja_value jinja_value_string(struct jinja_string string);

/* A list with room for `count` items (undefined bytes until set; list->count is `count`). Errors as
 * jinja_memory_take. Local. */
enum status jinja_value_list(struct jinja_memory *memory, int64_t count, enum jinja_flavour flavour,
                             struct jinja_value *value);

/* An empty dict with room for `capacity` entries. Errors as jinja_memory_take. Local. */
enum status jinja_value_dict(struct jinja_memory *memory, int64_t capacity,
                             struct jinja_value *value);

/* Sets or adds a key. Linear in the number of entries. Errors as jinja_memory_take. Local. */
enum status jinja_value_set(struct jinja_memory *memory, struct jinja_dict *dict,
                            struct jinja_string key, struct jinja_value value);

/* Adds a key that is known to be new. Errors as jinja_memory_take. Local. */
enum status jinja_value_add(struct jinja_memory *memory, struct jinja_dict *dict,
                            struct jinja_string key, struct jinja_value value);

/* The value of a key, or NULL. Local. */
const struct jinja_value *jinja_value_get(const struct jinja_dict *dict, struct jinja_string key);

/* Python's truth of a value. Local. */
bool jinja_value_truth(const struct jinja_value *value);

/* Python's name of the type ("str", "NoneType"), for messages. Local. */
const char *jinja_value_type(const struct jinja_value *value);

/* Whether it is an int, a bool counted as one; its value. Local. */
bool jinja_value_integer(const struct jinja_value *value, int64_t *integer);

/* Whether it is an int, bool or float; its value as a float. Local. */
bool jinja_value_number(const struct jinja_value *value, double *number);

#endif
