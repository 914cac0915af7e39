/* Two lists under one lock, which nobody holds for longer than it takes to look through one. */
#include "runtime/text_worker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"

struct text_worker {
    struct text_worker_options options;
    int32_t jobs; /* under way; this and bytes: the network thread's */
    int64_t bytes;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t come;
    struct text_job *waiting, *through;
    int64_t place; /* where the line has got to: what comes now stands behind it */
    bool stop;
};

/* Takes the job out that is first in line; NULL: there is none. */
static struct text_job *take_first(struct text_worker *worker) {
    struct text_job **first = &worker->waiting;
    for (struct text_job **at = first; *at != NULL; at = &(*at)->next)
        if ((*at)->place <= (*first)->place) /* of equals the one that came first */
            first = at;
    struct text_job *job = *first;
    if (job == NULL)
        return NULL;
    *first = job->next;
    if (worker->place < job->place - job->bytes)
        worker->place = job->place - job->bytes;
    return job;
}

static void *run(void *context) {
    struct text_worker *worker = context;
    pthread_mutex_lock(&worker->lock);
    while (!worker->stop) {
        struct text_job *job = take_first(worker);
        if (job == NULL) {
            pthread_cond_wait(&worker->come, &worker->lock);
            continue;
        }
        pthread_mutex_unlock(&worker->lock);
        job->work(job);
        pthread_mutex_lock(&worker->lock);
        job->next = worker->through;
        worker->through = job;
        worker->options.wake(worker->options.context);
    }
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

enum status text_worker_create(const struct text_worker_options *options,
                               struct text_worker **out) {
    struct text_worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) {
        LOG_ERROR("cannot take memory for the thread for long texts");
        return STATUS_NO_MEMORY;
    }
    worker->options = *options;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->come, NULL);
    int error = pthread_create(&worker->thread, NULL, run, worker);
    if (error != 0) {
        LOG_ERROR("cannot start the thread for long texts: %s", strerror(error));
        free(worker);
        return STATUS_NO_MEMORY;
    }
    *out = worker;
    return STATUS_OK;
}

static void give_back(struct text_worker *worker, struct text_job *job) {
    while (job != NULL) {
        struct text_job *next = job->next;
        worker->jobs--;
        worker->bytes -= job->bytes;
        job->done(job);
        job = next;
    }
}

void text_worker_destroy(struct text_worker *worker) {
    if (worker == NULL)
        return;
    pthread_mutex_lock(&worker->lock);
    worker->stop = true;
    pthread_cond_signal(&worker->come);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    give_back(worker, worker->through);
    give_back(worker, worker->waiting);
    pthread_mutex_destroy(&worker->lock);
    pthread_cond_destroy(&worker->come);
    free(worker);
}

enum status text_worker_submit(struct text_worker *worker, struct text_job *job) {
    const struct text_worker_options *options = &worker->options;
    if (worker->jobs >= options->jobs_max || job->bytes > options->bytes_max - worker->bytes)
        return STATUS_LIMIT;
    pthread_mutex_lock(&worker->lock);
    int64_t bytes = job->bytes;
    job->place = worker->place;
    for (const struct text_job *other = worker->waiting; other != NULL; other = other->next) {
        if (other->client != job->client)
            continue;
        bytes += other->bytes;
        job->place = other->place > job->place ? other->place : job->place;
    }
    bool has_room = bytes <= options->client_bytes_max;
    if (has_room) {
        worker->jobs++;
        worker->bytes += job->bytes;
        job->worker = worker;
        job->place += job->bytes;
        job->next = worker->waiting;
        worker->waiting = job;
        pthread_cond_signal(&worker->come);
    }
    pthread_mutex_unlock(&worker->lock);
    return has_room ? STATUS_OK : STATUS_LIMIT;
}

void text_worker_drop(struct text_job *job) {
    struct text_worker *worker = job->worker;
    pthread_mutex_lock(&worker->lock);
    struct text_job **at = &worker->waiting;
    while (*at != NULL && *at != job)
        at = &(*at)->next;
    bool waits = *at == job;
    if (waits) {
        *at = job->next;
        job->next = NULL;
    }
    pthread_mutex_unlock(&worker->lock);
    if (waits)
        give_back(worker, job);
}

void text_worker_poll(struct text_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    struct text_job *through = worker->through;
    worker->through = NULL;
    pthread_mutex_unlock(&worker->lock);
    give_back(worker, through);
}

int64_t text_worker_bytes(const struct text_worker *worker) {
    return worker->bytes;
}
