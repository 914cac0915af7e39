/* A condition on the monotonic clock: whoever sets the time of day does not stop a watch. */
#define _GNU_SOURCE
#include "comm/watch_thread.h"

#include <signal.h>
#include <time.h>

#define NS_PER_S 1000000000

static void release(struct watch_thread *watch) {
    pthread_cond_destroy(&watch->wake);
    pthread_mutex_destroy(&watch->lock);
}

bool watch_thread_start(struct watch_thread *watch, void *(*run)(void *), void *context) {
    sigset_t all, before;
    pthread_condattr_t attributes;
    watch->is_over = false;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&watch->lock, NULL);
    sigfillset(&all); /* signals are for the threads that know what to do with them */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_started = pthread_create(&watch->thread, NULL, run, context) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!is_started)
        release(watch);
    return is_started;
}

bool watch_thread_sleep(struct watch_thread *watch, int64_t milliseconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t end = until.tv_nsec + milliseconds * 1000000;
    until.tv_sec += (time_t)(end / NS_PER_S);
    until.tv_nsec = (long)(end % NS_PER_S);
    pthread_mutex_lock(&watch->lock);
    while (!watch->is_over && pthread_cond_timedwait(&watch->wake, &watch->lock, &until) == 0)
        ;
    bool goes_on = !watch->is_over;
    pthread_mutex_unlock(&watch->lock);
    return goes_on;
}

void watch_thread_end(struct watch_thread *watch) {
    pthread_mutex_lock(&watch->lock);
    watch->is_over = true;
    pthread_cond_signal(&watch->wake);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    release(watch);
}
