/* Generate and GenerateStream: the two methods that take time. A request goes to the service; what
 * comes back is sent as the reader takes it. Everything runs on the network thread. */
#include "runtime/rpc_generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/rpc_generate_reply.h"
#include "runtime/rpc_generate_request.h"
#include "runtime/rpc_loop.h"
#include "runtime/rpc_message.h"
#include "runtime/rpc_read_job.h"

/* A Generate or GenerateStream call, from its request to its status. */
struct open_call {
    struct rpc_call *call;
    struct rpc_read_job *reading;       /* NULL: the request has been read */
    struct generation_call *generation; /* NULL: over, or not begun */
    bool streams;
    struct rpc_generate_reply reply;
    struct text_buffer waiting; /* packed messages that the full queue did not take, each behind its
                                   size (size_t) */
    size_t waiting_sent;        /* bytes of them that it took since */
};

/* ---- endings ---- */

static enum rpc_code code_of(enum generation_error error) {
    switch (error) {
    case GENERATION_ERROR_NONE:
        return RPC_OK;
    case GENERATION_ERROR_INVALID:
    case GENERATION_ERROR_TOO_LONG:
        return RPC_INVALID_ARGUMENT;
    case GENERATION_ERROR_NO_TEXT:
        return RPC_FAILED_PRECONDITION;
    case GENERATION_ERROR_NOT_FOUND:
        return RPC_NOT_FOUND;
    case GENERATION_ERROR_UNSUPPORTED:
        return RPC_UNIMPLEMENTED;
    case GENERATION_ERROR_FULL:
        return RPC_RESOURCE_EXHAUSTED;
    case GENERATION_ERROR_UNAVAILABLE:
        return RPC_UNAVAILABLE;
    case GENERATION_ERROR_DEADLINE:
        return RPC_DEADLINE_EXCEEDED;
    case GENERATION_ERROR_INTERNAL:
        break;
    }
    return RPC_INTERNAL;
}

static void set_trailer(struct rpc_call *call, const char *name, const char *value) {
    if (rpc_call_set_trailer(call, name, value) != STATUS_OK)
        LOG_DEBUG("rpc: no room for %s", name);
}

void rpc_generate_refuse(struct rpc_call *call, enum generation_error error,
                         const struct generation_message *message) {
    if (error == GENERATION_ERROR_FULL && message->retry_after_ms > 0) {
        char text[16];
        snprintf(text, sizeof text, "%d", message->retry_after_ms);
        set_trailer(call, "retry-after-ms", text);
    }
    if (error == GENERATION_ERROR_TOO_LONG)
        set_trailer(call, "error-code", "context_length_exceeded");
    rpc_call_finish(call, code_of(error), message->text);
}

static void open_call_free(struct open_call *self) {
    rpc_generate_reply_deinit(&self->reply);
    text_buffer_deinit(&self->waiting);
    free(self);
}

/* Ends call and generation, whatever state they are in. */
static void end(struct open_call *self, enum rpc_code code, const char *message) {
    if (self->generation != NULL)
        generation_service_cancel(self->generation);
    rpc_call_finish(self->call, code, message);
    open_call_free(self);
}

static void end_for_memory(struct open_call *self) {
    end(self, RPC_RESOURCE_EXHAUSTED,
        "the answer: expected one that fits the memory of a request, got more");
}

/* ---- sending, with a reader that may be slow ---- */

static bool is_waiting(const struct open_call *self) {
    return self->waiting_sent < self->waiting.length;
}

/* Keeps a message for later, and the service quiet until then. */
static enum status keep(struct open_call *self, const ProtobufCMessage *message) {
    size_t size = protobuf_c_message_get_packed_size(message);
    RETURN_IF_ERROR(text_buffer_reserve(&self->waiting, sizeof size + size));
    char *to = self->waiting.data + self->waiting.length;
    memcpy(to, &size, sizeof size);
    protobuf_c_message_pack(message, (uint8_t *)to + sizeof size);
    self->waiting.length += sizeof size + size;
    if (self->generation != NULL)
        generation_service_pause(self->generation, true);
    return STATUS_OK;
}

/* Sends a message of the stream, or keeps it. false: neither was possible, and `self` is gone. */
static bool deliver(struct open_call *self, const ProtobufCMessage *message) {
    enum status status = is_waiting(self) ? STATUS_LIMIT : rpc_message_send(self->call, message);
    if (status == STATUS_LIMIT)
        status = keep(self, message);
    if (status == STATUS_OK)
        return true;
    end_for_memory(self);
    return false;
}

void rpc_generate_on_writable(void *context, struct rpc_call *call) {
    (void)context;
    struct open_call *self = rpc_call_data(call);
    while (self != NULL && is_waiting(self)) {
        size_t size;
        const char *from = self->waiting.data + self->waiting_sent;
        memcpy(&size, from, sizeof size);
        enum status status = rpc_call_send(call, (const uint8_t *)from + sizeof size, size);
        if (status == STATUS_LIMIT)
            return;
        if (status != STATUS_OK) {
            end_for_memory(self);
            return;
        }
        self->waiting_sent += sizeof size + size;
    }
    if (self == NULL)
        return;
    self->waiting.length = self->waiting_sent = 0;
    if (self->generation != NULL)
        generation_service_pause(self->generation, false);
    else
        end(self, RPC_OK, NULL);
}

/* ---- news from the service ---- */

