/* The loop of the engine thread: take what came, end what is over, give waiting choices to the
 * engine, step, hand out what changed. Between two steps and nowhere else requests come and go. */
#include "runtime/engine_loop.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "runtime/request_queue.h"

struct loop_place {
    struct generation *generation; /* NULL: free */
    int32_t choice;
};

#define ASK_NS INT64_C(1000000000) /* how often the ranks are asked for their counters */

/* Sums of all ranks, as the metrics were told last. */
struct loop_routed {
    int64_t pairs, local_pairs, tokens, copies;
};

struct engine_loop {
    struct engine *engine;
    struct metrics *metrics;
    struct rank_accounts *accounts;
    struct loop_routed routed;
    int64_t asked_ns, asked_steps; /* when the ranks were asked last, and behind how many steps */
    struct request_queue queue;
    struct generation_list list;
    int32_t handles;
    struct loop_place *places;       /* [sequences], by the engine's handle */
    struct generation *first, *last; /* that run or wait, in order of arrival */
    int32_t waiting;                 /* choices that the engine has not taken yet */
    int64_t now_ns;                  /* of this turn */
    int64_t token_ns;                /* of the step's tokens; 0: none came yet */
    struct engine_stats told;        /* what metrics have been told */
    _Alignas(64) atomic_bool stop;
    _Atomic int32_t state;
    _Atomic int64_t
        step_start_ns; /* of a step, or whatever else waits for ranks; 0: nothing does */
};

/* ---- making ---- */

enum status engine_loop_create(const struct engine_loop_options *options,
                               struct engine_loop **out) {
    struct engine_loop *loop = aligned_alloc(64, sizeof *loop);
    int32_t handles = engine_handles(options->engine);
    struct loop_place *places = calloc((size_t)handles, sizeof *places);
    if (loop == NULL || places == NULL) {
        LOG_ERROR("engine loop: cannot take memory for %d sequences", handles);
        free(loop);
        free(places);
        return STATUS_NO_MEMORY;
    }
    memset(loop, 0, sizeof *loop);
    loop->engine = options->engine;
    loop->metrics = options->metrics;
    loop->accounts = options->accounts;
    loop->handles = handles;
    loop->places = places;
    loop->list.event_fd = -1;
    enum status status = request_queue_init(&loop->queue, options->sequences);
    if (status == STATUS_OK)
        status = generation_list_init(&loop->list);
    if (status != STATUS_OK) {
        engine_loop_destroy(loop);
        return status;
    }
    *out = loop;
    return STATUS_OK;
}

void engine_loop_destroy(struct engine_loop *loop) {
    if (loop == NULL)
        return;
    if (loop->list.event_fd >= 0)
        generation_list_deinit(&loop->list);
    request_queue_deinit(&loop->queue);
    free(loop->places);
    free(loop);
}

/* ---- other threads ---- */

enum status engine_loop_submit(struct engine_loop *loop, struct generation *generation) {
    return request_queue_push(&loop->queue, generation);
}

void engine_loop_cancel(struct engine_loop *loop, struct generation *generation, int32_t choice) {
    (void)loop; /* the engine thread looks before each step, and sleeps only when nothing is open */
    atomic_store_explicit(&generation->choices[choice].cancelled, true, memory_order_relaxed);
}

struct generation_list *engine_loop_list(struct engine_loop *loop) {
    return &loop->list;
}

struct generation *engine_loop_untaken(struct engine_loop *loop) {
    ASSERT(engine_loop_state(loop) == ENGINE_LOOP_ENDED);
    return request_queue_pop(&loop->queue);
}

void engine_loop_stop(struct engine_loop *loop) {
    atomic_store(&loop->stop, true);
    request_queue_wake(&loop->queue);
}

enum engine_loop_state engine_loop_state(const struct engine_loop *loop) {
    return (enum engine_loop_state)atomic_load_explicit(&loop->state, memory_order_acquire);
}

int64_t engine_loop_step_age_ns(const struct engine_loop *loop, int64_t now_ns) {
    int64_t start_ns = atomic_load_explicit(&loop->step_start_ns, memory_order_relaxed);
    return start_ns > 0 && now_ns > start_ns ? now_ns - start_ns : 0;
}

