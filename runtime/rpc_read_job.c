/* The way of a message to the text worker and back. What is read from it stands in rpc_generate.c
 * and rpc_tokenize.c. */
#include "runtime/rpc_read_job.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/clock.h"

#define ARENA_BYTES_MAX ((size_t)64 << 20)

static void work(struct text_job *base) {
    struct rpc_read_job *job = (struct rpc_read_job *)base;
    job->wire =
        protobuf_c_message_unpack(job->kind->type, &job->arena.allocator, job->size, job->data);
    if (job->wire != NULL)
        job->error = job->kind->read(job);
    else if (job->arena.is_exhausted)
        job->error = generation_request_refuse(&job->message, GENERATION_ERROR_FULL,
                                               "the request unpacks into too much memory");
    else
        job->error = generation_request_refuse(&job->message, GENERATION_ERROR_INVALID,
                                               "the request is not a message of its type");
}

static void done(struct text_job *base) {
    struct rpc_read_job *job = (struct rpc_read_job *)base;
    if (job->owner != NULL)
        job->kind->finish(job);
    rpc_arena_deinit(&job->arena);
    token_list_deinit(&job->encoding.ids);
    text_buffer_deinit(&job->answer);
    free(job);
}

struct rpc_read_job *rpc_read_job_create(struct rpc_call *call, const struct rpc_read_kind *kind,
                                         struct generation_service *service, const uint8_t *data,
                                         size_t size) {
    struct rpc_read_job *job = calloc(1, sizeof *job + size);
    if (job == NULL)
        return NULL;
    job->job = (struct text_job){.work = work,
                                 .done = done,
                                 .client = generation_request_client(rpc_call_client(call)),
                                 .bytes = (int64_t)size};
    job->kind = kind;
    job->service = service;
    job->arrived_ns = clock_now_ns();
    rpc_arena_init(&job->arena, ARENA_BYTES_MAX);
    job->size = size;
    if (size > 0)
        memcpy(job->data, data, size);
    return job;
}

bool rpc_read_job_is_long(const struct rpc_read_job *job) {
    return job->size > GENERATION_LONG_BYTES;
}

void rpc_read_job_run(struct rpc_read_job *job) {
    struct generation_message message = {0};
    if (rpc_read_job_is_long(job)) {
        enum generation_error error = generation_service_defer(job->service, &job->job, &message);
        if (error == GENERATION_ERROR_NONE)
            return; /* it is the worker's now */
        job->error = error;
        job->message = message;
    } else {
        work(&job->job);
    }
    done(&job->job);
}

void rpc_read_job_drop(struct rpc_read_job *job) {
    job->owner = NULL;
    text_worker_drop(&job->job);
}
