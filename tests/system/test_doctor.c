/* moebius doctor, alone and under mpirun: what it says of a sound job, and that it finds what is
 * wrong with an unsound one: a model or tokenizer that cannot be opened, on all ranks or on one;
 * two models; ranks that cannot be arranged; too many threads. Usage: test_doctor MPIRUN MOEBIUS */
#include <jansson.h>
#include <string.h>

#include "tests/support/expect.h"
#include "tests/support/model_variant.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"

#define ARGUMENTS_MAX 48
#define PARTS_MAX 8

struct doctor_case {
    const char *ranks;   /* NULL: without mpirun */
    const char *model;   /* NULL: the demo model; "@x": x in the scratch folder */
    const char *other;   /* the model of one rank more; NULL: no such rank */
    const char *threads; /* NULL: default */
    int exit_code;
    const char *parts[PARTS_MAX];  /* of the output, in this order; NULL-terminated */
    const char *flag, *other_flag; /* one argument more: of the ranks, of the rank more */
};

#define DEMO "launcher/demo-moe"

static const struct model_variant variants[] = {
    {"narrow", DEMO, "config.json", VARIANT_REPLACE, "\"moe_intermediate_size\": 64",
     "\"moe_intermediate_size\": 32"},
    {"epsilon", DEMO, "config.json", VARIANT_REPLACE, "1e-06", "1e-05"},
    {"words", DEMO, "tokenizer.json", VARIANT_HALVE, NULL, NULL},
    {"wordless", DEMO, "tokenizer.json", VARIANT_REMOVE, NULL, NULL},
};

static const struct doctor_case cases[] = {
    {.threads = "1",
     .parts = {"program: moebius ", "MPI: ", "1 rank on 1 host:", "binding: 1 thread on ",
               "model: qwen3_moe", "links: none, one rank\n", "doctor: all well\n"}},
    {.ranks = "2",
     .threads = "1",
     .parts = {"thread level funneled, transport mpi\n", "2 ranks on 1 host:", "ranks 0 1\n",
               "kernels: ", "links: latency of 1 KiB", "rank 1 ", "doctor: all well"}},
    {.ranks = "4",
     .threads = "1",
     .parts = {"4 ranks on 1 host:", "ranks 0 1 2 3\n", "rank 3 ",
               "slowest of 6 pairs on one host: ", "doctor: all well"}},
    {.ranks = "3",
     .threads = "256",
     .parts = {"3 ranks on 1 host:", "warning: 768 threads of 3 ranks share ",
               "doctor: all well, 1 warning\n"},
     .flag = "--ranks-per-node=1"}, /* no more CPUs by that */
    {.model = "tests",
     .threads = "1",
     .exit_code = 3,
     .parts = {"model: cannot be opened (io",
               "problem: 1 of 1 ranks cannot open the model, first rank 0", "doctor: 1 problem\n"}},
    {.ranks = "2",
     .model = "tests",
     .threads = "1",
     .exit_code = 3,
     .parts = {"links: latency", "problem: 2 of 2 ranks cannot open the model, first rank 0",
               "doctor: 1 problem"}},
    {.ranks = "1",
     .other = "tests",
     .threads = "1",
     .exit_code = 3,
     .parts = {"  rank 0: qwen3_moe", "  rank 1: cannot be opened (io",
               "problem: 1 of 2 ranks cannot open the model, first rank 1", "doctor: 1 problem"}},
    {.ranks = "1",
     .other = "tests/data/golden/mixtral",
     .threads = "1",
     .exit_code = 12,
     .parts = {"  rank 0: qwen3_moe", "  rank 1: mixtral",
               "problem: the ranks do not have the same model", " of rank 1 on ",
               "doctor: 1 problem"}},
    {.ranks = "1",
     .other = "@epsilon",
     .threads = "1",
     .exit_code = 12,
     .parts = {"problem: the ranks do not have the same model", " of rank 1 on ",
               "doctor: 1 problem\n"}},
    {.model = "@narrow",
     .threads = "1",
     .exit_code = 5,
     .parts = {"model: cannot be opened (bad-checkpoint", "doctor: 1 problem\n"}},
    {.ranks = "1",
     .other = "@words",
     .threads = "1",
     .exit_code = 6,
     .parts = {"  rank 1: qwen3_moe", "a tokenizer that cannot be read",
               "problem: 1 of 2 ranks cannot read tokenizer.json, first rank 1 on ",
               "doctor: 1 problem\n"}},
    {.ranks = "1",
     .other = "@wordless",
     .threads = "1",
     .parts = {"warning: 1 of 2 ranks have no tokenizer.json, first rank 1 on ",
               "--skip-tokenizer-init", "doctor: all well, 1 warning\n"}},
    {.model = "@wordless",
     .threads = "1",
     .parts = {"tokenizer not looked at", "doctor: all well\n"},
     .flag = "--skip-tokenizer-init"},
    {.model = "tests/data/shapes/s",
     .threads = "1",
     .parts = {"random weights, no tokenizer", "doctor: all well, 1 warning\n"},
     .flag = "--load-format=dummy"},
    {.ranks = "3", .threads = "1", .exit_code = 2, .flag = "--tensor-parallel-size=2"},
    {.ranks = "3",
     .threads = "1",
     .exit_code = 2,
     .parts = {"model: cannot be opened (usage", "3 of 3 ranks cannot open", "doctor: 1 problem"},
     .flag = "--tensor-parallel-size=3"},
    {.ranks = "2",
     .threads = "1",
     .exit_code = 2,
     .parts = {"model: cannot be opened (usage", "doctor: 1 problem\n"},
     .flag = "--expert-replicas=33"},
    {.threads = "1",
     .exit_code = 2,
     .parts = {"model: cannot be opened (usage", "doctor: 1 problem\n"},
     .flag = "--max-model-len=100000"},
    {.ranks = "1",
     .other = DEMO,
     .threads = "1",
     .parts = {"  rank 1: baseline", "warning: all ranks will use baseline, the best of rank 1 on ",
               "doctor: all well, 1 warning\n"},
     .other_flag = "--cpu-isa=baseline"},
};

