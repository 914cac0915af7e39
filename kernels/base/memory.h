/* Memory taken at start: big aligned regions and a bump arena over them. Nothing here is called
 * inside a step. */
#ifndef MOEBIUS_KERNELS_BASE_MEMORY_H
#define MOEBIUS_KERNELS_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

#define MEMORY_ALIGNMENT 64

/* A zero-filled region, page-aligned, transparent huge pages asked for. `bytes` may be 0. On
 * failure logs `what` and the size and returns STATUS_NO_MEMORY; *region is untouched. Free with
 * memory_release(region, bytes). Local. */
enum status memory_acquire(const char *what, size_t bytes, void **region);

/* Gives a region back; NULL is allowed. Local. */
void memory_release(void *region, size_t bytes);

/* a * b and a + b with overflow checked: STATUS_LIMIT and nothing written when it does not fit
 * int64_t. Local. */
enum status memory_multiply(int64_t a, int64_t b, int64_t *product);
enum status memory_add(int64_t a, int64_t b, int64_t *sum);

/* A bump allocator over one region. Take first with base NULL to add up the size (arena_take then
 * returns NULL), then again over a region of arena.used bytes: the same code computes the memory
 * plan and carries it out. */
struct arena {
    char *base;      /* NULL: measuring */
    size_t capacity; /* bytes at base */
    size_t used;     /* bytes taken so far, alignment included */
};

/* `bytes` bytes aligned to MEMORY_ALIGNMENT. Overflowing the capacity is our bug (ASSERT). Local.
 */
void *arena_take(struct arena *arena, size_t bytes);

#endif
