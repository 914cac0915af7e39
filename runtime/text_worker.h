/* The thread that reads long texts, so that the network thread does not: one job after another,
 * those that wait in an order that is fair to clients. A client's jobs line up behind each other by
 * their bytes, so that neither many nor large ones of one client keep those of another waiting.
 *
 * All functions belong to the network thread. */
#ifndef MOEBIUS_RUNTIME_TEXT_WORKER_H
#define MOEBIUS_RUNTIME_TEXT_WORKER_H

#include <stdint.h>

#include "kernels/base/status.h"

struct text_worker;

/* The first member of what its owner allocates. That must be the job's alone: who asked for it may
 * be gone while it is worked on. */
struct text_job {
    /* On the worker's thread; left out when the job is dropped before. */
    void (*work)(struct text_job *job);
    /* On the network thread, once for each job that was taken: it is the owner's again. */
    void (*done)(struct text_job *job);
    uint64_t client; /* a hash of who asks */
    int64_t bytes;   /* of the text */
    /* The worker's. */
    struct text_worker *worker;
    int64_t place; /* in line: the bytes that are read before it ends, by one reader a client */
    struct text_job *next;
};

struct text_worker_options {
    int32_t jobs_max;            /* under way: waiting, worked on, not yet taken back */
    int64_t bytes_max;           /* of them all together */
    int64_t client_bytes_max;    /* of one client's that wait */
    void (*wake)(void *context); /* on the worker's thread: text_worker_poll has something to do */
    void *context;
};

/* Starts the thread. STATUS_NO_MEMORY (logged). Local. */
enum status text_worker_create(const struct text_worker_options *options,
                               struct text_worker **worker);

/* Ends the thread after the job that it is at, and calls `done` for all that are left. NULL is
 * allowed. Local. */
void text_worker_destroy(struct text_worker *worker);

/* STATUS_LIMIT at once (not logged: it is an answer): one of the limits would be passed. Local. */
enum status text_worker_submit(struct text_worker *worker, struct text_job *job);

/* Nobody waits for it any more, of a job that was taken: calls `done` here and now, or later as
 * ever when the worker is at it or through. Local. */
void text_worker_drop(struct text_job *job);

/* Calls `done` for all jobs that are through. Local. */
void text_worker_poll(struct text_worker *worker);

/* Bytes of the jobs that are under way. Local. */
int64_t text_worker_bytes(const struct text_worker *worker);

#endif