/* The models, those of the scratch folder too, in a buffer of their own. */
static const char *path_of(const struct program *program, const char *model) {
    static char paths[2][256];
    static int next;
    if (model[0] != '@')
        return model;
    next = 1 - next;
    program_scratch_path(program, model + 1, paths[next], sizeof paths[next]);
    return paths[next];
}

static int add_doctor(const char *threads, const char *model, const char *flag,
                      const char **arguments, int count) {
    arguments[count++] = "doctor";
    if (threads != NULL) {
        arguments[count++] = "--threads";
        arguments[count++] = threads;
    }
    if (model != NULL) {
        arguments[count++] = "--model";
        arguments[count++] = model;
    }
    if (flag != NULL)
        arguments[count++] = flag;
    return count;
}

static int add_ranks(const char *moebius, const char *ranks, const char **arguments, int count) {
    arguments[count++] = "-n";
    arguments[count++] = ranks;
    arguments[count++] = moebius;
    return count;
}

static void fill_arguments(const struct doctor_case *wanted, const struct program *program,
                           const char *moebius, const char **arguments) {
    static const char *const mpirun[] = {MPIRUN_FLAGS};
    int count = 0;
    for (size_t i = 0; wanted->ranks != NULL && i < sizeof mpirun / sizeof mpirun[0]; i++)
        arguments[count++] = mpirun[i];
    if (wanted->ranks != NULL)
        count = add_ranks(moebius, wanted->ranks, arguments, count);
    const char *model = wanted->model != NULL ? path_of(program, wanted->model) : NULL;
    count = add_doctor(wanted->threads, model, wanted->flag, arguments, count);
    if (wanted->other != NULL) {
        arguments[count++] = ":";
        count = add_ranks(moebius, "1", arguments, count);
        count = add_doctor(wanted->threads, path_of(program, wanted->other), wanted->other_flag,
                           arguments, count);
    }
    arguments[count] = NULL;
}

static void check_case(const struct program *program, const char *moebius,
                       const struct doctor_case *wanted) {
    const char *arguments[ARGUMENTS_MAX];
    struct program_run run;
    fill_arguments(wanted, program, moebius, arguments);
    program_run(program, arguments, NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == wanted->exit_code, "%s: exit code %d, expected %d: %s%s",
           wanted->flag != NULL ? wanted->flag : wanted->parts[0], run.exit_code, wanted->exit_code,
           run.out, run.err);
    const char *rest = run.out;
    for (int i = 0; i < PARTS_MAX && wanted->parts[i] != NULL; i++) {
        const char *found = strstr(rest, wanted->parts[i]);
        EXPECT(found != NULL, "no \"%s\" behind the part before it in: %s%s", wanted->parts[i],
               run.out, run.err);
        rest = found != NULL ? found + strlen(wanted->parts[i]) : rest;
    }
    program_run_deinit(&run);
}

