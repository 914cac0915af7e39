/* The promise, tested with memcmp: the logits of a position are the same bits whether its sequence
 * was prefilled whole, in chunks, token by token, alone or among 31 others, with one thread or
 * more, or as nodes of a tree whose other branches are junk, or after a fork, a rollback, a commit
 * of a tree path. Usage: test_bits [--positions N] FOLDER...
 *
 * A control runs the same comparison on rows that must differ (a junk branch's logits) and fails
 * the test if they are equal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/fixture.h"

#define OTHERS 31
#define BRANCH_MAX 5 /* junk children of a node */

static int failures;
static int64_t positions_compared;

struct reference {
    const char *label; /* folder, isa, dtype */
    const int32_t *tokens;
    int32_t count;
    size_t vocabulary;
    float *logits; /* [count][vocabulary], prefilled whole with one thread */
};

static void *take(size_t bytes) {
    void *memory = malloc(bytes);
    if (memory == NULL)
        exit(1);
    return memory;
}

static void must(enum status status) {
    if (status != STATUS_OK) {
        printf("FAILED: %s\n", status_name(status));
        exit(1);
    }
}

/* Compares `rows` positions from `first` on. */
static void compare(const struct reference *reference, const char *variant, int32_t first,
                    int32_t rows, const float *logits) {
    for (int32_t i = 0; i < rows; i++) {
        const float *want = reference->logits + (size_t)(first + i) * reference->vocabulary;
        positions_compared++;
        if (memcmp(want, logits + (size_t)i * reference->vocabulary,
                   reference->vocabulary * sizeof(float)) == 0)
            continue;
        failures++;
        printf("FAILED %s: %s: position %d differs\n", reference->label, variant, first + i);
        return;
    }
}

static void in_chunks(struct fixture *f, const struct reference *reference, int32_t chunk) {
    float *logits = take(sizeof(float) * reference->vocabulary * (size_t)reference->count);
    char variant[64];
    snprintf(variant, sizeof variant, "chunks of %d", chunk);
    fixture_prefill(f, reference->tokens, reference->count, chunk, logits);
    compare(reference, variant, 0, reference->count, logits);
    free(logits);
}

/* The sequence in chunks of 3 while 31 others prefill and decode different tokens in the same
 * steps. */
static void among_others(struct fixture *f, const struct reference *reference) {
    struct sequence sequences[OTHERS + 1];
    for (int32_t s = 0; s <= OTHERS; s++)
        fixture_begin(f, &sequences[s], reference->count + 64);
    for (int32_t done = 0; done < reference->count; done += 3) {
        int32_t rows = reference->count - done < 3 ? reference->count - done : 3;
        int32_t place = done % (OTHERS + 1); /* the sequence moves through the batch */
        int32_t first_logit = 0;
        batch_clear(&f->batch);
        for (int32_t s = 0; s <= OTHERS; s++) {
            int32_t junk[2];
            fixture_random_tokens((uint64_t)done * 64 + (uint64_t)s, f->spec.vocabulary, 2, junk);
            struct sequence *other = &sequences[s < place ? s : s - 1];
            if (s == place) {
                first_logit = f->batch.logit_count;
                fixture_append(f, &sequences[OTHERS], reference->tokens + done, rows, true);
            } else {
                if (other->committed > 40 + s)
                    sequence_settle(other, 5);
                fixture_append(f, other, junk, 1 + s % 2, s % 3 == 0);
            }
        }
        const float *logits = fixture_forward(f, NULL);
        compare(reference, "among 31 others", done, rows,
                logits + (size_t)first_logit * reference->vocabulary);
        for (int32_t i = 0; i < f->batch.sequences; i++)
            sequence_commit(f->batch.members[i], f->batch.members[i]->staged);
    }
    for (int32_t s = 0; s <= OTHERS; s++)
        fixture_end(f, &sequences[s]);
}

/* Up to `depth` true tokens arrive as nodes of one tree; each level has junk siblings before the
 * true node, and junk nodes have junk children. The true path is then committed from its scattered
 * slots. */
