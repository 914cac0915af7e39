/* The client half of GetModelInfo, for bench serve. */
#include "runtime/rpc_model_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "proto/moebius/v1/inference.pb-c.h"
#include "runtime/rpc_arena.h"

#define ANSWER_BYTES_MAX ((size_t)16 << 20) /* unpacked */

/* Cut to size; control characters do not reach a terminal. */
static void copy_bytes(const ProtobufCBinaryData *bytes, char *out, size_t size) {
    size_t length = bytes->len < size - 1 ? bytes->len : size - 1;
    for (size_t i = 0; i < length; i++)
        out[i] = bytes->data[i] >= ' ' && bytes->data[i] < 127 ? (char)bytes->data[i] : '?';
    out[length] = '\0';
}

static void on_message(void *context, struct rpc_client_call *call, const uint8_t *data,
                       size_t size) {
    struct rpc_model_client *answer = context;
    (void)call;
    struct rpc_arena arena;
    rpc_arena_init(&arena, ANSWER_BYTES_MAX);
    const Moebius__V1__GetModelInfoResponse *wire =
        moebius__v1__get_model_info_response__unpack(&arena.allocator, size, data);
    if (wire != NULL) {
        copy_bytes(&wire->model, answer->model, sizeof answer->model);
        copy_bytes(&wire->architecture, answer->architecture, sizeof answer->architecture);
        copy_bytes(&wire->dtype, answer->dtype, sizeof answer->dtype);
        answer->vocabulary = wire->vocab_size < INT32_MAX ? (int32_t)wire->vocab_size : 0;
        answer->positions = wire->max_context < INT32_MAX ? (int32_t)wire->max_context : INT32_MAX;
    }
    rpc_arena_deinit(&arena);
}

static void on_finish(void *context, struct rpc_client_call *call, enum rpc_code code,
                      const char *message) {
    struct rpc_model_client *answer = context;
    (void)call;
    answer->is_done = true;
    answer->code = code;
    snprintf(answer->message, sizeof answer->message, "%s", message);
    if (code == RPC_OK && answer->vocabulary < 1) {
        answer->code = RPC_INTERNAL;
        snprintf(answer->message, sizeof answer->message,
                 "expected a GetModelInfoResponse with a "
                 "vocabulary, got none");
    }
}

enum status rpc_model_client_ask(struct rpc_client *client, const char *model, int64_t deadline_ns,
                                 struct rpc_model_client *answer) {
    *answer = (struct rpc_model_client){0};
    Moebius__V1__GetModelInfoRequest wire = MOEBIUS__V1__GET_MODEL_INFO_REQUEST__INIT;
    if (model != NULL) {
        wire.model.len = strlen(model);
        memcpy(&wire.model.data, &model, sizeof model); /* not const, but only read */
    }
    size_t size = protobuf_c_message_get_packed_size(&wire.base);
    uint8_t *packed = malloc(size + 1);
    if (packed == NULL) {
        LOG_ERROR("request: cannot take memory for it");
        return STATUS_NO_MEMORY;
    }
    protobuf_c_message_pack(&wire.base, packed);
    struct rpc_client_request call = {.path = "/moebius.v1.Inference/GetModelInfo",
                                      .message = packed,
                                      .message_size = size,
                                      .deadline_ns = deadline_ns,
                                      .context = answer,
                                      .on_message = on_message,
                                      .on_finish = on_finish};
    struct rpc_client_call *begun;
    enum status status = rpc_client_call(client, &call, &begun);
    free(packed);
    return status;
}
