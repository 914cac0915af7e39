/* Steps: pick rows (decode first, then prompt chunks), one forward, one token a finished row,
 * commit. Request by request this is where tokens come from; what they are made of is
 * model_forward's business. */
#include "runtime/engine.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "runtime/memory_plan.h"
#include "runtime/sampler.h"

#define POSITIONS_DEFAULT_MAX 8192

struct running_request {
    bool used;
    bool cancelled; /* from inside the listener: freed at the end of the step */
    struct engine_request request;
    int32_t *tokens; /* [positions]: prompt, then output */
    int32_t token_count, prompt_count;
    int32_t step_rows; /* of the step in progress */
    struct sequence sequence;
    struct sampler_state *state; /* NULL unless a penalty is on */
};

struct engine {
    struct model_spec spec;
    const struct family *family;
    struct kernels kernels;
    struct model model;
    struct batch batch;
    int32_t positions, request_capacity, running;
    struct running_request *requests; /* [request_capacity], by handle */
    int32_t *order;                   /* [running] handles, in order of admission */
    int32_t *token_memory;
    void *sampler_scratch;
    size_t sampler_scratch_bytes;
    struct sampler_logprobs logprobs;
};

const struct model_spec *engine_spec(const struct engine *engine) {
    return &engine->spec;
}

enum dtype engine_dtype_used(const struct engine *engine) {
    return engine->model.weights.dtype;
}

int32_t engine_positions(const struct engine *engine) {
    return engine->positions;
}

const struct kernels *engine_kernels(const struct engine *engine) {
    return &engine->kernels;
}

const struct model *engine_model(const struct engine *engine) {
    return &engine->model;
}

int32_t engine_running(const struct engine *engine) {
    return engine->running;
}

const struct batch *engine_batch(const struct engine *engine) {
    return &engine->batch;
}

/* ---- start and end ---- */

static enum dtype choose_dtype(enum engine_dtype wanted, enum dtype stored) {
    if (wanted == ENGINE_DTYPE_AUTO)
        return stored == DTYPE_F32 ? DTYPE_F32 : DTYPE_BF16;
    return wanted == ENGINE_DTYPE_F32 ? DTYPE_F32 : DTYPE_BF16;
}

static enum status choose_positions(struct engine *engine, const struct engine_options *options) {
    int32_t most = engine->spec.max_positions, wanted = options->positions;
    if (wanted > most && options->positions_of_request) {
        LOG_ERROR("prompt and new tokens: expected at most %d together (the model's "
                  "max_position_embeddings), got %d",
                  most, wanted);
        return STATUS_BAD_REQUEST;
    }
    if (wanted > most) {
        LOG_ERROR("--max-model-len: expected at most %d (the model's max_position_embeddings), "
                  "got %d",
                  most, wanted);
        return STATUS_USAGE;
    }
    engine->positions = wanted > 0                     ? wanted
                        : most < POSITIONS_DEFAULT_MAX ? most
                                                       : POSITIONS_DEFAULT_MAX;
    return STATUS_OK;
}