static int32_t one_tree(struct fixture *f, const struct reference *reference,
                        struct sequence *sequence, int32_t done, int32_t depth) {
    int32_t path[ATTENTION_PATH_MAX], rows[ATTENTION_PATH_MAX];
    int32_t parent = BATCH_NO_PARENT, junk_row = 0, nodes = 0;
    if (reference->count - done < depth)
        depth = reference->count - done;
    batch_clear(&f->batch);
    block_source_reserve(&f->blocks, sequence, depth * (1 + BRANCH_MAX));
    must(batch_begin(&f->batch, sequence, depth * (1 + BRANCH_MAX)));
    for (int32_t level = 0; level < depth; level++) {
        int32_t junk[BRANCH_MAX];
        int32_t siblings = 1 + (done + level) % BRANCH_MAX;
        fixture_random_tokens((uint64_t)done + (uint64_t)level, f->spec.vocabulary, siblings, junk);
        for (int32_t i = 0; i < siblings; i++, nodes++)
            batch_append(&f->batch, junk[i], i == 0 || level == 0 ? parent : junk_row,
                         i == 0 && level == 0, i == 0 ? &junk_row : NULL);
        batch_append(&f->batch, reference->tokens[done + level], parent, true, &parent);
        path[level] = f->batch.slots[parent];
        rows[level] = f->batch.logit_count - 1;
        nodes++;
    }
    const float *logits = fixture_forward(f, NULL);
    for (int32_t level = 0; level < depth; level++)
        compare(reference, "as a tree among junk", done + level, 1,
                logits + (size_t)rows[level] * reference->vocabulary);
    /* The control: the first junk root saw another token, so its logits must differ. */
    const float *true_row = reference->logits + (size_t)done * reference->vocabulary;
    if (f->batch.tokens[0] != reference->tokens[done] &&
        memcmp(logits, true_row, reference->vocabulary * sizeof(float)) == 0) {
        failures++;
        printf("FAILED %s: control: a junk branch has the true logits\n", reference->label);
    }
    sequence_commit_path(sequence, path, depth);
    return depth;
}

static void as_trees(struct fixture *f, const struct reference *reference) {
    struct sequence sequence;
    fixture_begin(f, &sequence, reference->count + 80);
    for (int32_t done = 0, depth = 1; done < reference->count; depth = depth % 9 + 1)
        done += one_tree(f, reference, &sequence, done, depth);
    fixture_end(f, &sequence);
}

/* The last token again over keys that another sequence had computed and has left. */
static void compare_shared_prefix(struct fixture *f, const struct reference *reference,
                                  struct sequence *child) {
    sequence_settle(child, reference->count - 1);
    batch_clear(&f->batch);
    fixture_append(f, child, reference->tokens + reference->count - 1, 1, true);
    compare(reference, "over a prefix whose owner has ended", reference->count - 1, 1,
            fixture_forward(f, NULL));
}

static void run_chain(struct fixture *f, struct sequence *sequence, const int32_t *tokens,
                      int32_t count) {
    batch_clear(&f->batch);
    fixture_append(f, sequence, tokens, count, false);
    fixture_forward(f, NULL);
    sequence_commit(sequence, count);
}

/* Fork at a third (not on a block border: the child shares the full blocks and computes the rest
 * itself), let both write junk, roll both back and go on with both. */
