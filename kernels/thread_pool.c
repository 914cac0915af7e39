/* The team of compute threads under every kernel.
 *
 * `unclaimed` counts the items of the current job that nobody has taken. A thread takes one by
 * lowering it with a compare-and-swap and only then reads the job: the job cannot be replaced while
 * a taken item is unfinished, so a late thread either takes an item of the job that stands there
 * now, or none. `finished` counts completed items; the caller waits for it alone, never for workers
 * that took nothing. */
#define _GNU_SOURCE
#include "kernels/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"

/* How long a thread looks for work (or the caller for the last item) before it sleeps: about what
 * one futex wake costs. */
#define SPIN_NS 8000
#define SPINS_PER_CLOCK 32

struct worker {
    pthread_t handle;
    struct thread_pool *pool;
    int32_t thread;
};

struct thread_pool {
    _Alignas(MEMORY_ALIGNMENT) _Atomic uint32_t unclaimed;
    _Alignas(MEMORY_ALIGNMENT) _Atomic uint32_t finished; /* futex of the caller */
    _Atomic uint32_t caller_sleeps;
    _Alignas(MEMORY_ALIGNMENT) _Atomic uint32_t
        generation; /* futex of the workers; one more a job */
    _Atomic uint32_t sleepers;
    _Atomic uint32_t stop;
    _Alignas(MEMORY_ALIGNMENT) uint32_t items; /* the current job */
    thread_pool_task task;
    void *context;
    int32_t threads;
    struct worker workers[]; /* [threads - 1] */
};

static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, uint32_t count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void relax(void) {
#if MOEBIUS_X86
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Takes items until none is left; returns after adding what it did to `finished`. */
static void work(struct thread_pool *pool, int32_t thread) {
    uint32_t done = 0, items = 0;
    uint32_t left = atomic_load_explicit(&pool->unclaimed, memory_order_relaxed);
    while (left > 0) {
        if (!atomic_compare_exchange_weak_explicit(&pool->unclaimed, &left, left - 1,
                                                   memory_order_acquire, memory_order_relaxed))
            continue;
        items = pool->items;
        pool->task(pool->context, (int32_t)(items - left), thread);
        done++;
        left = atomic_load_explicit(&pool->unclaimed, memory_order_relaxed);
    }
    if (done == 0)
        return;
    uint32_t total = done + atomic_fetch_add(&pool->finished, done);
    if (total == items && atomic_load(&pool->caller_sleeps) != 0)
        futex_wake(&pool->finished, 1);
}

static bool has_work(struct thread_pool *pool) {
    return atomic_load_explicit(&pool->unclaimed, memory_order_relaxed) > 0 ||
           atomic_load_explicit(&pool->stop, memory_order_relaxed) != 0;
}

/* Looks for work for a moment, then sleeps until the next job is announced. */
static void wait_for_work(struct thread_pool *pool) {
    uint32_t generation = atomic_load(&pool->generation);
    int64_t deadline_ns = clock_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if (has_work(pool))
                return;
            relax();
        }
    } while (clock_now_ns() < deadline_ns);
    atomic_fetch_add(&pool->sleepers, 1);
    if (!has_work(pool))
        futex_wait(&pool->generation, generation);
    atomic_fetch_sub(&pool->sleepers, 1);
}

static void *worker_main(void *argument) {
    struct worker *worker = argument;
    struct thread_pool *pool = worker->pool;
    while (atomic_load_explicit(&pool->stop, memory_order_acquire) == 0) {
        work(pool, worker->thread);
        wait_for_work(pool);
    }
    return NULL;
}

/* The caller has run out of items; others may still hold some. */
static void wait_for_finish(struct thread_pool *pool, uint32_t items) {
    if (atomic_load_explicit(&pool->finished, memory_order_acquire) == items)
        return;
    int64_t deadline_ns = clock_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if (atomic_load_explicit(&pool->finished, memory_order_acquire) == items)
                return;
            relax();
        }
    } while (clock_now_ns() < deadline_ns);
    atomic_store(&pool->caller_sleeps, 1);
    for (;;) {
        uint32_t finished = atomic_load(&pool->finished);
        if (finished == items)
            break;
        futex_wait(&pool->finished, finished);
    }
    atomic_store(&pool->caller_sleeps, 0);
}

/* Signals are for the thread that waits for them, never for one that computes. */
static int start_worker(struct worker *worker) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&worker->handle, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

enum status thread_pool_create(int32_t threads, struct thread_pool **pool) {
    ASSERT(threads >= 1 && threads <= THREAD_POOL_THREADS_MAX);
    size_t bytes = sizeof(struct thread_pool) + (size_t)threads * sizeof(struct worker);
    bytes = (bytes + MEMORY_ALIGNMENT - 1) & ~(size_t)(MEMORY_ALIGNMENT - 1);
    struct thread_pool *created = aligned_alloc(MEMORY_ALIGNMENT, bytes);
    if (created == NULL) {
        LOG_ERROR("thread pool: cannot take %zu bytes", bytes);
        return STATUS_NO_MEMORY;
    }
    memset(created, 0, bytes);
    created->threads = 1;
    for (int32_t i = 0; i < threads - 1; i++) {
        struct worker *worker = &created->workers[i];
        worker->pool = created;
        worker->thread = i + 1;
        int error = start_worker(worker);
        if (error != 0) {
            LOG_ERROR("thread pool: cannot start thread %d of %d: %s", i + 2, threads,
                      strerror(error));
            thread_pool_destroy(created);
            return STATUS_NO_MEMORY;
        }
        created->threads++;
    }
    *pool = created;
    return STATUS_OK;
}

void thread_pool_destroy(struct thread_pool *pool) {
    if (pool == NULL)
        return;
    atomic_store(&pool->stop, 1);
    atomic_fetch_add(&pool->generation, 1);
    futex_wake(&pool->generation, THREAD_POOL_THREADS_MAX);
    for (int32_t i = 0; i < pool->threads - 1; i++)
        pthread_join(pool->workers[i].handle, NULL);
    free(pool);
}

int32_t thread_pool_threads(const struct thread_pool *pool) {
    return pool->threads;
}

void thread_pool_run(struct thread_pool *pool, int32_t items, thread_pool_task task,
                     void *context) {
    if (items <= 1 || pool->threads == 1) {
        for (int32_t item = 0; item < items; item++)
            task(context, item, 0);
        return;
    }
    uint32_t count = (uint32_t)items;
    pool->items = count;
    pool->task = task;
    pool->context = context;
    atomic_store_explicit(&pool->finished, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->unclaimed, count, memory_order_release);
    atomic_fetch_add(&pool->generation, 1);
    uint32_t sleepers = atomic_load(&pool->sleepers);
    if (sleepers > 0)
        futex_wake(&pool->generation, sleepers < count - 1 ? sleepers : count - 1);
    work(pool, 0);
    wait_for_finish(pool, count);
}
