/* The compute threads of one rank: a fixed team that shares the items of one job at a time. Waiting
 * threads sleep (futex); nobody spins for longer than a few microseconds, because ranks share
 * cores. Items are claimed one by one, so a thread that the kernel has descheduled holds up at most
 * the item it has claimed. Which thread computes an item never changes a bit: items write disjoint
 * outputs. */
#ifndef MOEBIUS_KERNELS_THREAD_POOL_H
#define MOEBIUS_KERNELS_THREAD_POOL_H

#include <stdint.h>

#include "kernels/base/status.h"

struct thread_pool;

#define THREAD_POOL_THREADS_MAX 256

/* Computes item `item` (0 <= item < items). `thread` (0 <= thread < threads) indexes per-thread
 * scratch. */
typedef void (*thread_pool_task)(void *context, int32_t item, int32_t thread);

/* Starts threads - 1 workers; the caller of thread_pool_run is the remaining one. 1 <= threads <=
 * THREAD_POOL_THREADS_MAX. STATUS_NO_MEMORY when threads cannot be started (logged). Local. */
enum status thread_pool_create(int32_t threads, struct thread_pool **pool);

/* Stops and joins the workers; NULL is allowed. Local. */
void thread_pool_destroy(struct thread_pool *pool);

int32_t thread_pool_threads(const struct thread_pool *pool);

/* Runs task(context, i, thread) for every i in [0, items) and returns when all are done. One caller
 * at a time (the engine thread); not reentrant. Memory written by items is visible to the caller
 * afterwards. Local. */
void thread_pool_run(struct thread_pool *pool, int32_t items, thread_pool_task task, void *context);

#endif
