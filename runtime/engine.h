/* The engine: holds the model and the requests that run or wait, and turns one step's plan into one
 * forward and one token a request. */
#ifndef MOEBIUS_RUNTIME_ENGINE_H
#define MOEBIUS_RUNTIME_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/rank_group.h"
#include "kernels/base/status.h"
#include "moe/placement.h"
#include "runtime/model.h"
#include "runtime/rank_counts.h"
#include "runtime/sampler_logprobs.h"
#include "runtime/sampling_params.h"

struct engine;

enum engine_dtype { ENGINE_DTYPE_AUTO, ENGINE_DTYPE_F32, ENGINE_DTYPE_BF16 };

struct engine_options {
    const char *model_folder;
    bool dummy_weights;      /* the folder's config with pseudo-random weights */
    enum engine_dtype dtype; /* auto: bf16 when the checkpoint is bf16 or f16, else f32 */
    enum cpu_isa isa;
    int32_t threads;
    int32_t positions; /* longest sequence (prompt and output), at most the model's; 0: the model's,
                          or 8192 if that is less */
    bool positions_of_request; /* positions is what one request asks for (prompt and max_tokens):
                                  more than the model has is STATUS_BAD_REQUEST then, else
                                  STATUS_USAGE of --max-model-len */
    int32_t requests;          /* at once */
    int32_t waiting;           /* requests that wait to run at most; 0: as many as run at once */
    int32_t rows;              /* of one step */
    int64_t kv_tokens; /* positions that the KV cache of each data-parallel group holds; 0: enough
                          for the longest sequence of every request */
    bool no_prefix_cache; /* nothing is taken from what earlier requests computed */
    bool verify_ranks;    /* every step: all ranks have the same plan, block tables and residuals */
    const struct rank_group *ranks;     /* the job; NULL: this process alone */
    enum expert_flow flow;              /* how tokens reach experts on other ranks */
    struct placement_options placement; /* node_of is filled in from ranks */
    const char *placement_file;         /* see placement_file.h; NULL: as `placement` says */
    bool all_routing; /* the observer sees the routing of all rows of its tensor-parallel group; the
                         same on all ranks */
    bool all_logits;  /* logits of prompt positions may be wanted: takes room for `rows` rows of
                         logits */
};

/* Reads config, checks the checkpoint and the memory plan, loads. Each failure is logged once and
 * has the status of its cause; all ranks end with the worst of them. Collective over the ranks. */
enum status engine_create(const struct engine_options *options, struct engine **engine);
void engine_destroy(struct engine *engine); /* NULL allowed */

/* What a start would find. */
struct engine_examination {
    const char *model_type;
    int32_t layers, tensors, files; /* of the checkpoint; 0 with dummy weights */
    int64_t checkpoint_bytes;
    int64_t digest; /* the same on all ranks: model_digest.h */
};

/* All that engine_create checks before it reads the first weight, with the same lines and statuses,
 * but for what ranks agree about: config, shape of the ranks, placement of experts, names and
 * shapes in the checkpoint, memory plan. Takes nothing. Local. */
enum status engine_examine(const struct engine_options *options, struct engine_examination *found);

/* What every rank but the coordinator (rank 0) does after engine_create: executes plans until the
 * coordinator stops. STATUS_PEER (logged). Collective. */
enum status engine_serve(struct engine *engine, const struct model_observer *observer);

/* What the coordinator does instead of engine_step while nothing runs: tells the other ranks, when
 * it is time, that it is there, and hears whether they are (step_link_idle). *wait_ms: the caller
 * may sleep that long (INT32_MAX on one rank) before it calls this again or has work. STATUS_PEER
 * (logged). Collective with engine_serve. */
enum status engine_idle(struct engine *engine, int32_t *wait_ms);

/* The coordinator's last word to the others; they leave engine_serve. Collective. */
enum status engine_stop(struct engine *engine);

const struct model_spec *engine_spec(const struct engine *engine);
enum dtype engine_dtype_used(const struct engine *engine);
int32_t engine_positions(const struct engine *engine); /* longest sequence */
const struct kernels *engine_kernels(const struct engine *engine);
const struct model *engine_model(const struct engine *engine);
const struct placement *
engine_placement(const struct engine *engine); /* NULL: one rank, or dense */

/* One request, in tokens. The prompt is copied. All 0 but the first five: the defaults. */
struct engine_request {
    const int32_t *prompt;
    int32_t prompt_count; /* >= 1 */
    struct sampling_params sampling;
    int32_t max_tokens;      /* >= 1 new tokens; those that the longest sequence has room for */
    int32_t min_tokens;      /* end tokens are not produced before */
    const int32_t *stop_ids; /* [stop_id_count] more of those, the caller's; copied */
    int32_t stop_id_count;
    bool ignore_eos;            /* end tokens do not end the request */
    bool all_logits;            /* the listener wants the logits of every computed position */
    bool prompt_logprobs;       /* the listener wants those of the prompt's tokens but the first */
    int32_t prompt_logprob_top; /* with as many of the likeliest ids, 0 .. SAMPLING_LOGPROBS_MAX */
    int32_t priority;           /* lower is sooner */
    uint64_t client;            /* whom fairness counts it for */
    int64_t deadline_ns;        /* of clock_now_ns; ends with ENGINE_DEADLINE then. 0: none */
    int64_t time_limit_ns;      /* the same: ends with ENGINE_TIME_LIMIT. 0: none */
    bool shares_prompt; /* its prompt is `sibling`'s: n answers to one prompt compute it once */
    int32_t sibling;    /* handle of a request that has not ended */
};

