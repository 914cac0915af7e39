/* A call's message on its way from bytes to what the service is told: read at once or, where it is
 * long, by the text worker. Has its own copy of the bytes and an arena for what becomes of them, so
 * that the call may end before. */
#ifndef MOEBIUS_RUNTIME_RPC_READ_JOB_H
#define MOEBIUS_RUNTIME_RPC_READ_JOB_H

#include <protobuf-c/protobuf-c.h>

#include "runtime/generation_service.h"
#include "runtime/rpc_arena.h"
#include "runtime/rpc_call.h"

struct rpc_read_job;

struct rpc_read_kind {
    const ProtobufCMessageDescriptor *type;
    /* Works on job->wire, with job->service, job->arena and the results; nothing else, for it may
     * be the worker who calls it. */
    enum generation_error (*read)(struct rpc_read_job *job);
    /* On the network thread, unless the job is dropped: brings job->error or the results to
     * job->owner. The job goes afterwards. */
    void (*finish)(struct rpc_read_job *job);
};

struct rpc_read_job {
    struct text_job job; /* first */
    const struct rpc_read_kind *kind;
    struct generation_service *service;
    void *owner; /* NULL: has gone */
    int64_t arrived_ns;
    struct rpc_arena arena;
    const ProtobufCMessage *wire;
    enum generation_error error;
    struct generation_message message;
    /* Results. */
    struct generation_request *request; /* in the arena */
    struct generation_encoding encoding;
    struct text_buffer answer; /* packed */
    size_t size;
    uint8_t data[]; /* [size] */
};

/* The bytes are copied, kind and service are kept. NULL: no memory. Local. */
struct rpc_read_job *rpc_read_job_create(struct rpc_call *call, const struct rpc_read_kind *kind,
                                         struct generation_service *service, const uint8_t *data,
                                         size_t size);

/* Reads it, now or later; the owner is set. The job, and whatever `finish` frees, may be gone
 * afterwards. Local. */
void rpc_read_job_run(struct rpc_read_job *job);

/* The owner has gone; of a job that runs. It may be gone afterwards. Local. */
void rpc_read_job_drop(struct rpc_read_job *job);

/* Whether it is long: then what takes time is to be done when it is read. Local. */
bool rpc_read_job_is_long(const struct rpc_read_job *job);

#endif
