/* From options to an engine that can step: config, agreement of the ranks, memory plan, weights,
 * buffers. engine.c takes it from there. */
#include "runtime/engine_start.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "runtime/memory_plan.h"
#include "runtime/model_digest.h"
#include "runtime/placement_file.h"
#include "runtime/start_agreement.h"

#define POSITIONS_DEFAULT_MAX 8192
#define LOGIT_ROWS_MIN 32 /* rows whose logits are computed together, where requests are few */

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

/* ---- sizes ---- */

/* Blocks of each group. */
static enum status choose_blocks(const struct engine *engine, const struct engine_options *options,
                                 int32_t *blocks) {
    int32_t groups = engine->ranks->dp_size; /* requests are dealt out among them */
    int64_t each = sequence_blocks_for(engine->positions);
    int64_t wanted = options->kv_tokens > 0
                         ? (options->kv_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS
                         : each * ((options->requests + groups - 1) / groups);
    if (wanted > INT32_MAX) {
        LOG_ERROR("KV cache: expected at most %d blocks, got %lld: take a smaller --max-model-len",
                  INT32_MAX, (long long)wanted);
        return STATUS_NO_MEMORY;
    }
    *blocks = (int32_t)wanted;
    return STATUS_OK;
}

static struct scheduler_limits scheduler_limits_of(const struct engine *engine,
                                                   const struct engine_options *options) {
    return (struct scheduler_limits){.groups = engine->ranks->dp_size,
                                     .places = options->requests,
                                     .rows = options->rows,
                                     .waiting = options->waiting > 0 ? options->waiting
                                                                     : options->requests,
                                     .positions = engine->positions,
                                     .blocks = engine->model.limits.kv_blocks,
                                     .prefix_cache = !options->no_prefix_cache};
}

static struct step_limits step_limits_of(const struct engine *engine,
                                         const struct engine_options *options) {
    struct scheduler_limits scheduler = scheduler_limits_of(engine, options);
    int64_t blocks = scheduler_blocks_max(&scheduler);
    return (struct step_limits){.groups = engine->ranks->dp_size,
                                .places = options->requests,
                                .entries = scheduler_entries_max(&scheduler),
                                .rows = options->rows,
                                .blocks = blocks < INT32_MAX ? (int32_t)blocks : INT32_MAX,
                                .kv_blocks = engine->model.limits.kv_blocks,
                                .vocabulary = engine->spec.vocabulary,
                                .positions = engine->positions,
                                .history = engine->positions};
}

static struct step_executor_options executor_options_of(struct engine *engine,
                                                        const struct engine_options *options) {
    return (struct step_executor_options){.model = &engine->model,
                                          .ranks = engine->ranks,
                                          .places = options->requests,
                                          .positions = engine->positions,
                                          .sends_logits = options->all_logits,
                                          .verify = options->verify_ranks};
}

static struct step_link_options link_options_of(struct engine *engine,
                                                const struct engine_options *options) {
    struct step_executor_options executor = executor_options_of(engine, options);
    return (struct step_link_options){.ranks = engine->ranks,
                                      .plan = step_limits_of(engine, options),
                                      .payload_bytes = step_executor_payload_bytes(&executor),
                                      .verify = options->verify_ranks};
}

static int32_t count_moe_layers(const struct model_spec *spec) {
    int32_t count = 0;
    for (int32_t layer = 0; layer < spec->layers; layer++)
        count += spec->layer[layer].moe ? 1 : 0;
    return count;
}

/* What a step takes besides the model. */
static enum status measure_steps(struct engine *engine, const struct engine_options *options,
                                 struct model_memory *memory) {
    struct step_limits plan = step_limits_of(engine, options);
    struct step_executor_options executor = executor_options_of(engine, options);
    struct step_link_options link = link_options_of(engine, options);
    int64_t link_bytes;
    RETURN_IF_ERROR(step_link_memory_bytes(&link, &link_bytes));
    memory->step_bytes = step_plan_memory_bytes(&plan) + step_executor_memory_bytes(&executor) +
                         link_bytes +
                         rank_counts_memory_bytes(engine->ranks, count_moe_layers(&engine->spec),
                                                  engine->spec.moe.router.experts);
    memory->total += memory->step_bytes;
    return STATUS_OK;
}

/* ---- the model ---- */

static enum status describe_model(struct engine *engine, const struct engine_options *options,
                                  struct model_memory *memory) {
    int32_t groups = engine->ranks->dp_size, blocks;
    int32_t logit_rows = (options->requests + groups - 1) / groups;
    RETURN_IF_ERROR(choose_blocks(engine, options, &blocks));
    logit_rows = logit_rows > LOGIT_ROWS_MIN ? logit_rows : LOGIT_ROWS_MIN;
    struct model_limits limits = {.rows = options->rows,
                                  .logit_rows =
                                      logit_rows < options->rows ? logit_rows : options->rows,
                                  .positions = engine->positions,
                                  .kv_blocks = blocks,
                                  .routing = options->all_routing};
    RETURN_IF_ERROR(model_describe(&engine->model, &engine->spec, engine->family, &engine->kernels,
                                   choose_dtype(options->dtype, engine->spec.stored_dtype), &limits,
                                   &engine->model_ranks, memory));
    struct scheduler_limits scheduler = scheduler_limits_of(engine, options);
    engine->positions = scheduler_longest(&scheduler);
    return measure_steps(engine, options, memory);
}

/* Everything before the first byte of a weight: sizes, the checkpoint's headers (NULL: dummy
 * weights), the memory plan, the messages' buffers. */
static enum status prepare_model(struct engine *engine, const struct engine_options *options,
                                 struct checkpoint **checkpoint) {
    struct model_memory memory;
    struct weights_mismatch mismatch;
    RETURN_IF_ERROR(describe_model(engine, options, &memory));
    if (!options->dummy_weights) {
        RETURN_IF_ERROR(checkpoint_open(options->model_folder, checkpoint));
        RETURN_IF_ERROR(
            model_weights_check(&engine->model.weights, *checkpoint, NULL, NULL, &mismatch));
    }
    RETURN_IF_ERROR(memory_plan_check(&memory,
                                      (int64_t)engine->model.limits.kv_blocks * KV_BLOCK_TOKENS,
                                      engine->ranks->node_size));
    return model_reserve_messages(&engine->model);
}

/* The ranks that share this one's requests, each with some of the heads, and those that share its
 * memory. */
static void join_tensor_group(struct engine *engine, const struct engine_options *options) {
    const struct rank_group *ranks = engine->ranks;
    for (int32_t i = 0; i < ranks->tp_size; i++)
        engine->tensor_members[i] = ranks->tp_first + i;
    engine->model_ranks.all_reduce = options->flow == EXPERT_FLOW_DEEPSPEED;
    engine->model_ranks.tensor = (struct collective_group){.transport = ranks->transport,
                                                           .members = engine->tensor_members,
                                                           .count = ranks->tp_size,
                                                           .self = ranks->tp_rank};
    engine->model_ranks.node = (struct collective_group){.transport = ranks->transport,
                                                         .members = ranks->node_members,
                                                         .count = ranks->node_size,
                                                         .self = ranks->node_rank};
    engine->model_ranks.lane = (struct collective_group){.transport = ranks->transport,
                                                         .members = ranks->lane_members,
                                                         .count = ranks->lane_size,
                                                         .self = ranks->lane_rank};
}

/* Flags that this model or these ranks have no use for. */
static void warn_of_idle_flags(const struct engine *engine, const struct engine_options *options,
                               bool is_dense) {
    const char *why = is_dense ? "the model has no experts" : "one rank holds all experts";
    if (engine->ranks->rank > 0 || (!is_dense && engine->ranks->size > 1))
        return;
    if (options->placement.replicas > 0)
        LOG_WARN("--expert-replicas %d has no effect: %s", options->placement.replicas, why);
    if (is_dense && options->flow != EXPERT_FLOW_AUTO)
        LOG_WARN("--moe-flow %s has no effect: %s", expert_flow_name(options->flow), why);
    if (is_dense && options->placement_file != NULL)
        LOG_WARN("--expert-placement %s has no effect: %s", options->placement_file, why);
}

static enum status place_experts(struct engine *engine, const struct engine_options *options) {
    struct placement_options rule = options->placement;
    struct placement_need need = {.layers = count_moe_layers(&engine->spec),
                                  .experts = engine->spec.moe.router.experts,
                                  .ranks = engine->ranks->size,
                                  .node_of = engine->ranks->node_of};
    rule.node_of = engine->ranks->node_of;
    warn_of_idle_flags(engine, options, need.layers == 0);
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
                                   const struct engine_options *options) {
    const struct model_spec *spec = &engine->spec;
    return (struct start_facts){
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
                 [START_KV_TOKENS] = options->kv_tokens,
                 [START_LOGITS] = options->all_logits,
                 [START_VERIFY] = options->verify_ranks,
                 [START_TENSOR_PARALLEL] = engine->ranks->tp_size,
                 [START_ROUTING] = options->all_routing,
                 [START_FLOW] = options->flow,
                 [START_PLACEMENT] = options->placement.policy,
                 [START_PLACEMENT_SEED] = (int64_t)options->placement.seed,
                 [START_REPLICAS] = options->placement.replicas,
                 [START_PLACEMENT_HASH] =
                     engine->placement != NULL ? (int64_t)placement_hash(engine->placement) : 0}};
}

