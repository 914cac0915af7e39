/* The choice of a step's rows: every decoding request its one, then prompts with what is left, in
 * the order of their rank and in pieces, so that neither a long prompt nor many make others wait.
 */
#include <string.h>

#include "kernels/base/check.h"
#include "runtime/scheduler_state.h"

static struct scheduled_request *running_at(const struct scheduler *scheduler, int32_t place) {
    return &scheduler->request[scheduler->running[place]];
}

static void end_overdue(struct scheduler *scheduler, int64_t now_ns) {
    for (;;) {
        int32_t handle = index_heap_first(&scheduler->ends);
        if (handle < 0 || scheduler->request[handle].end_ns > now_ns)
            return;
        const struct scheduled_request *request = &scheduler->request[handle];
        scheduler->ended[scheduler->plan.ended_count++] = (struct scheduler_ended){
            .handle = handle,
            .end = request->asked.deadline_ns <= now_ns ? SCHEDULER_END_DEADLINE
                                                        : SCHEDULER_END_TIME_LIMIT};
        scheduler_state_end(scheduler, handle);
    }
}

/* ---- decoding ---- */

/* The running request of a group that is preempted first. */
static int32_t choose_victim(const struct scheduler *scheduler, int32_t group) {
    int32_t place = scheduler->running_count - 1;
    while (running_at(scheduler, place)->group != group)
        place--;
    return scheduler->running[place];
}

/* A block for the next position, at the cost of those of lower rank. False: it was the lowest, and
 * is preempted itself. */
static bool grow(struct scheduler *scheduler, int32_t handle) {
    struct scheduled_request *request = &scheduler->request[handle];
    struct block_pool *pool = &scheduler->group[request->group].pool;
    if (request->computed < request->block_count * KV_BLOCK_TOKENS)
        return true;
    while (block_pool_free_count(pool) == 0) {
        int32_t victim = choose_victim(scheduler, request->group);
        scheduler_state_preempt(scheduler, victim);
        if (victim == handle)
            return false;
    }
    request->blocks[request->block_count++] = block_pool_acquire(pool);
    return true;
}

/* Every running request that lacks one row has it. Goes by rank, so that who is preempted for it
 * has not been given its own yet. */
static void stage_decodes(struct scheduler *scheduler) {
    for (int32_t i = 0; i < scheduler->running_count;) {
        struct scheduled_request *request = running_at(scheduler, i);
        if (scheduler_state_missing(request) == 1) {
            if (!grow(scheduler, scheduler->running[i]))
                continue; /* the next one stands in its place now */
            request->staged = 1;
            scheduler->plan.rows++;
            scheduler->group[request->group].rows++;
        }
        i++;
    }
}

/* ---- prompts ---- */

static int32_t rows_left(const struct scheduler *scheduler) {
    return scheduler->limits.rows - scheduler->plan.rows;
}

static void stage(struct scheduler *scheduler, struct scheduled_request *request, int32_t most) {
    int32_t rows = scheduler_state_missing(request);
    if (rows > most)
        rows = most;
    if (rows > rows_left(scheduler))
        rows = rows_left(scheduler);
    request->staged += rows;
    scheduler->plan.rows += rows;
    scheduler->group[request->group].rows += rows;
}

static int32_t count_long(const struct scheduler *scheduler) {
    int32_t count = 0;
    for (int32_t i = 0; i < scheduler->running_count; i++) {
        const struct scheduled_request *request = running_at(scheduler, i);
        count += request->is_long && scheduler_state_missing(request) > 0 ? 1 : 0;
    }
    return count;
}

/* The best waiting request, if it fits. Whoever is next is not passed over for want of room: else
 * large ones would wait for ever. */