/* ---- coming and going ---- */

static void link_generation(struct engine_loop *loop, struct generation *generation) {
    generation->next = NULL;
    generation->previous = loop->last;
    if (loop->last != NULL)
        loop->last->next = generation;
    else
        loop->first = generation;
    loop->last = generation;
    loop->waiting += generation->n;
}

static void unlink_generation(struct engine_loop *loop, struct generation *generation) {
    if (generation->previous != NULL)
        generation->previous->next = generation->next;
    else
        loop->first = generation->next;
    if (generation->next != NULL)
        generation->next->previous = generation->previous;
    else
        loop->last = generation->previous;
}

static void take_new(struct engine_loop *loop) {
    struct generation *generation;
    while ((generation = request_queue_pop(&loop->queue)) != NULL)
        link_generation(loop, generation);
}

static void leave_engine(struct engine_loop *loop, struct generation_choice *choice) {
    if (choice->handle >= 0)
        loop->places[choice->handle].generation = NULL;
    else if (!choice->submitted)
        loop->waiting--;
    choice->handle = -1;
    choice->submitted = true;
}

/* Ends a choice from outside the engine. */
static void end_choice(struct engine_loop *loop, struct generation *generation, int32_t index,
                       enum generation_finish finish) {
    struct generation_choice *choice = &generation->choices[index];
    if (choice->handle >= 0)
        engine_cancel(loop->engine, choice->handle);
    leave_engine(loop, choice);
    generation_end(generation, index, finish);
}

static bool is_open(const struct generation_choice *choice) {
    return generation_read(choice).finish == GENERATION_RUNNING;
}

/* What has passed for the whole request. */
static enum generation_finish overdue(const struct generation *generation, int64_t now_ns) {
    if (generation->deadline_ns > 0 && now_ns >= generation->deadline_ns)
        return GENERATION_DEADLINE;
    if (generation->time_limit_ns > 0 && now_ns >= generation->time_limit_ns)
        return GENERATION_TIME_LIMIT;
    return GENERATION_RUNNING;
}

static void end_overdue(struct engine_loop *loop) {
    for (struct generation *generation = loop->first; generation != NULL;
         generation = generation->next) {
        enum generation_finish finish = overdue(generation, loop->now_ns);
        for (int32_t i = 0; i < generation->n; i++) {
            struct generation_choice *choice = &generation->choices[i];
            bool cancelled = atomic_load_explicit(&choice->cancelled, memory_order_relaxed);
            if ((cancelled || finish != GENERATION_RUNNING) && is_open(choice))
                end_choice(loop, generation, i, cancelled ? GENERATION_ABORTED : finish);
        }
    }
}

static void fail_generation(struct engine_loop *loop, struct generation *generation,
                            enum status status) {
    generation->failure = status;
    for (int32_t i = 0; i < generation->n; i++)
        if (is_open(&generation->choices[i]))
            end_choice(loop, generation, i, GENERATION_FAILED);
}

/* ---- to the engine ---- */

static struct engine_request request_of(const struct generation *generation, int32_t index) {
    struct engine_request request = {.prompt = generation->prompt,
                                     .prompt_count = generation->prompt_count,
                                     .sampling = generation->sampling,
                                     .max_tokens = generation->max_tokens,
                                     .min_tokens = generation->min_tokens,
                                     .stop_ids = generation->stop_ids,
                                     .stop_id_count = generation->stop_id_count,
                                     .ignore_eos = generation->ignore_eos,
                                     .priority = generation->priority,
                                     .client = generation->client};
    request.sampling.seed = generation->choices[index].seed;
    if (index == 0 && generation->prompt_logprobs >= 0) {
        request.prompt_logprobs = true;
        request.prompt_logprob_top = generation->prompt_logprobs;
    }
    if (index > 0 && generation->choices[0].handle >= 0) {
        request.shares_prompt = true;
        request.sibling = generation->choices[0].handle;
    }
    return request;
}

