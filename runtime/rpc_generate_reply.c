/* From the service to the wire: between the callbacks that rpc_inference gets and the messages that
 * it sends. */
#include "runtime/rpc_generate_reply.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"

/* ---- parts, in the arena ---- */

/* Copies, since what the service tells is valid during its callback only. false: the cap. */
static bool copy_bytes(struct rpc_arena *arena, const char *bytes, size_t length,
                       ProtobufCBinaryData *out) {
    *out = (ProtobufCBinaryData){0};
    if (length == 0)
        return true;
    out->data = rpc_arena_take(arena, length);
    if (out->data == NULL)
        return false;
    memcpy(out->data, bytes, length);
    out->len = length;
    return true;
}

static bool copy_text(struct rpc_arena *arena, const char *text, ProtobufCBinaryData *out) {
    return copy_bytes(arena, text, text != NULL ? strlen(text) : 0, out);
}

static bool copy_ids(struct rpc_arena *arena, const int32_t *ids, int32_t count, uint32_t **out,
                     size_t *out_count) {
    *out_count = 0;
    if (count == 0)
        return true;
    *out = rpc_arena_take(arena, (size_t)count * sizeof **out);
    if (*out == NULL)
        return false;
    memcpy(*out, ids, (size_t)count * sizeof **out); /* ids are not negative */
    *out_count = (size_t)count;
    return true;
}

/* One log-probability. That of a prompt's first token is NaN with us, and 0 with rank 0 on the
 * wire.
 */
static Moebius__V1__TokenLogprob *logprob_message(struct rpc_generate_reply *reply,
                                                  const struct generation_logprob *logprob) {
    Moebius__V1__TokenLogprob *message = rpc_arena_take(reply->arena, sizeof *message);
    if (message == NULL)
        return NULL;
    moebius__v1__token_logprob__init(message);
    message->token_id = (uint32_t)logprob->id;
    bool is_known = !isnan(logprob->logprob);
    message->logprob = is_known ? (float)logprob->logprob : 0.0f;
    message->rank = is_known ? (uint32_t)logprob->rank : 0;
    size_t length;
    const char *bytes = generation_service_token_bytes(reply->service, logprob->id, &length);
    if (!copy_bytes(reply->arena, bytes, length, &message->token))
        return NULL;
    size_t tops = is_known ? (size_t)logprob->top_count : 0;
    if (tops == 0)
        return message;
    message->top_ids = rpc_arena_take(reply->arena, tops * sizeof *message->top_ids);
    message->top_logprobs = rpc_arena_take(reply->arena, tops * sizeof *message->top_logprobs);
    if (message->top_ids == NULL || message->top_logprobs == NULL)
        return NULL;
    message->n_top_ids = message->n_top_logprobs = tops;
    for (size_t i = 0; i < tops; i++) {
        message->top_ids[i] = (uint32_t)logprob->top[i].id;
        message->top_logprobs[i] = (float)logprob->top[i].logprob;
    }
    return message;
}

static bool copy_logprobs(struct rpc_generate_reply *reply,
                          const struct generation_logprob *logprobs, int32_t count,
                          Moebius__V1__TokenLogprob ***out, size_t *out_count) {
    *out_count = 0;
    if (logprobs == NULL || count == 0)
        return true;
    *out = rpc_arena_take(reply->arena, (size_t)count * sizeof **out);
    if (*out == NULL)
        return false;
    for (int32_t i = 0; i < count; i++) {
        (*out)[i] = logprob_message(reply, &logprobs[i]);
        if ((*out)[i] == NULL)
            return false;
    }
    *out_count = (size_t)count;
    return true;
}

static Moebius__V1__FinishReason finish_reason(enum generation_finish finish) {
    switch (finish) {
    case GENERATION_LENGTH:
        return MOEBIUS__V1__FINISH_REASON__FINISH_REASON_LENGTH;
    case GENERATION_EOS:
        return MOEBIUS__V1__FINISH_REASON__FINISH_REASON_EOS_TOKEN;
    case GENERATION_STOP_TEXT:
        return MOEBIUS__V1__FINISH_REASON__FINISH_REASON_STOP_SEQUENCE;
    case GENERATION_STOP_TOKEN:
        return MOEBIUS__V1__FINISH_REASON__FINISH_REASON_STOP_TOKEN;
    case GENERATION_TIME_LIMIT:
        return MOEBIUS__V1__FINISH_REASON__FINISH_REASON_TIME_LIMIT;
    case GENERATION_ABORTED:
        return MOEBIUS__V1__FINISH_REASON__FINISH_REASON_ABORTED;
    case GENERATION_RUNNING:
    case GENERATION_DEADLINE:
    case GENERATION_FAILED:
        break; /* these come as errors */
    }
    return MOEBIUS__V1__FINISH_REASON__FINISH_REASON_UNSPECIFIED;
}

