/* A thread that looks at something every now and then, beside a main thread that is busy or hangs,
 * until it is told that this is over. */
#ifndef MOEBIUS_COMM_WATCH_THREAD_H
#define MOEBIUS_COMM_WATCH_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct watch_thread {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool is_over;
};

/* Runs `run` in a thread that takes no signals. False when there is no room for one; nothing is to
 * be ended then. Local. */
bool watch_thread_start(struct watch_thread *watch, void *(*run)(void *), void *context);

/* For the thread: sleeps, and returns whether it is to go on. Local. */
bool watch_thread_sleep(struct watch_thread *watch, int64_t milliseconds);

/* Wakes the thread and waits until it has returned. Local. */
void watch_thread_end(struct watch_thread *watch);

#endif
