/* Many ranks, the same bits: generate under mpirun on 2, 3, 4 and 8 ranks, with every flow and
 * placement, writes the same logits file, byte for byte, and the same ids as one rank without MPI.
 * With tensor parallelism attention's sums have another order: there the files are the same for
 * every number of ranks, flow and placement at one tensor-parallel size, and against one rank the
 * ids are equal and the logits within a bound. Usage: test_ranks [--full] MPIRUN MOEBIUS FOLDER
 * [PLACEMENT], the last a file for this model on 4 ranks. --full: every job shape with every
 * placement and flow.
 *
 * The control compares two different prompts with the same functions, and must find a difference.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/family.h"
#include "tests/support/expect.h"
#include "tests/support/fixture.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"

#define PROMPT_TOKENS 120
#define NEW_TOKENS 8
#define ARGUMENTS_MAX 56

struct variant {
    const char *ranks, *flow, *placement, *replicas, *rows, *tensor, *ranks_per_node;
};

/* The first of each tensor-parallel size is what the others of that size must equal. */
static const struct variant few[] = {
    {"1", "auto", "contiguous", "0", "512", "1", "8"},
    {"2", "a2a-dedup", "contiguous", "0", "512", "1", "8"},
    {"2", "a2a", "round-robin", "0", "7", "1", "8"},
    {"2", "hierarchical", "contiguous", "0", "512", "1", "1"},
    {"3", "a2a-dedup", "random:5", "0", "512", "1", "8"},
    {"3", "allgather", "contiguous", "2", "16", "1", "2"},
    {"3", "hierarchical", "random:3", "1", "512", "1", "2"},
    {"4", "a2a-dedup", "contiguous", "0", "64", "1", "8"},
    {"4", "a2a", "random:1", "3", "512", "1", "2"},
    {"4", "allgather", "round-robin", "0", "512", "1", "8"},
    {"4", "hierarchical", "contiguous", "0", "512", "1", "2"},
    {"8", "deepspeed", "random:2", "1", "512", "1", "4"},
    {"8", "allgather", "contiguous", "0", "33", "1", "8"},
    {"4", "auto", "contiguous", "0", "64", "1", "2"},
    {"8", "auto", "random:4", "0", "33", "1", "4"},
    {"8", "hierarchical", "random:4", "2", "33", "1", "2"},
    {"8", "hierarchical", "round-robin", "0", "512", "1", "3"},
    {"2", "a2a-dedup", "contiguous", "0", "512", "2", "8"},
    {"4", "deepspeed", "round-robin", "2", "7", "2", "8"},
    {"8", "allgather", "random:3", "0", "33", "2", "4"},
    {"8", "hierarchical", "random:6", "1", "33", "2", "4"},
    {"4", "a2a-dedup", "contiguous", "0", "512", "4", "8"},
    {"8", "deepspeed", "random:4", "1", "64", "4", "8"},
    {"8", "hierarchical", "contiguous", "0", "64", "4", "2"},
};

/* Which variants are compared, grouped by tensor-parallel size. */
struct plan {
    const struct variant *variants;
    size_t count;
};

/* Every shape of a job, with every placement and flow. */
static const struct plan *everything(void) {
    static const char *const shapes[][2] = {{"1", "1"}, {"2", "1"}, {"3", "1"}, {"4", "1"},
                                            {"8", "1"}, {"2", "2"}, {"4", "2"}, {"6", "2"},
                                            {"8", "2"}, {"4", "4"}, {"8", "4"}};
    static const char *const placements[][2] = {
        {"contiguous", "0"}, {"round-robin", "0"}, {"random:7", "0"}, {"random:8", "3"}};
    static const char *const flows[] = {"auto",      "a2a",          "a2a-dedup",
                                        "allgather", "hierarchical", "deepspeed"};
    static const char *const rows[] = {"512", "33", "128", "7", "64"};
    static struct variant all[11 * 4 * 6];
    static struct plan plan = {.variants = all};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (size_t p = 0; p < sizeof placements / sizeof placements[0]; p++)
            for (size_t f = 0; f < sizeof flows / sizeof flows[0]; f++) {
                bool lonely = strcmp(shapes[s][0], "1") == 0; /* nothing to replicate to */
                all[plan.count] = (struct variant){.ranks = shapes[s][0],
                                                   .tensor = shapes[s][1],
                                                   .placement = placements[p][0],
                                                   .replicas = lonely ? "0" : placements[p][1],
                                                   .flow = flows[f],
                                                   .rows = rows[plan.count % 5],
                                                   .ranks_per_node = plan.count % 2 ? "2" : "3"};
                plan.count++;
            }
    return &plan;
}

