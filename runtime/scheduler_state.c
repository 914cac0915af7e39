/* What happens to a request: it waits, runs, loses its blocks, ends. Every change of places, blocks
 * and lines is made here, so that scheduler_plan.c only chooses. */
#include "runtime/scheduler_state.h"

#include <string.h>

#include "kernels/base/check.h"

/* A prefix hit outweighs that many blocks of imbalance between groups for each block that it saves:
 * computing a block costs more than reading it, but a short common beginning must not draw all
 * requests into one group. */
#define HIT_WEIGHT 4

int32_t scheduler_state_missing(const struct scheduled_request *request) {
    return request->token_count - request->computed - request->staged;
}

/* ---- waiting ---- */

void scheduler_state_wait(struct scheduler *scheduler, int32_t handle) {
    struct scheduled_request *request = &scheduler->request[handle];
    request->state = REQUEST_WAITING;
    fair_queue_push(&scheduler->queue, handle,
                    request->token_count > scheduler->limits.long_prompt ? FAIR_QUEUE_LONG
                                                                         : FAIR_QUEUE_SHORT);
}

static void wake_siblings(struct scheduler *scheduler, int32_t leader) {
    struct scheduled_request *request = &scheduler->request[leader];
    while (request->first_parked >= 0) {
        int32_t sibling = request->first_parked;
        request->first_parked = scheduler->request[sibling].next_parked;
        scheduler->parked_count--;
        scheduler_state_wait(scheduler, sibling);
    }
}

/* A parked request becomes a waiting one, with its fellows behind it: their leader is gone. */
static void promote(struct scheduler *scheduler, int32_t leader) {
    int32_t first = scheduler->request[leader].first_parked;
    if (first < 0)
        return;
    struct scheduled_request *heir = &scheduler->request[first];
    heir->first_parked = heir->next_parked;
    for (int32_t i = heir->first_parked; i >= 0; i = scheduler->request[i].next_parked)
        scheduler->request[i].leader = first;
    scheduler->request[leader].first_parked = -1;
    scheduler->parked_count--;
    scheduler_state_wait(scheduler, first);
}

static void unpark(struct scheduler *scheduler, int32_t handle) {
    const struct scheduled_request *request = &scheduler->request[handle];
    int32_t *link = &scheduler->request[request->leader].first_parked;
    while (*link != handle)
        link = &scheduler->request[*link].next_parked;
    *link = request->next_parked;
    scheduler->parked_count--;
}

/* ---- running ---- */

/* Whether a runs before b: better rank, then admitted sooner. */
static bool ranks_before(const struct scheduled_request *a, const struct scheduled_request *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->admission < b->admission;
}

