/* Many ranks, the same bits: on 1, 2, 3, 4 and 8 ranks, with every flow, placement and
 * tensor-parallel size, requests that keep all data-parallel groups busy at once have the logits of
 * all their positions, bit for bit, and the ids that each has alone on one rank without MPI. Usage:
 * test_ranks [--full] MPIRUN FOLDER [PLACEMENT], the last a file for this model on 4 ranks; it
 * starts itself under mpirun with --run. --full: every job shape with every placement and flow, and
 * more than 10,000 positions in each.
 *
 * The controls: one tensor-parallel group with other sums (enum reduce_fault) must have other bits,
 * where the same job with the right ones has those of one rank. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "comm/rank_group.h"
#include "kernels/base/log.h"
#include "runtime/engine.h"
#include "tests/support/expect.h"
#include "tests/support/fixture.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"
#include "tests/support/reduce_fault.h"

#define REQUESTS_FEW "24"   /* 1,308 positions */
#define REQUESTS_FULL "192" /* 11,007 */
#define REQUESTS_MAX 192
#define AT_ONCE 24 /* requests that run at the same time */
#define PROMPT_MAX 97
#define OUTPUT_MAX 40
#define TIMEOUT_MS 60000 /* ranks share cores with whatever else runs */
#define STEPS_MAX 4096
#define RANKS_MAX 8

/* enum reduce_fault */
static const char *const fault_names[] = {"right", "in-order", "ring", "scaled"};

/* ---- variants ---- */

struct variant {
    int32_t ranks, tensor, per_node, rows;
    enum expert_flow flow;
    struct placement_options placement;
    bool from_file; /* experts stand where PLACEMENT says */
};

#define CONTIGUOUS(replicas) {PLACEMENT_CONTIGUOUS, 0, replicas, NULL}, false
#define ROUND_ROBIN(replicas) {PLACEMENT_ROUND_ROBIN, 0, replicas, NULL}, false
#define RANDOM(seed, replicas) {PLACEMENT_RANDOM, seed, replicas, NULL}, false
#define FROM_FILE {PLACEMENT_CONTIGUOUS, 0, 0, NULL}, true

static const struct variant few[] = {
    {1, 1, 8, 512, EXPERT_FLOW_AUTO, CONTIGUOUS(0)},
    {2, 1, 8, 512, EXPERT_FLOW_A2A_DEDUP, CONTIGUOUS(0)},
    {2, 1, 8, 7, EXPERT_FLOW_A2A, ROUND_ROBIN(0)},
    {2, 1, 1, 512, EXPERT_FLOW_HIERARCHICAL, CONTIGUOUS(0)},
    {2, 2, 8, 512, EXPERT_FLOW_A2A_DEDUP, CONTIGUOUS(0)},
    {3, 1, 8, 512, EXPERT_FLOW_A2A_DEDUP, RANDOM(5, 0)},
    {3, 1, 2, 16, EXPERT_FLOW_ALLGATHER, CONTIGUOUS(2)},
    {3, 1, 2, 512, EXPERT_FLOW_HIERARCHICAL, RANDOM(3, 1)},
    {4, 1, 8, 64, EXPERT_FLOW_A2A_DEDUP, CONTIGUOUS(0)},
    {4, 1, 2, 512, EXPERT_FLOW_A2A, RANDOM(1, 3)},
    {4, 1, 8, 512, EXPERT_FLOW_ALLGATHER, ROUND_ROBIN(0)},
    {4, 1, 2, 512, EXPERT_FLOW_HIERARCHICAL, CONTIGUOUS(0)},
    {4, 1, 2, 64, EXPERT_FLOW_AUTO, CONTIGUOUS(0)},
    {4, 1, 8, 512, EXPERT_FLOW_A2A_DEDUP, FROM_FILE},
    {4, 1, 2, 70, EXPERT_FLOW_HIERARCHICAL, FROM_FILE},
    {4, 2, 8, 7, EXPERT_FLOW_DEEPSPEED, ROUND_ROBIN(2)},
    {4, 2, 8, 33, EXPERT_FLOW_A2A_DEDUP, RANDOM(5, 0)},
    {4, 4, 8, 512, EXPERT_FLOW_A2A_DEDUP, CONTIGUOUS(0)},
    {8, 1, 4, 512, EXPERT_FLOW_DEEPSPEED, RANDOM(2, 1)},
    {8, 1, 8, 33, EXPERT_FLOW_ALLGATHER, CONTIGUOUS(0)},
    {8, 1, 4, 33, EXPERT_FLOW_AUTO, RANDOM(4, 0)},
    {8, 1, 2, 33, EXPERT_FLOW_HIERARCHICAL, RANDOM(4, 2)},
    {8, 1, 3, 512, EXPERT_FLOW_HIERARCHICAL, ROUND_ROBIN(0)},
    {8, 2, 4, 33, EXPERT_FLOW_ALLGATHER, RANDOM(3, 0)},
    {8, 2, 4, 33, EXPERT_FLOW_HIERARCHICAL, RANDOM(6, 1)},
    {8, 4, 8, 64, EXPERT_FLOW_DEEPSPEED, RANDOM(4, 1)},
    {8, 4, 2, 64, EXPERT_FLOW_HIERARCHICAL, CONTIGUOUS(0)},
};

