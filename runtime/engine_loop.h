/* The engine thread: takes requests from the network thread, steps the engine, hands tokens back.
 * The only thread that calls MPI. It never waits for a reader, and sleeps when there is nothing to
 * do. */
#ifndef MOEBIUS_RUNTIME_ENGINE_LOOP_H
#define MOEBIUS_RUNTIME_ENGINE_LOOP_H

#include "runtime/engine.h"
#include "runtime/generation.h"
#include "runtime/metrics.h"
#include "runtime/rank_accounts.h"

struct engine_loop;

struct engine_loop_options {
    struct engine *engine;          /* borrowed; the coordinator's */
    struct metrics *metrics;        /* borrowed; step figures go there */
    int32_t sequences;              /* choices that may run or wait at once */
    struct rank_accounts *accounts; /* borrowed; NULL: nobody asks the ranks for their counters */
};

enum engine_loop_state {
    ENGINE_LOOP_RUNNING,
    ENGINE_LOOP_ENDED, /* engine_loop_run has returned or is about to: nothing is taken any more */
};

/* STATUS_NO_MEMORY, STATUS_IO (logged). Local. */
enum status engine_loop_create(const struct engine_loop_options *options,
                               struct engine_loop **loop);
void engine_loop_destroy(struct engine_loop *loop); /* after engine_loop_run; NULL allowed */

/* Runs until engine_loop_stop or until the engine cannot go on. Everything that is open then is
 * ended: GENERATION_ABORTED, or GENERATION_FAILED with that status. STATUS_PEER: a rank is lost.
 * Does not call engine_stop. Collective (through engine_step). */
enum status engine_loop_run(struct engine_loop *loop);

/* ---- any other thread (submit and take: one) ---- */

/* Hands it over. STATUS_LIMIT when `sequences` are there already: it is still the caller's then. */
enum status engine_loop_submit(struct engine_loop *loop, struct generation *generation);

/* Ends one choice within a step. */
void engine_loop_cancel(struct engine_loop *loop, struct generation *generation, int32_t choice);

/* What changed; see generation.h. The list's event_fd tells when. */
struct generation_list *engine_loop_list(struct engine_loop *loop);

/* After ENGINE_LOOP_ENDED: what was handed over and never taken, one by one; NULL: no more. */
struct generation *engine_loop_untaken(struct engine_loop *loop);

/* Ends engine_loop_run after the step in progress. Also from a signal's reader. */
void engine_loop_stop(struct engine_loop *loop);

enum engine_loop_state engine_loop_state(const struct engine_loop *loop);

/* How long the step in progress, or whatever else waits for other ranks, has been running; 0: none
 * is. */
int64_t engine_loop_step_age_ns(const struct engine_loop *loop, int64_t now_ns);

#endif