static enum status load_model(struct engine *engine, const struct engine_options *options) {
    int64_t blocks =
        ((int64_t)engine->positions + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS * options->requests;
    if (blocks > INT32_MAX) {
        LOG_ERROR("KV cache: expected at most %d blocks, got %lld: take a smaller --max-model-len",
                  INT32_MAX, (long long)blocks);
        return STATUS_NO_MEMORY;
    }
    struct model_limits limits = {.rows = options->rows,
                                  .logit_rows =
                                      options->all_logits ? options->rows : options->requests,
                                  .positions = engine->positions,
                                  .kv_blocks = (int32_t)blocks};
    struct model_memory memory;
    RETURN_IF_ERROR(model_describe(&engine->model, &engine->spec, engine->family, &engine->kernels,
                                   choose_dtype(options->dtype, engine->spec.stored_dtype), &limits,
                                   &memory));
    struct checkpoint *checkpoint = NULL;
    if (!options->dummy_weights)
        RETURN_IF_ERROR(checkpoint_open(options->model_folder, &checkpoint));
    struct weights_mismatch mismatch;
    enum status status = STATUS_OK;
    if (checkpoint != NULL)
        status = model_weights_check(&engine->model.weights, checkpoint, NULL, NULL, &mismatch);
    if (status == STATUS_OK)
        status = memory_plan_check(&memory, (int64_t)limits.kv_blocks * KV_BLOCK_TOKENS);
    if (status == STATUS_OK)
        status = model_load(&engine->model, checkpoint);
    checkpoint_close(checkpoint);
    return status;
}

static enum status take_requests(struct engine *engine, const struct engine_options *options) {
    size_t count = (size_t)options->requests, positions = (size_t)engine->positions;
    engine->request_capacity = options->requests;
    engine->requests = calloc(count, sizeof *engine->requests);
    engine->order = malloc(sizeof *engine->order * count);
    engine->token_memory = malloc(sizeof(int32_t) * count * positions);
    if (engine->requests == NULL || engine->order == NULL || engine->token_memory == NULL) {
        LOG_ERROR("engine: cannot take memory for %d requests of %d tokens", options->requests,
                  engine->positions);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        engine->requests[i].tokens = engine->token_memory + i * positions;
        RETURN_IF_ERROR(
            sequence_init(&engine->requests[i].sequence, &engine->model.kv, engine->positions));
    }
    engine->sampler_scratch_bytes = sampler_scratch_bytes(engine->spec.vocabulary);
    RETURN_IF_ERROR(
        memory_acquire("sampler scratch", engine->sampler_scratch_bytes, &engine->sampler_scratch));
    return batch_init(&engine->batch, options->rows, options->requests);
}

static enum status start(struct engine *engine, const struct engine_options *options) {
    RETURN_IF_ERROR(family_parse(options->model_folder, &engine->family, &engine->spec));
    RETURN_IF_ERROR(choose_positions(engine, options));
    RETURN_IF_ERROR(kernels_init(&engine->kernels, options->isa, options->threads));
    RETURN_IF_ERROR(load_model(engine, options));
    return take_requests(engine, options);
}

enum status engine_create(const struct engine_options *options, struct engine **engine_out) {
    ASSERT(options->requests > 0 && options->rows >= options->requests);
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        LOG_ERROR("engine: out of memory");
        return STATUS_NO_MEMORY;
    }
    enum status status = start(engine, options);
    if (status != STATUS_OK) {
        engine_destroy(engine);
        return status;
    }
    *engine_out = engine;
    return STATUS_OK;
}

void engine_destroy(struct engine *engine) {
    if (engine == NULL)
        return;
    for (int32_t i = 0; engine->requests != NULL && i < engine->request_capacity; i++) {
        sequence_deinit(&engine->requests[i].sequence);
        sampler_state_destroy(engine->requests[i].state);
    }
    free(engine->requests);
    free(engine->order);
    free(engine->token_memory);
    memory_release(engine->sampler_scratch, engine->sampler_scratch_bytes);
    batch_deinit(&engine->batch);
    model_deinit(&engine->model);
    kernels_deinit(&engine->kernels);
    free(engine);
}

/* ---- requests ---- */

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

static enum status check_request(const struct engine *engine,
                                 const struct engine_request *request) {
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
    if (request->all_logits && engine->model.limits.logit_rows < engine->model.limits.rows) {
        LOG_ERROR("all_logits: expected false (the engine has no room for them), got true");
        return STATUS_BAD_REQUEST;
    }
    RETURN_IF_ERROR(sampling_params_check(&request->sampling, engine->spec.vocabulary));
    int32_t banned_max = SAMPLING_BANNED_MAX - engine->spec.eos_count;
    if (request->min_tokens > 0 && request->sampling.banned_count > banned_max) {
        LOG_ERROR("sampling parameter banned count: expected at most %d beside min_tokens and the "
                  "model's %d end tokens, got %d",
                  banned_max, engine->spec.eos_count, request->sampling.banned_count);
        return STATUS_BAD_REQUEST;
    }
    return STATUS_OK;
}