/* ---- steps ---- */

/* A number that clients do not know. */
static enum status draw_hash_key(uint64_t *key) {
    if (getrandom(key, sizeof *key, 0) == (ssize_t)sizeof *key)
        return STATUS_OK;
    LOG_ERROR("random numbers: cannot read any: %s", strerror(errno));
    return STATUS_IO;
}

/* Requests are the coordinator's business. */
static enum status take_requests(struct engine *engine, const struct engine_options *options) {
    struct scheduler_limits limits = scheduler_limits_of(engine, options);
    RETURN_IF_ERROR(draw_hash_key(&limits.hash_key));
    RETURN_IF_ERROR(scheduler_create(&limits, &engine->scheduler));
    engine->handles = scheduler_handles(&limits);
    engine->live = calloc((size_t)engine->handles, sizeof *engine->live);
    engine->entry_handle =
        malloc(sizeof *engine->entry_handle * (size_t)engine->plan.limits.entries);
    engine->table_length = calloc((size_t)options->requests, sizeof *engine->table_length);
    engine->results = calloc((size_t)engine->ranks->dp_size, sizeof *engine->results);
    if (engine->live && engine->entry_handle && engine->table_length && engine->results)
        return STATUS_OK;
    LOG_ERROR("engine: cannot take memory for %d requests", engine->handles);
    return STATUS_NO_MEMORY;
}