static void on_start(void *context, const struct generation_start *start) {
    struct open_call *self = context;
    if (rpc_generate_reply_start(&self->reply, start) != STATUS_OK)
        end_for_memory(self);
}

static void on_delta(void *context, const struct generation_delta *delta) {
    struct open_call *self = context;
    Moebius__V1__GenerateChunk chunk;
    enum status status = self->streams ? rpc_generate_reply_delta(&self->reply, delta, &chunk)
                                       : rpc_generate_reply_collect(&self->reply, delta);
    if (status != STATUS_OK)
        end_for_memory(self);
    else if (self->streams && deliver(self, &chunk.base))
        rpc_generate_reply_sent(&self->reply);
}

static void on_end(void *context, const struct generation_end_of_choice *choice) {
    struct open_call *self = context;
    Moebius__V1__GenerateChunk chunk;
    bool is_last = true;
    enum status status = self->streams
                             ? rpc_generate_reply_end(&self->reply, choice, &chunk, &is_last)
                             : rpc_generate_reply_collect_end(&self->reply, choice);
    if (status != STATUS_OK)
        end_for_memory(self);
    else if (!is_last && deliver(self, &chunk.base))
        rpc_generate_reply_sent(&self->reply);
}

static void finish_stream(struct open_call *self, const struct generation_usage *usage) {
    Moebius__V1__GenerateChunk chunk;
    if (rpc_generate_reply_done(&self->reply, usage, &chunk) != STATUS_OK)
        end_for_memory(self);
    else if (deliver(self, &chunk.base) && !is_waiting(self))
        end(self, RPC_OK, NULL);
}

static void on_done(void *context, const struct generation_usage *usage) {
    struct open_call *self = context;
    self->generation = NULL;
    if (self->streams) {
        finish_stream(self, usage);
        return;
    }
    Moebius__V1__GenerateResponse response;
    if (rpc_generate_reply_response(&self->reply, usage, &response) != STATUS_OK) {
        end_for_memory(self);
        return;
    }
    rpc_message_reply(self->call, &response.base);
    open_call_free(self);
}

static void on_error(void *context, enum generation_error error, const char *message) {
    struct open_call *self = context;
    self->generation = NULL;
    end(self, code_of(error), message);
}

void rpc_generate_on_cancel(void *context, struct rpc_call *call, enum rpc_code reason) {
    (void)context, (void)reason;
    struct open_call *self = rpc_call_data(call);
    if (self == NULL)
        return;
    if (self->reading != NULL)
        rpc_read_job_drop(self->reading);
    if (self->generation != NULL)
        generation_service_cancel(self->generation);
    open_call_free(self);
}

/* ---- requests ---- */

static enum generation_error read_request(struct rpc_read_job *job) {
    job->request = rpc_arena_take(&job->arena, sizeof *job->request);
    if (job->request == NULL)
        return generation_request_refuse(&job->message, GENERATION_ERROR_FULL,
                                         "the request unpacks into too much memory");
    enum generation_error error =
        rpc_generate_request_map((const void *)job->wire, &job->arena, job->request, &job->message);
    if (error != GENERATION_ERROR_NONE || !rpc_read_job_is_long(job) || job->request->ids != NULL)
        return error;
    generation_request_encode(job->request, &generation_service_options(job->service)->limits,
                              &job->encoding);
    job->request->encoding = &job->encoding;
    return error;
}

static enum generation_error submit(struct open_call *self, struct rpc_read_job *job) {
    int64_t deadline_ns = rpc_call_deadline_ns(self->call);
    job->request->arrived_ns = job->arrived_ns;
    job->request->deadline_ns = deadline_ns == RPC_LOOP_NEVER ? 0 : deadline_ns;
    job->request->client = job->job.client;
    if (rpc_generate_reply_init(&self->reply, job->service, rpc_call_arena(self->call),
                                (const void *)job->wire, self->streams) != STATUS_OK)
        return generation_request_refuse(&job->message, GENERATION_ERROR_FULL,
                                         "the server is out of memory");
    struct generation_listener listener = {.start = on_start,
                                           .delta = on_delta,
                                           .end = on_end,
                                           .done = on_done,
                                           .error = on_error,
                                           .context = self};
    return generation_service_submit(job->service, job->request, &listener, &self->generation,
                                     &job->message);
}

static void begin(struct rpc_read_job *job) {
    struct open_call *self = job->owner;
    self->reading = NULL;
    if (job->error == GENERATION_ERROR_NONE)
        job->error = submit(self, job);
    if (job->error == GENERATION_ERROR_NONE)
        return;
    generation_service_count_refusal(job->service, job->error);
    rpc_generate_refuse(self->call, job->error, &job->message);
    open_call_free(self);
}

static void generate(struct generation_service *service, struct rpc_call *call, bool streams,
                     const uint8_t *data, size_t size) {
    static const struct rpc_read_kind kind = {&moebius__v1__generate_request__descriptor,
                                              read_request, begin};
    struct open_call *self = calloc(1, sizeof *self);
    struct rpc_read_job *job =
        self != NULL ? rpc_read_job_create(call, &kind, service, data, size) : NULL;
    if (job == NULL) {
        free(self);
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "the server is out of memory");
        return;
    }
    self->call = call;
    self->streams = streams;
    self->reading = job;
    rpc_call_set_data(call, self);
    job->owner = self;
    rpc_read_job_run(job);
}

void rpc_generate_whole(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    generate(context, call, false, data, size);
}

void rpc_generate_stream(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    generate(context, call, true, data, size);
}
