/* A model opened for a test: everything between a folder and model_forward, with small limits. */
#ifndef MOEBIUS_TESTS_SUPPORT_FIXTURE_H
#define MOEBIUS_TESTS_SUPPORT_FIXTURE_H

#include "runtime/batch.h"
#include "runtime/checkpoint.h"
#include "runtime/family.h"
#include "runtime/model.h"
#include "tests/support/block_source.h"

struct fixture {
    struct kernels kernels;
    const struct family *family;
    struct model_spec spec;
    struct checkpoint *checkpoint;
    struct model model;
    struct batch batch;
    struct block_source blocks; /* of model.kv */
};

struct fixture_options {
    enum dtype dtype;
    enum cpu_isa isa;
    int32_t threads;
    int32_t rows;      /* rows (and logit rows) of one forward */
    int32_t positions; /* longest sequence */
    int32_t sequences; /* at once */
};

/* Opens the model of `folder`; prints why and exits with 1 when it cannot. */
void fixture_open(struct fixture *fixture, const char *folder,
                  const struct fixture_options *options);
void fixture_close(struct fixture *fixture);

/* A sequence of the model's cache for up to `length_max` slots, and its end: its blocks are free
 * again. */
void fixture_begin(struct fixture *fixture, struct sequence *sequence, int32_t length_max);
void fixture_end(struct fixture *fixture, struct sequence *sequence);

/* batch_append_chain of fixture->batch after making room; logits are wanted of the last row, or of
 * all. */
void fixture_append(struct fixture *fixture, struct sequence *sequence, const int32_t *tokens,
                    int32_t count, bool all_logits);

/* model_forward of fixture->batch; exits with 1 on failure. */
const float *fixture_forward(struct fixture *fixture, const struct model_observer *observer);

/* Runs `count` tokens through a fresh sequence in chunks of `chunk` rows and copies the logits of
 * all positions to out, f32 [count][vocabulary]. Exits with 1 on failure. */
void fixture_prefill(struct fixture *fixture, const int32_t *tokens, int32_t count, int32_t chunk,
                     float *out);

/* Deterministic token ids in [0, vocabulary), different for each seed. */
void fixture_random_tokens(uint64_t seed, int32_t vocabulary, int32_t count, int32_t *tokens);

#endif
