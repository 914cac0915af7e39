/* Many requests at once on many ranks: with every data-parallel group busy, uneven steps and rows
 * shared out over tensor-parallel groups, each request has the logits of all its positions, bit for
 * bit, and the ids that it has alone on the fewest ranks of the same tensor-parallel size. Usage:
 * test_rank_crowd MPIRUN FOLDER...; it starts itself under mpirun with --run.
 *
 * The controls: another tensor-parallel size adds in another order, and must have other bits. And
 * test_rank_ring, the same program with a ring in place of the reduce-scatter (ring_reduce.c), must
 * have other bits in a crowd than alone, since there other ranks own the rows. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "comm/rank_group.h"
#include "kernels/base/log.h"
#include "runtime/engine.h"
#include "tests/support/expect.h"
#include "tests/support/fixture.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"

#define REQUESTS 20
#define PROMPT_MAX 61
#define OUTPUT 12
#define TIMEOUT_MS 20000

/* ---- under mpirun ---- */

/* What one request was told. */
struct told {
    uint64_t hash; /* of logits, in order of position */
    int32_t ids[OUTPUT], count, logit_rows;
};

struct crowd {
    struct engine *engine;
    struct told told[REQUESTS];
    int32_t subject_of[REQUESTS]; /* by handle */
};

static void take_token(void *context, const struct engine_token *token) {
    struct crowd *crowd = context;
    struct told *told = &crowd->told[crowd->subject_of[token->request]];
    if (told->count < OUTPUT)
        told->ids[told->count++] = token->id;
}

static void take_logits(void *context, int32_t request, int32_t position, const float *logits) {
    struct crowd *crowd = context;
    struct told *told = &crowd->told[crowd->subject_of[request]];
    size_t bytes = sizeof(float) * (size_t)engine_spec(crowd->engine)->vocabulary;
    EXPECT(position == told->logit_rows, "request %d: position %d instead of %d", request, position,
           told->logit_rows);
    told->logit_rows++;
    for (size_t at = 0; at < bytes; at += sizeof(uint32_t)) {
        uint32_t bits;
        memcpy(&bits, (const char *)logits + at, sizeof bits);
        told->hash = (told->hash ^ bits) * UINT64_C(0x100000001b3);
    }
}

static enum status submit(struct crowd *crowd, int32_t subject) {
    int32_t prompt[PROMPT_MAX], count = 1 + subject * 37 % PROMPT_MAX, handle;
    fixture_random_tokens(300u + (uint64_t)subject, engine_spec(crowd->engine)->vocabulary, count,
                          prompt);
    struct engine_request request = {.prompt = prompt,
                                     .prompt_count = count,
                                     .max_tokens = OUTPUT,
                                     .ignore_eos = true,
                                     .all_logits = true,
                                     .sampling = sampling_params_default()};
    request.sampling.seed = (uint64_t)subject;
    request.sampling.temperature = subject % 2 == 0 ? 0.0f : 0.9f;
    RETURN_IF_ERROR(engine_submit(crowd->engine, &request, &handle));
    crowd->subject_of[handle] = subject;
    return STATUS_OK;
}

/* All at once, or one after the other. */
static enum status ask_all(struct crowd *crowd, bool alone) {
    struct engine_listener listener = {
        .token = take_token, .logits = take_logits, .context = crowd};
    for (int32_t subject = 0; subject < REQUESTS; subject++) {
        RETURN_IF_ERROR(submit(crowd, subject));
        if (!alone && subject < REQUESTS - 1)
            continue;
        while (engine_running(crowd->engine) > 0)
            RETURN_IF_ERROR(engine_step(crowd->engine, &listener));
    }
    return engine_stop(crowd->engine);
}

static void print_all(const struct crowd *crowd) {
    for (int32_t i = 0; i < REQUESTS; i++) {
        const struct told *told = &crowd->told[i];
        EXPECT(told->count == OUTPUT, "request %d: %d tokens", i, told->count);
        printf("%d %d %016" PRIx64, i, told->logit_rows, told->hash);
        for (int32_t t = 0; t < told->count; t++)
            printf(" %d", told->ids[t]);
        printf("\n");
    }
}

static enum expert_flow flow_of(const char *name) {
    int32_t flow = 0;
    while (flow < EXPERT_FLOW_AUTO && strcmp(name, expert_flow_name((enum expert_flow)flow)) != 0)
        flow++;
    return (enum expert_flow)flow;
}