static void check_operand(const struct program *program) {
    struct program_run run;
    program_run(program, (const char *const[]){"doctor", "launcher/demo-moe", NULL}, NULL,
                PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == 2 && strstr(run.err, "expected flags only") != NULL, "exit code %d: %s",
           run.exit_code, run.err);
    program_run_deinit(&run);
}

/* Two ranks as JSON. */
static void check_json(const struct program *mpirun, const char *moebius) {
    static const struct doctor_case two = {.ranks = "2", .threads = "1"};
    const char *arguments[ARGUMENTS_MAX];
    struct program_run run;
    fill_arguments(&two, mpirun, moebius, arguments);
    int count = 0;
    while (arguments[count] != NULL)
        count++;
    arguments[count++] = "--json";
    arguments[count] = NULL;
    program_run(mpirun, arguments, NULL, PROGRAM_KEPT, &run);
    json_t *got = json_loads(run.out, 0, NULL);
    const json_t *links = json_object_get(got, "links");
    const json_t *link = json_array_get(links, 0);
    EXPECT(run.exit_code == 0 && json_array_size(json_object_get(got, "ranks")) == 2 &&
               json_array_size(links) == 1 &&
               json_number_value(json_object_get(link, "latency_us")) > 0 &&
               json_number_value(json_object_get(link, "gigabytes_per_s")) > 0,
           "exit code %d: %s%s", run.exit_code, run.out, run.err);
    const char *verdict = json_string_value(json_object_get(got, "verdict"));
    EXPECT(verdict != NULL && strcmp(verdict, "ok") == 0, "%s", run.out);
    json_decref(got);
    program_run_deinit(&run);
}

/* Flags from where any flag may stand. */
static void check_settings(const struct program *alone, const char *moebius) {
    static const char yaml[] = "model: tests/data/golden/mixtral\nlog-format: json\n";
    char path[256], variable[300];
    struct program env;
    program_scratch_path(alone, "config.yaml", path, sizeof path);
    program_write_file(path, yaml, strlen(yaml));
    snprintf(variable, sizeof variable, "MOEBIUS_CONFIG=%s", path);
    program_init(&env, "/usr/bin/env");
    const char *const commands[][8] = {
        {SANITIZED_ENVIRONMENT "MOEBIUS_MODEL=tests/data/golden/mixtral", moebius, "doctor",
         "--log-format=json", NULL},
        {SANITIZED_ENVIRONMENT variable, moebius, "doctor", NULL},
        {SANITIZED_ENVIRONMENT "A=b", moebius, "doctor", "--config", path, NULL}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        struct program_run run;
        program_run(&env, commands[i], NULL, PROGRAM_KEPT, &run);
        EXPECT(run.exit_code == 0 && strstr(run.out, "model: mixtral") != NULL && run.err[0] == '{',
               "case %zu: exit code %d: %s%s", i, run.exit_code, run.out, run.err);
        program_run_deinit(&run);
    }
    program_deinit(&env);
}

/* The mpirun of another MPI library: it starts 4, each of which would be rank 0 of 1. */
static void check_other_launcher(const char *moebius) {
    static const char *const commands[][2] = {{"doctor", NULL}, {"generate", "4"}};
    struct program env;
    program_init(&env, "/usr/bin/env");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        struct program_run run;
        program_run(&env,
                    (const char *const[]){SANITIZED_ENVIRONMENT "PMI_RANK=0", "PMI_SIZE=4", moebius,
                                          commands[i][0], commands[i][1], NULL},
                    NULL, PROGRAM_KEPT, &run);
        EXPECT(run.exit_code == 12 && strstr(run.err, "started 4, MPI knows of 1") != NULL,
               "%s: exit code %d: %s", commands[i][0], run.exit_code, run.err);
        program_run_deinit(&run);
    }
    program_deinit(&env);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: test_doctor MPIRUN MOEBIUS\n");
        return 2;
    }
    struct program mpirun, alone;
    program_init(&mpirun, argv[1]);
    program_init(&alone, argv[2]);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        model_variant_make(&variants[i], mpirun.folder);
        model_variant_make(&variants[i], alone.folder);
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_case(cases[i].ranks != NULL ? &mpirun : &alone, argv[2], &cases[i]);
    check_json(&mpirun, argv[2]);
    check_settings(&alone, argv[2]);
    check_other_launcher(argv[2]);
    check_operand(&alone);
    program_deinit(&mpirun);
    program_deinit(&alone);
    return expect_failures == 0 ? 0 : 1;
}
