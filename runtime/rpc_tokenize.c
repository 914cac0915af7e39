/* Tokenize and Detokenize: from the message to the packed answer in one go, on whichever thread. */
#include "runtime/rpc_tokenize.h"

#include <string.h>

#include "proto/moebius/v1/inference.pb-c.h"
#include "runtime/rpc_generate.h"
#include "runtime/rpc_generate_request.h"
#include "runtime/rpc_read_job.h"

#define TEXT_BYTES_MAX ((size_t)16 << 20) /* of an answer; its ids take far fewer */

static enum generation_error refuse_memory(struct rpc_read_job *job) {
    return generation_request_refuse(&job->message, GENERATION_ERROR_FULL,
                                     "the server is out of memory");
}

static enum generation_error pack(struct rpc_read_job *job, const ProtobufCMessage *message) {
    size_t size = protobuf_c_message_get_packed_size(message);
    if (text_buffer_reserve(&job->answer, size) != STATUS_OK)
        return refuse_memory(job);
    protobuf_c_message_pack(message, (uint8_t *)job->answer.data);
    job->answer.length = size;
    return GENERATION_ERROR_NONE;
}

/* The pieces of ids as messages. */
static enum generation_error list_pieces(struct rpc_read_job *job, const struct token_list *ids,
                                         Moebius__V1__TokenizeResponse *response) {
    size_t count = (size_t)ids->count;
    response->pieces = rpc_arena_take(&job->arena, count * sizeof *response->pieces);
    for (size_t i = 0; response->pieces != NULL && i < count; i++) {
        size_t length;
        const char *bytes = generation_service_token_bytes(job->service, ids->ids[i], &length);
        uint8_t *copy = rpc_arena_take(&job->arena, length);
        if (copy == NULL)
            break;
        memcpy(copy, bytes, length);
        response->pieces[response->n_pieces++] = (ProtobufCBinaryData){length, copy};
    }
    if (response->n_pieces == count)
        return GENERATION_ERROR_NONE;
    return generation_request_refuse(&job->message, GENERATION_ERROR_FULL,
                                     "pieces: expected fewer, got more than one answer may hold");
}

static enum generation_error read_text(struct rpc_read_job *job) {
    const Moebius__V1__TokenizeRequest *wire = (const void *)job->wire;
    Moebius__V1__TokenizeResponse response = MOEBIUS__V1__TOKENIZE_RESPONSE__INIT;
    struct token_list ids = {0};
    enum generation_error error = generation_service_tokenize(
        job->service, wire->text.data != NULL ? (const char *)wire->text.data : "", wire->text.len,
        wire->add_special_tokens, &ids, &job->message);
    if (error == GENERATION_ERROR_NONE && wire->pieces)
        error = list_pieces(job, &ids, &response);
    response.n_ids = (size_t)ids.count;
    response.ids = (uint32_t *)ids.ids;
    if (error == GENERATION_ERROR_NONE)
        error = pack(job, &response.base);
    token_list_deinit(&ids);
    return error;
}

static enum generation_error list_bytes(struct rpc_read_job *job, const int32_t *ids, size_t count,
                                        struct text_buffer *raw) {
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const char *bytes = generation_service_token_bytes(job->service, ids[i], &length);
        if (raw->length + length > TEXT_BYTES_MAX)
            return generation_request_refuse(&job->message, GENERATION_ERROR_FULL,
                                             "ids: expected at most %zu bytes of text, got more",
                                             TEXT_BYTES_MAX);
        if (text_buffer_append(raw, bytes, length) != STATUS_OK)
            return refuse_memory(job);
    }
    return GENERATION_ERROR_NONE;
}

static enum generation_error read_ids(struct rpc_read_job *job) {
    const Moebius__V1__DetokenizeRequest *wire = (const void *)job->wire;
    const int32_t *ids;
    struct text_buffer text = {0}, raw = {0};
    enum generation_error error =
        rpc_generate_request_ids(wire->ids, wire->n_ids, "ids", &job->arena, &ids, &job->message);
    if (error == GENERATION_ERROR_NONE)
        error = list_bytes(job, ids, wire->n_ids, &raw);
    if (error == GENERATION_ERROR_NONE)
        error = generation_service_detokenize(job->service, ids, (int32_t)wire->n_ids,
                                              wire->keep_special_tokens, &text, &job->message);
    if (error == GENERATION_ERROR_NONE) {
        Moebius__V1__DetokenizeResponse response = MOEBIUS__V1__DETOKENIZE_RESPONSE__INIT;
        response.text = (ProtobufCBinaryData){text.length, (uint8_t *)text.data};
        response.raw = (ProtobufCBinaryData){raw.length, (uint8_t *)raw.data};
        error = pack(job, &response.base);
    }
    text_buffer_deinit(&text);
    text_buffer_deinit(&raw);
    return error;
}

static void finish(struct rpc_read_job *job) {
    if (job->error == GENERATION_ERROR_NONE)
        rpc_call_reply(job->owner, (const uint8_t *)job->answer.data, job->answer.length);
    else
        rpc_generate_refuse(job->owner, job->error, &job->message);
}

static void run(const struct rpc_read_kind *kind, struct generation_service *service,
                struct rpc_call *call, const uint8_t *data, size_t size) {
    struct rpc_read_job *job = rpc_read_job_create(call, kind, service, data, size);
    if (job == NULL) {
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "the server is out of memory");
        return;
    }
    job->owner = call;
    rpc_call_set_data(call, job);
    rpc_read_job_run(job);
}

void rpc_tokenize_text(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    static const struct rpc_read_kind kind = {&moebius__v1__tokenize_request__descriptor, read_text,
                                              finish};
    run(&kind, context, call, data, size);
}

void rpc_tokenize_ids(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    static const struct rpc_read_kind kind = {&moebius__v1__detokenize_request__descriptor,
                                              read_ids, finish};
    run(&kind, context, call, data, size);
}

void rpc_tokenize_on_cancel(void *context, struct rpc_call *call, enum rpc_code reason) {
    (void)context, (void)reason;
    if (rpc_call_data(call) != NULL)
        rpc_read_job_drop(rpc_call_data(call));
}