static enum status submit_choice(struct engine_loop *loop, struct generation *generation,
                                 int32_t index) {
    struct generation_choice *choice = &generation->choices[index];
    struct engine_request request = request_of(generation, index);
    int32_t handle;
    RETURN_IF_ERROR(engine_submit(loop->engine, &request, &handle));
    ASSERT(handle >= 0 && handle < loop->handles && loop->places[handle].generation == NULL);
    loop->places[handle] = (struct loop_place){generation, index};
    choice->handle = handle;
    choice->submitted = true;
    loop->waiting--;
    return STATUS_OK;
}

static void submit_waiting(struct engine_loop *loop) {
    for (struct generation *generation = loop->first; generation != NULL && loop->waiting > 0;
         generation = generation->next) {
        for (int32_t i = 0; i < generation->n; i++) {
            struct generation_choice *choice = &generation->choices[i];
            if (choice->submitted)
                continue;
            enum status status = submit_choice(loop, generation, i);
            if (status == STATUS_LIMIT)
                return; /* in order of arrival: nobody overtakes */
            if (status != STATUS_OK)
                fail_generation(loop, generation, status);
        }
    }
}

/* ---- from the engine ---- */

static bool is_stop_id(const struct generation *generation, int32_t id) {
    for (int32_t i = 0; i < generation->stop_id_count; i++)
        if (generation->stop_ids[i] == id)
            return true;
    return false;
}

static void observe_token(struct engine_loop *loop, const struct generation *generation,
                          const struct generation_choice *choice, int32_t tokens_before) {
    if (tokens_before == 0)
        metrics_add(loop->metrics, METRICS_PROMPT_TOKENS, generation->prompt_count);
    metrics_add(loop->metrics, METRICS_GENERATION_TOKENS, 1);
    int64_t since_ns = tokens_before == 0 ? generation->submitted_ns : choice->last_token_ns;
    metrics_observe(loop->metrics,
                    tokens_before == 0 ? METRICS_TIME_TO_FIRST_TOKEN : METRICS_INTER_TOKEN_LATENCY,
                    (double)(loop->token_ns - since_ns) * 1e-9);
}

static enum generation_finish finish_of(enum engine_finish finish) {
    switch (finish) {
    case ENGINE_RUNNING:
        return GENERATION_RUNNING;
    case ENGINE_LENGTH:
        return GENERATION_LENGTH;
    case ENGINE_EOS:
        return GENERATION_EOS;
    case ENGINE_TIME_LIMIT:
        return GENERATION_TIME_LIMIT;
    case ENGINE_DEADLINE:
        return GENERATION_DEADLINE;
    case ENGINE_FAILED:
        break;
    }
    return GENERATION_FAILED;
}

/* The engine's last word without a token. */
static void take_end(struct engine_loop *loop, struct loop_place place,
                     enum generation_finish finish) {
    if (finish == GENERATION_FAILED)
        place.generation->failure = STATUS_INTERNAL;
    leave_engine(loop, &place.generation->choices[place.choice]);
    generation_end(place.generation, place.choice, finish);
}

/* The prompt is computed, and nothing else was wanted. */
static void take_prompt_end(struct engine_loop *loop, struct loop_place place,
                            const struct engine_token *token) {
    struct generation_choice *choice = &place.generation->choices[place.choice];
    ASSERT(token->finish != ENGINE_RUNNING);
    if (place.choice == 0)
        place.generation->cached_tokens = token->cached;
    choice->first_token_ns = choice->last_token_ns = loop->token_ns;
    metrics_add(loop->metrics, METRICS_PROMPT_TOKENS, place.generation->prompt_count);
    take_end(loop, place, GENERATION_LENGTH);
}

static void take_token(struct engine_loop *loop, struct loop_place place,
                       const struct engine_token *token) {
    struct generation *generation = place.generation;
    struct generation_choice *choice = &generation->choices[place.choice];
    struct generation_token next = {.id = token->id,
                                    .finish = finish_of(token->finish),
                                    .logprobs = token->logprobs,
                                    .now_ns = loop->token_ns};
    int32_t tokens = generation_read(choice).tokens;
    if (next.finish != GENERATION_EOS && tokens >= generation->min_tokens &&
        is_stop_id(generation, token->id))
        next.finish = GENERATION_STOP_TOKEN;
    if (tokens == 0 && place.choice == 0)
        generation->cached_tokens = token->cached;
    observe_token(loop, generation, choice, tokens);
    if (next.finish == GENERATION_STOP_TOKEN && token->finish == ENGINE_RUNNING)
        engine_cancel(loop->engine, token->request);
    if (next.finish != GENERATION_RUNNING)
        leave_engine(loop, choice);
    generation_publish(generation, place.choice, &next);
}

