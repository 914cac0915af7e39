/* Start-up memory: every large region of the process comes from here, so that the memory plan can
 * be true. */
#define _GNU_SOURCE
#include "kernels/base/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

#define HUGE_PAGE ((size_t)2 << 20) /* bytes; where they are others, nothing is lost */

/* Anonymous memory that begins where a huge page may. */
static void *map(size_t bytes) {
    size_t spare = bytes < HUGE_PAGE || bytes > SIZE_MAX - HUGE_PAGE ? 0 : HUGE_PAGE;
    char *mapped =
        mmap(NULL, bytes + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || spare == 0)
        return mapped;
    size_t front = -(uintptr_t)mapped & (HUGE_PAGE - 1), page = (size_t)sysconf(_SC_PAGESIZE);
    size_t used = (front + bytes + page - 1) & ~(page - 1);
    if (front > 0)
        munmap(mapped, front);
    if (used < bytes + spare)
        munmap(mapped + used, bytes + spare - used);
    return mapped + front;
}

enum status memory_acquire(const char *what, size_t bytes, void **region) {
    if (bytes == 0) {
        *region = NULL;
        return STATUS_OK;
    }
    void *mapped = map(bytes);
    if (mapped == MAP_FAILED) {
        LOG_ERROR("%s: cannot take %zu bytes of memory: %s", what, bytes, strerror(errno));
        return STATUS_NO_MEMORY;
    }
    (void)madvise(mapped, bytes,
                  MADV_HUGEPAGE); /* only a wish: fewer TLB misses while streaming weights */
    *region = mapped;
    return STATUS_OK;
}

void memory_release(void *region, size_t bytes) {
    if (region != NULL)
        munmap(region, bytes);
}

enum status memory_multiply(int64_t a, int64_t b, int64_t *product) {
    int64_t result;
    if (__builtin_mul_overflow(a, b, &result))
        return STATUS_LIMIT;
    *product = result;
    return STATUS_OK;
}

enum status memory_add(int64_t a, int64_t b, int64_t *sum) {
    int64_t result;
    if (__builtin_add_overflow(a, b, &result))
        return STATUS_LIMIT;
    *sum = result;
    return STATUS_OK;
}

void *arena_take(struct arena *arena, size_t bytes) {
    size_t start = (arena->used + MEMORY_ALIGNMENT - 1) & ~(size_t)(MEMORY_ALIGNMENT - 1);
    ASSERT(start >= arena->used && bytes <= SIZE_MAX - start);
    arena->used = start + bytes;
    if (arena->base == NULL)
        return NULL;
    ASSERT(arena->used <= arena->capacity);
    return arena->base + start;
}
