/* Requests come in: checked here, copied, queued with the scheduler. */
#include "runtime/engine_request.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

static enum status check_prompt(const struct engine *engine, const struct engine_request *request) {
    if (request->prompt_count < 1 || request->prompt_count > engine->positions - 1) {
        LOG_ERROR("prompt: expected 1 to %d tokens (--max-model-len less one), got %d",
                  engine->positions - 1, request->prompt_count);
        return STATUS_BAD_REQUEST;
    }
    for (int32_t i = 0; i < request->prompt_count; i++) {
        if (request->prompt[i] >= 0 && request->prompt[i] < engine->spec.vocabulary)
            continue;
        LOG_ERROR("prompt: token %d: expected an id from 0 to %d, got %d", i,
                  engine->spec.vocabulary - 1, request->prompt[i]);
        return STATUS_BAD_REQUEST;
    }
    return STATUS_OK;
}

/* While min_tokens are missing, end tokens and stop ids stand behind the banned ones. */
static enum status check_banned(const struct engine *engine, const struct engine_request *request) {
    int32_t ends = engine->spec.eos_count, stops = request->stop_id_count;
    for (int32_t i = 0; i < stops; i++) {
        if (request->stop_ids[i] >= 0 && request->stop_ids[i] < engine->spec.vocabulary)
            continue;
        LOG_ERROR("stop_token_ids[%d]: expected an id from 0 to %d, got %d", i,
                  engine->spec.vocabulary - 1, request->stop_ids[i]);
        return STATUS_BAD_REQUEST;
    }
    int64_t count = (int64_t)request->sampling.banned_count + stops;
    if (request->min_tokens == 0 || count <= SAMPLING_BANNED_MAX - ends)
        return STATUS_OK;
    LOG_ERROR("sampling parameter banned count: expected at most %d with stop_token_ids, beside "
              "min_tokens and the model's %d end tokens, got %lld",
              SAMPLING_BANNED_MAX - ends, ends, (long long)count);
    return STATUS_BAD_REQUEST;
}

static enum status check(const struct engine *engine, const struct engine_request *request) {
    RETURN_IF_ERROR(check_prompt(engine, request));
    if (request->max_tokens < 1) {
        LOG_ERROR("max_tokens: expected at least 1, got %d", request->max_tokens);
        return STATUS_BAD_REQUEST;
    }
    if (request->min_tokens < 0 || request->min_tokens > request->max_tokens) {
        LOG_ERROR("min_tokens: expected 0 to max_tokens (%d), got %d", request->max_tokens,
                  request->min_tokens);
        return STATUS_BAD_REQUEST;
    }
    if (request->all_logits && !engine->executor.options.sends_logits) {
        LOG_ERROR("all_logits: expected false (the engine has no room for them), got true");
        return STATUS_BAD_REQUEST;
    }
    if (request->prompt_logprob_top < 0 || request->prompt_logprob_top > SAMPLING_LOGPROBS_MAX) {
        LOG_ERROR("prompt_logprobs: expected 0 to %d, got %d", SAMPLING_LOGPROBS_MAX,
                  request->prompt_logprob_top);
        return STATUS_BAD_REQUEST;
    }
    RETURN_IF_ERROR(sampling_params_check(&request->sampling, engine->spec.vocabulary));
    return check_banned(engine, request);
}

/* A time of 0 is none. */
static int64_t time_or_never(int64_t time_ns) {
    return time_ns > 0 ? time_ns : SCHEDULER_NEVER_NS;
}

static enum status queue(struct engine *engine, const struct engine_request *request,
                         struct live_request *live, int32_t *handle) {
    struct scheduler_request scheduled = {
        .tokens = live->tokens,
        .prompt_count = live->prompt_count,
        .max_tokens = live->max_tokens,
        .priority = request->priority,
        .client = request->client,
        .deadline_ns = time_or_never(request->deadline_ns),
        .limit_ns = time_or_never(request->time_limit_ns),
        .whole_prompt = request->all_logits || request->prompt_logprobs,
        .sibling = request->shares_prompt ? request->sibling : -1};
    return scheduler_submit(engine->scheduler, &scheduled, handle);
}

enum status engine_request_submit(struct engine *engine, const struct engine_request *request,
                                  int32_t *handle) {
    RETURN_IF_ERROR(check(engine, request));
    if (scheduler_room(engine->scheduler) == 0)
        return STATUS_LIMIT;
    int32_t room = engine->positions - request->prompt_count;
    struct live_request live = {.used = true,
                                .request = *request,
                                .prompt_count = request->prompt_count,
                                .token_count = request->prompt_count,
                                .max_tokens =
                                    request->max_tokens < room ? request->max_tokens : room};
    size_t tokens = (size_t)live.prompt_count + (size_t)live.max_tokens;
    live.request.prompt = live.request.stop_ids = NULL;
    if (request->min_tokens > 0 && request->stop_id_count > 0)
        memcpy(live.request.sampling.banned + request->sampling.banned_count, request->stop_ids,
               sizeof(int32_t) * (size_t)request->stop_id_count);
    live.tokens = malloc(sizeof(int32_t) * tokens);
    if (live.tokens == NULL) {
        LOG_ERROR("engine: cannot take memory for a request of %zu tokens", tokens);
        return STATUS_NO_MEMORY;
    }
    memcpy(live.tokens, request->prompt, sizeof(int32_t) * (size_t)request->prompt_count);
    int32_t place;
    enum status status = queue(engine, request, &live, &place);
    if (status != STATUS_OK) {
        free(live.tokens);
        return status;
    }
    ASSERT(!engine->live[place].used);
    engine->live[place] = live;
    engine->running++;
    *handle = place;
    return STATUS_OK;
}

void engine_request_free(struct engine *engine, int32_t handle) {
    struct live_request *live = &engine->live[handle];
    free(live->tokens);
    live->tokens = NULL;
    live->used = false;
    engine->running--;
}
