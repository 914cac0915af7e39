/* The scheduler: which rows of which requests the next step runs, where their keys and values
 * stand, and who waits. Pure logic: the time is an argument, nothing is read or written, nothing is
 * random, and all memory is taken by scheduler_create. One thread (the engine's).
 *
 * The round: plan, run the rows, commit the token of every entry that completes. Between two plans
 * requests may be submitted and cancelled at any moment, also while the rows run.
 *
 * Order of admission: by priority; among the clients of one priority by service received so far
 * (virtual token counter, Sheng et al., "Fairness in Serving Large Language Models", OSDI '24); in
 * one client first come, first served (long prompts apart, see long_prompts). After `passes`
 * admissions that passed over the oldest waiting request it goes next, whatever its priority: so
 * nobody starves. What is admitted but loses its blocks (preemption) computes them again later and
 * keeps its tokens. */
#ifndef MOEBIUS_RUNTIME_SCHEDULER_H
#define MOEBIUS_RUNTIME_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"

#define SCHEDULER_NEVER_NS INT64_MAX

struct scheduler;

struct scheduler_limits {
    int32_t groups;      /* data-parallel groups, each with blocks and places of its own */
    int32_t places;      /* requests that run at once, all groups together (--max-num-seqs); place p
                            belongs to group p % groups */
    int32_t rows;        /* of one step, all groups together (--max-num-batched-tokens); no more
                            requests than this run, so that each can have its row in every step */
    int32_t waiting;     /* requests that wait at most, >= 1 (--max-queue) */
    int32_t positions;   /* longest sequence, prompt and output (--max-model-len) */
    int32_t blocks;      /* of KV_BLOCK_TOKENS slots, in each group */
    bool prefix_cache;   /* whether blocks are shared by content */
    int32_t long_prompt; /* tokens from which on a prompt is long: it has at most so many rows of a
                            step while others want rows too; 0: a quarter of rows */
    int32_t long_prompts; /* long prompts that are computed at once; 0: 2, or one for each group */
    uint64_t hash_key;    /* of the prefix cache's table: any number that clients do not know */
    int32_t passes;       /* see above; 0: 32. INT32_MAX: strict priorities */
};

struct scheduler_request {
    int32_t *tokens;      /* [prompt_count + max_tokens]: the prompt; produced tokens are appended
                             by scheduler_commit. Kept until the request has ended. */
    int32_t prompt_count; /* >= 1 */
    int32_t max_tokens;   /* >= 1; prompt_count + max_tokens <= positions */
    int32_t priority;     /* lower is sooner */
    uint64_t client;      /* whom fairness is owed; any number */
    int64_t deadline_ns;  /* of plan's clock: the client has given up then; SCHEDULER_NEVER_NS */
    int64_t limit_ns;     /* of plan's clock: what was produced by then is the answer; or never */
    bool whole_prompt;    /* every position is to be computed (logits of the prompt are wanted):
                             takes nothing from the prefix cache */
    int32_t sibling;      /* handle of a live request with the same prompt (the first of n choices):
                             this one waits until that one's prompt is computed, then shares its
                             blocks; -1: none */
};

/* What a request does in a step. Positions [0, keep) are final and stand in its blocks; this step
 * computes positions keep .. keep + rows - 1. */
struct scheduler_entry {
    int32_t handle, group, place;
    int32_t keep;
    int32_t rows;          /* >= 1 */
    const int32_t *tokens; /* [rows], of positions keep, keep + 1, ... */
    const int32_t *blocks; /* [block_count] new ones: appended to the place's block table. They
                              cover keep + rows; blocks of a prefix hit may be others' too, and
                              those are never written. */
    int32_t block_count;
    bool begins;    /* the place is new: its block table is empty before `blocks`; after a
                       preemption the same handle begins again */
    bool completes; /* the last row's logits choose the next token: commit is due */
    int32_t cached; /* where it begins: positions that came from the prefix cache (= keep) */
};

struct scheduler_freed {
    int32_t group, place; /* its block table is void; it may begin anew in the same step */
};

enum scheduler_end { SCHEDULER_END_DEADLINE, SCHEDULER_END_TIME_LIMIT };

/* Ended by the plan itself; the handle is free. */
struct scheduler_ended {
    int32_t handle;
    enum scheduler_end end;
};

/* Valid until the next plan (entries of a request: until it ends). */
struct scheduler_plan {
    int32_t entries, rows, freed_count, ended_count;
    const struct scheduler_entry *entry; /* [entries], decodes first */
    const struct scheduler_freed *freed; /* [freed_count]: since the last plan; before entries */
    const struct scheduler_ended *ended; /* [ended_count] */
};

struct scheduler_stats {
    int32_t waiting, running;
    int64_t admissions, preemptions;
    int64_t prefix_query_tokens, prefix_hit_tokens; /* of first admissions */
};

struct scheduler_group_stats {
    int32_t running;
    int32_t blocks; /* in all */
    int32_t used;   /* held by requests */
    int32_t cached; /* free, but with content that may be hit */
};

/* Takes all memory. STATUS_BAD_CONFIG (logged) for limits that nothing could run under (a value
 * below 1; prompt and first token of no request would fit), STATUS_NO_MEMORY (logged). Local. */
enum status scheduler_create(const struct scheduler_limits *limits, struct scheduler **scheduler);
void scheduler_destroy(struct scheduler *scheduler); /* NULL allowed */

/* Handles are 0 .. scheduler_handles - 1, for the caller's tables. Local. */
int32_t scheduler_handles(const struct scheduler_limits *limits);

/* The longest sequence that can ever run: positions, or what one group's blocks hold if that is
 * less. Local. */
int32_t scheduler_longest(const struct scheduler_limits *limits);

/* The most entries, and the most new blocks of all entries, of a plan. Local. */
int32_t scheduler_entries_max(const struct scheduler_limits *limits);
int64_t scheduler_blocks_max(const struct scheduler_limits *limits);

/* Requests that can be submitted now. Local. */
int32_t scheduler_room(const struct scheduler *scheduler);

/* Queues a request. STATUS_LIMIT (not logged: the caller's business) when there is no room,
 * STATUS_BAD_REQUEST (logged) when prompt_count + max_tokens > scheduler_longest. Local. */
enum status scheduler_submit(struct scheduler *scheduler, const struct scheduler_request *request,
                             int32_t *handle);

/* Ends a live request at once, its blocks are free; rows of the step in progress are forgotten. Its
 * handle is free. Local. */
void scheduler_cancel(struct scheduler *scheduler, int32_t handle);

/* The next step. What the last plan told to run counts as done (an entry that completes must have
 * been committed or cancelled: bug otherwise). Local. */
const struct scheduler_plan *scheduler_plan(struct scheduler *scheduler, int64_t now_ns);

/* The token that the last plan's entry of `handle` chose; it is written behind the request's
 * tokens. `finished`: it was the last, the request ends and the handle is free; so does the caller
 * say at the latest with the max_tokens-th. Local. */
void scheduler_commit(struct scheduler *scheduler, int32_t handle, int32_t token, bool finished);

/* Tokens of a live request (prompt and produced). Local. */
int32_t scheduler_token_count(const struct scheduler *scheduler, int32_t handle);

void scheduler_stats(const struct scheduler *scheduler, struct scheduler_stats *stats);
void scheduler_group_stats(const struct scheduler *scheduler, int32_t group,
                           struct scheduler_group_stats *stats);

#endif