static bool stage_next(struct scheduler *scheduler, int32_t longs) {
    bool long_too = longs < scheduler->limits.long_prompts, overdue = false;
    int32_t handle =
        fair_queue_next(&scheduler->queue, long_too, scheduler->limits.passes, &overdue);
    if (handle < 0 || scheduler->running_count == scheduler->limits.rows ||
        !scheduler_state_admit(scheduler, handle, overdue))
        return false;
    stage(scheduler, &scheduler->request[handle], scheduler->limits.long_prompt);
    return true;
}

/* What is left goes to the first whose prompt is not through, in the group that has the fewest rows
 * so far: a step is as long as its fullest group, so each has its share before any has more. */
static bool stage_rest(struct scheduler *scheduler) {
    struct scheduled_request *least = NULL;
    for (int32_t i = 0; i < scheduler->running_count; i++) {
        struct scheduled_request *request = running_at(scheduler, i);
        if (scheduler_state_missing(request) > 0 &&
            (least == NULL ||
             scheduler->group[request->group].rows < scheduler->group[least->group].rows))
            least = request;
    }
    if (least == NULL)
        return false;
    int32_t share = scheduler->limits.rows / scheduler->limits.groups;
    int32_t missing_share = share - scheduler->group[least->group].rows;
    stage(scheduler, least, missing_share > 0 ? missing_share : INT32_MAX);
    return true;
}

static void stage_prompts(struct scheduler *scheduler) {
    for (int32_t i = 0; i < scheduler->running_count; i++)
        if (running_at(scheduler, i)->staged == 0)
            stage(scheduler, running_at(scheduler, i), scheduler->limits.long_prompt);
    bool more = true;
    while (more && rows_left(scheduler) > 0)
        more = stage_next(scheduler, count_long(scheduler)) || stage_rest(scheduler);
}

/* ---- the plan ---- */

static void add_entry(struct scheduler *scheduler, int32_t handle) {
    struct scheduled_request *request = &scheduler->request[handle];
    request->completes = scheduler_state_missing(request) == 0;
    bool begins = request->told == 0;
    scheduler->entry[scheduler->plan.entries++] =
        (struct scheduler_entry){.handle = handle,
                                 .group = request->group,
                                 .place = request->place,
                                 .keep = request->computed,
                                 .rows = request->staged,
                                 .tokens = request->asked.tokens + request->computed,
                                 .blocks = request->blocks + request->told,
                                 .block_count = request->block_count - request->told,
                                 .begins = begins,
                                 .completes = request->completes,
                                 .cached = begins ? request->cached : 0};
    request->told = request->block_count;
}

/* Single rows first: kernels see decodes together. */
static void add_entries(struct scheduler *scheduler) {
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t i = 0; i < scheduler->running_count; i++) {
            int32_t rows = running_at(scheduler, i)->staged;
            if (rows > 0 && (rows > 1) == (pass == 1))
                add_entry(scheduler, scheduler->running[i]);
        }
    }
}

static void settle_all(struct scheduler *scheduler) {
    for (int32_t i = 0; i < scheduler->running_count; i++) {
        const struct scheduled_request *request = running_at(scheduler, i);
        ASSERT(request->staged == 0 || !request->completes); /* commit is due */
        scheduler_state_settle(scheduler, scheduler->running[i]);
    }
}

const struct scheduler_plan *scheduler_plan(struct scheduler *scheduler, int64_t now_ns) {
    struct scheduler_plan *plan = &scheduler->plan;
    *plan = (struct scheduler_plan){
        .entry = scheduler->entry, .freed = scheduler->told_freed, .ended = scheduler->ended};
    settle_all(scheduler);
    end_overdue(scheduler, now_ns);
    for (int32_t i = 0; i < scheduler->limits.groups; i++) {
        scheduler->group[i].preempted = false;
        scheduler->group[i].rows = 0;
    }
    stage_decodes(scheduler);
    stage_prompts(scheduler);
    add_entries(scheduler);
    plan->freed_count = scheduler->freed_count;
    memcpy(scheduler->told_freed, scheduler->freed,
           sizeof *scheduler->freed * (size_t)scheduler->freed_count);
    scheduler->freed_count = 0;
    return plan;
}
