/* The network thread's event loop: one turn is wait, descriptors, timers, tasks. Every door of the
 * server and every client connection hangs on it. */
#include "runtime/rpc_loop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"

#define EVENTS_MAX 128 /* fetched in one turn */
#define NS_PER_MS 1000000

struct rpc_loop {
    int epoll_fd;
    int64_t now_ns;
    struct rpc_loop_timer *timers; /* root of the pairing heap: the earliest */
    struct rpc_loop_task *first_task, *last_task;
    struct epoll_event events[EVENTS_MAX];
    int event_count, event_index; /* what this turn has fetched, and how far it is */
    struct rpc_loop_event stop_event;
    atomic_bool is_stopped;
};

static void wake_for_stop(void *context) {
    (void)context; /* rpc_loop_run looks at is_stopped */
}

enum status rpc_loop_create(struct rpc_loop **loop) {
    struct rpc_loop *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (made->epoll_fd < 0) {
        LOG_ERROR("epoll_create1: %s", strerror(errno));
        free(made);
        return STATUS_IO;
    }
    enum status status = rpc_loop_event_init(made, &made->stop_event, wake_for_stop, made);
    if (status != STATUS_OK) {
        close(made->epoll_fd);
        free(made);
        return status;
    }
    made->now_ns = clock_now_ns();
    *loop = made;
    return STATUS_OK;
}

void rpc_loop_destroy(struct rpc_loop *loop) {
    if (loop == NULL)
        return;
    rpc_loop_event_deinit(loop, &loop->stop_event);
    close(loop->epoll_fd);
    free(loop);
}

int64_t rpc_loop_now_ns(const struct rpc_loop *loop) {
    return loop->now_ns;
}

/* ---- timers: an intrusive pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986) ---- */

/* Joins two roots; `previous` of a child is its left sibling, or its parent for the first child. */
static struct rpc_loop_timer *heap_join(struct rpc_loop_timer *a, struct rpc_loop_timer *b) {
    if (a == NULL)
        return b;
    if (b == NULL)
        return a;
    if (b->deadline_ns < a->deadline_ns) {
        struct rpc_loop_timer *swap = a;
        a = b;
        b = swap;
    }
    b->next = a->child;
    b->previous = a;
    if (a->child != NULL)
        a->child->previous = b;
    a->child = b;
    a->next = NULL;
    a->previous = NULL;
    return a;
}

/* Joins a list of siblings into one root: in pairs from the left, then the pairs from the right. */
static struct rpc_loop_timer *heap_join_siblings(struct rpc_loop_timer *first) {
    struct rpc_loop_timer *pairs = NULL;
    while (first != NULL) {
        struct rpc_loop_timer *second = first->next;
        struct rpc_loop_timer *rest = second != NULL ? second->next : NULL;
        first->next = first->previous = NULL;
        if (second != NULL)
            second->next = second->previous = NULL;
        struct rpc_loop_timer *pair = heap_join(first, second);
        pair->next = pairs;
        pairs = pair;
        first = rest;
    }
    struct rpc_loop_timer *root = NULL;
    while (pairs != NULL) {
        struct rpc_loop_timer *rest = pairs->next;
        pairs->next = NULL;
        root = heap_join(root, pairs);
        pairs = rest;
    }
    return root;
}

void rpc_loop_timer_disarm(struct rpc_loop *loop, struct rpc_loop_timer *timer) {
    if (!timer->is_armed)
        return;
    timer->is_armed = false;
    struct rpc_loop_timer *children = heap_join_siblings(timer->child);
    if (timer == loop->timers) {
        loop->timers = children;
    } else {
        if (timer->previous->child == timer)
            timer->previous->child = timer->next;
        else
            timer->previous->next = timer->next;
        if (timer->next != NULL)
            timer->next->previous = timer->previous;
        loop->timers = heap_join(loop->timers, children);
    }
    timer->child = timer->next = timer->previous = NULL;
}

void rpc_loop_timer_arm(struct rpc_loop *loop, struct rpc_loop_timer *timer, int64_t deadline_ns,
                        rpc_loop_handler *handler, void *context) {
    rpc_loop_timer_disarm(loop, timer);
    if (deadline_ns == RPC_LOOP_NEVER)
        return;
    *timer = (struct rpc_loop_timer){
        .handler = handler, .context = context, .deadline_ns = deadline_ns, .is_armed = true};
    loop->timers = heap_join(loop->timers, timer);
}

/* Timers that are armed by these handlers for now or earlier have their turn in the next turn:
 * `now_ns` stands. */
static void run_timers(struct rpc_loop *loop) {
    while (loop->timers != NULL && loop->timers->deadline_ns < loop->now_ns) {
        struct rpc_loop_timer *due = loop->timers;
        rpc_loop_timer_disarm(loop, due);
        due->handler(due->context);
    }
}

/* ---- watches ---- */

enum status rpc_loop_watch_add(struct rpc_loop *loop, struct rpc_loop_watch *watch, int fd,
                               uint32_t events, rpc_loop_fd_handler *handler, void *context) {
    ASSERT(!watch->is_watched);
    *watch = (struct rpc_loop_watch){
        .handler = handler, .context = context, .fd = fd, .events = events, .is_watched = true};
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        LOG_ERROR("epoll_ctl, descriptor %d: %s", fd, strerror(errno));
        watch->is_watched = false;
        return STATUS_IO;
    }
    return STATUS_OK;
}

void rpc_loop_watch_change(struct rpc_loop *loop, struct rpc_loop_watch *watch, uint32_t events) {
    if (!watch->is_watched || watch->events == events)
        return;
    watch->events = events;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    int result = epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
    ASSERT(result == 0);
}

