/* The engine: holds the model and the running requests, and turns one step's plan into one forward
 * and one token a request. */
#ifndef MOEBIUS_RUNTIME_ENGINE_H
#define MOEBIUS_RUNTIME_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/rank_group.h"
#include "kernels/base/status.h"
#include "moe/placement.h"
#include "runtime/model.h"
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
    int32_t rows;              /* of one step */
    const struct rank_group *ranks;     /* the job; NULL: this process alone */
    enum expert_flow flow;              /* how tokens reach experts on other ranks */
    struct placement_options placement; /* node_of is filled in from ranks */
    bool all_logits; /* logits of prompt positions may be wanted: takes room for `rows` rows of
                        logits */
};

/* Reads config, checks the checkpoint and the memory plan, loads. Each failure is logged once and
 * has the status of its cause; all ranks end with the worst of them. Collective over the ranks. */
enum status engine_create(const struct engine_options *options, struct engine **engine);
void engine_destroy(struct engine *engine); /* NULL allowed */

/* What every rank but the coordinator (rank 0) does after engine_create: executes plans until the
 * coordinator stops. STATUS_PEER (logged). Collective. */
enum status engine_serve(struct engine *engine, const struct model_observer *observer);

/* The coordinator's last word to the others; they leave engine_serve. Collective. */
enum status engine_stop(struct engine *engine);

const struct model_spec *engine_spec(const struct engine *engine);
enum dtype engine_dtype_used(const struct engine *engine);
int32_t engine_positions(const struct engine *engine); /* longest sequence */
const struct kernels *engine_kernels(const struct engine *engine);
const struct model *engine_model(const struct engine *engine);

/* One request, in tokens. The prompt is copied. */
struct engine_request {
    const int32_t *prompt;
    int32_t prompt_count; /* >= 1 */
    struct sampling_params sampling;
    int32_t max_tokens; /* >= 1 new tokens */
    int32_t min_tokens; /* end tokens are not produced before */
    bool ignore_eos;    /* end tokens do not end the request */
    bool all_logits;    /* the listener wants the logits of every computed position */
};

enum engine_finish {
    ENGINE_RUNNING, /* more to come */
    ENGINE_LENGTH,  /* max_tokens, or the longest sequence, is reached */
    ENGINE_EOS,     /* an end token of the model */
};

/* What a step tells about one request. */
struct engine_token {
    int32_t request; /* handle */
    int32_t id;
    int32_t position; /* absolute: prompt_count + index */
    enum engine_finish
        finish; /* not ENGINE_RUNNING: the last token; the handle is free afterwards */
    const struct sampler_logprobs *logprobs; /* NULL unless sampling.logprobs >= 0 */
};

struct engine_listener {
    void (*token)(void *context, const struct engine_token *token);
    /* Logits f32 [vocabulary] that were computed at `position` (they choose the token at position +
     * 1). NULL: not wanted. */
    void (*logits)(void *context, int32_t request, int32_t position, const float *logits);
    const struct model_observer *observer; /* NULL: none; rows of batch `engine_batch` */
    void *context;
};

/* Admits a request. STATUS_BAD_REQUEST (logged: field, expected, got), STATUS_LIMIT when all places
 * are taken, STATUS_NO_MEMORY. Local. */
enum status engine_submit(struct engine *engine, const struct engine_request *request,
                          int32_t *handle);

/* Ends a request early (stop string, disconnect); its place is free after the step in progress, or
 * at the start of the next. Also from inside listener.token. Local. */
void engine_cancel(struct engine *engine, int32_t handle);

/* Requests that are running. */
int32_t engine_running(const struct engine *engine);

/* One step: a forward of up to `rows` rows (every decoding request one, prompts in chunks with what
 * is left), one token for each request whose prompt is through. Nothing is allocated.
 * STATUS_INTERNAL when a row has no finite logit (logged): that request ends without a token, the
 * others go on. Local. */
enum status engine_step(struct engine *engine, const struct engine_listener *listener);

/* The batch of the step in progress, for observers. */
const struct batch *engine_batch(const struct engine *engine);

#endif