/* The last words of a choice: why it ended, its seed, its tokens. */
static bool describe_end(struct rpc_generate_reply *reply,
                         const struct generation_end_of_choice *end,
                         Moebius__V1__GenerateChunk *chunk) {
    chunk->index = (uint32_t)end->index;
    chunk->finish_reason = finish_reason(end->finish);
    chunk->seed = end->seed;
    if (end->matched_stop != NULL) {
        chunk->matched_case = MOEBIUS__V1__GENERATE_CHUNK__MATCHED_MATCHED_STOP;
        if (!copy_text(reply->arena, end->matched_stop, &chunk->matched_stop))
            return false;
    } else if (end->matched_id >= 0) {
        chunk->matched_case = MOEBIUS__V1__GENERATE_CHUNK__MATCHED_MATCHED_TOKEN_ID;
        chunk->matched_token_id = (uint32_t)end->matched_id;
    }
    chunk->usage = rpc_arena_take(reply->arena, sizeof *chunk->usage);
    if (chunk->usage == NULL)
        return false;
    moebius__v1__usage__init(chunk->usage);
    chunk->usage->prompt_tokens = (uint32_t)reply->prompt_tokens;
    chunk->usage->cached_tokens = (uint32_t)reply->cached_tokens;
    chunk->usage->completion_tokens = (uint32_t)end->tokens;
    return true;
}

static bool describe_time(struct rpc_generate_reply *reply, const struct generation_usage *usage,
                          Moebius__V1__Timings **out) {
    if (!reply->timings)
        return true;
    Moebius__V1__Timings *timings = rpc_arena_take(reply->arena, sizeof *timings);
    if (timings == NULL)
        return false;
    moebius__v1__timings__init(timings);
    timings->queue_us = (uint64_t)usage->queue_ns / 1000;
    timings->prefill_us = (uint64_t)usage->prefill_ns / 1000;
    timings->first_token_us = (uint64_t)usage->first_token_ns / 1000;
    timings->decode_us = (uint64_t)usage->decode_ns / 1000;
    timings->total_us = (uint64_t)usage->total_ns / 1000;
    *out = timings;
    return true;
}

enum status rpc_generate_reply_init(struct rpc_generate_reply *reply,
                                    const struct generation_service *service,
                                    struct rpc_arena *arena,
                                    const Moebius__V1__GenerateRequest *wire, bool streams) {
    *reply = (struct rpc_generate_reply){
        .service = service, .arena = arena, .n = wire->n > 0 ? (int32_t)wire->n : 1};
    moebius__v1__generate_chunk__init(&reply->head);
    if (wire->output != NULL) {
        reply->no_text = wire->output->no_text;
        reply->token_ids = wire->output->token_ids;
        reply->echo = wire->output->echo;
        reply->timings = wire->output->timings;
    }
    if (!generation_service_has_text(service))
        reply->token_ids = true; /* else the answer would be nothing at all */
    if (streams)
        return STATUS_OK;
    reply->choices = calloc((size_t)reply->n, sizeof *reply->choices);
    if (reply->choices == NULL) {
        LOG_ERROR("rpc: cannot take %d choices of a response", reply->n);
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < reply->n; i++)
        moebius__v1__generate_chunk__init(&reply->choices[i].chunk);
    return STATUS_OK;
}

enum status rpc_generate_reply_start(struct rpc_generate_reply *reply,
                                     const struct generation_start *start) {
    reply->prompt_tokens = start->prompt_tokens;
    reply->cached_tokens = start->cached_tokens;
    Moebius__V1__GenerateChunk *head = &reply->head;
    bool has_room = copy_text(reply->arena, start->request_id, &head->request_id) &&
                    copy_logprobs(reply, start->prompt_logprobs, start->prompt_tokens,
                                  &head->prompt_logprobs, &head->n_prompt_logprobs);
    if (has_room && reply->echo && reply->token_ids)
        has_room = copy_ids(reply->arena, start->prompt, start->prompt_tokens,
                            &head->prompt_token_ids, &head->n_prompt_token_ids);
    return has_room ? STATUS_OK : STATUS_LIMIT;
}

/* ---- streams ---- */

/* An empty chunk, or the first one with its head. */
static Moebius__V1__GenerateChunk begin_chunk(struct rpc_generate_reply *reply) {
    Moebius__V1__GenerateChunk chunk = MOEBIUS__V1__GENERATE_CHUNK__INIT;
    if (reply->head_sent)
        return chunk;
    reply->head_sent = true;
    return reply->head;
}

enum status rpc_generate_reply_delta(struct rpc_generate_reply *reply,
                                     const struct generation_delta *delta,
                                     Moebius__V1__GenerateChunk *chunk) {
    *chunk = begin_chunk(reply);
    chunk->index = (uint32_t)delta->index;
    bool has_room = copy_logprobs(reply, delta->logprobs, delta->id_count, &chunk->logprobs,
                                  &chunk->n_logprobs);
    if (has_room && !reply->no_text)
        has_room = copy_bytes(reply->arena, delta->text, delta->text_bytes, &chunk->text);
    if (has_room && reply->token_ids)
        has_room = copy_ids(reply->arena, delta->ids, delta->id_count, &chunk->token_ids,
                            &chunk->n_token_ids);
    return has_room ? STATUS_OK : STATUS_LIMIT;
}

