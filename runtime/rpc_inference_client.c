/* The client half of the wire, for moebius complete and chat. */
#include "runtime/rpc_inference_client.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "proto/moebius/v1/inference.pb-c.h"
#include "runtime/rpc_arena.h"
#include "runtime/rpc_loop.h"

#define MESSAGE_BYTES_MAX ((size_t)256 << 20) /* of a request or a chunk, unpacked */

struct rpc_inference_client {
    struct rpc_client *client;
    struct rpc_arena arena;
    struct rpc_client_call *call; /* NULL: none runs */
    struct rpc_inference_client_listener listener;
    bool was_told, was_too_long;
};

enum status rpc_inference_client_create(struct rpc_client *client,
                                        struct rpc_inference_client **inference) {
    struct rpc_inference_client *created = calloc(1, sizeof *created);
    if (created == NULL) {
        LOG_ERROR("client: cannot take memory for its state");
        return STATUS_NO_MEMORY;
    }
    created->client = client;
    rpc_arena_init(&created->arena, MESSAGE_BYTES_MAX);
    *inference = created;
    return STATUS_OK;
}

void rpc_inference_client_destroy(struct rpc_inference_client *inference) {
    if (inference == NULL)
        return;
    rpc_arena_deinit(&inference->arena);
    free(inference);
}

/* ---- the request ---- */

/* For messages that are packed before what they borrow can change. */
static ProtobufCBinaryData borrow(const char *text, size_t length) {
    ProtobufCBinaryData bytes = {length, NULL};
    memcpy(&bytes.data, &text, sizeof text); /* the member is not const, but only read */
    return bytes;
}

static ProtobufCBinaryData borrow_text(const char *text) {
    return borrow(text, text != NULL ? strlen(text) : 0);
}

static uint32_t *borrow_ids(const int32_t *ids) {
    uint32_t *out;
    memcpy(&out, &ids, sizeof ids); /* the same bits, only read */
    return out;
}

static bool fill_chat(struct rpc_arena *arena, const struct chat_input *chat,
                      Moebius__V1__ChatMessages *out) {
    size_t count = (size_t)chat->message_count;
    Moebius__V1__ChatMessage *messages = rpc_arena_take(arena, count * sizeof *messages);
    out->messages = rpc_arena_take(arena, count * sizeof *out->messages);
    if (messages == NULL || out->messages == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        moebius__v1__chat_message__init(&messages[i]);
        messages[i].role = borrow_text(chat->messages[i].role);
        messages[i].content = borrow_text(chat->messages[i].content);
        out->messages[i] = &messages[i];
    }
    out->n_messages = count;
    return true;
}

static bool fill_bias(struct rpc_arena *arena, const struct sampling_params *sampling,
                      Moebius__V1__SamplingParams *out) {
    size_t count = (size_t)sampling->bias_count;
    if (count == 0)
        return true;
    Moebius__V1__SamplingParams__LogitBiasEntry *bias = rpc_arena_take(arena, count * sizeof *bias);
    out->logit_bias = rpc_arena_take(arena, count * sizeof *out->logit_bias);
    if (bias == NULL || out->logit_bias == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        moebius__v1__sampling_params__logit_bias_entry__init(&bias[i]);
        bias[i].key = (uint32_t)sampling->bias[i].id;
        bias[i].value = sampling->bias[i].bias;
        out->logit_bias[i] = &bias[i];
    }
    out->n_logit_bias = count;
    return true;
}