struct answer {
    char *logits, *text; /* file and standard output */
    size_t logits_size;
};

static void free_answer(struct answer *answer) {
    free(answer->logits);
    free(answer->text);
}

/* Ids of a prompt, as --token-ids wants them. */
static void write_prompt(uint64_t seed, int32_t vocabulary, char *text, size_t size) {
    int32_t tokens[PROMPT_TOKENS];
    size_t used = 0;
    fixture_random_tokens(seed, vocabulary, PROMPT_TOKENS, tokens);
    for (int i = 0; i < PROMPT_TOKENS; i++)
        used += (size_t)snprintf(text + used, size - used, "%d ", tokens[i]);
}

/* One run of generate, alone (variant NULL) or under mpirun. */
static struct answer ask(const struct program *runner, const char *moebius, const char *folder,
                         const char *dtype, const char *prompt, const struct variant *variant) {
    const char *arguments[ARGUMENTS_MAX];
    char dump[600], tokens[16];
    int count = 0;
    program_scratch_path(runner, "logits.safetensors", dump, sizeof dump);
    snprintf(tokens, sizeof tokens, "%d", NEW_TOKENS);
    if (variant != NULL) {
        const char *const mpirun[] = {MPIRUN_FLAGS, "-n", variant->ranks, moebius};
        for (size_t i = 0; i < sizeof mpirun / sizeof mpirun[0]; i++)
            arguments[count++] = mpirun[i];
    }
    const char *const generate[] = {"generate",
                                    "--model",
                                    folder,
                                    "--dtype",
                                    dtype,
                                    "--threads",
                                    "1",
                                    "--token-ids",
                                    prompt,
                                    "--max-tokens",
                                    tokens,
                                    "--ignore-eos",
                                    "--dump-logits",
                                    dump,
                                    "--log-level",
                                    "error",
                                    "--moe-flow",
                                    variant != NULL ? variant->flow : "auto",
                                    "--expert-placement",
                                    variant != NULL ? variant->placement : "contiguous",
                                    "--expert-replicas",
                                    variant != NULL ? variant->replicas : "0",
                                    "--ranks-per-node",
                                    variant != NULL ? variant->ranks_per_node : "1",
                                    "--max-num-batched-tokens",
                                    variant != NULL ? variant->rows : "512",
                                    "--tensor-parallel-size",
                                    variant != NULL ? variant->tensor : "1"};
    for (size_t i = 0; i < sizeof generate / sizeof generate[0]; i++)
        arguments[count++] = generate[i];
    arguments[count] = NULL;
    struct program_run run;
    program_run(runner, arguments, NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == 0, "%s on %s ranks: exit code %d: %s", folder,
           variant != NULL ? variant->ranks : "no", run.exit_code, run.err);
    struct answer answer = {.text = run.out};
    run.out = NULL;
    program_run_deinit(&run);
    if (expect_failures == 0)
        answer.logits = program_read_file(dump, &answer.logits_size);
    return answer;
}

static bool same(const struct answer *a, const struct answer *b) {
    return a->logits != NULL && b->logits != NULL && a->logits_size == b->logits_size &&
           memcmp(a->logits, b->logits, a->logits_size) == 0 && strcmp(a->text, b->text) == 0;
}

/* How two files of logits differ; infinite when they do not compare. */
struct difference {
    double worst, rms;
};

/* Allowed between tensor-parallel sizes, f32 and bf16. */
static const struct difference tensor_bounds[2] = {{1e-4, 1e-5}, {2.0, 0.1}};

static struct difference difference_of(const struct answer *a, const struct answer *b) {
    double worst = 0.0, square = 0.0, count = 0.0;
    if (a->logits == NULL || b->logits == NULL || a->logits_size != b->logits_size)
        return (struct difference){HUGE_VAL, HUGE_VAL};
    uint64_t header; /* of safetensors: its length, then as much JSON, then numbers */
    memcpy(&header, a->logits, sizeof header);
    for (size_t at = sizeof header + (size_t)header; at + 4 <= a->logits_size; at += 4) {
        float x, y;
        memcpy(&x, a->logits + at, sizeof x);
        memcpy(&y, b->logits + at, sizeof y);
        double d = fabs((double)x - (double)y);
        worst = d <= worst ? worst : d;
        square += d * d;
        count++;
    }
    return (struct difference){worst, sqrt(square / count)};
}