enum status rpc_generate_reply_end(struct rpc_generate_reply *reply,
                                   const struct generation_end_of_choice *end,
                                   Moebius__V1__GenerateChunk *chunk, bool *is_last) {
    *chunk = begin_chunk(reply);
    *is_last = ++reply->ended == reply->n;
    if (!describe_end(reply, end, chunk))
        return STATUS_LIMIT;
    if (*is_last)
        reply->last = *chunk;
    return STATUS_OK;
}

enum status rpc_generate_reply_done(struct rpc_generate_reply *reply,
                                    const struct generation_usage *usage,
                                    Moebius__V1__GenerateChunk *chunk) {
    *chunk = reply->last;
    return describe_time(reply, usage, &chunk->timings) ? STATUS_OK : STATUS_LIMIT;
}

void rpc_generate_reply_sent(struct rpc_generate_reply *reply) {
    if (reply->head_sent && reply->ended < reply->n)
        rpc_arena_reset(reply->arena);
}

/* ---- whole responses ---- */

void rpc_generate_reply_deinit(struct rpc_generate_reply *reply) {
    for (int32_t i = 0; reply->choices != NULL && i < reply->n; i++) {
        text_buffer_deinit(&reply->choices[i].text);
        text_buffer_deinit(&reply->choices[i].ids);
        text_buffer_deinit(&reply->choices[i].logprobs);
    }
    free(reply->choices);
    reply->choices = NULL;
}

enum status rpc_generate_reply_collect(struct rpc_generate_reply *reply,
                                       const struct generation_delta *delta) {
    struct rpc_generate_choice *choice = &reply->choices[delta->index];
    if (!reply->no_text && delta->text_bytes > 0)
        RETURN_IF_ERROR(text_buffer_append(&choice->text, delta->text, delta->text_bytes));
    size_t count = (size_t)delta->id_count;
    if (reply->token_ids && count > 0)
        RETURN_IF_ERROR(
            text_buffer_append(&choice->ids, (const char *)delta->ids, count * sizeof *delta->ids));
    Moebius__V1__TokenLogprob **logprobs;
    size_t logprob_count;
    if (!copy_logprobs(reply, delta->logprobs, delta->id_count, &logprobs, &logprob_count))
        return STATUS_LIMIT;
    if (logprob_count == 0)
        return STATUS_OK;
    return text_buffer_append(&choice->logprobs, (const char *)(const void *)logprobs,
                              logprob_count * sizeof *logprobs);
}

enum status rpc_generate_reply_collect_end(struct rpc_generate_reply *reply,
                                           const struct generation_end_of_choice *end) {
    return describe_end(reply, end, &reply->choices[end->index].chunk) ? STATUS_OK : STATUS_LIMIT;
}

/* A choice's chunk, all in one. */
static void complete_choice(struct rpc_generate_choice *choice, int32_t index) {
    Moebius__V1__GenerateChunk *chunk = &choice->chunk;
    chunk->index = (uint32_t)index;
    chunk->text = (ProtobufCBinaryData){choice->text.length, (uint8_t *)choice->text.data};
    chunk->n_token_ids = choice->ids.length / sizeof *chunk->token_ids;
    chunk->token_ids = (uint32_t *)(void *)choice->ids.data;
    chunk->n_logprobs = choice->logprobs.length / sizeof *chunk->logprobs;
    chunk->logprobs = (Moebius__V1__TokenLogprob **)(void *)choice->logprobs.data;
}

enum status rpc_generate_reply_response(struct rpc_generate_reply *reply,
                                        const struct generation_usage *usage,
                                        Moebius__V1__GenerateResponse *response) {
    moebius__v1__generate_response__init(response);
    response->usage = rpc_arena_take(reply->arena, sizeof *response->usage);
    response->choices = rpc_arena_take(reply->arena, (size_t)reply->n * sizeof *response->choices);
    if (response->usage == NULL || response->choices == NULL ||
        !describe_time(reply, usage, &response->timings))
        return STATUS_LIMIT;
    moebius__v1__usage__init(response->usage);
    response->usage->prompt_tokens = (uint32_t)usage->prompt_tokens;
    response->usage->cached_tokens = (uint32_t)usage->cached_tokens;
    response->usage->completion_tokens = (uint32_t)usage->completion_tokens;
    response->request_id = reply->head.request_id;
    response->n_choices = (size_t)reply->n;
    for (int32_t i = 0; i < reply->n; i++) {
        complete_choice(&reply->choices[i], i);
        response->choices[i] = &reply->choices[i].chunk;
    }
    Moebius__V1__GenerateChunk *first = response->choices[0];
    first->n_prompt_logprobs = reply->head.n_prompt_logprobs;
    first->prompt_logprobs = reply->head.prompt_logprobs;
    first->n_prompt_token_ids = reply->head.n_prompt_token_ids;
    first->prompt_token_ids = reply->head.prompt_token_ids;
    return STATUS_OK;
}