static enum status take_steps(struct engine *engine, const struct engine_options *options) {
    struct step_limits limits = step_limits_of(engine, options);
    struct step_executor_options executor = executor_options_of(engine, options);
    struct step_link_options link = link_options_of(engine, options);
    RETURN_IF_ERROR(step_plan_init(&engine->plan, &limits));
    RETURN_IF_ERROR(step_executor_init(&engine->executor, &executor));
    RETURN_IF_ERROR(step_link_init(&engine->link, &link));
    RETURN_IF_ERROR(
        rank_counts_init(&engine->counts, engine->ranks, count_moe_layers(&engine->spec),
                         engine->spec.moe.router.experts, engine->spec.moe.router.top_k));
    engine->model.workspace.moe.computed = engine->counts.pairs;
    return engine->ranks->rank == 0 ? take_requests(engine, options) : STATUS_OK;
}

/* Loading begins when it can begin on all ranks: those of a node do it together. */
static enum status load(struct engine *engine, const struct engine_options *options,
                        enum status status) {
    struct checkpoint *checkpoint = NULL;
    struct log_diverted said;
    int64_t digest = 0;
    log_divert_begin(&said);
    if (status == STATUS_OK)
        status = prepare_model(engine, options, &checkpoint);
    if (status == STATUS_OK)
        status = model_digest_take(options->model_folder, checkpoint, &digest);
    log_divert_end();
    status = start_agreement_model(options->ranks, status, &said, digest);
    if (status == STATUS_OK) {
        status = model_load(&engine->model, checkpoint);
        if (status == STATUS_OK)
            status = take_steps(engine, options);
        status = start_agreement_loaded(options->ranks, status);
    }
    checkpoint_close(checkpoint);
    return status;
}