/* One group, whose ranks all own rows. */
static const struct variant crowded = {4, 4, 8, 512, EXPERT_FLOW_AUTO, CONTIGUOUS(0)};

/* Which variants run. */
struct plan {
    const struct variant *variants;
    size_t count;
};

/* Ranks to a node: the hierarchical flow is not one of its own unless there are several nodes. */
static int32_t per_node_of(int32_t ranks, enum expert_flow flow, int32_t index) {
    static const int32_t per_node[] = {8, 2, 3, 1};
    int32_t most = flow == EXPERT_FLOW_HIERARCHICAL ? (ranks + 1) / 2 : ranks;
    int32_t wanted = per_node[index % 4];
    return wanted < most ? wanted : most;
}

/* Every shape of a job, with every placement and flow. */
static struct plan everything(void) {
    static const int32_t shapes[][2] = {{1, 1}, {2, 1}, {2, 2}, {3, 1}, {4, 1}, {4, 2},
                                        {4, 4}, {6, 2}, {8, 1}, {8, 2}, {8, 4}};
    static const struct placement_options placements[] = {{PLACEMENT_CONTIGUOUS, 0, 0, NULL},
                                                          {PLACEMENT_ROUND_ROBIN, 0, 0, NULL},
                                                          {PLACEMENT_RANDOM, 7, 0, NULL},
                                                          {PLACEMENT_RANDOM, 8, 3, NULL}};
    static const int32_t rows[] = {512, 130, 64, 300, 200};
    static struct variant all[11 * 4 * (EXPERT_FLOW_AUTO + 1)];
    struct plan plan = {.variants = all};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int32_t p = 0; p < 4; p++)
            for (int32_t f = 0; f <= EXPERT_FLOW_AUTO; f++) {
                struct variant *variant = &all[plan.count];
                *variant = (struct variant){.ranks = shapes[s][0],
                                            .tensor = shapes[s][1],
                                            .placement = placements[p],
                                            .flow = (enum expert_flow)f,
                                            .rows = rows[plan.count++ % 5]};
                variant->per_node = per_node_of(variant->ranks, variant->flow, p + f);
                if (variant->ranks == 1) /* nothing to replicate to */
                    variant->placement.replicas = 0;
            }
    return plan;
}

static struct plan plan_of(const char *name) {
    if (strcmp(name, "few") == 0)
        return (struct plan){few, sizeof few / sizeof few[0]};
    if (strcmp(name, "full") == 0)
        return everything();
    return (struct plan){&crowded, 1};
}

static int32_t count_variants(struct plan plan, int32_t ranks) {
    int32_t count = 0;
    for (size_t i = 0; i < plan.count; i++)
        count += plan.variants[i].ranks == ranks;
    return count;
}

/* ---- requests and what they were told ---- */

static int32_t prompt_count_of(int32_t subject) {
    return 1 + subject * 37 % PROMPT_MAX;
}

/* The last one goes on for long, so that in the end most groups have no rows. */
static int32_t output_count_of(int32_t subject) {
    return subject % AT_ONCE == AT_ONCE - 1 ? OUTPUT_MAX : 4 + subject % 9;
}

/* Positions that are computed: the last token's is not. */
static int32_t positions_of(int32_t subject) {
    return prompt_count_of(subject) + output_count_of(subject) - 1;
}

/* Of all requests: ids and logits, also as a file. */
struct answers {
    int32_t requests, positions, vocabulary;
    int32_t first_row[REQUESTS_MAX + 1]; /* of a request's logits */
    int32_t (*ids)[OUTPUT_MAX];          /* [requests] */
    float *logits;                       /* [positions][vocabulary] */
    char *bytes;                         /* all of it */
    size_t size;
};