/* --run FOLDER TENSOR FLOW ROWS alone|crowd */
static enum status run(char **argv, struct rank_group *ranks) {
    static struct crowd crowd;
    const struct rank_group_options join = {
        .under_launcher = true, .timeout_ms = TIMEOUT_MS, .command = "test_rank_crowd"};
    RETURN_IF_ERROR(rank_group_start(&join, ranks));
    log_setup(LOG_LEVEL_ERROR, ranks->rank);
    RETURN_IF_ERROR(rank_group_shape(ranks, (int32_t)strtol(argv[3], NULL, 10), 0));
    struct engine_options options = {.model_folder = argv[2],
                                     .dtype = ENGINE_DTYPE_F32,
                                     .isa = cpu_isa_best(),
                                     .threads = 1,
                                     .positions = PROMPT_MAX + OUTPUT,
                                     .requests = REQUESTS,
                                     .rows = (int32_t)strtol(argv[5], NULL, 10),
                                     .ranks = ranks,
                                     .flow = flow_of(argv[4]),
                                     .placement = {.policy = PLACEMENT_RANDOM, .seed = 5},
                                     .all_logits = true};
    RETURN_IF_ERROR(engine_create(&options, &crowd.engine));
    enum status status = ranks->rank > 0 ? engine_serve(crowd.engine, NULL)
                                         : ask_all(&crowd, strcmp(argv[6], "alone") == 0);
    if (ranks->rank == 0 && status == STATUS_OK)
        print_all(&crowd);
    engine_destroy(crowd.engine);
    return status;
}

/* ---- the judge ---- */

struct shape {
    const char *ranks, *tensor, *flow, *rows, *mode;
};

/* The first of each tensor-parallel size is what the others must equal. */
static const struct shape shapes[] = {
    {"1", "1", "auto", "512", "alone"},        {"2", "1", "a2a-dedup", "33", "crowd"},
    {"4", "1", "hierarchical", "70", "crowd"}, {"2", "2", "auto", "512", "alone"},
    {"4", "2", "a2a-dedup", "33", "crowd"},    {"8", "2", "deepspeed", "70", "crowd"},
    {"4", "4", "auto", "512", "alone"},        {"8", "4", "allgather", "45", "crowd"},
};

static char *ask(const struct program *mpirun, const char *self, const char *folder,
                 const struct shape *shape) {
    struct program_run run;
    program_run(mpirun,
                (const char *const[]){MPIRUN_FLAGS, "-n", shape->ranks, self, "--run", folder,
                                      shape->tensor, shape->flow, shape->rows, shape->mode, NULL},
                NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == 0 && run.out[0] != '\0', "%s: %s ranks, tensor %s: exit code %d: %s%s",
           folder, shape->ranks, shape->tensor, run.exit_code, run.out, run.err);
    char *text = run.out;
    run.out = NULL;
    program_run_deinit(&run);
    return text;
}

static void judge(const struct program *mpirun, const char *self, const char *folder) {
    char *expected = NULL;
    const char *tensor = "";
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *shape = &shapes[i];
        char *got = ask(mpirun, self, folder, shape);
        if (strcmp(tensor, shape->tensor) == 0) {
            EXPECT(strcmp(got, expected) == 0, "%s: %s ranks, tensor %s, %s: expected\n%s, got\n%s",
                   folder, shape->ranks, tensor, shape->flow, expected, got);
            free(got);
            continue;
        }
        EXPECT(expected == NULL || strcmp(got, expected) != 0,
               "%s: control: tensor %s has the bits of tensor %s", folder, shape->tensor, tensor);
        free(expected);
        expected = got;
        tensor = shape->tensor;
    }
    free(expected);
}

/* With a ring, a row's bits depend on its owner. */
static void judge_ring(const struct program *mpirun, const char *self, const char *folder) {
    static const struct shape lonely = {"4", "4", "auto", "512", "alone"};
    static const struct shape busy = {"4", "4", "auto", "512", "crowd"};
    char *alone = ask(mpirun, self, folder, &lonely), *crowd = ask(mpirun, self, folder, &busy);
    EXPECT(strcmp(alone, crowd) != 0, "%s: control: a ring's sums have the same bits", folder);
    free(alone);
    free(crowd);
}

int main(int argc, char **argv) {
    if (argc == 7 && strcmp(argv[1], "--run") == 0) {
        static struct rank_group ranks;
        enum status status = run(argv, &ranks);
        fflush(stdout);
        if (status != STATUS_OK || expect_failures > 0)
            rank_group_abort(&ranks, 1);
        rank_group_finish(&ranks);
        return 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: test_rank_crowd MPIRUN FOLDER...\n");
        return 2;
    }
    struct program mpirun;
    program_init(&mpirun, argv[1]);
    bool ring = strstr(argv[0], "rank_ring") != NULL;
    for (int i = 2; i < argc; i++)
        (ring ? judge_ring : judge)(&mpirun, argv[0], argv[i]);
    program_deinit(&mpirun);
    return expect_failures == 0 ? 0 : 1;
}