static bool is_end_token(const struct engine *engine, int32_t id) {
    for (int32_t i = 0; i < engine->spec.eos_count; i++)
        if (engine->spec.eos_ids[i] == id)
            return true;
    return false;
}

/* End tokens are banned while min_tokens are missing; their places in the list are the last ones,
 * and check_request saw that they are free. */
static void ban_end_tokens(const struct engine *engine, struct sampling_params *sampling) {
    ASSERT(sampling->banned_count + engine->spec.eos_count <= SAMPLING_BANNED_MAX);
    for (int32_t i = 0; i < engine->spec.eos_count; i++)
        sampling->banned[sampling->banned_count++] = engine->spec.eos_ids[i];
}

enum status engine_submit(struct engine *engine, const struct engine_request *request,
                          int32_t *handle) {
    RETURN_IF_ERROR(check_request(engine, request));
    int32_t free_place = 0;
    while (free_place < engine->request_capacity && engine->requests[free_place].used)
        free_place++;
    if (free_place == engine->request_capacity)
        return STATUS_LIMIT;
    struct running_request *running = &engine->requests[free_place];
    struct sampler_state *state = NULL;
    if (sampling_params_have_penalty(&request->sampling)) {
        RETURN_IF_ERROR(sampler_state_create(engine->spec.vocabulary, engine->positions, &state));
        enum status status =
            sampler_state_add_prompt(state, request->prompt, request->prompt_count);
        if (status != STATUS_OK) {
            sampler_state_destroy(state);
            return status;
        }
    }
    running->used = true;
    running->cancelled = false;
    running->request = *request;
    running->request.prompt = NULL;
    running->state = state;
    running->token_count = running->prompt_count = request->prompt_count;
    memcpy(running->tokens, request->prompt, sizeof(int32_t) * (size_t)request->prompt_count);
    engine->order[engine->running++] = free_place;
    *handle = free_place;
    return STATUS_OK;
}

void engine_cancel(struct engine *engine, int32_t handle) {
    ASSERT(handle >= 0 && handle < engine->request_capacity && engine->requests[handle].used);
    engine->requests[handle].cancelled = true;
}

static void free_request(struct engine *engine, struct running_request *running) {
    sequence_rollback(&running->sequence, 0);
    sampler_state_destroy(running->state);
    running->state = NULL;
    running->used = false;
    int32_t place = 0;
    while (engine->requests + engine->order[place] != running)
        place++;
    engine->running--;
    memmove(engine->order + place, engine->order + place + 1,
            sizeof *engine->order * (size_t)(engine->running - place));
}

static void free_cancelled(struct engine *engine) {
    for (int32_t i = 0; i < engine->request_capacity; i++)
        if (engine->requests[i].used && engine->requests[i].cancelled)
            free_request(engine, &engine->requests[i]);
}

/* ---- one step ---- */

static int32_t rows_missing(const struct running_request *running) {
    return running->token_count - running->sequence.committed;
}

/* Appends the next `rows` tokens of a request; logits of the row that completes it, or of all. */
static enum status plan_rows(struct engine *engine, struct running_request *running, int32_t rows) {
    const struct sequence *sequence = &running->sequence;
    RETURN_IF_ERROR(batch_begin(&engine->batch, &running->sequence, rows));
    bool completes = rows == rows_missing(running);
    int32_t parent = BATCH_NO_PARENT, committed = sequence->committed;
    for (int32_t i = 0; i < rows; i++) {
        bool wants = running->request.all_logits || (completes && i == rows - 1);
        batch_append(&engine->batch, running->tokens[committed + i], parent, wants, &parent);
    }
    running->step_rows = rows;
    return STATUS_OK;
}

/* Decoding requests come first, so that a long prompt never makes them wait; prompts share the rest
 * in order of admission, so that none waits for those that came later. */