static void on_token(void *context, const struct engine_token *token) {
    struct engine_loop *loop = context;
    struct loop_place place = loop->places[token->request];
    ASSERT(place.generation != NULL);
    if (loop->token_ns == 0)
        loop->token_ns = clock_now_ns();
    if (token->id < 0)
        take_end(loop, place, finish_of(token->finish));
    else if (place.generation->prompt_only)
        take_prompt_end(loop, place, token);
    else
        take_token(loop, place, token);
}

static void on_begun(void *context, int32_t request) {
    struct engine_loop *loop = context;
    struct loop_place place = loop->places[request];
    place.generation->choices[place.choice].admitted_ns = loop->now_ns;
}

static void on_prompt_logprobs(void *context, int32_t request, int32_t position,
                               const struct sampler_logprobs *logprobs) {
    struct engine_loop *loop = context;
    generation_set_prompt_logprob(loop->places[request].generation, position, logprobs);
}

/* Everything that changed goes to the network thread; what is complete is no longer ours. */
static void hand_out(struct engine_loop *loop) {
    bool any = false;
    for (struct generation *generation = loop->first, *next; generation != NULL;
         generation = next) {
        next = generation->next;
        if (!generation->changed)
            continue;
        any = true;
        bool done = generation->unfinished == 0;
        if (done)
            unlink_generation(loop, generation);
        generation_list_push(&loop->list, generation, done);
    }
    if (any)
        generation_list_wake(&loop->list);
}

/* The engine counts on its own; metrics get what was added. */
static void tell_metrics(struct engine_loop *loop) {
    struct engine_stats now, *told = &loop->told;
    struct metrics *metrics = loop->metrics;
    engine_stats(loop->engine, &now);
    metrics_set(metrics, METRICS_KV_BLOCKS_TOTAL, (double)now.kv_blocks);
    metrics_set(metrics, METRICS_KV_BLOCKS_USED, (double)now.kv_blocks_used);
    metrics_set(metrics, METRICS_KV_CACHE_USAGE,
                now.kv_blocks > 0 ? (double)now.kv_blocks_used / (double)now.kv_blocks : 0.0);
    metrics_add(metrics, METRICS_PREFIX_CACHE_QUERIES,
                now.prefix_query_tokens - told->prefix_query_tokens);
    metrics_add(metrics, METRICS_PREFIX_CACHE_HITS,
                now.prefix_hit_tokens - told->prefix_hit_tokens);
    metrics_add(metrics, METRICS_PREEMPTIONS, now.preemptions - told->preemptions);
    metrics_add(metrics, METRICS_SCHEDULE_NS, now.schedule_ns - told->schedule_ns);
    for (int flow = 0; flow < EXPERT_FLOW_COUNT; flow++)
        metrics_add(metrics, (enum metrics_counter)(METRICS_FLOW_STEPS + flow),
                    now.flow_steps[flow] - told->flow_steps[flow]);
    if (now.steps > told->steps)
        metrics_observe(metrics, METRICS_ITERATION_TOKENS, (double)(now.rows - told->rows));
    metrics_set(metrics, METRICS_REQUESTS_WAITING,
                (double)(now.waiting + loop->waiting + request_queue_count(&loop->queue)));
    metrics_set(metrics, METRICS_REQUESTS_RUNNING, (double)now.running); /* last: see turn */
    *told = now;
}

/* ---- what the ranks counted ---- */

/* One rank's counters: its own go to its place, the routing of all ranks is added up. */
static void take_counts(void *context, int32_t rank, const struct rank_counts_view *view) {
    struct engine_loop *loop = context;
    metrics_set_rank(loop->metrics, rank, &view->sums->accounts);
    rank_accounts_set(loop->accounts, rank, view->pairs, view->sent, loop->now_ns);
    loop->routed.pairs += view->sums->routed_pairs;
    loop->routed.local_pairs += view->sums->local_pairs;
    loop->routed.tokens += view->sums->tokens;
    loop->routed.copies += view->sums->copies;
}

