/* The bounded arena that the strings, nodes and values of a template lie in. Nothing in it is freed
 * alone; it goes with the rendering, or with the template. */
#ifndef MOEBIUS_RUNTIME_JINJA_MEMORY_H
#define MOEBIUS_RUNTIME_JINJA_MEMORY_H

#include <stddef.h>

#include "kernels/base/status.h"

/* Valid UTF-8, not NUL-terminated. */
struct jinja_string {
    const char *text;
    size_t length; /* bytes */
};

#define JINJA_STRING(literal) ((struct jinja_string){(literal), sizeof(literal) - 1})

/* An arena. {.origin, .bytes_left} is an empty one. */
struct jinja_memory {
    const char *origin; /* for messages; borrowed */
    size_t bytes_left;  /* of the limit */
    struct jinja_chunk *chunks;
};

/* Gives all memory back. Local. */
void jinja_memory_deinit(struct jinja_memory *memory);

/* `bytes` bytes aligned for any object, not zeroed. STATUS_LIMIT or STATUS_NO_MEMORY (logged).
 * Local. */
enum status jinja_memory_take(struct jinja_memory *memory, size_t bytes, void **taken);

/* `count` zeroed objects of `size` bytes. Errors as jinja_memory_take. Local. */
enum status jinja_memory_take_zeroed(struct jinja_memory *memory, size_t count, size_t size,
                                     void **taken);

/* A copy of `length` bytes. Errors as jinja_memory_take. Local. */
enum status jinja_memory_copy(struct jinja_memory *memory, const char *text, size_t length,
                              struct jinja_string *copy);

/* left + right. Linear in `right` where `left` is the newest thing in the arena (it then grows in
 * place), so that a chain of + costs its length once. Errors as jinja_memory_take. Local. */
enum status jinja_memory_join(struct jinja_memory *memory, struct jinja_string left,
                              struct jinja_string right, struct jinja_string *joined);

#endif
