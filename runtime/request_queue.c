/* Network thread to engine thread: one writer, one reader, two counters. The reader sleeps on an
 * eventfd only after it has said so and looked again, so that no push is missed and a push to a
 * reader that is awake costs no system call. */
#include "runtime/request_queue.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

enum status request_queue_init(struct request_queue *queue, int32_t capacity) {
    ASSERT(capacity >= 1);
    uint64_t slots = 1;
    while (slots < (uint64_t)capacity)
        slots *= 2;
    memset(queue, 0, sizeof *queue);
    queue->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (queue->event_fd < 0) {
        LOG_ERROR("request queue: cannot make an eventfd: %s", strerror(errno));
        return STATUS_IO;
    }
    queue->slots = malloc(sizeof *queue->slots * slots);
    if (queue->slots == NULL) {
        LOG_ERROR("request queue: cannot take memory for %d requests", capacity);
        close(queue->event_fd);
        return STATUS_NO_MEMORY;
    }
    queue->mask = slots - 1;
    queue->capacity = (uint64_t)capacity;
    return STATUS_OK;
}

void request_queue_deinit(struct request_queue *queue) {
    if (queue->slots == NULL)
        return;
    free(queue->slots);
    close(queue->event_fd);
    queue->slots = NULL;
}

static void signal_event(struct request_queue *queue) {
    uint64_t one = 1;
    /* It fails only when the counter is full, and then it is readable anyway. */
    ssize_t written = write(queue->event_fd, &one, sizeof one);
    (void)written;
}

enum status request_queue_push(struct request_queue *queue, void *item) {
    uint64_t pushed = atomic_load_explicit(&queue->pushed, memory_order_relaxed);
    uint64_t popped = atomic_load_explicit(&queue->popped, memory_order_acquire);
    if (pushed - popped >= queue->capacity)
        return STATUS_LIMIT;
    queue->slots[pushed & queue->mask] = item;
    /* Sequentially consistent, like what request_queue_wait does: one of the two sees the other. */
    atomic_store(&queue->pushed, pushed + 1);
    if (atomic_load(&queue->asleep))
        signal_event(queue);
    return STATUS_OK;
}

void request_queue_wake(struct request_queue *queue) {
    signal_event(queue);
}

void *request_queue_pop(struct request_queue *queue) {
    uint64_t popped = atomic_load_explicit(&queue->popped, memory_order_relaxed);
    if (popped == atomic_load_explicit(&queue->pushed, memory_order_acquire))
        return NULL;
    void *item = queue->slots[popped & queue->mask];
    atomic_store_explicit(&queue->popped, popped + 1, memory_order_release);
    return item;
}

int32_t request_queue_count(struct request_queue *queue) {
    uint64_t popped = atomic_load_explicit(&queue->popped, memory_order_acquire);
    uint64_t pushed = atomic_load_explicit(&queue->pushed, memory_order_acquire);
    return (int32_t)(pushed - popped);
}

void request_queue_wait(struct request_queue *queue, int32_t timeout_ms) {
    atomic_store(&queue->asleep, true);
    if (atomic_load(&queue->pushed) == atomic_load_explicit(&queue->popped, memory_order_relaxed)) {
        struct pollfd event = {.fd = queue->event_fd, .events = POLLIN};
        poll(&event, 1, timeout_ms); /* EINTR: the caller looks again */
    }
    atomic_store_explicit(&queue->asleep, false, memory_order_relaxed);
    uint64_t wakes;
    ssize_t taken = read(queue->event_fd, &wakes, sizeof wakes);
    (void)taken;
}