/* Takes memory, or what a file holds. */
static void answers_take(struct answers *answers, int32_t requests, int32_t vocabulary,
                         const char *path) {
    *answers = (struct answers){.requests = requests, .vocabulary = vocabulary};
    for (int32_t i = 0; i < requests; i++)
        answers->first_row[i + 1] = answers->first_row[i] + positions_of(i);
    answers->positions = answers->first_row[requests];
    size_t ids = sizeof *answers->ids * (size_t)requests;
    answers->size = ids + sizeof(float) * (size_t)answers->positions * (size_t)vocabulary;
    size_t size = answers->size;
    answers->bytes = path != NULL ? program_read_file(path, &size) : calloc(1, size);
    if (answers->bytes == NULL || size != answers->size) {
        printf("FAILED: %s: expected %zu bytes, got %zu\n", path, answers->size, size);
        exit(1);
    }
    answers->ids = (int32_t(*)[OUTPUT_MAX])(void *)answers->bytes;
    answers->logits = (float *)(void *)(answers->bytes + ids);
}

static float *logits_at(const struct answers *answers, int32_t row) {
    return answers->logits + (size_t)row * (size_t)answers->vocabulary;
}

/* ---- one job ---- */

struct job {
    const char *folder, *reference, *placement_file;
    enum engine_dtype dtype;
    int32_t requests;
    struct rank_group ranks;
    struct engine *engine;
    struct answers answers;                     /* the coordinator's: to be written, or expected */
    bool writes;                                /* answers are written */
    int32_t subject_of[REQUESTS_MAX + AT_ONCE]; /* by handle */
    int32_t rows_of[REQUESTS_MAX], ids_of[REQUESTS_MAX]; /* told so far, by subject */
    int32_t other;        /* rows of logits and ids that are not as expected */
    int32_t steps;        /* of this variant */
    bool busy[STEPS_MAX]; /* whether a step had rows for this rank */
};

static void take_token(void *context, const struct engine_token *token) {
    struct job *job = context;
    int32_t subject = job->subject_of[token->request], index = job->ids_of[subject]++;
    if (index >= output_count_of(subject))
        return; /* counted, and found */
    if (job->writes)
        job->answers.ids[subject][index] = token->id;
    job->other += job->answers.ids[subject][index] != token->id;
}

static void take_logits(void *context, int32_t request, int32_t position, const float *logits) {
    struct job *job = context;
    int32_t subject = job->subject_of[request];
    bool is_next = position == job->rows_of[subject]++ && position < positions_of(subject);
    EXPECT(is_next, "request %d: position %d", subject, position);
    if (!is_next)
        return;
    size_t bytes = sizeof(float) * (size_t)job->answers.vocabulary;
    float *answer = logits_at(&job->answers, job->answers.first_row[subject] + position);
    if (job->writes)
        memcpy(answer, logits, bytes);
    job->other += memcmp(answer, logits, bytes) != 0;
}

/* Once a step: whether there are rows for this rank. */
static void see(void *context, enum model_point point, int32_t layer, const void *data,
                int64_t columns) {
    struct job *job = context;
    (void)layer, (void)data, (void)columns;
    if (point == MODEL_EMBEDDING && job->steps < STEPS_MAX)
        job->busy[job->steps++] = engine_batch(job->engine)->rows > 0;
}

static enum status submit(struct job *job, int32_t subject) {
    int32_t prompt[PROMPT_MAX], count = prompt_count_of(subject), handle;
    fixture_random_tokens(300u + (uint64_t)subject, engine_spec(job->engine)->vocabulary, count,
                          prompt);
    struct engine_request request = {.prompt = prompt,
                                     .prompt_count = count,
                                     .max_tokens = output_count_of(subject),
                                     .ignore_eos = true,
                                     .all_logits = true,
                                     .sampling = sampling_params_default()};
    request.sampling.seed = (uint64_t)subject;
    request.sampling.temperature = subject % 2 == 0 ? 0.0f : 0.9f;
    RETURN_IF_ERROR(engine_submit(job->engine, &request, &handle));
    job->subject_of[handle] = subject;
    return STATUS_OK;
}

/* All at once, or one after the other. */
static enum status ask_all(struct job *job, const struct model_observer *observer) {
    struct engine_listener listener = {
        .token = take_token, .logits = take_logits, .observer = observer, .context = job};
    memset(job->rows_of, 0, sizeof job->rows_of);
    memset(job->ids_of, 0, sizeof job->ids_of);
    job->other = 0;
    for (int32_t subject = 0; subject < job->requests; subject++) {
        RETURN_IF_ERROR(submit(job, subject));
        if (!job->writes && subject < job->requests - 1)
            continue;
        while (engine_running(job->engine) > 0)
            RETURN_IF_ERROR(engine_step(job->engine, &listener));
    }
    for (int32_t i = 0; i < job->requests; i++)
        EXPECT(job->rows_of[i] == positions_of(i) && job->ids_of[i] == output_count_of(i),
               "request %d: %d positions, %d tokens", i, job->rows_of[i], job->ids_of[i]);
    return engine_stop(job->engine);
}