static void fill_sampling(const struct generation_request *request,
                          Moebius__V1__SamplingParams *out) {
    const struct sampling_params *sampling = &request->sampling;
    out->frequency_penalty = sampling->frequency_penalty;
    out->presence_penalty = sampling->presence_penalty;
    if ((request->given & GENERATION_GIVEN_TEMPERATURE) != 0)
        out->optional_temperature_case =
            MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TEMPERATURE_TEMPERATURE;
    if ((request->given & GENERATION_GIVEN_TOP_K) != 0)
        out->optional_top_k_case = MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TOP_K_TOP_K;
    if ((request->given & GENERATION_GIVEN_TOP_P) != 0)
        out->optional_top_p_case = MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_TOP_P_TOP_P;
    if ((request->given & GENERATION_GIVEN_MIN_P) != 0)
        out->optional_min_p_case = MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_MIN_P_MIN_P;
    if ((request->given & GENERATION_GIVEN_REPETITION_PENALTY) != 0)
        out->optional_repetition_penalty_case =
            MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_REPETITION_PENALTY_REPETITION_PENALTY;
    if ((request->given & GENERATION_GIVEN_SEED) != 0)
        out->optional_seed_case = MOEBIUS__V1__SAMPLING_PARAMS__OPTIONAL_SEED_SEED;
    out->temperature = sampling->temperature;
    out->top_k = (uint32_t)sampling->top_k;
    out->top_p = sampling->top_p;
    out->min_p = sampling->min_p;
    out->repetition_penalty = sampling->repetition_penalty;
    out->seed = sampling->seed;
}

static bool fill_stop(struct rpc_arena *arena, const struct generation_request *request,
                      Moebius__V1__StopParams *out) {
    out->max_new_tokens = (uint32_t)request->max_tokens;
    out->min_new_tokens = (uint32_t)request->min_tokens;
    out->ignore_eos = request->ignore_eos;
    out->include_stop = request->include_stop;
    out->time_limit_ms = (uint32_t)(request->time_limit_ns / 1000000);
    out->n_stop_token_ids = (size_t)request->stop_id_count;
    out->stop_token_ids = borrow_ids(request->stop_ids);
    if (request->stop_count == 0)
        return true;
    out->stop = rpc_arena_take(arena, (size_t)request->stop_count * sizeof *out->stop);
    if (out->stop == NULL)
        return false;
    for (int32_t i = 0; i < request->stop_count; i++)
        out->stop[out->n_stop++] = borrow_text(request->stop[i]);
    return true;
}

static void fill_output(const struct generation_request *request,
                        const struct rpc_inference_client_wishes *wishes,
                        Moebius__V1__OutputParams *out) {
    out->no_text = request->no_text;
    out->echo = request->echo;
    out->keep_special_tokens = request->keep_special_tokens;
    out->stream_interval = (uint32_t)request->stream_interval;
    out->logprobs = request->sampling.logprobs >= 0;
    out->top_logprobs = request->sampling.logprobs > 0 ? (uint32_t)request->sampling.logprobs : 0;
    out->token_ids = wishes->token_ids;
    out->timings = true;
}

/* Everything that one request consists of. */
struct wire_request {
    Moebius__V1__GenerateRequest request;
    Moebius__V1__TokenIds tokens;
    Moebius__V1__ChatMessages chat;
    Moebius__V1__SamplingParams sampling;
    Moebius__V1__StopParams stop;
    Moebius__V1__OutputParams output;
};

static void init_wire(struct wire_request *wire) {
    moebius__v1__generate_request__init(&wire->request);
    moebius__v1__token_ids__init(&wire->tokens);
    moebius__v1__chat_messages__init(&wire->chat);
    moebius__v1__sampling_params__init(&wire->sampling);
    moebius__v1__stop_params__init(&wire->stop);
    moebius__v1__output_params__init(&wire->output);
    wire->request.sampling = &wire->sampling;
    wire->request.stop = &wire->stop;
    wire->request.output = &wire->output;
}

static bool fill_prompt(struct rpc_arena *arena, const struct generation_request *request,
                        struct wire_request *wire) {
    Moebius__V1__GenerateRequest *out = &wire->request;
    if (request->chat != NULL) {
        out->prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT_CHAT;
        out->chat = &wire->chat;
        return fill_chat(arena, request->chat, &wire->chat);
    }
    if (request->ids != NULL) {
        wire->tokens.n_ids = (size_t)request->id_count;
        wire->tokens.ids = borrow_ids(request->ids);
        out->prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT_TOKENS;
        out->tokens = &wire->tokens;
        return true;
    }
    out->prompt_case = MOEBIUS__V1__GENERATE_REQUEST__PROMPT_TEXT;
    out->text = borrow(request->text, request->text_bytes);
    return true;
}

