/* The scheduler's own state and the moves of a request between waiting, running and ended; inside
 * of scheduler.c and scheduler_plan.c only. */
#ifndef MOEBIUS_RUNTIME_SCHEDULER_STATE_H
#define MOEBIUS_RUNTIME_SCHEDULER_STATE_H

#include "runtime/block_pool.h"
#include "runtime/fair_queue.h"
#include "runtime/scheduler.h"

enum request_state {
    REQUEST_FREE,
    REQUEST_PARKED, /* waits for its sibling's prompt */
    REQUEST_WAITING,
    REQUEST_RUNNING
};

struct scheduled_request {
    enum request_state state;
    struct scheduler_request asked;
    int32_t token_count; /* in asked.tokens */
    int64_t end_ns;      /* the sooner of deadline and limit */

    /* Siblings: */
    int32_t leader;       /* while parked: whose prompt it waits for */
    int32_t first_parked; /* those who wait for this one's, -1: none */
    int32_t next_parked;  /* the next one behind the same leader */
    bool prompt_done;     /* the blocks that siblings share are published */

    /* Kept over a preemption: */
    int64_t admission; /* order of first admissions; 0: not yet */
    int32_t rank;      /* priority, or INT32_MIN once overdue: nobody's growth evicts it again */

    /* While running: */
    int32_t group, place;
    int32_t *blocks;     /* [block_count] */
    int32_t block_count; /* blocks held */
    int32_t told;        /* of them, in plans so far */
    int32_t cached;      /* positions that came from the prefix cache */
    int32_t computed;    /* positions that are final */
    int32_t staged;      /* rows of the step in progress, after them */
    bool completes;      /* its last row chooses a token */
    bool is_long;        /* came out of the long line, prompt not through yet */
    int32_t published;   /* full blocks whose content is known to the pool, and its number */
    uint64_t content;
};

struct scheduler_group {
    struct block_pool pool;
    int32_t running;
    int32_t free_place;      /* first of a list, -1: none */
    int32_t rows;            /* of this plan */
    bool preempted;          /* in this plan: no admissions */
    int64_t refused_arrival; /* who did not fit last time (its arrival in the queue), -1: nobody */
    int32_t refused_free;    /* blocks that were free then */
};

struct scheduler {
    struct scheduler_limits limits;
    int32_t handles, block_capacity; /* block_capacity: blocks of the longest sequence */
    int32_t watermark;               /* blocks of a group that an admission leaves free */
    struct scheduled_request *request;
    int32_t *free_handle; /* stack */
    int32_t free_handles;
    int32_t *running; /* [running_count] handles: the first are the last to be preempted */
    int32_t running_count, parked_count;
    struct scheduler_group *group;
    int32_t *next_place;     /* [places] free list of the groups */
    int32_t *block_tables;   /* [places][block_capacity] */
    int32_t *match[2];       /* [block_capacity] scratch of admission */
    struct fair_queue queue; /* all live requests joined; waiting ones in a line */
    struct index_heap ends;  /* live requests with an end_ns */
    struct scheduler_freed *freed, *told_freed; /* since the last plan; of the last plan */
    int32_t freed_count;
    struct scheduler_entry *entry;
    struct scheduler_ended *ended;
    struct scheduler_plan plan;
    int64_t admissions, first_admissions, preemptions, query_tokens, hit_tokens;
};

/* Positions of a running request that are still to be computed, beside those of this step. */
int32_t scheduler_state_missing(const struct scheduled_request *request);

/* Puts a live request into the waiting line. */
void scheduler_state_wait(struct scheduler *scheduler, int32_t handle);

/* The step in progress is through: staged rows become final, full blocks are published, siblings
 * wake. */
void scheduler_state_settle(struct scheduler *scheduler, int32_t handle);

/* Ends a live request in whatever state; the handle is free. */
void scheduler_state_end(struct scheduler *scheduler, int32_t handle);

/* A running request goes back to wait. */
void scheduler_state_preempt(struct scheduler *scheduler, int32_t handle);

/* Gives a waiting request (chosen, still in its line) a place and blocks for all its tokens, in the
 * group that suits it best. False: no group has room. */
bool scheduler_state_admit(struct scheduler *scheduler, int32_t handle, bool overdue);

#endif