void rpc_loop_watch_remove(struct rpc_loop *loop, struct rpc_loop_watch *watch) {
    if (!watch->is_watched)
        return;
    watch->is_watched = false;
    int result = epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    ASSERT(result == 0);
    /* What this turn has fetched for it must not reach memory that its owner may free now. */
    for (int i = loop->event_index; i < loop->event_count; i++)
        if (loop->events[i].data.ptr == watch)
            loop->events[i].data.ptr = NULL;
}

static void run_watches(struct rpc_loop *loop) {
    while (loop->event_index < loop->event_count) {
        const struct epoll_event *event = &loop->events[loop->event_index++];
        struct rpc_loop_watch *watch = event->data.ptr;
        if (watch != NULL)
            watch->handler(watch->context, event->events);
    }
}

/* ---- tasks ---- */

void rpc_loop_task_defer(struct rpc_loop *loop, struct rpc_loop_task *task,
                         rpc_loop_handler *handler, void *context) {
    if (task->is_deferred)
        return;
    *task = (struct rpc_loop_task){
        .handler = handler, .context = context, .previous = loop->last_task, .is_deferred = true};
    if (loop->last_task != NULL)
        loop->last_task->next = task;
    else
        loop->first_task = task;
    loop->last_task = task;
}

void rpc_loop_task_cancel(struct rpc_loop *loop, struct rpc_loop_task *task) {
    if (!task->is_deferred)
        return;
    task->is_deferred = false;
    if (task->previous != NULL)
        task->previous->next = task->next;
    else
        loop->first_task = task->next;
    if (task->next != NULL)
        task->next->previous = task->previous;
    else
        loop->last_task = task->previous;
}

/* Runs the tasks there are now; a marker behind them keeps what they defer for the next turn. */
static void run_tasks(struct rpc_loop *loop) {
    if (loop->first_task == NULL)
        return;
    struct rpc_loop_task marker = {0};
    rpc_loop_task_defer(loop, &marker, NULL, NULL);
    while (loop->first_task != &marker) {
        struct rpc_loop_task *task = loop->first_task;
        rpc_loop_task_cancel(loop, task);
        task->handler(task->context);
    }
    rpc_loop_task_cancel(loop, &marker);
}

/* ---- signals from other threads ---- */

static void drain_event(void *context, uint32_t events) {
    (void)events;
    struct rpc_loop_event *event = context;
    uint64_t count;
    (void)!read(event->watch.fd, &count, sizeof(count));
    /* Cleared before the handler looks: a signal that comes from here on wakes the loop again. */
    atomic_exchange_explicit(&event->is_signalled, false, memory_order_acq_rel);
    event->handler(event->context);
}

enum status rpc_loop_event_init(struct rpc_loop *loop, struct rpc_loop_event *event,
                                rpc_loop_handler *handler, void *context) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        LOG_ERROR("eventfd: %s", strerror(errno));
        return STATUS_IO;
    }
    event->handler = handler;
    event->context = context;
    atomic_init(&event->is_signalled, false);
    event->watch = (struct rpc_loop_watch){0};
    enum status status = rpc_loop_watch_add(loop, &event->watch, fd, EPOLLIN, drain_event, event);
    if (status != STATUS_OK)
        close(fd);
    return status;
}

void rpc_loop_event_deinit(struct rpc_loop *loop, struct rpc_loop_event *event) {
    if (!event->watch.is_watched)
        return;
    rpc_loop_watch_remove(loop, &event->watch);
    close(event->watch.fd);
}

void rpc_loop_event_signal(struct rpc_loop_event *event) {
    if (atomic_exchange_explicit(&event->is_signalled, true, memory_order_acq_rel))
        return;
    uint64_t one = 1;
    int saved = errno; /* a signal handler may be our caller */
    (void)!write(event->watch.fd, &one, sizeof(one));
    errno = saved;
}

void rpc_loop_stop(struct rpc_loop *loop) {
    atomic_store(&loop->is_stopped, true);
    rpc_loop_event_signal(&loop->stop_event);
}

/* ---- turns ---- */

/* Milliseconds for epoll_wait: rounded up, so that a timer is due when it returns; -1: for ever. */
static int wait_ms(const struct rpc_loop *loop, int64_t deadline_ns) {
    if (loop->first_task != NULL)
        return 0;
    int64_t until_ns = deadline_ns;
    if (loop->timers != NULL && loop->timers->deadline_ns < until_ns)
        until_ns = loop->timers->deadline_ns;
    if (until_ns == RPC_LOOP_NEVER)
        return -1;
    int64_t rest_ns = until_ns - clock_now_ns();
    if (rest_ns < 0)
        return 0;
    int64_t rest_ms = rest_ns / NS_PER_MS + 1;
    return rest_ms < INT_MAX ? (int)rest_ms : INT_MAX;
}

enum status rpc_loop_turn(struct rpc_loop *loop, int64_t deadline_ns) {
    int count = epoll_wait(loop->epoll_fd, loop->events, EVENTS_MAX, wait_ms(loop, deadline_ns));
    if (count < 0 && errno != EINTR) {
        LOG_ERROR("epoll_wait: %s", strerror(errno));
        return STATUS_IO;
    }
    loop->event_count = count < 0 ? 0 : count;
    loop->event_index = 0;
    loop->now_ns = clock_now_ns();
    run_watches(loop);
    run_timers(loop);
    run_tasks(loop);
    return STATUS_OK;
}

enum status rpc_loop_run(struct rpc_loop *loop) {
    while (!atomic_load(&loop->is_stopped))
        RETURN_IF_ERROR(rpc_loop_turn(loop, RPC_LOOP_NEVER));
    atomic_store(&loop->is_stopped, false);
    return STATUS_OK;
}
