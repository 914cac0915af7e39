/* moebius doctor, alone and under mpirun: what it says of a sound job, and that it finds what is
 * wrong with an unsound one: a model that cannot be opened, on all ranks or on one; two models; too
 * many threads. Usage: test_doctor MPIRUN MOEBIUS */
#include <jansson.h>
#include <string.h>

#include "tests/support/expect.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"

#define ARGUMENTS_MAX 48
#define PARTS_MAX 8

struct doctor_case {
    const char *ranks;   /* NULL: without mpirun */
    const char *model;   /* NULL: the demo model */
    const char *other;   /* the model of one rank more; NULL: no such rank */
    const char *threads; /* NULL: default */
    int exit_code;
    const char *parts[PARTS_MAX]; /* of the output, in this order; NULL-terminated */
};

static const struct doctor_case cases[] = {
    {NULL,
     NULL,
     NULL,
     "1",
     0,
     {"program: moebius ", "MPI: ", "1 rank on 1 host:", "binding: 1 thread on ",
      "model: qwen3_moe", "links: none, one rank\n", "doctor: all well\n"}},
    {"2",
     NULL,
     NULL,
     "1",
     0,
     {"thread level funneled, transport mpi\n", "2 ranks on 1 host:", "ranks 0 1\n",
      "kernels: ", "links: latency of 1 KiB", "rank 1 ", "doctor: all well"}},
    {"4",
     NULL,
     NULL,
     "1",
     0,
     {"4 ranks on 1 host:", "ranks 0 1 2 3\n", "rank 3 ",
      "slowest of 6 pairs on one host: ", "doctor: all well"}},
    {"3",
     NULL,
     NULL,
     "256",
     0,
     {"warning: 768 threads of 3 ranks share ", "doctor: all well, 1 warning\n"}},
    {NULL,
     "tests",
     NULL,
     "1",
     3,
     {"model: cannot be opened (io", "problem: 1 of 1 ranks cannot open the model, first rank 0",
      "doctor: 1 problem\n"}},
    {"2",
     "tests",
     NULL,
     "1",
     3,
     {"links: latency", "problem: 2 of 2 ranks cannot open the model, first rank 0",
      "doctor: 1 problem"}},
    {"1",
     NULL,
     "tests",
     "1",
     3,
     {"  rank 0: qwen3_moe", "  rank 1: cannot be opened (io",
      "problem: 1 of 2 ranks cannot open the model, first rank 1", "doctor: 1 problem"}},
    {"1",
     NULL,
     "tests/data/golden/mixtral",
     "1",
     12,
     {"  rank 0: qwen3_moe", "  rank 1: mixtral", "problem: the ranks do not see the same model",
      "doctor: 1 problem"}},
};

static int add_doctor(const char *threads, const char *model, const char **arguments, int count) {
    arguments[count++] = "doctor";
    if (threads != NULL) {
        arguments[count++] = "--threads";
        arguments[count++] = threads;
    }
    if (model != NULL) {
        arguments[count++] = "--model";
        arguments[count++] = model;
    }
    return count;
}

static int add_ranks(const char *moebius, const char *ranks, const char **arguments, int count) {
    arguments[count++] = "-n";
    arguments[count++] = ranks;
    arguments[count++] = moebius;
    return count;
}

static void fill_arguments(const struct doctor_case *wanted, const char *moebius,
                           const char **arguments) {
    static const char *const mpirun[] = {MPIRUN_FLAGS};
    int count = 0;
    for (size_t i = 0; wanted->ranks != NULL && i < sizeof mpirun / sizeof mpirun[0]; i++)
        arguments[count++] = mpirun[i];
    if (wanted->ranks != NULL)
        count = add_ranks(moebius, wanted->ranks, arguments, count);
    count = add_doctor(wanted->threads, wanted->model, arguments, count);
    if (wanted->other != NULL) {
        arguments[count++] = ":";
        count = add_ranks(moebius, "1", arguments, count);
        count = add_doctor(wanted->threads, wanted->other, arguments, count);
    }
    arguments[count] = NULL;
}

static void check_case(const struct program *program, const char *moebius,
                       const struct doctor_case *wanted) {
    const char *arguments[ARGUMENTS_MAX];
    struct program_run run;
    fill_arguments(wanted, moebius, arguments);
    program_run(program, arguments, NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == wanted->exit_code, "%s: exit code %d, expected %d: %s%s",
           wanted->parts[0], run.exit_code, wanted->exit_code, run.out, run.err);
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
    fill_arguments(&two, moebius, arguments);
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
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_case(cases[i].ranks != NULL ? &mpirun : &alone, argv[2], &cases[i]);
    check_json(&mpirun, argv[2]);
    check_other_launcher(argv[2]);
    check_operand(&alone);
    program_deinit(&mpirun);
    program_deinit(&alone);
    return expect_failures == 0 ? 0 : 1;
}
