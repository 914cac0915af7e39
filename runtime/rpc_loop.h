/* The network thread's event loop over epoll: file descriptors with handlers, timers, signals from
 * other threads, and tasks for the end of a turn (so that what many handlers of one turn have
 * queued for a socket leaves in one write).
 *
 * Watches, timers, events and tasks are members of their owner's structure: nothing is allocated
 * when they are used, so arming a timer or deferring a task cannot fail. All functions belong to
 * the thread that runs the loop (before rpc_loop_run: to the thread that prepares it), except
 * rpc_loop_stop and rpc_loop_event_signal, which any thread and any signal handler may call. A
 * handler may add and remove any watch, timer, event or task, its own too, and free their owner.
 * All are zeroed ({0}) by their owner before first use. */
#ifndef MOEBIUS_RUNTIME_RPC_LOOP_H
#define MOEBIUS_RUNTIME_RPC_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"

#define RPC_LOOP_NEVER INT64_MAX /* the deadline that never comes */

struct rpc_loop;

/* `events`: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR as epoll reports them. */
typedef void rpc_loop_fd_handler(void *context, uint32_t events);
typedef void rpc_loop_handler(void *context);

/* A file descriptor that is watched. */
struct rpc_loop_watch {
    rpc_loop_fd_handler *handler;
    void *context;
    int fd;
    uint32_t events;
    bool is_watched;
};

/* A timer; the members are the loop's (an intrusive pairing heap). */
struct rpc_loop_timer {
    rpc_loop_handler *handler;
    void *context;
    int64_t deadline_ns;
    struct rpc_loop_timer *child, *next, *previous;
    bool is_armed;
};

/* Work for the end of the turn. */
struct rpc_loop_task {
    rpc_loop_handler *handler;
    void *context;
    struct rpc_loop_task *next, *previous;
    bool is_deferred;
};

/* A wake-up from another thread: an eventfd. Signals that come before the handler has run are one.
 */
struct rpc_loop_event {
    struct rpc_loop_watch watch;
    rpc_loop_handler *handler;
    void *context;
    atomic_bool is_signalled;
};

/* STATUS_IO (logged) when the system gives no epoll or eventfd, STATUS_NO_MEMORY. Local. */
enum status rpc_loop_create(struct rpc_loop **loop);

/* NULL is allowed. What is still watched or armed is forgotten, not called; file descriptors stay
 * open, their owners close them. Local. */
void rpc_loop_destroy(struct rpc_loop *loop);

/* Serves until rpc_loop_stop; a stop before the call counts (rpc_loop_run returns at once). May be
 * called again. STATUS_IO (logged) when epoll fails. Local. */
enum status rpc_loop_run(struct rpc_loop *loop);

/* One turn: waits at most until `deadline_ns` (CLOCK_MONOTONIC; 0: does not wait), calls what is
 * due, returns. For tests, and for callers with a loop of their own. Local. */
enum status rpc_loop_turn(struct rpc_loop *loop, int64_t deadline_ns);

/* Ends rpc_loop_run after the turn it is in. Any thread, any signal handler. Local. */
void rpc_loop_stop(struct rpc_loop *loop);

/* The clock as of the beginning of this turn (CLOCK_MONOTONIC, ns). Cheap. Local. */
int64_t rpc_loop_now_ns(const struct rpc_loop *loop);

/* Watches `fd` for `events` (EPOLLIN | EPOLLOUT, level-triggered) and calls handler(context,
 * events). STATUS_IO (logged) when epoll refuses. Local. */
enum status rpc_loop_watch_add(struct rpc_loop *loop, struct rpc_loop_watch *watch, int fd,
                               uint32_t events, rpc_loop_fd_handler *handler, void *context);

/* Watches for other events from now on. No effect on a watch that is not added. Local. */
void rpc_loop_watch_change(struct rpc_loop *loop, struct rpc_loop_watch *watch, uint32_t events);

/* Call before the descriptor is closed. The handler is not called any more, not even for events
 * that this turn has already fetched. No effect on a watch that is not added. Local. */
void rpc_loop_watch_remove(struct rpc_loop *loop, struct rpc_loop_watch *watch);

/* Calls handler(context) once, at `deadline_ns` (CLOCK_MONOTONIC) or a little later; an armed timer
 * is moved. RPC_LOOP_NEVER disarms. Local. */
void rpc_loop_timer_arm(struct rpc_loop *loop, struct rpc_loop_timer *timer, int64_t deadline_ns,
                        rpc_loop_handler *handler, void *context);
void rpc_loop_timer_disarm(struct rpc_loop *loop, struct rpc_loop_timer *timer);

/* Calls handler(context) once when all other handlers of this turn have run; a task that is
 * deferred already stays where it is. A task deferred by a task runs in the next turn, which does
 * not wait then. Local. */
void rpc_loop_task_defer(struct rpc_loop *loop, struct rpc_loop_task *task,
                         rpc_loop_handler *handler, void *context);
void rpc_loop_task_cancel(struct rpc_loop *loop, struct rpc_loop_task *task);

/* handler(context) runs on the loop's thread after each signal. STATUS_IO (logged). Local. */
enum status rpc_loop_event_init(struct rpc_loop *loop, struct rpc_loop_event *event,
                                rpc_loop_handler *handler, void *context);
void rpc_loop_event_deinit(struct rpc_loop *loop, struct rpc_loop_event *event);

/* Any thread, any signal handler; no system call when a signal is already under way. What the
 * caller wrote before it is visible to the handler. Local. */
void rpc_loop_event_signal(struct rpc_loop_event *event);

#endif
