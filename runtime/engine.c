/* Steps: pick rows (decode first, then prompt chunks), one forward, one token a finished row,
 * commit. Request by request this is where tokens come from; what they are made of is
 * model_forward's business. */
#include "runtime/engine.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "runtime/logit_gather.h"
#include "runtime/memory_plan.h"
#include "runtime/placement_file.h"
#include "runtime/sampler.h"
#include "runtime/start_agreement.h"
#include "runtime/step_executor.h"
#include "runtime/step_link.h"

#define POSITIONS_DEFAULT_MAX 8192

struct running_request {
    bool used;
    bool cancelled; /* from inside the listener: freed at the end of the step */
    struct engine_request request;
    int32_t *tokens; /* [positions]: prompt, then output */
    int32_t token_count, prompt_count;
    int32_t committed;           /* positions whose keys and values are final */
    int32_t step_rows;           /* of the step in progress, behind them */
    int32_t group;               /* data-parallel group that holds them */
    struct sampler_state *state; /* NULL unless a penalty is on */
};

struct engine {
    struct model_spec spec;
    const struct family *family;
    struct kernels kernels;
    struct model model;
    struct expert_ranks expert_ranks;
    struct placement *placement; /* NULL: one rank, or no experts */
    struct model_ranks model_ranks;
    int32_t tensor_members[TRANSPORT_RANKS_MAX];
    struct rank_group alone; /* when there is no job */
    const struct rank_group *ranks;
    struct step_plan plan;
    struct step_executor executor;
    struct step_link link;
    struct logit_gather gather;
    const float **rows_of; /* [ranks] logits of the step in progress */
    int64_t step;
    int32_t positions, request_capacity, running;
    struct running_request *requests; /* [request_capacity], by handle */
    int32_t *order;                   /* [running] handles, in order of admission */
    int32_t *token_memory;
    int32_t *blocks; /* [blocks of the longest sequence] of one entry */
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

int32_t engine_handles(const struct engine *engine) {
    return engine->request_capacity;
}

void engine_stats(const struct engine *engine, struct engine_stats *stats) {
    *stats = (struct engine_stats){.running = engine->running,
                                   .steps = engine->step,
                                   .kv_blocks = (int64_t)engine->model.limits.kv_blocks *
                                                engine->ranks->dp_size};
}

const struct batch *engine_batch(const struct engine *engine) {
    return &engine->executor.batch;
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
    int32_t groups = engine->ranks->dp_size; /* requests are dealt out among them */
    int64_t blocks = ((int64_t)engine->positions + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS *
                     ((options->requests + groups - 1) / groups);
    if (blocks > INT32_MAX) {
        LOG_ERROR("KV cache: expected at most %d blocks, got %lld: take a smaller --max-model-len",
                  INT32_MAX, (long long)blocks);
        return STATUS_NO_MEMORY;
    }
    struct model_limits limits = {.rows = options->rows,
                                  .logit_rows =
                                      options->all_logits ? options->rows : options->requests,
                                  .positions = engine->positions,
                                  .kv_blocks = (int32_t)blocks,
                                  .routing = options->all_routing};
    struct model_memory memory;
    RETURN_IF_ERROR(model_describe(&engine->model, &engine->spec, engine->family, &engine->kernels,
                                   choose_dtype(options->dtype, engine->spec.stored_dtype), &limits,
                                   &engine->model_ranks, &memory));
    struct checkpoint *checkpoint = NULL;
    if (!options->dummy_weights)
        RETURN_IF_ERROR(checkpoint_open(options->model_folder, &checkpoint));
    struct weights_mismatch mismatch;
    enum status status = STATUS_OK;
    if (checkpoint != NULL)
        status = model_weights_check(&engine->model.weights, checkpoint, NULL, NULL, &mismatch);
    if (status == STATUS_OK)
        status = memory_plan_check(&memory, (int64_t)limits.kv_blocks * KV_BLOCK_TOKENS,
                                   engine->ranks->node_size);
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
    engine->blocks = malloc(sizeof(int32_t) * positions);
    if (!engine->requests || !engine->order || !engine->token_memory || !engine->blocks) {
        LOG_ERROR("engine: cannot take memory for %d requests of %d tokens", options->requests,
                  engine->positions);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        engine->requests[i].tokens = engine->token_memory + i * positions;
        engine->requests[i].group = (int32_t)i % engine->ranks->dp_size;
    }
    engine->sampler_scratch_bytes = sampler_scratch_bytes(engine->spec.vocabulary);
    RETURN_IF_ERROR(
        memory_acquire("sampler scratch", engine->sampler_scratch_bytes, &engine->sampler_scratch));
    engine->rows_of = calloc((size_t)engine->ranks->size, sizeof *engine->rows_of);
    if (engine->rows_of == NULL) {
        LOG_ERROR("engine: cannot take a table of %d ranks", engine->ranks->size);
        return STATUS_NO_MEMORY;
    }
    int32_t blocks = options->rows / KV_BLOCK_TOKENS + 2 * options->requests;
    struct step_limits limits = {.groups = engine->ranks->dp_size,
                                 .places = options->requests,
                                 .entries = options->requests,
                                 .rows = options->rows,
                                 .blocks = blocks,
                                 .kv_blocks = engine->model.limits.kv_blocks,
                                 .vocabulary = engine->spec.vocabulary,
                                 .positions = engine->positions};
    RETURN_IF_ERROR(step_plan_init(&engine->plan, &limits));
    RETURN_IF_ERROR(step_executor_init(&engine->executor, &engine->model, engine->ranks->dp_rank,
                                       options->requests, engine->positions, options->rows));
    RETURN_IF_ERROR(logit_gather_init(&engine->gather, &engine->model));
    return step_link_init(&engine->link, engine->ranks, &engine->plan,
                          engine->model.limits.logit_rows, engine->spec.vocabulary);
}

static int32_t count_moe_layers(const struct model_spec *spec) {
    int32_t count = 0;
    for (int32_t layer = 0; layer < spec->layers; layer++)
        count += spec->layer[layer].moe ? 1 : 0;
    return count;
}

/* The ranks that share this one's requests, each with some of the heads. */
static void join_tensor_group(struct engine *engine, const struct engine_options *options) {
    const struct rank_group *ranks = engine->ranks;
    for (int32_t i = 0; i < ranks->tp_size; i++)
        engine->tensor_members[i] = ranks->tp_first + i;
    engine->model_ranks.all_reduce = options->flow == EXPERT_FLOW_DEEPSPEED;
    engine->model_ranks.tensor = (struct collective_group){.transport = ranks->transport,
                                                           .members = engine->tensor_members,
                                                           .count = ranks->tp_size,
                                                           .self = ranks->tp_rank};
}

static enum status place_experts(struct engine *engine, const struct engine_options *options) {
    struct placement_options rule = options->placement;
    struct placement_need need = {.layers = count_moe_layers(&engine->spec),
                                  .experts = engine->spec.moe.router.experts,
                                  .ranks = engine->ranks->size,
                                  .node_of = engine->ranks->node_of};
    rule.node_of = engine->ranks->node_of;
    if (need.layers > 0 && options->placement_file != NULL)
        RETURN_IF_ERROR(placement_file_load(options->placement_file, &need, &engine->placement));
    else if (need.layers > 0 && need.ranks > 1)
        RETURN_IF_ERROR(
            placement_create(need.layers, need.experts, need.ranks, &rule, &engine->placement));
    if (need.ranks == 1) { /* a file has been checked; there is nothing to look up */
        placement_destroy(engine->placement);
        engine->placement = NULL;
    }
    if (engine->placement == NULL)
        return STATUS_OK;
    engine->expert_ranks = (struct expert_ranks){.transport = engine->ranks->transport,
                                                 .placement = engine->placement,
                                                 .flow = options->flow};
    engine->model_ranks.experts = &engine->expert_ranks;
    return STATUS_OK;
}

/* What must be the same on all ranks before anything is loaded. */
static struct start_facts facts_of(const struct engine *engine,
                                   const struct engine_options *options, enum status status) {
    const struct model_spec *spec = &engine->spec;
    return (struct start_facts){
        .status = status,
        .isa = options->isa,
        .same = {[START_HIDDEN] = spec->hidden,
                 [START_LAYERS] = spec->layers,
                 [START_VOCABULARY] = spec->vocabulary,
                 [START_EXPERTS] = spec->moe.router.experts,
                 [START_TOP_K] = spec->moe.router.top_k,
                 [START_EXPERT_WIDTH] = spec->moe.expert_intermediate,
                 [START_DTYPE] = choose_dtype(options->dtype, spec->stored_dtype),
                 [START_POSITIONS] = engine->positions,
                 [START_TIMEOUT] =
                     options->ranks != NULL ? options->ranks->transport->timeout_ms : 0,
                 [START_ROWS] = options->rows,
                 [START_REQUESTS] = options->requests,
                 [START_TENSOR_PARALLEL] = engine->ranks->tp_size,
                 [START_ROUTING] = options->all_routing,
                 [START_FLOW] = options->flow,
                 [START_PLACEMENT] = options->placement.policy,
                 [START_PLACEMENT_SEED] = (int64_t)options->placement.seed,
                 [START_REPLICAS] = options->placement.replicas,
                 [START_PLACEMENT_HASH] =
                     engine->placement != NULL ? (int64_t)placement_hash(engine->placement) : 0}};
}

static enum status start(struct engine *engine, const struct engine_options *options) {
    enum cpu_isa isa = options->isa;
    engine->alone =
        (struct rank_group){.size = 1, .tp_size = 1, .dp_size = 1, .node_count = 1, .node_size = 1};
    engine->ranks = options->ranks != NULL ? options->ranks : &engine->alone;
    enum status status = family_parse(options->model_folder, &engine->family, &engine->spec);
    if (status == STATUS_OK)
        status = choose_positions(engine, options);
    if (status == STATUS_OK)
        status = tensor_shard_check(&engine->spec, engine->ranks->tp_size, engine->ranks->size);
    join_tensor_group(engine, options);
    if (status == STATUS_OK)
        status = place_experts(engine, options);
    struct start_facts facts = facts_of(engine, options, status);
    RETURN_IF_ERROR(start_agreement_facts(options->ranks, &facts, &isa));
    status = kernels_init(&engine->kernels, isa, options->threads);
    if (status == STATUS_OK)
        status = load_model(engine, options);
    if (status == STATUS_OK)
        status = take_requests(engine, options);
    RETURN_IF_ERROR(start_agreement_loaded(options->ranks, status));
    if (engine->placement == NULL)
        return STATUS_OK;
    return expert_exchange_measure_links(&engine->model.workspace.moe.exchange);
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
    for (int32_t i = 0; engine->requests != NULL && i < engine->request_capacity; i++)
        sampler_state_destroy(engine->requests[i].state);
    free(engine->requests);
    free(engine->order);
    free(engine->token_memory);
    free(engine->blocks);
    memory_release(engine->sampler_scratch, engine->sampler_scratch_bytes);
    free(engine->rows_of);
    logit_gather_deinit(&engine->gather);
    step_link_deinit(&engine->link);
    step_executor_deinit(&engine->executor);
    step_plan_deinit(&engine->plan);
    placement_destroy(engine->placement);
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

/* A free place in the group that has the fewest requests, or -1. */
static int32_t find_place(const struct engine *engine) {
    int32_t best = -1, best_load = INT32_MAX;
    for (int32_t group = 0; group < engine->ranks->dp_size; group++) {
        int32_t load = 0, place = -1;
        for (int32_t i = group; i < engine->request_capacity; i += engine->ranks->dp_size) {
            load += engine->requests[i].used ? 1 : 0;
            if (place < 0 && !engine->requests[i].used)
                place = i;
        }
        if (place >= 0 && load < best_load) {
            best = place;
            best_load = load;
        }
    }
    return best;
}

enum status engine_submit(struct engine *engine, const struct engine_request *request,
                          int32_t *handle) {
    RETURN_IF_ERROR(check_request(engine, request));
    int32_t free_place = find_place(engine);
    if (free_place < 0)
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
    running->committed = running->step_rows = 0;
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
    return running->token_count - running->committed;
}

/* The next `rows` tokens of a request; logits of the row that completes it, or of all. A place has
 * blocks of its own for the longest sequence. */
static void plan_rows(struct engine *engine, int32_t place, int32_t rows) {
    struct running_request *running = &engine->requests[place];
    bool completes = rows == rows_missing(running);
    int32_t held = sequence_blocks_for(running->committed);
    struct step_entry entry = {.group = running->group,
                               .place = place,
                               .keep = running->committed,
                               .rows = rows,
                               .table_first = held,
                               .blocks = sequence_blocks_for(running->committed + rows) - held,
                               .logits = running->request.all_logits ? STEP_LOGITS_ALL
                                         : completes                 ? STEP_LOGITS_LAST
                                                                     : STEP_LOGITS_NONE};
    int32_t blocks_each = sequence_blocks_for(engine->positions);
    int32_t first = place / engine->ranks->dp_size * blocks_each;
    for (int32_t i = 0; i < entry.blocks; i++)
        engine->blocks[i] = first + held + i;
    step_plan_add_chain(&engine->plan, entry, running->tokens + running->committed, engine->blocks);
    running->step_rows = rows;
}

/* Decoding requests come first, so that a long prompt never makes them wait; prompts share the rest
 * in order of admission, so that none waits for those that came later. */
static void plan_step(struct engine *engine) {
    struct step_plan *plan = &engine->plan;
    step_plan_clear(plan, ++engine->step);
    free_cancelled(engine);
    for (int32_t i = 0; i < engine->running; i++)
        engine->requests[engine->order[i]].step_rows = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t i = 0; i < engine->running; i++) {
            struct running_request *running = &engine->requests[engine->order[i]];
            int32_t rows = rows_missing(running), room = plan->limits.rows - plan->rows;
            if (room > 0 && running->step_rows == 0 && (pass == 1 || rows == 1))
                plan_rows(engine, engine->order[i], rows < room ? rows : room);
        }
    }
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
    if (choose_token(engine, running, logits, &token) != STATUS_OK) {
        token.id = -1; /* its own failure: the others have their tokens all the same */
        token.finish = ENGINE_FAILED;
        running->cancelled = true;
        listener->token(listener->context, &token);
        return STATUS_OK;
    }
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

/* Hands out the logits of one entry's rows, from *logits on, and moves past them. */
static enum status finish_rows(struct engine *engine, const struct step_entry *entry,
                               const float **logits, const struct engine_listener *listener) {
    struct running_request *running = &engine->requests[entry->place];
    size_t vocabulary = (size_t)engine->spec.vocabulary;
    int32_t first = running->committed;
    bool completes = entry->rows == rows_missing(running);
    running->committed += entry->rows;
    for (int32_t i = 0; i < entry->rows; i++) {
        bool last = completes && i == entry->rows - 1;
        if (entry->logits != STEP_LOGITS_ALL && !last)
            continue;
        const float *row = *logits;
        *logits += vocabulary;
        if (listener->logits != NULL)
            listener->logits(listener->context, entry->place, first + i, row);
        if (last && !running->cancelled)
            RETURN_IF_ERROR(emit_token(engine, entry->place, row, listener));
    }
    return STATUS_OK;
}

/* This rank's part of the plan in engine->plan, and the results to the coordinator. */
static enum status execute(struct engine *engine, const struct model_observer *observer) {
    const float *logits = NULL;
    enum status agreed,
        mine = step_executor_run(&engine->executor, &engine->plan, observer, &logits);
    if (mine == STATUS_PEER)
        return mine; /* the others hear of it by their own deadlines, or by the end of the job */
    int32_t count = engine->executor.batch.logit_count;
    RETURN_IF_ERROR(logit_gather_run(&engine->gather, count, &logits));
    if (engine->ranks->tp_rank > 0)
        count = 0; /* the first of the group answers for it */
    RETURN_IF_ERROR(step_link_collect(&engine->link, &engine->plan, mine, logits, count,
                                      engine->rows_of, &agreed));
    return agreed;
}

enum status engine_step(struct engine *engine, const struct engine_listener *listener) {
    plan_step(engine);
    RETURN_IF_ERROR(step_link_share(&engine->link, &engine->plan));
    RETURN_IF_ERROR(execute(engine, listener->observer));
    for (int32_t i = 0; i < engine->plan.entries; i++) {
        const struct step_entry *entry = &engine->plan.entry[i];
        if (entry->rows == 0)
            continue;
        const float **logits = &engine->rows_of[entry->group * engine->ranks->tp_size];
        RETURN_IF_ERROR(finish_rows(engine, entry, logits, listener));
    }
    free_cancelled(engine);
    return STATUS_OK;
}

enum status engine_serve(struct engine *engine, const struct model_observer *observer) {
    for (;;) {
        RETURN_IF_ERROR(step_link_share(&engine->link, &engine->plan));
        if (engine->plan.stop)
            return STATUS_OK;
        RETURN_IF_ERROR(execute(engine, observer));
    }
}

enum status engine_idle(struct engine *engine, int32_t *wait_ms) {
    return step_link_idle(&engine->link, wait_ms);
}

enum status engine_stop(struct engine *engine) {
    step_plan_clear(&engine->plan, ++engine->step);
    engine->plan.stop = 1;
    return step_link_share(&engine->link, &engine->plan);
}
