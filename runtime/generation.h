/* One admitted request with its n choices, as the network thread and the engine thread share it.
 *
 * Every choice owns a buffer of max_tokens tokens. The engine thread fills it and publishes a
 * count; the network thread reads what is published. So nothing between them can overflow, the
 * engine never waits for a reader, and memory is bounded at admission. The network thread makes and
 * frees a generation; in between it belongs to both until the engine has said that it is done. */
#ifndef MOEBIUS_RUNTIME_GENERATION_H
#define MOEBIUS_RUNTIME_GENERATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/sampler_logprobs.h"
#include "runtime/sampling_params.h"

#define GENERATION_CHOICES_MAX 64
#define GENERATION_STOP_IDS_MAX 64

enum generation_finish {
    GENERATION_RUNNING,
    GENERATION_LENGTH,     /* max_tokens, or the longest sequence */
    GENERATION_EOS,        /* an end token of the model */
    GENERATION_STOP_TEXT,  /* a stop string: found by the network thread */
    GENERATION_STOP_TOKEN, /* one of stop_ids */
    GENERATION_TIME_LIMIT, /* time_limit_ns has passed; what there is stands */
    GENERATION_DEADLINE,   /* deadline_ns has passed: an error */
    GENERATION_ABORTED,    /* cancelled, or the server ends */
    GENERATION_FAILED,     /* generation.failure says why */
};

/* Log-probabilities of one token; logprob is NaN for a prompt's first, and where an ended request
 * did not come to it. */
struct generation_logprob {
    int32_t id, rank, top_count;
    double logprob;
    const struct sampler_logprob *top; /* [top_count], greatest first */
};

struct generation_choice {
    /* Written by the engine thread before it publishes, read-only afterwards. */
    int32_t *ids;                        /* [max_tokens] */
    struct generation_logprob *logprobs; /* [max_tokens], NULL: not wanted */
    struct sampler_logprob *tops;        /* [max_tokens * sampling.logprobs] */
    int64_t admitted_ns;                 /* its first step was planned; 0: never */
    int64_t first_token_ns;              /* 0: none came */
    int64_t last_token_ns;     /* changes with every token: to be read after the finish only */
    _Atomic uint64_t progress; /* tokens in ids and enum generation_finish, see generation_read */
    /* Written by the network thread. */
    atomic_bool cancelled;
    uint64_t seed;
    /* The engine thread's own. */
    int32_t handle; /* of the engine; -1: not with it (any more) */
    bool submitted;
};

struct generation {
    /* Set before submission and constant. */
    int32_t *prompt; /* [prompt_count] */
    int32_t prompt_count, n, max_tokens, min_tokens;
    struct sampling_params sampling; /* seed: choice 0's */
    int32_t stop_ids[GENERATION_STOP_IDS_MAX], stop_id_count;
    bool ignore_eos;
    bool prompt_only;        /* max_tokens is 1, and that token is not published: ends with
                                GENERATION_LENGTH when the prompt is computed */
    int32_t prompt_logprobs; /* likeliest ids wanted for each prompt position; -1: none at all */
    int32_t priority;        /* smaller is sooner, as in vLLM */
    uint64_t client;         /* whom fairness counts it for; 0: nobody in particular */
    int64_t submitted_ns;    /* clock_now_ns */
    int64_t deadline_ns;     /* clock_now_ns, 0: none: ends with GENERATION_DEADLINE */
    int64_t time_limit_ns;   /* the same: ends with GENERATION_TIME_LIMIT */
    void *owner;             /* the network thread's */
    struct generation_choice *choices; /* [n] */
    /* Written by the engine thread before choice 0 publishes anything; the others may be sooner. */
    struct generation_logprob *prompt_logprob; /* [prompt_count], NULL: not wanted */
    struct sampler_logprob *prompt_tops;       /* [prompt_count * prompt_logprobs] */
    int32_t cached_tokens;                     /* of the prompt, found in the prefix cache */
    enum status failure;                       /* set before GENERATION_FAILED */
    /* The engine thread's own. */
    struct generation *next, *previous; /* among those that run or wait */
    int32_t unfinished;                 /* choices */
    bool changed;                       /* published something since it was last listed */
    /* The list of changed ones. */
    struct generation *next_listed;
    _Atomic uint32_t listed; /* GENERATION_LISTED, GENERATION_DONE */
};

/* What is changed, from the engine thread to the network thread. */
struct generation_list {
    _Atomic(struct generation *) head;
    int event_fd; /* readable when there is something to take */
};

/* Takes a generation with its buffers: `prompt` is copied, each choice gets max_tokens places.
 * `like` gives all the constant fields (n >= 1, max_tokens >= 1); the rest is set up. Seeds of
 * choices 1.. are derived from the first (generation_seed). STATUS_NO_MEMORY (logged). Local. */
enum status generation_create(const struct generation *like, struct generation **generation);
void generation_destroy(struct generation *generation); /* NULL allowed */

/* The seed of choice `index` of a request with this seed: itself for 0. A client that asks for that
 * seed with n = 1 gets the same text. Local. */
uint64_t generation_seed(uint64_t seed, int32_t index);

/* ---- engine thread ---- */

/* Adds a token (room is there: the engine ends at max_tokens) and publishes it, with the finish if
 * it is the last (else GENERATION_RUNNING). */
struct generation_token {
    int32_t id;
    enum generation_finish finish;
    const struct sampler_logprobs *logprobs; /* NULL: not wanted */
    int64_t now_ns;
};
void generation_publish(struct generation *generation, int32_t choice,
                        const struct generation_token *token);

/* The log-probabilities of the prompt's token at `position`; before choice 0's first token. */
void generation_set_prompt_logprob(struct generation *generation, int32_t position,
                                   const struct sampler_logprobs *logprobs);

/* Says that a choice brings no more tokens, and why. */
void generation_end(struct generation *generation, int32_t choice, enum generation_finish finish);

/* Puts it on the list, once however often it changes before it is taken. After a call with `done`
 * the engine thread must not touch it again. */
void generation_list_push(struct generation_list *list, struct generation *generation, bool done);

/* Makes event_fd readable: once a step, after all pushes. */
void generation_list_wake(struct generation_list *list);

/* ---- network thread ---- */

enum status generation_list_init(struct generation_list *list); /* STATUS_IO (logged). Local. */
void generation_list_deinit(struct generation_list *list);

/* Everything that changed, oldest change first, linked by next_listed; NULL: nothing. Each must be
 * given to generation_unlist before it is read. */
struct generation *generation_list_take(struct generation_list *list);

/* How many tokens of a choice there are, and whether and how it has finished: a pair that belongs
 * together. */
struct generation_progress {
    int32_t tokens;
    enum generation_finish finish;
};
struct generation_progress generation_read(const struct generation_choice *choice);

/* From here on a new change lists it again. Returns whether the engine is done with it: then all is
 * published, and it may be destroyed. Read next_listed before. */
bool generation_unlist(struct generation *generation);

#endif
