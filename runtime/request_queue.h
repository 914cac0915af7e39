/* From the network thread to the engine thread: a bounded queue of pointers without locks, and the
 * sleep of an engine that has nothing to do. One thread pushes, one thread pops and waits. */
#ifndef MOEBIUS_RUNTIME_REQUEST_QUEUE_H
#define MOEBIUS_RUNTIME_REQUEST_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"

struct request_queue {
    void **slots;      /* [mask + 1] */
    uint64_t mask;     /* a power of two less one */
    uint64_t capacity; /* how many may wait at once, <= mask + 1 */
    int event_fd;
    _Alignas(64) _Atomic uint64_t pushed; /* written by the pushing thread */
    _Alignas(64) _Atomic uint64_t popped; /* written by the popping thread */
    _Alignas(64) atomic_bool asleep;      /* the popping thread waits, or is about to */
};

/* Room for `capacity` (>= 1) pointers, all of it taken here. STATUS_NO_MEMORY, STATUS_IO (logged).
 * Local. */
enum status request_queue_init(struct request_queue *queue, int32_t capacity);
void request_queue_deinit(struct request_queue *queue); /* {0} allowed */

/* Pushing thread. STATUS_LIMIT at once when `capacity` wait (not logged: it is an answer). Wakes
 * the other side. */
enum status request_queue_push(struct request_queue *queue, void *item);

/* Any thread: ends the wait of the popping thread, or its next one. */
void request_queue_wake(struct request_queue *queue);

/* Popping thread: the oldest item, NULL when there is none. Never waits. */
void *request_queue_pop(struct request_queue *queue);

/* Popping thread: sleeps until there is an item, a wake, or `timeout_ms` have passed. */
void request_queue_wait(struct request_queue *queue, int32_t timeout_ms);

/* How many wait. Any thread; a moment's value. */
int32_t request_queue_count(struct request_queue *queue);

#endif