/* What config.json and the options say of this rank's part. */
static enum status plan_ranks(struct engine *engine, const struct engine_options *options) {
    engine->alone = (struct rank_group){.size = 1, .tp_size = 1, .dp_size = 1, .node_size = 1};
    engine->ranks = options->ranks != NULL ? options->ranks : &engine->alone;
    join_tensor_group(engine, options);
    RETURN_IF_ERROR(family_parse(options->model_folder, &engine->family, &engine->spec));
    RETURN_IF_ERROR(choose_positions(engine, options));
    RETURN_IF_ERROR(tensor_shard_check(&engine->spec, engine->ranks->tp_size, engine->ranks->size));
    return place_experts(engine, options);
}

/* What config.json and the flags say, before ranks compare it. */
static enum status describe(struct engine *engine, const struct engine_options *options) {
    RETURN_IF_ERROR(family_parse(options->model_folder, &engine->family, &engine->spec));
    RETURN_IF_ERROR(choose_positions(engine, options));
    RETURN_IF_ERROR(tensor_shard_check(&engine->spec, engine->ranks->tp_size, engine->ranks->size));
    join_tensor_group(engine, options);
    return place_experts(engine, options);
}

enum status engine_start(struct engine *engine, const struct engine_options *options) {
    enum cpu_isa isa = options->isa;
    struct log_diverted said;
    engine->alone = (struct rank_group){.size = 1, .tp_size = 1, .dp_size = 1, .node_size = 1};
    engine->ranks = options->ranks != NULL ? options->ranks : &engine->alone;
    log_divert_begin(&said);
    enum status status = describe(engine, options);
    log_divert_end();
    RETURN_IF_ERROR(start_agreement_said(options->ranks, status, &said));
    struct start_facts facts = facts_of(engine, options);
    RETURN_IF_ERROR(start_agreement_facts(options->ranks, &facts, &isa));
    status = kernels_init(&engine->kernels, isa, options->threads);
    struct rank_watch *watch = rank_group_watch(engine->ranks, "loading");
    status = load(engine, options, status);
    rank_watch_end(watch);
    RETURN_IF_ERROR(status);
    if (engine->placement == NULL)
        return STATUS_OK;
    return expert_exchange_measure_links(&engine->model.workspace.moe.exchange);
}

enum status engine_examine(const struct engine_options *options, struct engine_examination *found) {
    struct checkpoint *checkpoint = NULL;
    struct engine *engine = calloc(1, sizeof *engine);
    *found = (struct engine_examination){0};
    if (engine == NULL) {
        LOG_ERROR("engine: out of memory");
        return STATUS_NO_MEMORY;
    }
    enum status status = plan_ranks(engine, options);
    if (status == STATUS_OK)
        status = kernels_init(&engine->kernels, options->isa, 1);
    if (status == STATUS_OK)
        status = prepare_model(engine, options, &checkpoint);
    if (status == STATUS_OK)
        status = model_digest_take(options->model_folder, checkpoint, &found->digest);
    if (status == STATUS_OK) {
        found->model_type = engine->family->model_type;
        found->layers = engine->spec.layers;
    }
    if (status == STATUS_OK && checkpoint != NULL) {
        found->tensors = checkpoint_count(checkpoint);
        found->files = checkpoint_shards(checkpoint);
        found->checkpoint_bytes = checkpoint_bytes(checkpoint);
    }
    checkpoint_close(checkpoint);
    engine_start_undo(engine);
    free(engine);
    return status;
}

void engine_start_undo(struct engine *engine) {
    for (int32_t i = 0; engine->live != NULL && i < engine->handles; i++)
        free(engine->live[i].tokens);
    free(engine->live);
    free(engine->entry_handle);
    free(engine->table_length);
    free(engine->results);
    scheduler_destroy(engine->scheduler);
    rank_counts_deinit(&engine->counts);
    step_link_deinit(&engine->link);
    step_executor_deinit(&engine->executor);
    step_plan_deinit(&engine->plan);
    placement_destroy(engine->placement);
    model_deinit(&engine->model);
    kernels_deinit(&engine->kernels);
}
