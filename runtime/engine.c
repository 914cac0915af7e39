/* Steps: the scheduler says what runs, the plan says it to all ranks, they execute it, and the
 * tokens that come back are committed and told. What a forward is made of is model_forward's
 * business; what is chosen from its logits, row_sampler's. */
#include "runtime/engine.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "runtime/engine_request.h"
#include "runtime/engine_start.h"

enum status engine_create(const struct engine_options *options, struct engine **engine_out) {
    ASSERT(options->requests > 0 && options->rows >= options->requests);
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        LOG_ERROR("engine: out of memory");
        return STATUS_NO_MEMORY;
    }
    enum status status = engine_start(engine, options);
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
    engine_start_undo(engine);
    free(engine);
}

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

const struct placement *engine_placement(const struct engine *engine) {
    return engine->placement;
}

const struct batch *engine_batch(const struct engine *engine) {
    return &engine->executor.batch;
}

int32_t engine_handles(const struct engine *engine) {
    return engine->handles;
}

int32_t engine_running(const struct engine *engine) {
    return engine->running;
}

void engine_stats(const struct engine *engine, struct engine_stats *stats) {
    struct scheduler_stats scheduled;
    scheduler_stats(engine->scheduler, &scheduled);
    *stats = (struct engine_stats){.running = scheduled.running,
                                   .waiting = scheduled.waiting,
                                   .steps = engine->step,
                                   .rows = engine->rows,
                                   .prompt_tokens = engine->prompt_tokens,
                                   .generation_tokens = engine->generation_tokens,
                                   .step_ns = engine->step_ns,
                                   .forward_ns = engine->forward_ns,
                                   .sample_ns = engine->sample_ns,
                                   .schedule_ns = engine->schedule_ns,
                                   .preemptions = scheduled.preemptions,
                                   .prefix_query_tokens = scheduled.prefix_query_tokens,
                                   .prefix_hit_tokens = scheduled.prefix_hit_tokens};
    const struct expert_exchange *exchange = &engine->model.workspace.moe.exchange;
    memcpy(stats->flow_steps, exchange->steps_of, sizeof stats->flow_steps);
    for (int32_t group = 0; group < engine->ranks->dp_size; group++) {
        struct scheduler_group_stats blocks;
        scheduler_group_stats(engine->scheduler, group, &blocks);
        stats->kv_blocks += blocks.blocks;
        stats->kv_blocks_used += blocks.used;
        stats->kv_blocks_cached += blocks.cached;
    }
}

enum status engine_submit(struct engine *engine, const struct engine_request *request,
                          int32_t *handle) {
    return engine_request_submit(engine, request, handle);
}

void engine_cancel(struct engine *engine, int32_t handle) {
    ASSERT(handle >= 0 && handle < engine->handles);
    if (!engine->live[handle].used)
        return; /* it has just ended */
    scheduler_cancel(engine->scheduler, handle);
    engine_request_free(engine, handle);
}

/* ---- the plan ---- */

/* What has run out of time says its last word. */
static void tell_ended(struct engine *engine, const struct scheduler_plan *scheduled,
                       const struct engine_listener *listener) {
    for (int32_t i = 0; i < scheduled->ended_count; i++) {
        const struct scheduler_ended *ended = &scheduled->ended[i];
        const struct live_request *live = &engine->live[ended->handle];
        struct engine_token token = {
            .request = ended->handle,
            .id = -1,
            .position = live->token_count,
            .cached = live->cached,
            .finish = ended->end == SCHEDULER_END_DEADLINE ? ENGINE_DEADLINE : ENGINE_TIME_LIMIT};
        engine_request_free(engine, ended->handle);
        listener->token(listener->context, &token);
    }
}

static void tell_begun(struct engine *engine, const struct scheduler_plan *scheduled,
                       const struct engine_listener *listener) {
    for (int32_t i = 0; i < scheduled->entries; i++) {
        const struct scheduler_entry *entry = &scheduled->entry[i];
        struct live_request *live = &engine->live[entry->handle];
        if (!live->used || live->begun)
            continue;
        live->begun = true;
        live->cached = entry->cached < live->prompt_count ? entry->cached : live->prompt_count;
        if (listener->begun != NULL)
            listener->begun(listener->context, entry->handle);
    }
}

/* Ranks hear of new requests before their rows. What does not fit goes ahead in a plan of its own.
 */
static enum status plan_admissions(struct engine *engine, const struct scheduler_plan *scheduled) {
    struct step_plan *plan = &engine->plan;
    for (int32_t i = 0; i < scheduled->entries; i++) {
        const struct scheduler_entry *entry = &scheduled->entry[i];
        const struct live_request *live = &engine->live[entry->handle];
        if (!entry->begins || !live->used)
            continue;
        bool penalty = sampling_params_have_penalty(&live->request.sampling);
        struct step_admission admission = {.group = entry->group,
                                           .place = entry->place,
                                           .prompt_count = live->prompt_count,
                                           .min_tokens = live->request.min_tokens,
                                           .stop_count = live->request.stop_id_count,
                                           .prompt_top = live->request.prompt_logprob_top,
                                           .sampling = &live->request.sampling,
                                           .history_count = penalty ? entry->keep : 0,
                                           .history = live->tokens};
        if (!step_plan_admits(plan, &admission)) {
            plan->more = 1;
            RETURN_IF_ERROR(step_link_share(&engine->link, plan));
            step_executor_admit(&engine->executor, plan);
            step_plan_clear(plan, engine->step);
        }
        step_plan_add_admission(plan, &admission);
    }
    return STATUS_OK;
}

