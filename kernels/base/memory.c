/* Start-up memory: every large region of the process comes from here, so that the memory plan can
 * be true. */
#define _GNU_SOURCE
#include "kernels/base/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

enum status memory_acquire(const char *what, size_t bytes, void **region) {
    if (bytes == 0) {
        *region = NULL;
        return STATUS_OK;
    }
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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