static int32_t running_place(const struct scheduler *scheduler,
                             const struct scheduled_request *request) {
    int32_t low = 0, high = scheduler->running_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (ranks_before(&scheduler->request[scheduler->running[middle]], request))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void insert_running(struct scheduler *scheduler, int32_t handle) {
    int32_t place = running_place(scheduler, &scheduler->request[handle]);
    int32_t *at = scheduler->running + place;
    memmove(at + 1, at, sizeof *at * (size_t)(scheduler->running_count++ - place));
    *at = handle;
}

static void remove_running(struct scheduler *scheduler, int32_t handle) {
    int32_t place = running_place(scheduler, &scheduler->request[handle]);
    int32_t *at = scheduler->running + place;
    ASSERT(place < scheduler->running_count && *at == handle);
    memmove(at, at + 1, sizeof *at * (size_t)(--scheduler->running_count - place));
}

void scheduler_state_settle(struct scheduler *scheduler, int32_t handle) {
    struct scheduled_request *request = &scheduler->request[handle];
    request->computed += request->staged;
    request->staged = 0;
    if (request->computed == request->token_count)
        request->is_long = false;
    if (!scheduler->limits.prefix_cache)
        return;
    struct block_pool *pool = &scheduler->group[request->group].pool;
    for (; (request->published + 1) * KV_BLOCK_TOKENS <= request->computed; request->published++)
        request->content =
            block_pool_publish(pool, request->blocks[request->published], request->content,
                               request->asked.tokens + request->published * KV_BLOCK_TOKENS);
    int32_t shared = (request->asked.prompt_count - 1) / KV_BLOCK_TOKENS;
    if (!request->prompt_done && request->published >= shared) {
        request->prompt_done = true;
        wake_siblings(scheduler, handle);
    }
}

/* A running request gives place and blocks back; its state is the caller's to set. */
static void retire(struct scheduler *scheduler, int32_t handle) {
    struct scheduled_request *request = &scheduler->request[handle];
    struct scheduler_group *group = &scheduler->group[request->group];
    remove_running(scheduler, handle);
    for (int32_t i = request->block_count - 1; i >= 0; i--)
        block_pool_release(&group->pool, request->blocks[i]);
    scheduler->freed[scheduler->freed_count++] =
        (struct scheduler_freed){.group = request->group, .place = request->place};
    scheduler->next_place[request->place] = group->free_place;
    group->free_place = request->place;
    group->running--;
    group->refused_arrival = -1;
    request->block_count = request->told = request->computed = request->staged = 0;
    request->published = 0;
    request->content = BLOCK_POOL_ROOT;
    request->is_long = false;
}

void scheduler_state_end(struct scheduler *scheduler, int32_t handle) {
    struct scheduled_request *request = &scheduler->request[handle];
    ASSERT(request->state != REQUEST_FREE);
    if (request->state == REQUEST_RUNNING)
        retire(scheduler, handle);
    else if (request->state == REQUEST_PARKED)
        unpark(scheduler, handle);
    promote(scheduler, handle);
    fair_queue_leave(&scheduler->queue, handle);
    index_heap_remove(&scheduler->ends, handle);
    request->state = REQUEST_FREE;
    scheduler->free_handle[scheduler->free_handles++] = handle;
}

void scheduler_state_preempt(struct scheduler *scheduler, int32_t handle) {
    struct scheduler_group *group = &scheduler->group[scheduler->request[handle].group];
    retire(scheduler, handle);
    scheduler->preemptions++;
    group->preempted = true;
    scheduler_state_wait(scheduler, handle);
}

/* ---- admission ---- */

static bool is_looked_up(const struct scheduler *scheduler,
                         const struct scheduled_request *request) {
    return scheduler->limits.prefix_cache && !request->asked.whole_prompt;
}

/* The blocks of a group that hold the beginning of a request's tokens; never all of them: the last
 * token is computed, for its logits. */
static int32_t match_prefix(const struct scheduler *scheduler,
                            const struct scheduled_request *request, const struct block_pool *pool,
                            int32_t *match) {
    if (!is_looked_up(scheduler, request))
        return 0;
    int32_t count = 0, most = (request->token_count - 1) / KV_BLOCK_TOKENS;
    uint64_t content = BLOCK_POOL_ROOT;
    for (; count < most; count++) {
        int32_t block =
            block_pool_find(pool, content, request->asked.tokens + count * KV_BLOCK_TOKENS);
        if (block < 0)
            break;
        match[count] = block;
        content = pool->block[block].content;
    }
    return count;
}

static int32_t blocks_of(int32_t tokens) {
    return (tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

/* Whether a group has a place and the blocks, after `matched` hits. Some stay free for the growth
 * of those that run there; if nobody does, none need to. */
static bool has_room(const struct scheduler *scheduler, const struct scheduler_group *group,
                     int32_t tokens, const int32_t *match, int32_t matched) {
    int32_t needed = blocks_of(tokens) - matched;
    for (int32_t i = 0; i < matched; i++) /* a hit that nobody holds takes a free block too */
        needed += group->pool.block[match[i]].references == 0 ? 1 : 0;
    int32_t spare = group->running > 0 ? scheduler->watermark : 0;
    return needed + spare <= block_pool_free_count(&group->pool);
}

/* The group with room that has the fewest blocks in use, hits counted in its favour; -1: none.
 * *matched blocks are in scheduler->match[0]. */
static int32_t choose_group(struct scheduler *scheduler, int32_t handle, int32_t *matched) {
    const struct scheduled_request *request = &scheduler->request[handle];
    int64_t arrival = scheduler->queue.item[handle].arrival;
    int32_t best = -1;
    int64_t best_cost = INT64_MAX;
    for (int32_t i = 0; i < scheduler->limits.groups; i++) {
        struct scheduler_group *group = &scheduler->group[i];
        int32_t free_blocks = block_pool_free_count(&group->pool);
        /* Who did not fit fits no better with fewer free blocks: no need to look again. */
        if (group->free_place < 0 || group->preempted ||
            (group->refused_arrival == arrival && free_blocks <= group->refused_free))
            continue;
        int32_t count = match_prefix(scheduler, request, &group->pool, scheduler->match[1]);
        if (!has_room(scheduler, group, request->token_count, scheduler->match[1], count)) {
            group->refused_arrival = arrival;
            group->refused_free = free_blocks;
            continue;
        }
        int64_t cost = (int64_t)group->pool.used - (int64_t)HIT_WEIGHT * count;
        if (cost >= best_cost)
            continue;
        best = i;
        best_cost = cost;
        *matched = count;
        int32_t *swap = scheduler->match[0];
        scheduler->match[0] = scheduler->match[1];
        scheduler->match[1] = swap;
    }
    return best;
}

/* Shares the hits before anything is acquired, which could evict them. */
static void take_blocks(struct scheduler *scheduler, struct scheduled_request *request,
                        int32_t matched) {
    struct block_pool *pool = &scheduler->group[request->group].pool;
    for (int32_t i = 0; i < matched; i++) {
        block_pool_share(pool, scheduler->match[0][i]);
        request->blocks[i] = scheduler->match[0][i];
    }
    request->block_count = blocks_of(request->token_count);
    for (int32_t i = matched; i < request->block_count; i++)
        request->blocks[i] = block_pool_acquire(pool);
    request->computed = request->cached = matched * KV_BLOCK_TOKENS;
    request->published = matched;
    request->content =
        matched > 0 ? pool->block[request->blocks[matched - 1]].content : BLOCK_POOL_ROOT;
}

static void count_first_admission(struct scheduler *scheduler, int32_t handle) {
    struct scheduled_request *request = &scheduler->request[handle];
    request->admission = ++scheduler->first_admissions;
    if (is_looked_up(scheduler, request))
        scheduler->query_tokens += request->token_count;
    scheduler->hit_tokens += request->cached;
    fair_queue_charge(&scheduler->queue, handle, request->token_count - request->cached);
}

bool scheduler_state_admit(struct scheduler *scheduler, int32_t handle, bool overdue) {
    struct scheduled_request *request = &scheduler->request[handle];
    int32_t matched = 0, number = choose_group(scheduler, handle, &matched);
    if (number < 0)
        return false;
    struct scheduler_group *group = &scheduler->group[number];
    request->is_long = scheduler->queue.item[handle].line == FAIR_QUEUE_LONG;
    fair_queue_take(&scheduler->queue, handle, overdue);
    request->state = REQUEST_RUNNING;
    request->group = number;
    request->place = group->free_place;
    group->free_place = scheduler->next_place[request->place];
    group->running++;
    request->blocks = scheduler->block_tables + (int64_t)request->place * scheduler->block_capacity;
    take_blocks(scheduler, request, matched);
    if (overdue)
        request->rank = INT32_MIN;
    scheduler->admissions++;
    if (request->admission == 0)
        count_first_admission(scheduler, handle);
    insert_running(scheduler, handle);
    return true;
}
