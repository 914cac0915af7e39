/* A world around a scheduler: clients that submit and cancel, and an executor that knows nothing
 * but plans. Instead of keys and values its blocks hold hashes of the tokens up to each position,
 * so that it sees whether every row would read exactly its own prefix. After every step all
 * invariants are checked; the first that is broken is kept as a text. */
#ifndef MOEBIUS_TESTS_SUPPORT_SCHEDULER_WORLD_H
#define MOEBIUS_TESTS_SUPPORT_SCHEDULER_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/scheduler.h"
#include "runtime/scheduler_state.h"

struct world_request {
    bool live, running;
    int64_t serial; /* of all submissions */
    struct scheduler_request asked;
    uint64_t seed;    /* its tokens follow from prompt and seed */
    int32_t output;   /* tokens that it produces if nobody stops it */
    int32_t count;    /* tokens so far */
    uint64_t *prefix; /* [prompt_count + max_tokens] hash of tokens 0 .. i */
    int32_t *blocks;  /* its table, as the executor has it */
    int32_t block_count, group, place, computed;
    int64_t submitted_step, first_token_step; /* -1: not yet */
};

/* What the world wants done to the scheduler before each plan, NULL: nothing. For injected bugs. */
typedef void (*world_sabotage)(struct scheduler *scheduler, int64_t step);

struct scheduler_world {
    struct scheduler_limits limits;
    struct scheduler *scheduler;
    const struct scheduler_plan *plan; /* of the last step */
    world_sabotage sabotage;
    uint64_t random;
    struct world_request *request; /* [scheduler_handles], by handle */
    int32_t longest, handles, table_length;
    uint64_t *slots;    /* [groups][blocks][KV_BLOCK_TOKENS] hash of the prefix that stands there */
    int32_t *place_of;  /* [places] handle, -1: free */
    int32_t *owners;    /* [groups][blocks] running tables that name it */
    bool *was_decoding; /* [handles] before this step */
    int64_t step, now_ns;
    int32_t live;
    int64_t submitted, refused, finished, cancelled, timed_out, tokens, cached, sibling_cached;
    char broken[200]; /* "": nothing */
};

/* Exits with 1 when memory is out. */
void scheduler_world_begin(struct scheduler_world *world, const struct scheduler_limits *limits,
                           uint64_t seed);
void scheduler_world_end(struct scheduler_world *world);

/* A pseudo-random number from 0 to below - 1. */
int32_t scheduler_world_random(struct scheduler_world *world, int32_t below);

/* A request with sensible values everywhere, to be changed and submitted: its prompt's tokens are
 * pseudo-random below `vocabulary` and owned by the world from submit on. */
struct scheduler_request scheduler_world_request(struct scheduler_world *world,
                                                 int32_t prompt_count, int32_t max_tokens,
                                                 int32_t vocabulary);

/* Its handle; -1: refused (the tokens are freed then). It produces `output` tokens. */
int32_t scheduler_world_submit(struct scheduler_world *world,
                               const struct scheduler_request *request, int32_t output);
void scheduler_world_cancel(struct scheduler_world *world, int32_t handle);

/* Plan, execute, commit, check. False: something is broken. */
bool scheduler_world_step(struct scheduler_world *world);

/* Steps until nobody is left, at most `steps`. */
bool scheduler_world_drain(struct scheduler_world *world, int64_t steps);

#endif
