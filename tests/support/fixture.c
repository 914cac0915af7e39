/* What most model tests begin with. */
#include "tests/support/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(enum status status, const char *what) {
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "fixture: %s: %s\n", what, status_name(status));
    exit(1);
}

void fixture_open(struct fixture *fixture, const char *folder,
                  const struct fixture_options *options) {
    memset(fixture, 0, sizeof *fixture);
    must(kernels_init(&fixture->kernels, options->isa, options->threads), "kernels");
    must(family_parse(folder, &fixture->family, &fixture->spec), folder);
    must(checkpoint_open(folder, &fixture->checkpoint), folder);
    int32_t blocks_each = options->positions / KV_BLOCK_TOKENS + 6; /* room for a tree at the end */
    struct model_limits limits = {.rows = options->rows,
                                  .logit_rows = options->rows,
                                  .positions = options->positions + 80,
                                  .kv_blocks = blocks_each * options->sequences};
    struct model_memory memory;
    must(model_describe(&fixture->model, &fixture->spec, fixture->family, &fixture->kernels,
                        options->dtype, &limits, NULL, &memory),
         folder);
    struct weights_mismatch mismatch;
    must(model_weights_check(&fixture->model.weights, fixture->checkpoint, NULL, NULL, &mismatch),
         folder);
    must(model_load(&fixture->model, fixture->checkpoint), folder);
    must(batch_init(&fixture->batch, options->rows, options->sequences), "batch");
    block_source_init(&fixture->blocks, limits.kv_blocks);
}

void fixture_close(struct fixture *fixture) {
    batch_deinit(&fixture->batch);
    model_deinit(&fixture->model);
    checkpoint_close(fixture->checkpoint);
    kernels_deinit(&fixture->kernels);
}

void fixture_begin(struct fixture *fixture, struct sequence *sequence, int32_t length_max) {
    must(sequence_init(sequence, &fixture->model.kv, length_max), "sequence");
}

void fixture_end(struct fixture *fixture, struct sequence *sequence) {
    block_source_release(&fixture->blocks, sequence);
    sequence_deinit(sequence);
}

void fixture_append(struct fixture *fixture, struct sequence *sequence, const int32_t *tokens,
                    int32_t count, bool all_logits) {
    block_source_reserve(&fixture->blocks, sequence, count);
    must(batch_append_chain(&fixture->batch, sequence, tokens, count, all_logits), "chain");
}

const float *fixture_forward(struct fixture *fixture, const struct model_observer *observer) {
    const float *logits;
    must(model_forward(&fixture->model, &fixture->batch, 0, observer, &logits), "forward");
    return logits;
}

void fixture_prefill(struct fixture *fixture, const int32_t *tokens, int32_t count, int32_t chunk,
                     float *out) {
    size_t vocabulary = (size_t)fixture->spec.vocabulary;
    struct sequence sequence;
    fixture_begin(fixture, &sequence, count);
    for (int32_t done = 0; done < count; done += chunk) {
        int32_t rows = count - done < chunk ? count - done : chunk;
        batch_clear(&fixture->batch);
        fixture_append(fixture, &sequence, tokens + done, rows, true);
        const float *logits = fixture_forward(fixture, NULL);
        memcpy(out + (size_t)done * vocabulary, logits, sizeof(float) * (size_t)rows * vocabulary);
        sequence_commit(&sequence, rows);
    }
    fixture_end(fixture, &sequence);
}

void fixture_random_tokens(uint64_t seed, int32_t vocabulary, int32_t count, int32_t *tokens) {
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int32_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (int32_t)((state >> 33) % (uint64_t)vocabulary);
    }
}