/* In some steps all data-parallel groups had rows, in others some had none. Collective. */
static enum status check_busy(const struct job *job) {
    static bool all[RANKS_MAX][STEPS_MAX];
    const struct transport_scope scope = {.layer = -1, .kind = TRAFFIC_STATUS};
    int32_t members[RANKS_MAX], full = 0;
    for (int32_t i = 0; i < job->ranks.size; i++)
        members[i] = i;
    const struct collective_group world = {.transport = job->ranks.transport,
                                           .members = members,
                                           .count = job->ranks.size,
                                           .self = job->ranks.rank};
    RETURN_IF_ERROR(
        collective_share(&world, &scope, job->busy, sizeof job->busy, (char *)(void *)all));
    for (int32_t step = 0; step < job->steps; step++) {
        int32_t busy = 0;
        for (int32_t i = 0; i < job->ranks.size; i++)
            busy += all[i][step];
        full += busy == job->ranks.size;
    }
    EXPECT(full > 0 && (full < job->steps || job->ranks.dp_size == 1),
           "all groups had rows in %d of %d steps", full, job->steps);
    return STATUS_OK;
}

static enum status open_engine(struct job *job, const struct variant *variant) {
    RETURN_IF_ERROR(rank_group_shape(&job->ranks, variant->tensor, 0));
    rank_group_split_nodes(&job->ranks, variant->per_node);
    struct engine_options options = {.model_folder = job->folder,
                                     .dtype = job->dtype,
                                     .isa = cpu_isa_best(),
                                     .threads = 1,
                                     .positions = PROMPT_MAX + OUTPUT_MAX,
                                     .requests = variant->rows < AT_ONCE ? variant->rows : AT_ONCE,
                                     .waiting = job->requests,
                                     .rows = variant->rows,
                                     .ranks = &job->ranks,
                                     .flow = variant->flow,
                                     .placement = variant->placement,
                                     .placement_file =
                                         variant->from_file ? job->placement_file : NULL,
                                     .all_logits = true};
    return engine_create(&options, &job->engine);
}

static enum status run_variant(struct job *job, const struct variant *variant) {
    struct model_observer observer = {.see = see, .context = job};
    struct engine_stats stats;
    job->steps = 0;
    RETURN_IF_ERROR(open_engine(job, variant));
    if (job->ranks.rank > 0) {
        RETURN_IF_ERROR(engine_serve(job->engine, &observer));
    } else {
        if (job->answers.bytes == NULL)
            answers_take(&job->answers, job->requests, engine_spec(job->engine)->vocabulary,
                         job->writes ? NULL : job->reference);
        RETURN_IF_ERROR(ask_all(job, &observer));
        engine_stats(job->engine, &stats);
        EXPECT(variant->ranks == 1 || variant->flow == EXPERT_FLOW_AUTO ||
                   stats.flow_steps[variant->flow] > 0,
               "no step went %s", expert_flow_name(variant->flow));
    }
    engine_destroy(job->engine);
    return job->ranks.size > 1 ? check_busy(job) : STATUS_OK;
}

static enum status write_reference(struct job *job) {
    static const struct variant alone = {1, 1, 8, 512, EXPERT_FLOW_AUTO, CONTIGUOUS(0)};
    job->writes = true;
    RETURN_IF_ERROR(run_variant(job, &alone));
    program_write_file(job->reference, job->answers.bytes, job->answers.size);
    return STATUS_OK;
}

/* Every variant of the plan that is for this many ranks. */
static enum status run_plan(struct job *job, struct plan plan) {
    int32_t count = 0;
    for (size_t i = 0; i < plan.count && expect_failures == 0; i++) {
        const struct variant *variant = &plan.variants[i];
        if (variant->ranks != job->ranks.size || (variant->from_file && !job->placement_file))
            continue;
        RETURN_IF_ERROR(run_variant(job, variant));
        EXPECT(job->ranks.rank > 0 || (job->other == 0) == (reduce_fault == REDUCE_RIGHT),
               "%d ranks, %d to a node, tensor %d, %s, policy %d, %d replicas, %d rows: %d other "
               "rows or ids",
               variant->ranks, variant->per_node, variant->tensor, expert_flow_name(variant->flow),
               (int)variant->placement.policy, variant->placement.replicas, variant->rows,
               job->other);
        count++;
    }
    if (job->ranks.rank == 0)
        printf("%d ranks, %s: %d variants of %d positions, %d other rows or ids in the last\n",
               job->ranks.size, fault_names[reduce_fault], count, job->answers.positions,
               job->other);
    return STATUS_OK;
}