/* Which logits the entry's request wants: those that the listener has not heard yet, the prompt's
 * scores, and those of the row that chooses. */
static void plan_wishes(const struct live_request *live, struct step_entry *entry) {
    int32_t unheard = live->heard > entry->keep ? live->heard - entry->keep : 0;
    int32_t scored = live->prompt_count - 1 - entry->keep;
    scored = scored < entry->rows ? scored : entry->rows;
    bool scores = live->request.prompt_logprobs && scored > unheard;
    entry->sends = live->request.all_logits && unheard < entry->rows;
    entry->scores = scores ? scored - unheard : 0;
    entry->logit_from = scores || entry->sends ? unheard : entry->rows;
    if (entry->samples && entry->logit_from == entry->rows)
        entry->logit_from = entry->rows - 1;
    int32_t behind = entry->keep + entry->rows;
    entry->next = behind < live->token_count ? live->tokens[behind] : -1;
}

static void plan_entries(struct engine *engine, const struct scheduler_plan *scheduled) {
    struct step_plan *plan = &engine->plan;
    for (int32_t i = 0; i < scheduled->entries; i++) {
        const struct scheduler_entry *from = &scheduled->entry[i];
        const struct live_request *live = &engine->live[from->handle];
        if (!live->used)
            continue; /* cancelled by a callback of this step */
        int32_t *length = &engine->table_length[from->place];
        struct step_entry entry = {.group = from->group,
                                   .place = from->place,
                                   .keep = from->keep,
                                   .rows = from->rows,
                                   .samples = from->completes,
                                   .table_first = from->begins ? 0 : *length,
                                   .blocks = from->block_count};
        *length = entry.table_first + entry.blocks;
        plan_wishes(live, &entry);
        engine->entry_handle[plan->entries] = from->handle;
        step_plan_add_chain(plan, entry, from->tokens, from->blocks);
        int32_t prompt = live->prompt_count - entry.keep;
        engine->rows += entry.rows;
        engine->prompt_tokens += prompt < 0 ? 0 : prompt < entry.rows ? prompt : entry.rows;
    }
}

/* ---- execution, on every rank ---- */

/* This rank's part of the plan in engine->plan, and the results to the coordinator. */
static enum status execute(struct engine *engine, const struct model_observer *observer) {
    struct step_outcome outcome = {.payload = step_link_payload(&engine->link)};
    struct step_report report = {.step = engine->plan.step};
    report.mine = step_executor_run(&engine->executor, &engine->plan, observer, &outcome);
    if (report.mine == STATUS_PEER)
        return STATUS_PEER; /* the others hear of it by their own deadlines, or by the job's end */
    engine->forward_ns += outcome.forward_ns;
    engine->sample_ns += outcome.sample_ns;
    report.bytes = outcome.bytes;
    report.digests = outcome.digests;
    enum status agreed;
    RETURN_IF_ERROR(step_link_collect(&engine->link, &report, &agreed));
    return agreed;
}

enum status engine_serve(struct engine *engine, const struct model_observer *observer) {
    for (;;) {
        RETURN_IF_ERROR(step_link_share(&engine->link, &engine->plan));
        if (engine->plan.stop)
            return STATUS_OK;
        if (engine->plan.tell) {
            RETURN_IF_ERROR(rank_counts_gather(&engine->counts, engine->plan.step, NULL, NULL));
            continue;
        }
        step_executor_admit(&engine->executor, &engine->plan);
        if (!engine->plan.more)
            RETURN_IF_ERROR(execute(engine, observer));
    }
}

enum status engine_idle(struct engine *engine, int32_t *wait_ms) {
    return step_link_idle(&engine->link, wait_ms);
}

enum status engine_gather(struct engine *engine, rank_counts_tell *tell, void *context) {
    step_plan_clear(&engine->plan, engine->step);
    engine->plan.tell = 1;
    RETURN_IF_ERROR(step_link_share(&engine->link, &engine->plan));
    return rank_counts_gather(&engine->counts, engine->step, tell, context);
}

enum status engine_stop(struct engine *engine) {
    step_plan_clear(&engine->plan, ++engine->step);
    engine->plan.stop = 1;
    return step_link_share(&engine->link, &engine->plan);
}

/* ---- the results ---- */