static bool fill_request(struct rpc_arena *arena, const struct generation_request *request,
                         const struct rpc_inference_client_wishes *wishes,
                         struct wire_request *wire) {
    init_wire(wire);
    wire->request.request_id = borrow_text(request->request_id);
    wire->request.model = borrow_text(request->model);
    wire->request.n = (uint32_t)request->n;
    wire->request.priority = request->priority;
    wire->request.truncate_prompt_tokens = (uint32_t)request->truncate_prompt_tokens;
    fill_sampling(request, &wire->sampling);
    fill_output(request, wishes, &wire->output);
    return fill_prompt(arena, request, wire) &&
           fill_bias(arena, &request->sampling, &wire->sampling) &&
           fill_stop(arena, request, &wire->stop);
}

/* ---- the answer ---- */

static const char *finish_name(Moebius__V1__FinishReason reason) {
    switch (reason) {
    case MOEBIUS__V1__FINISH_REASON__FINISH_REASON_LENGTH:
        return "length";
    case MOEBIUS__V1__FINISH_REASON__FINISH_REASON_EOS_TOKEN:
        return "eos";
    case MOEBIUS__V1__FINISH_REASON__FINISH_REASON_STOP_SEQUENCE:
        return "stop";
    case MOEBIUS__V1__FINISH_REASON__FINISH_REASON_STOP_TOKEN:
        return "stop-token";
    case MOEBIUS__V1__FINISH_REASON__FINISH_REASON_TIME_LIMIT:
        return "time-limit";
    case MOEBIUS__V1__FINISH_REASON__FINISH_REASON_ABORTED:
        return "aborted";
    case MOEBIUS__V1__FINISH_REASON__FINISH_REASON_UNSPECIFIED:
    case _MOEBIUS__V1__FINISH_REASON_IS_INT_SIZE:
        break;
    }
    return NULL;
}

static const char *copy_text(struct rpc_arena *arena, const ProtobufCBinaryData *bytes) {
    char *copy = rpc_arena_take(arena, bytes->len + 1);
    if (copy == NULL || bytes->len == 0)
        return "";
    memcpy(copy, bytes->data, bytes->len);
    return copy;
}

static const float *list_logprobs(struct rpc_arena *arena, const Moebius__V1__GenerateChunk *wire) {
    float *logprobs = rpc_arena_take(arena, wire->n_logprobs * sizeof *logprobs + 1);
    for (size_t i = 0; logprobs != NULL && i < wire->n_logprobs; i++)
        logprobs[i] = wire->logprobs[i]->logprob;
    return logprobs;
}

static void on_message(void *context, struct rpc_client_call *call, const uint8_t *data,
                       size_t size) {
    struct rpc_inference_client *self = context;
    rpc_arena_reset(&self->arena);
    const Moebius__V1__GenerateChunk *wire =
        moebius__v1__generate_chunk__unpack(&self->arena.allocator, size, data);
    if (wire == NULL) {
        LOG_ERROR("server: expected a GenerateChunk, got %zu bytes that are none", size);
        rpc_client_call_cancel(call);
        return;
    }
    const float *logprobs = list_logprobs(&self->arena, wire);
    struct rpc_inference_client_chunk chunk = {
        .request_id = copy_text(&self->arena, &wire->request_id),
        .index = (int32_t)wire->index,
        .text = wire->text.data != NULL ? (const char *)wire->text.data : "",
        .text_bytes = wire->text.len,
        .ids = wire->token_ids,
        .id_count = wire->n_token_ids,
        .logprobs = logprobs,
        .logprob_count = logprobs != NULL ? wire->n_logprobs : 0,
        .finish = finish_name(wire->finish_reason),
        .seed = wire->seed};
    if (wire->usage != NULL) {
        chunk.prompt_tokens = (int32_t)wire->usage->prompt_tokens;
        chunk.cached_tokens = (int32_t)wire->usage->cached_tokens;
        chunk.completion_tokens = (int32_t)wire->usage->completion_tokens;
    }
    if (wire->timings != NULL) {
        chunk.first_token_us = (int64_t)wire->timings->first_token_us;
        chunk.total_us = (int64_t)wire->timings->total_us;
    }
    self->listener.chunk(self->listener.context, &chunk);
}