static void after_fork_and_rollback(struct fixture *f, const struct reference *reference) {
    struct sequence parent, child;
    fixture_begin(f, &parent, reference->count + 16);
    fixture_begin(f, &child, reference->count + 16);
    int32_t third = reference->count / 3, junk[16];
    third -= third % KV_BLOCK_TOKENS == 0 ? 1 : 0;
    fixture_random_tokens(99, f->spec.vocabulary, 16, junk);
    run_chain(f, &parent, reference->tokens, third);
    block_source_fork(&f->blocks, &parent, &child);
    int32_t shared = child.committed;
    if (shared == 0 || parent.blocks[0] != child.blocks[0]) {
        failures++;
        printf("FAILED %s: the fork shares nothing\n", reference->label);
    }
    run_chain(f, &child, reference->tokens + shared, third - shared);

    batch_clear(&f->batch);
    fixture_append(f, &child, junk, 16, false);
    fixture_append(f, &parent, junk + 1, 15, false);
    fixture_forward(f, NULL);
    sequence_commit(&child, 16);
    sequence_commit(&parent, 15);
    sequence_settle(&parent, third - 1);
    sequence_settle(&child, third);

    struct sequence *both[2] = {&parent, &child};
    for (int32_t i = 0; i < 2; i++) {
        int32_t from = both[i]->committed;
        batch_clear(&f->batch);
        fixture_append(f, both[i], reference->tokens + from, reference->count - from, true);
        compare(reference, "after fork and rollback", from, reference->count - from,
                fixture_forward(f, NULL));
        sequence_commit(both[i], reference->count - from);
    }
    fixture_end(f, &parent);
    compare_shared_prefix(f, reference, &child);
    fixture_end(f, &child);
}

static void check_sequence(struct fixture *one, struct fixture *many,
                           const struct reference *reference) {
    static const int32_t chunks[] = {1, 7, 16, 64};
    fixture_prefill(one, reference->tokens, reference->count, reference->count, reference->logits);
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++)
        in_chunks(i % 2 == 0 ? one : many, reference, chunks[i]);
    in_chunks(many, reference, reference->count);
    among_others(many, reference);
    as_trees(many, reference);
    as_trees(one, reference);
    after_fork_and_rollback(many, reference);
}

static void check_model(const char *folder, enum cpu_isa isa, enum dtype dtype, int32_t count) {
    struct fixture one, many;
    struct fixture_options options = {.dtype = dtype,
                                      .isa = isa,
                                      .threads = 1,
                                      .rows = count > 128 ? count : 128,
                                      .positions = count,
                                      .sequences = OTHERS + 1};
    fixture_open(&one, folder, &options);
    options.threads = 2;
    fixture_open(&many, folder, &options);
    char label[600];
    snprintf(label, sizeof label, "%s %s %s", folder, cpu_isa_name(isa), dtype_name(dtype));
    int before = failures;
    int64_t compared = positions_compared;
    int32_t *tokens = take(sizeof *tokens * (size_t)count);
    fixture_random_tokens((uint64_t)isa * 7 + (uint64_t)dtype, one.spec.vocabulary, count, tokens);
    struct reference reference = {.label = label,
                                  .tokens = tokens,
                                  .count = count,
                                  .vocabulary = (size_t)one.spec.vocabulary};
    reference.logits = take(sizeof(float) * reference.vocabulary * (size_t)count);
    check_sequence(&one, &many, &reference);
    if (many.blocks.free_count != many.blocks.count) {
        failures++;
        printf("FAILED %s: blocks are missing\n", label);
    }
    printf("%s: %s over %lld positions\n", label, failures == before ? "equal bits" : "DIFFERENT",
           (long long)(positions_compared - compared));
    free(reference.logits);
    free(tokens);
    fixture_close(&one);
    fixture_close(&many);
}

int main(int argc, char **argv) {
    int32_t count = 300; /* past the first attention chunk */
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "--positions") == 0) {
        count = (int32_t)strtol(argv[2], NULL, 10);
        first = 3;
    }
    if (first >= argc || count < 8) {
        fprintf(stderr, "usage: test_bits [--positions N] FOLDER...\n");
        return 2;
    }
    for (int i = first; i < argc; i++)
        for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
            for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++)
                if (isa != CPU_ISA_REFERENCE && cpu_isa_supported((enum cpu_isa)isa))
                    check_model(argv[i], (enum cpu_isa)isa, (enum dtype)dtype, count);
    printf("%lld positions compared\n", (long long)positions_compared);
    return failures == 0 ? 0 : 1;
}