/* Experts placed by a file for 4 ranks (NULL: none). Returns how many positions were compared. */
static int64_t check_placed(const struct program *mpirun, const struct program *alone,
                            const char *folder, const char *dtype, const char *prompt,
                            const char *file, const struct answer *expected) {
    const struct variant placed[] = {{"4", "a2a-dedup", file, "0", "512", "1", "8"},
                                     {"4", "hierarchical", file, "0", "512", "1", "2"}};
    int64_t positions = 0;
    for (size_t i = 0; i < 2 && file != NULL && expect_failures == 0; i++) {
        struct answer got = ask(mpirun, alone->path, folder, dtype, prompt, &placed[i]);
        EXPECT(same(expected, &got), "%s %s: %s, %s: other bits", folder, dtype, file,
               placed[i].flow);
        positions += PROMPT_TOKENS + NEW_TOKENS - 1;
        free_answer(&got);
    }
    return positions;
}

static void check_model(const struct program *mpirun, const struct program *alone,
                        const char *folder, const char *dtype, const struct plan *plan,
                        const char *file) {
    const struct family *family;
    static struct model_spec spec;
    EXPECT(family_parse(folder, &family, &spec) == STATUS_OK, "%s", folder);
    char prompt[PROMPT_TOKENS * 8], other_prompt[PROMPT_TOKENS * 8];
    write_prompt(1, spec.vocabulary, prompt, sizeof prompt);
    write_prompt(2, spec.vocabulary, other_prompt, sizeof other_prompt);
    const struct difference *bound = &tensor_bounds[strcmp(dtype, "float32") == 0 ? 0 : 1];
    struct difference worst = {0.0, 0.0};
    struct answer one = ask(alone, NULL, folder, dtype, prompt, NULL), expected = one;
    struct answer control = ask(alone, NULL, folder, dtype, other_prompt, NULL);
    EXPECT(!same(&one, &control) && difference_of(&one, &control).rms > bound->rms,
           "%s: control: two prompts, one answer", folder);
    int64_t positions = check_placed(mpirun, alone, folder, dtype, prompt, file, &one);
    const char *tensor = "1";
    for (size_t i = 0; i < plan->count && expect_failures == 0; i++) {
        const struct variant *variant = &plan->variants[i];
        struct answer got = ask(mpirun, alone->path, folder, dtype, prompt, variant);
        positions += PROMPT_TOKENS + NEW_TOKENS - 1;
        if (strcmp(variant->tensor, tensor) != 0) {
            tensor = variant->tensor;
            struct difference d = difference_of(&one, &got);
            worst.worst = fmax(worst.worst, d.worst);
            worst.rms = fmax(worst.rms, d.rms);
            EXPECT(strcmp(one.text, got.text) == 0 && d.worst <= bound->worst &&
                       d.rms <= bound->rms,
                   "%s %s: tensor-parallel size %s: other ids, or logits that differ by %g, rms %g",
                   folder, dtype, tensor, d.worst, d.rms);
            if (expected.logits != one.logits)
                free_answer(&expected);
            expected = got;
            continue;
        }
        EXPECT(same(&expected, &got),
               "%s %s: %s ranks, %s to a node, tensor %s, %s, %s, %s replicas: other bits", folder,
               dtype, variant->ranks, variant->ranks_per_node, tensor, variant->flow,
               variant->placement, variant->replicas);
        free_answer(&got);
    }
    printf("%s %s: %lld positions compared; tensor-parallel logits differ by %.2g at most, "
           "rms %.2g\n",
           folder, dtype, (long long)positions, worst.worst, worst.rms);
    if (expected.logits != one.logits)
        free_answer(&expected);
    free_answer(&one);
    free_answer(&control);
}

int main(int argc, char **argv) {
    const struct plan *plan = &(const struct plan){few, sizeof few / sizeof few[0]};
    int first = 1;
    if (argc > 1 && strcmp(argv[1], "--full") == 0) {
        plan = everything();
        first++;
    }
    if (argc < first + 3 || argc > first + 4) {
        fprintf(stderr, "usage: test_ranks [--full] MPIRUN MOEBIUS FOLDER [PLACEMENT]\n");
        return 2;
    }
    struct program mpirun, alone;
    program_init(&mpirun, argv[first]);
    program_init(&alone, argv[first + 1]);
    check_model(&mpirun, &alone, argv[first + 2], "float32", plan, argv[first + 3]);
    check_model(&mpirun, &alone, argv[first + 2], "bfloat16", plan, argv[first + 3]);
    program_deinit(&mpirun);
    program_deinit(&alone);
    return expect_failures == 0 ? 0 : 1;
}