static void on_finish(void *context, struct rpc_client_call *call, enum rpc_code code,
                      const char *message) {
    struct rpc_inference_client *self = context;
    self->call = NULL;
    self->was_told = rpc_client_call_metadata(call, "grpc-status") != NULL;
    const char *error = rpc_client_call_metadata(call, "error-code");
    self->was_too_long = error != NULL && strcmp(error, "context_length_exceeded") == 0;
    self->listener.finish(self->listener.context, code, message);
}

enum status rpc_inference_client_start(struct rpc_inference_client *inference,
                                       const struct generation_request *request,
                                       const struct rpc_inference_client_wishes *wishes,
                                       int64_t deadline_ns,
                                       const struct rpc_inference_client_listener *listener) {
    struct wire_request wire;
    rpc_arena_reset(&inference->arena);
    bool has_room = fill_request(&inference->arena, request, wishes, &wire);
    size_t size = has_room ? protobuf_c_message_get_packed_size(&wire.request.base) : 0;
    uint8_t *packed = has_room ? rpc_arena_take(&inference->arena, size + 1) : NULL;
    if (packed == NULL) {
        LOG_ERROR("request: cannot take memory for it");
        return STATUS_NO_MEMORY;
    }
    protobuf_c_message_pack(&wire.request.base, packed);
    inference->listener = *listener;
    struct rpc_client_request call = {.path = "/moebius.v1.Inference/GenerateStream",
                                      .message = packed,
                                      .message_size = size,
                                      .deadline_ns = deadline_ns,
                                      .context = inference,
                                      .on_message = on_message,
                                      .on_finish = on_finish};
    return rpc_client_call(inference->client, &call, &inference->call);
}

bool rpc_inference_client_was_told(const struct rpc_inference_client *inference) {
    return inference->was_told;
}

bool rpc_inference_client_was_too_long(const struct rpc_inference_client *inference) {
    return inference->was_too_long;
}

void rpc_inference_client_cancel(struct rpc_inference_client *inference) {
    if (inference->call != NULL)
        rpc_client_call_cancel(inference->call);
}

enum status rpc_inference_client_status(enum rpc_code code) {
    switch (code) {
    case RPC_OK:
        return STATUS_OK;
    case RPC_INVALID_ARGUMENT:
    case RPC_NOT_FOUND:
    case RPC_ALREADY_EXISTS:
    case RPC_OUT_OF_RANGE:
    case RPC_FAILED_PRECONDITION:
        return STATUS_BAD_REQUEST;
    case RPC_UNIMPLEMENTED:
        return STATUS_UNSUPPORTED;
    case RPC_RESOURCE_EXHAUSTED:
        return STATUS_LIMIT;
    case RPC_UNAVAILABLE:
        return STATUS_UNAVAILABLE;
    case RPC_DEADLINE_EXCEEDED:
        return STATUS_DEADLINE;
    case RPC_UNAUTHENTICATED:
    case RPC_PERMISSION_DENIED:
        return STATUS_DENIED;
    case RPC_CANCELLED:
    case RPC_ABORTED:
        return STATUS_INTERRUPTED;
    case RPC_UNKNOWN:
    case RPC_INTERNAL:
    case RPC_DATA_LOSS:
    case RPC_CODE_COUNT:
        break;
    }
    return STATUS_INTERNAL;
}