/* What follows may wait for other ranks, until 0 is set: the network thread tells its age. */
static void set_step_start(struct engine_loop *loop, int64_t start_ns) {
    atomic_store_explicit(&loop->step_start_ns, start_ns, memory_order_relaxed);
}

/* Asks the ranks, at most once a second, and once more when there is nothing left to do: only steps
 * change what they would say. */
static enum status ask_ranks(struct engine_loop *loop) {
    bool is_due = loop->first == NULL || loop->now_ns - loop->asked_ns >= ASK_NS;
    struct engine_stats stats;
    engine_stats(loop->engine, &stats);
    if (loop->accounts == NULL || loop->asked_steps == stats.steps || !is_due)
        return STATUS_OK;
    struct loop_routed before = loop->routed;
    loop->routed = (struct loop_routed){.pairs = 0};
    loop->asked_ns = loop->now_ns;
    loop->asked_steps = stats.steps;
    set_step_start(loop, clock_now_ns());
    enum status status = engine_gather(loop->engine, take_counts, loop);
    set_step_start(loop, 0);
    RETURN_IF_ERROR(status);
    const struct loop_routed *now = &loop->routed;
    metrics_add(loop->metrics, METRICS_ROUTED_PAIRS, now->pairs - before.pairs);
    metrics_add(loop->metrics, METRICS_LOCAL_PAIRS, now->local_pairs - before.local_pairs);
    metrics_add(loop->metrics, METRICS_ROUTED_TOKENS, now->tokens - before.tokens);
    metrics_add(loop->metrics, METRICS_COPIES, now->copies - before.copies);
    return STATUS_OK;
}

static enum status step(struct engine_loop *loop) {
    const struct engine_listener listener = {.token = on_token,
                                             .begun = on_begun,
                                             .prompt_logprobs = on_prompt_logprobs,
                                             .context = loop};
    int64_t start_ns = clock_now_ns();
    loop->token_ns = 0;
    set_step_start(loop, start_ns);
    enum status status = engine_step(loop->engine, &listener);
    set_step_start(loop, 0);
    metrics_add(loop->metrics, METRICS_STEPS, 1);
    metrics_observe(loop->metrics, METRICS_STEP_SECONDS,
                    (double)(clock_now_ns() - start_ns) * 1e-9);
    return status;
}

/* Nothing is open: the other ranks are told that we are there, and we sleep. */
static enum status rest(struct engine_loop *loop) {
    int32_t wait_ms;
    set_step_start(loop, clock_now_ns());
    enum status status = engine_idle(loop->engine, &wait_ms);
    set_step_start(loop, 0);
    RETURN_IF_ERROR(status);
    request_queue_wait(&loop->queue, wait_ms);
    return STATUS_OK;
}

/* One turn: nothing in it waits but the step itself, or the sleep when nothing is open. */
static enum status turn(struct engine_loop *loop) {
    take_new(loop);
    loop->now_ns = clock_now_ns();
    end_overdue(loop);
    submit_waiting(loop);
    enum status status = STATUS_OK;
    if (engine_running(loop->engine) > 0)
        status = step(loop);
    hand_out(loop);
    if (status == STATUS_OK)
        status = ask_ranks(loop);
    tell_metrics(loop); /* last: where nothing runs, all that was counted has been told */
    if (status == STATUS_OK && loop->first == NULL)
        status = rest(loop);
    return status;
}

enum status engine_loop_run(struct engine_loop *loop) {
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !atomic_load_explicit(&loop->stop, memory_order_relaxed))
        status = turn(loop);
    take_new(loop);
    for (struct generation *generation = loop->first; generation != NULL;
         generation = generation->next)
        fail_generation(loop, generation, status);
    hand_out(loop);
    atomic_store_explicit(&loop->state, ENGINE_LOOP_ENDED, memory_order_release);
    generation_list_wake(&loop->list);
    return status;
}