/* Points each group's reader at what its leader sent. */
static void open_results(struct engine *engine) {
    const struct step_plan *plan = &engine->plan;
    int64_t row_bytes = engine->spec.vocabulary * (int64_t)sizeof(float);
    for (int32_t group = 0; group < engine->ranks->dp_size; group++) {
        struct group_results *results = &engine->results[group];
        int64_t bytes, sent = 0;
        const char *payload =
            step_link_received(&engine->link, group * engine->ranks->tp_size, &bytes);
        for (int32_t i = 0; i < plan->entries; i++)
            if (plan->entry[i].group == group && plan->entry[i].sends)
                sent += step_plan_logit_rows(&plan->entry[i]);
        *results = (struct group_results){.sent = (const float *)(const void *)payload,
                                          .reader = {.bad = bytes < sent * row_bytes}};
        results->reader.end = payload + bytes;
        results->reader.at = results->reader.bad ? results->reader.end : payload + sent * row_bytes;
    }
}

/* A group that sent less or more than the plan asked for is not of our mind. */
static enum status close_results(const struct engine *engine) {
    for (int32_t group = 0; group < engine->ranks->dp_size; group++) {
        const struct group_results *results = &engine->results[group];
        if (!results->reader.bad && results->reader.at == results->reader.end)
            continue;
        LOG_ERROR("step %lld: rank %d: expected results of the plan's rows, got others",
                  (long long)engine->step, group * engine->ranks->tp_size);
        return STATUS_INTERNAL;
    }
    return STATUS_OK;
}

static enum engine_finish finish_of(const struct engine *engine, const struct live_request *live,
                                    int32_t id) {
    for (int32_t i = 0; !live->request.ignore_eos && i < engine->spec.eos_count; i++)
        if (engine->spec.eos_ids[i] == id)
            return ENGINE_EOS;
    return live->token_count - live->prompt_count >= live->max_tokens ? ENGINE_LENGTH
                                                                      : ENGINE_RUNNING;
}

static void tell_token(struct engine *engine, int32_t handle, const struct step_result *result,
                       const struct engine_listener *listener) {
    struct live_request *live = &engine->live[handle];
    struct engine_token token = {.request = handle,
                                 .id = result->token,
                                 .position = live->token_count,
                                 .cached = live->cached,
                                 .finish = ENGINE_FAILED,
                                 .logprobs = result->has_logprobs ? &result->logprobs : NULL};
    if (token.id < 0) {
        scheduler_cancel(engine->scheduler, handle);
    } else {
        live->token_count++;
        engine->generation_tokens++;
        token.finish = finish_of(engine, live, token.id);
        scheduler_commit(engine->scheduler, handle, token.id, token.finish != ENGINE_RUNNING);
    }
    if (token.finish != ENGINE_RUNNING)
        engine_request_free(engine, handle);
    listener->token(listener->context, &token);
}

/* Hands out what one entry brought; it is read even if its request has been cancelled meanwhile. */
static void tell_entry(struct engine *engine, const struct step_entry *entry, int32_t handle,
                       const struct engine_listener *listener) {
    struct group_results *results = &engine->results[entry->group];
    struct live_request *live = &engine->live[handle];
    struct step_result result;
    for (int32_t row = entry->logit_from; row < entry->rows; row++) {
        int32_t position = entry->keep + row;
        if (entry->sends) {
            if (live->used && listener->logits != NULL)
                listener->logits(listener->context, handle, position, results->sent);
            results->sent += engine->spec.vocabulary;
        }
        if (row - entry->logit_from >= entry->scores)
            continue;
        step_result_get(&results->reader, engine->spec.vocabulary, &result);
        if (live->used && listener->prompt_logprobs != NULL && result.has_logprobs)
            listener->prompt_logprobs(listener->context, handle, position + 1, &result.logprobs);
    }
    if (entry->keep + entry->rows > live->heard)
        live->heard = entry->keep + entry->rows;
    if (!entry->samples)
        return;
    step_result_get(&results->reader, engine->spec.vocabulary, &result);
    if (live->used && !results->reader.bad)
        tell_token(engine, handle, &result, listener);
}

enum status engine_step(struct engine *engine, const struct engine_listener *listener) {
    int64_t start_ns = clock_now_ns();
    const struct scheduler_plan *scheduled = scheduler_plan(engine->scheduler, start_ns);
    engine->schedule_ns += clock_now_ns() - start_ns;
    tell_ended(engine, scheduled, listener);
    tell_begun(engine, scheduled, listener);
    if (scheduled->entries == 0)
        return STATUS_OK;
    step_plan_clear(&engine->plan, ++engine->step);
    RETURN_IF_ERROR(plan_admissions(engine, scheduled));
    plan_entries(engine, scheduled);
    RETURN_IF_ERROR(step_link_share(&engine->link, &engine->plan));
    step_executor_admit(&engine->executor, &engine->plan);
    RETURN_IF_ERROR(execute(engine, listener->observer));
    open_results(engine);
    for (int32_t i = 0; i < engine->plan.entries; i++)
        tell_entry(engine, &engine->plan.entry[i], engine->entry_handle[i], listener);
    engine->step_ns += clock_now_ns() - start_ns;
    return close_results(engine);
}