enum engine_finish {
    ENGINE_RUNNING,    /* more to come */
    ENGINE_LENGTH,     /* max_tokens, or the longest sequence, is reached */
    ENGINE_EOS,        /* an end token of the model */
    ENGINE_TIME_LIMIT, /* no token; what there is is the answer */
    ENGINE_DEADLINE,   /* no token; too late */
    ENGINE_FAILED,     /* no token: no id could be chosen (all NaN, -infinity or banned; logged) */
};

/* What a step tells about one request. */
struct engine_token {
    int32_t request;  /* handle */
    int32_t id;       /* -1: no token, only the finish */
    int32_t position; /* absolute: prompt_count + index */
    int32_t cached;   /* positions of the prompt that came from the prefix cache */
    enum engine_finish
        finish; /* not ENGINE_RUNNING: the last word; the handle is free afterwards */
    const struct sampler_logprobs *logprobs; /* NULL unless sampling.logprobs >= 0 */
};

/* Callbacks may cancel, not submit. Any may be NULL but `token`. */
struct engine_listener {
    void (*token)(void *context, const struct engine_token *token);
    /* The request's first rows are planned: it waits no more. */
    void (*begun)(void *context, int32_t request);
    /* Log-probabilities of the prompt's token at `position` >= 1 (request.prompt_logprobs), each
     * position once, in order, before the first token. */
    void (*prompt_logprobs)(void *context, int32_t request, int32_t position,
                            const struct sampler_logprobs *logprobs);
    /* Logits f32 [vocabulary] that were computed at `position` (they choose the token at position +
     * 1): of requests with all_logits, each position once, in order. */
    void (*logits)(void *context, int32_t request, int32_t position, const float *logits);
    const struct model_observer *observer; /* NULL: none; rows of batch `engine_batch` */
    void *context;
};

/* Handles are 0 .. engine_handles - 1: so many requests run or wait at most. Local. */
int32_t engine_handles(const struct engine *engine);

/* Queues a request. STATUS_BAD_REQUEST (logged: field, expected, got), STATUS_LIMIT (not logged)
 * when as many wait as may, STATUS_NO_MEMORY (logged). Local. */
enum status engine_submit(struct engine *engine, const struct engine_request *request,
                          int32_t *handle);

/* Ends a request at once (stop string, disconnect): it says nothing more, its blocks and its handle
 * are free. Also from inside a callback. Local. */
void engine_cancel(struct engine *engine, int32_t handle);

/* Requests that run or wait; 0: a step would do nothing. Local. */
int32_t engine_running(const struct engine *engine);

/* Counters since the start, and where things stand. */
struct engine_stats {
    int32_t running, waiting;                 /* requests */
    int64_t steps, rows;                      /* run so far */
    int64_t prompt_tokens, generation_tokens; /* computed rows of prompts; produced tokens */
    int64_t step_ns, forward_ns, sample_ns;   /* spent in steps; of that in forwards, in choosing
                                                 tokens on this rank */
    int64_t schedule_ns;                      /* in choosing who runs, where nobody could too */
    int64_t flow_steps[EXPERT_FLOW_COUNT];    /* steps whose tokens went each way; one rank: none */
    int64_t preemptions;                      /* requests that had to give their blocks up */
    int64_t prefix_query_tokens, prefix_hit_tokens; /* of prompts, and found in the cache */
    int64_t kv_blocks, kv_blocks_used,
        kv_blocks_cached; /* of KV_BLOCK_TOKENS positions, all groups:
                             in all, held, free but with content */
};
void engine_stats(const struct engine *engine, struct engine_stats *stats);

/* One step: a forward of up to `rows` rows (every decoding request one, prompts in chunks with what
 * is left), one token for each request whose prompt is through. Nothing is allocated. A request for
 * which no id can be chosen ends alone (ENGINE_FAILED). STATUS_PEER: a rank is lost;
 * STATUS_INTERNAL (logged): ranks are not of one mind. After either the engine can only be
 * destroyed. Collective. */
enum status engine_step(struct engine *engine, const struct engine_listener *listener);

/* What all ranks have counted since the start (rank_counts.h): `tell` hears of one after the other.
 * The coordinator calls it, between steps; the others take part from engine_serve. STATUS_PEER.
 * Collective. */
enum status engine_gather(struct engine *engine, rank_counts_tell *tell, void *context);

/* The batch of the step in progress, for observers. */
const struct batch *engine_batch(const struct engine *engine);

#endif
