/* The scheduler's door: requests come, are cancelled, and have their tokens committed. The step is
 * chosen in scheduler_plan.c. */
#include "runtime/scheduler.h"

#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/scheduler_state.h"

/* What a produced token weighs against a prompt token in a client's account (the VTC paper's). */
#define OUTPUT_WEIGHT 2
/* Of a group's blocks, one in so many stays free when a request is admitted beside others. */
#define WATERMARK_SHARE 100
#define LONG_PROMPT_SHARE 4
#define LONG_PROMPTS_DEFAULT 2
#define PASSES_DEFAULT 32

/* ---- limits ---- */

int32_t scheduler_handles(const struct scheduler_limits *limits) {
    return limits->places + limits->waiting;
}

/* The last token of a sequence is never computed: it needs no slot. */
int32_t scheduler_longest(const struct scheduler_limits *limits) {
    int64_t slots = (int64_t)limits->blocks * KV_BLOCK_TOKENS;
    return slots < limits->positions ? (int32_t)slots + 1 : limits->positions;
}

int32_t scheduler_entries_max(const struct scheduler_limits *limits) {
    return limits->places < limits->rows ? limits->places : limits->rows;
}

static int32_t block_capacity(const struct scheduler_limits *limits) {
    return (scheduler_longest(limits) + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

int64_t scheduler_blocks_max(const struct scheduler_limits *limits) {
    return (int64_t)scheduler_entries_max(limits) * block_capacity(limits);
}

static bool is_below(const char *name, int32_t value, int32_t least) {
    if (value < least)
        LOG_ERROR("scheduler: %s: expected at least %d, got %d", name, least, value);
    return value < least;
}

static enum status check_limits(const struct scheduler_limits *limits) {
    bool bad =
        is_below("groups", limits->groups, 1) || is_below("places", limits->places, 1) ||
        is_below("rows", limits->rows, 1) || is_below("waiting", limits->waiting, 1) ||
        is_below("positions", limits->positions, 2) || is_below("blocks", limits->blocks, 1) ||
        is_below("long prompt", limits->long_prompt, 0) ||
        is_below("long prompts", limits->long_prompts, 0) || is_below("passes", limits->passes, 0);
    if (!bad && (int64_t)limits->places + limits->waiting > INT32_MAX / 4) {
        LOG_ERROR("scheduler: places and waiting: expected at most %d together, got %lld",
                  INT32_MAX / 4, (long long)limits->places + limits->waiting);
        bad = true;
    }
    return bad ? STATUS_BAD_CONFIG : STATUS_OK;
}

static void fill_defaults(struct scheduler_limits *limits) {
    if (limits->long_prompt == 0)
        limits->long_prompt = (limits->rows + LONG_PROMPT_SHARE - 1) / LONG_PROMPT_SHARE;
    if (limits->long_prompts == 0)
        limits->long_prompts =
            limits->groups > LONG_PROMPTS_DEFAULT ? limits->groups : LONG_PROMPTS_DEFAULT;
    if (limits->passes == 0)
        limits->passes = PASSES_DEFAULT;
}

/* ---- start and end ---- */

static bool ends_sooner(const void *context, int32_t a, int32_t b) {
    const struct scheduler *scheduler = context;
    int64_t x = scheduler->request[a].end_ns, y = scheduler->request[b].end_ns;
    return x != y ? x < y : a < b;
}

static enum status take_memory(struct scheduler *scheduler) {
    const struct scheduler_limits *limits = &scheduler->limits;
    size_t handles = (size_t)scheduler->handles, places = (size_t)limits->places,
           groups = (size_t)limits->groups, blocks = (size_t)scheduler->block_capacity;
    scheduler->request = calloc(handles, sizeof *scheduler->request);
    scheduler->free_handle = calloc(handles, sizeof *scheduler->free_handle);
    scheduler->ended = calloc(handles, sizeof *scheduler->ended);
    scheduler->running = calloc(places, sizeof *scheduler->running);
    scheduler->next_place = calloc(places, sizeof *scheduler->next_place);
    scheduler->freed = calloc(places, sizeof *scheduler->freed);
    scheduler->told_freed = calloc(places, sizeof *scheduler->told_freed);
    scheduler->entry = calloc(places, sizeof *scheduler->entry);
    scheduler->block_tables = calloc(places * blocks, sizeof *scheduler->block_tables);
    scheduler->match[0] = calloc(blocks, sizeof *scheduler->match[0]);
    scheduler->match[1] = calloc(blocks, sizeof *scheduler->match[1]);
    scheduler->group = calloc(groups, sizeof *scheduler->group);
    if (scheduler->request == NULL || scheduler->free_handle == NULL || scheduler->ended == NULL ||
        scheduler->running == NULL || scheduler->next_place == NULL || scheduler->freed == NULL ||
        scheduler->told_freed == NULL || scheduler->entry == NULL ||
        scheduler->block_tables == NULL || scheduler->match[0] == NULL ||
        scheduler->match[1] == NULL || scheduler->group == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < groups; i++)
        RETURN_IF_ERROR(
            block_pool_init(&scheduler->group[i].pool, limits->blocks, limits->hash_key));
    RETURN_IF_ERROR(fair_queue_init(&scheduler->queue, scheduler->handles));
    return index_heap_init(&scheduler->ends, scheduler->handles, ends_sooner, scheduler);
}

static void begin_free(struct scheduler *scheduler) {
    const struct scheduler_limits *limits = &scheduler->limits;
    for (int32_t i = 0; i < limits->groups; i++) {
        scheduler->group[i].free_place = -1;
        scheduler->group[i].refused_arrival = -1;
    }
    for (int32_t place = limits->places - 1; place >= 0; place--) { /* the lowest is taken first */
        struct scheduler_group *group = &scheduler->group[place % limits->groups];
        scheduler->next_place[place] = group->free_place;
        group->free_place = place;
    }
    for (int32_t handle = scheduler->handles - 1; handle >= 0; handle--)
        scheduler->free_handle[scheduler->free_handles++] = handle;
}

enum status scheduler_create(const struct scheduler_limits *limits, struct scheduler **created) {
    RETURN_IF_ERROR(check_limits(limits));
    struct scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (scheduler != NULL) {
        scheduler->limits = *limits;
        fill_defaults(&scheduler->limits);
        scheduler->handles = scheduler_handles(limits);
        scheduler->block_capacity = block_capacity(limits);
        scheduler->watermark = (limits->blocks + WATERMARK_SHARE - 1) / WATERMARK_SHARE;
    }
    if (scheduler == NULL || take_memory(scheduler) != STATUS_OK) {
        LOG_ERROR("scheduler: cannot take memory for %d places, %d waiting requests and %d blocks "
                  "in each of %d groups",
                  limits->places, limits->waiting, limits->blocks, limits->groups);
        scheduler_destroy(scheduler);
        return STATUS_NO_MEMORY;
    }
    begin_free(scheduler);
    *created = scheduler;
    return STATUS_OK;
}

void scheduler_destroy(struct scheduler *scheduler) {
    if (scheduler == NULL)
        return;
    for (int32_t i = 0; scheduler->group != NULL && i < scheduler->limits.groups; i++)
        block_pool_deinit(&scheduler->group[i].pool);
    fair_queue_deinit(&scheduler->queue);
    index_heap_deinit(&scheduler->ends);
    free(scheduler->request);
    free(scheduler->free_handle);
    free(scheduler->ended);
    free(scheduler->running);
    free(scheduler->next_place);
    free(scheduler->freed);
    free(scheduler->told_freed);
    free(scheduler->entry);
    free(scheduler->block_tables);
    free(scheduler->match[0]);
    free(scheduler->match[1]);
    free(scheduler->group);
    free(scheduler);
}

/* ---- requests ---- */

static int32_t count_waiting(const struct scheduler *scheduler) {
    return scheduler->queue.oldest.count + scheduler->parked_count;
}

int32_t scheduler_room(const struct scheduler *scheduler) {
    int32_t room = scheduler->limits.waiting - count_waiting(scheduler);
    return room > 0 ? room : 0; /* preempted requests wait beyond the limit */
}

static enum status check_request(const struct scheduler *scheduler,
                                 const struct scheduler_request *request) {
    ASSERT(request->prompt_count >= 1 && request->max_tokens >= 1);
    int64_t length = (int64_t)request->prompt_count + request->max_tokens;
    int32_t longest = scheduler_longest(&scheduler->limits);
    if (length <= longest)
        return STATUS_OK;
    LOG_ERROR("prompt and max_tokens: expected at most %d tokens together (--max-model-len %d, KV "
              "blocks for %lld), got %lld",
              longest, scheduler->limits.positions,
              (long long)scheduler->limits.blocks * KV_BLOCK_TOKENS, (long long)length);
    return STATUS_BAD_REQUEST;
}

/* Whether there is anything to wait for: whole blocks that the sibling is still to compute. */
static bool has_to_park(const struct scheduler *scheduler,
                        const struct scheduler_request *request) {
    if (request->sibling < 0)
        return false;
    const struct scheduled_request *leader = &scheduler->request[request->sibling];
    ASSERT(request->sibling < scheduler->handles && leader->state != REQUEST_FREE);
    return scheduler->limits.prefix_cache && !request->whole_prompt && !leader->prompt_done &&
           request->prompt_count > KV_BLOCK_TOKENS;
}

/* Behind the sibling, or, if that one is parked itself, behind the one that it waits for. */
static void park(struct scheduler *scheduler, int32_t handle) {
    struct scheduled_request *request = &scheduler->request[handle];
    request->leader = request->asked.sibling;
    if (scheduler->request[request->leader].state == REQUEST_PARKED)
        request->leader = scheduler->request[request->leader].leader;
    int32_t *link = &scheduler->request[request->leader].first_parked;
    while (*link >= 0)
        link = &scheduler->request[*link].next_parked;
    *link = handle;
    request->state = REQUEST_PARKED;
    scheduler->parked_count++;
}

enum status scheduler_submit(struct scheduler *scheduler, const struct scheduler_request *request,
                             int32_t *handle_out) {
    RETURN_IF_ERROR(check_request(scheduler, request));
    if (scheduler_room(scheduler) == 0)
        return STATUS_LIMIT;
    ASSERT(scheduler->free_handles > 0);
    bool parks = has_to_park(scheduler, request);
    int32_t handle = scheduler->free_handle[--scheduler->free_handles];
    struct scheduled_request *own = &scheduler->request[handle];
    *own = (struct scheduled_request){.asked = *request,
                                      .token_count = request->prompt_count,
                                      .end_ns = request->deadline_ns < request->limit_ns
                                                    ? request->deadline_ns
                                                    : request->limit_ns,
                                      .first_parked = -1,
                                      .next_parked = -1,
                                      .rank = request->priority,
                                      .content = BLOCK_POOL_ROOT};
    fair_queue_join(&scheduler->queue, handle, request->client, request->priority);
    if (own->end_ns != SCHEDULER_NEVER_NS)
        index_heap_put(&scheduler->ends, handle);
    if (parks)
        park(scheduler, handle);
    else
        scheduler_state_wait(scheduler, handle);
    *handle_out = handle;
    return STATUS_OK;
}

static void check_live(const struct scheduler *scheduler, int32_t handle) {
    ASSERT(handle >= 0 && handle < scheduler->handles &&
           scheduler->request[handle].state != REQUEST_FREE);
}

void scheduler_cancel(struct scheduler *scheduler, int32_t handle) {
    check_live(scheduler, handle);
    scheduler_state_end(scheduler, handle);
}

void scheduler_commit(struct scheduler *scheduler, int32_t handle, int32_t token, bool finished) {
    check_live(scheduler, handle);
    struct scheduled_request *request = &scheduler->request[handle];
    ASSERT(request->state == REQUEST_RUNNING && request->staged > 0 && request->completes);
    scheduler_state_settle(scheduler, handle);
    request->asked.tokens[request->token_count++] = token;
    int32_t produced = request->token_count - request->asked.prompt_count;
    ASSERT(finished || produced < request->asked.max_tokens);
    fair_queue_charge(&scheduler->queue, handle, OUTPUT_WEIGHT);
    if (finished)
        scheduler_state_end(scheduler, handle);
}

/* ---- what there is to know ---- */

int32_t scheduler_token_count(const struct scheduler *scheduler, int32_t handle) {
    check_live(scheduler, handle);
    return scheduler->request[handle].token_count;
}

void scheduler_stats(const struct scheduler *scheduler, struct scheduler_stats *stats) {
    *stats = (struct scheduler_stats){.waiting = count_waiting(scheduler),
                                      .running = scheduler->running_count,
                                      .admissions = scheduler->admissions,
                                      .preemptions = scheduler->preemptions,
                                      .prefix_query_tokens = scheduler->query_tokens,
                                      .prefix_hit_tokens = scheduler->hit_tokens};
}

void scheduler_group_stats(const struct scheduler *scheduler, int32_t number,
                           struct scheduler_group_stats *stats) {
    ASSERT(number >= 0 && number < scheduler->limits.groups);
    const struct scheduler_group *group = &scheduler->group[number];
    *stats = (struct scheduler_group_stats){.running = group->running,
                                            .blocks = group->pool.count,
                                            .used = group->pool.used,
                                            .cached = group->pool.cached};
}