static enum status plan_step(struct engine *engine) {
    batch_clear(&engine->batch);
    free_cancelled(engine);
    for (int32_t i = 0; i < engine->running; i++)
        engine->requests[engine->order[i]].step_rows = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t i = 0; i < engine->running; i++) {
            struct running_request *running = &engine->requests[engine->order[i]];
            int32_t rows = rows_missing(running);
            int32_t room = engine->batch.row_capacity - engine->batch.rows;
            if (room == 0 || running->step_rows > 0 || (pass == 0 && rows > 1))
                continue;
            RETURN_IF_ERROR(plan_rows(engine, running, rows < room ? rows : room));
        }
    }
    return STATUS_OK;
}

static enum status choose_token(struct engine *engine, struct running_request *running,
                                const float *logits, struct engine_token *token) {
    struct sampling_params *sampling = &running->request.sampling;
    int32_t banned = sampling->banned_count;
    if (running->token_count - running->prompt_count < running->request.min_tokens)
        ban_end_tokens(engine, sampling);
    struct sampler_row row = {
        .logits = logits, .count = engine->spec.vocabulary, .position = running->token_count};
    enum status status =
        sampler_choose(sampling, running->state, &row, engine->sampler_scratch, &token->id);
    sampling->banned_count = banned;
    RETURN_IF_ERROR(status);
    if (running->state != NULL)
        RETURN_IF_ERROR(sampler_state_push(running->state, token->id));
    if (sampling->logprobs >= 0) {
        sampler_logprobs(logits, engine->spec.vocabulary, token->id, sampling->logprobs,
                         &engine->logprobs);
        token->logprobs = &engine->logprobs;
    }
    return STATUS_OK;
}

static enum status emit_token(struct engine *engine, int32_t handle, const float *logits,
                              const struct engine_listener *listener) {
    struct running_request *running = &engine->requests[handle];
    struct engine_token token = {.request = handle, .position = running->token_count};
    RETURN_IF_ERROR(choose_token(engine, running, logits, &token));
    running->tokens[running->token_count++] = token.id;
    if (!running->request.ignore_eos && is_end_token(engine, token.id))
        token.finish = ENGINE_EOS;
    else if (running->token_count - running->prompt_count >= running->request.max_tokens ||
             running->token_count >= engine->positions)
        token.finish = ENGINE_LENGTH;
    listener->token(listener->context, &token);
    if (token.finish != ENGINE_RUNNING)
        running->cancelled = true;
    return STATUS_OK;
}

/* Hands out the logits of one request's rows, from `logits` on, and moves past them. */
static enum status finish_rows(struct engine *engine, int32_t handle, const float **logits,
                               const struct engine_listener *listener) {
    struct running_request *running = &engine->requests[handle];
    size_t vocabulary = (size_t)engine->spec.vocabulary;
    int32_t first = running->sequence.committed, rows = running->step_rows;
    bool completes = rows == rows_missing(running);
    sequence_commit(&running->sequence, rows);
    for (int32_t i = 0; i < rows; i++) {
        bool last = completes && i == rows - 1;
        if (!running->request.all_logits && !last)
            continue;
        const float *row = *logits;
        *logits += vocabulary;
        if (listener->logits != NULL)
            listener->logits(listener->context, handle, first + i, row);
        if (last && !running->cancelled)
            RETURN_IF_ERROR(emit_token(engine, handle, row, listener));
    }
    return STATUS_OK;
}

enum status engine_step(struct engine *engine, const struct engine_listener *listener) {
    RETURN_IF_ERROR(plan_step(engine));
    const float *logits = model_forward(&engine->model, &engine->batch, listener->observer);
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < engine->batch.sequences; i++) {
        /* The sequence is a member of its request. */
        struct running_request *running =
            (struct running_request *)(void *)((char *)engine->batch.members[i] -
                                               offsetof(struct running_request, sequence));
        enum status own =
            finish_rows(engine, (int32_t)(running - engine->requests), &logits, listener);
        if (own == STATUS_OK)
            continue;
        running->cancelled = true; /* its own failure: the others have their tokens all the same */
        status = own;
    }
    free_cancelled(engine);
    return status;
}