/* WHAT FAULT DTYPE REQUESTS FOLDER REFERENCE [PLACEMENT] */
static enum status run(const char *const *argv, bool under_launcher, struct job *job) {
    const struct rank_group_options join = {
        .under_launcher = under_launcher, .timeout_ms = TIMEOUT_MS, .command = "test_ranks"};
    *job = (struct job){.dtype =
                            strcmp(argv[2], "float32") == 0 ? ENGINE_DTYPE_F32 : ENGINE_DTYPE_BF16,
                        .requests = (int32_t)strtol(argv[3], NULL, 10),
                        .folder = argv[4],
                        .reference = argv[5],
                        .placement_file = argv[6]};
    while (strcmp(argv[1], fault_names[reduce_fault]) != 0)
        reduce_fault++;
    RETURN_IF_ERROR(rank_group_start(&join, &job->ranks));
    log_setup(LOG_LEVEL_ERROR, job->ranks.rank);
    return strcmp(argv[0], "write") == 0 ? write_reference(job) : run_plan(job, plan_of(argv[0]));
}

/* ---- the judge ---- */

struct judge {
    struct program mpirun;
    const char *self, *plan, *requests, *folder, *placement;
    const char *dtype;
    char reference[128]; /* a file */
};

static void launch(const struct judge *judge, int32_t ranks, const char *what,
                   enum reduce_fault fault) {
    char size[16];
    struct program_run run;
    snprintf(size, sizeof size, "%d", ranks);
    program_run(&judge->mpirun,
                (const char *const[]){MPIRUN_FLAGS, "-n", size, judge->self, "--run", what,
                                      fault_names[fault], judge->dtype, judge->requests,
                                      judge->folder, judge->reference, judge->placement, NULL},
                NULL, PROGRAM_KEPT, &run);
    printf("%s", run.out);
    EXPECT(run.exit_code == 0, "%s, %s, %d ranks: exit code %d: %s", what, fault_names[fault],
           ranks, run.exit_code, run.err);
    fflush(stdout);
    program_run_deinit(&run);
}

static void write_alone(const struct judge *judge) {
    static struct job job;
    const char *const argv[] = {"write",       "right",          judge->dtype, judge->requests,
                                judge->folder, judge->reference, NULL};
    EXPECT(run(argv, false, &job) == STATUS_OK, "one rank without MPI fails");
    free(job.answers.bytes);
    rank_group_finish(&job.ranks);
}

static void judge_all(struct judge *judge, const char *dtype) {
    judge->dtype = dtype;
    printf("%s, %s\n", judge->folder, dtype);
    write_alone(judge);
    for (int fault = REDUCE_RIGHT; fault <= REDUCE_SCALED && expect_failures == 0; fault++)
        launch(judge, crowded.ranks, "crowded", (enum reduce_fault)fault);
    for (int32_t ranks = 1; ranks <= RANKS_MAX && expect_failures == 0; ranks++)
        if (count_variants(plan_of(judge->plan), ranks) > 0)
            launch(judge, ranks, judge->plan, REDUCE_RIGHT);
}

int main(int argc, char **argv) {
    if (argc >= 8 && strcmp(argv[1], "--run") == 0) {
        static struct job job;
        enum status status = run((const char *const *)argv + 2, true, &job);
        fflush(stdout);
        if (status != STATUS_OK || expect_failures > 0)
            rank_group_abort(&job.ranks, 1);
        rank_group_finish(&job.ranks);
        return 0;
    }
    bool full = argc > 1 && strcmp(argv[1], "--full") == 0;
    if (argc < 3 + full || argc > 4 + full) {
        fprintf(stderr, "usage: test_ranks [--full] MPIRUN FOLDER [PLACEMENT]\n");
        return 2;
    }
    struct judge judge = {.self = argv[0],
                          .plan = full ? "full" : "few",
                          .requests = full ? REQUESTS_FULL : REQUESTS_FEW,
                          .folder = argv[2 + full],
                          .placement = argv[3 + full]};
    program_init(&judge.mpirun, argv[1 + full]);
    program_scratch_path(&judge.mpirun, "reference", judge.reference, sizeof judge.reference);
    judge_all(&judge, "float32");
    judge_all(&judge, "bfloat16");
    program_deinit(&judge.mpirun);
    return expect_failures == 0 ? 0 : 1;
}
