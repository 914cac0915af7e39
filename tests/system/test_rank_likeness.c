/* Ranks that are alike in what is wrong say it once. Ranks that are not alike, by their build,
 * their flags or their model, end at once: with a distinct exit code and in one line that names
 * rank, host, expected and got. Ranks of a copy of the program are alike, and so are those that
 * lack an instruction set. Usage: test_rank_likeness MPIRUN MOEBIUS FOLDER */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/status.h"
#include "tests/support/expect.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"

#define JOB_SECONDS_MAX "20" /* a machine under load; then mpirun ends the job in its own way */
#define ID_BYTES 20

/* Lines of ours, "TIME RANK@HOST error ...": mpirun speaks of errors too. */
static int count_errors(const char *log) {
    int count = 0;
    for (const char *at = log; (at = strstr(at, " error ")) != NULL; at++) {
        const char *word = at;
        while (word > log && word[-1] != ' ' && word[-1] != '\n')
            word--;
        count += memchr(word, '@', (size_t)(at - word)) != NULL ? 1 : 0;
    }
    return count;
}

/* Two ranks `moebius command flag` and one of `other` with one more argument (or NULL) and another
 * folder as --model (or NULL). */
struct mixed_job {
    const char *command, *flag, *other, *more, *model;
    const char *other_command, *other_flag; /* NULL: the same */
};

static void run_mixed(char **argv, const struct mixed_job *job, struct program_run *run) {
    struct program mpirun;
    const char *const arguments[] = {MPIRUN_FLAGS,
                                     "--timeout",
                                     JOB_SECONDS_MAX,
                                     "-n",
                                     "2",
                                     argv[2],
                                     job->command,
                                     "--model",
                                     argv[3],
                                     job->flag,
                                     ":",
                                     "-n",
                                     "1",
                                     job->other,
                                     job->other_command ? job->other_command : job->command,
                                     "--model",
                                     job->model ? job->model : argv[3],
                                     job->other_flag ? job->other_flag : job->flag,
                                     job->more,
                                     NULL};
    program_init(&mpirun, argv[1]);
    program_run(&mpirun, arguments, NULL, PROGRAM_KEPT, run);
    program_deinit(&mpirun);
}

static void check_refused(char **argv, const struct mixed_job *job, const char *expected) {
    struct program_run run;
    int64_t start = clock_now_ns();
    run_mixed(argv, job, &run);
    double seconds = (double)(clock_now_ns() - start) * 1e-9;
    EXPECT(run.exit_code == status_exit_code(STATUS_PEER) && run.out_size == 0 &&
               count_errors(run.err) == 1,
           "%s: exit code %d after %.1f s, %zu bytes of output: %s", job->command, run.exit_code,
           seconds, run.out_size, run.err);
    EXPECT(strstr(run.err, " rank 2 on ") != NULL && strstr(run.err, expected) != NULL,
           "%s: expected rank 2 and '%s' in: %s", job->command, expected, run.err);
    printf("%s, %s: ended after %.2f s with %d\n", job->command, expected, seconds, run.exit_code);
    program_run_deinit(&run);
}

/* ---- builds ---- */

struct builds {
    char copy[700], other[700]; /* programs: the same, and one with another build id only */
    char own_id[2 * ID_BYTES + 1], other_id[2 * ID_BYTES + 1];
};

static void write_program(const char *path, const char *bytes, size_t size, const unsigned char *id,
                          char *digits) {
    program_write_file(path, bytes, size);
    chmod(path, 0700);
    for (size_t i = 0; i < ID_BYTES; i++)
        snprintf(digits + 2 * i, 3, "%02x", id[i]);
}

static void make_builds(const struct program *scratch, const char *moebius, struct builds *builds) {
    static const char head[] = "\4\0\0\0\24\0\0\0\3\0\0\0GNU"; /* of the note, with its NUL */
    size_t size;
    char *bytes = program_read_file(moebius, &size);
    char *note = memmem(bytes, size, head, sizeof head);
    if (note == NULL) {
        fprintf(stderr, "%s: expected a build id of %d bytes, got none\n", moebius, ID_BYTES);
        exit(1);
    }
    unsigned char *id = (unsigned char *)note + sizeof head;
    program_scratch_path(scratch, "copy", builds->copy, sizeof builds->copy);
    program_scratch_path(scratch, "other", builds->other, sizeof builds->other);
    write_program(builds->copy, bytes, size, id, builds->own_id);
    id[ID_BYTES - 1] ^= 1;
    write_program(builds->other, bytes, size, id, builds->other_id);
    free(bytes);
}

static void check_builds(const struct program *scratch, char **argv) {
    static const char *const commands[][2] = {
        {"generate", "--token-ids=1"}, {"serve", "--port=0"}, {"doctor", "--threads=1"}};
    struct builds builds;
    char expected[300];
    make_builds(scratch, argv[2], &builds);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        struct mixed_job job = {commands[i][0], commands[i][1], builds.other, NULL,
                                NULL,           NULL,           NULL};
        snprintf(expected, sizeof expected, "expected %s as on rank 0 on ", builds.own_id);
        check_refused(argv, &job, expected);
        snprintf(expected, sizeof expected, ", got %s; 1 of 3 ranks run another than rank 0",
                 builds.other_id);
        check_refused(argv, &job, expected);
    }
    struct mixed_job alike = {"doctor", "--threads=1", builds.copy, NULL, NULL, NULL, NULL};
    struct program_run run;
    run_mixed(argv, &alike, &run);
    snprintf(expected, sizeof expected, "build %s by ", builds.own_id);
    EXPECT(run.exit_code == 0 && strstr(run.out, expected) != NULL,
           "a copy: exit code %d, expected '%s' in: %s%s", run.exit_code, expected, run.out,
           run.err);
    program_run_deinit(&run);
    unlink(builds.copy);
    unlink(builds.other);
}

/* ---- models ---- */

/* A copy of one file of FOLDER; `change` says what of it (NULL: nothing). */
static void copy_file(const char *from, const char *to, const char *name,
                      void (*change)(char *bytes, size_t size)) {
    char source[700], target[700];
    size_t size;
    snprintf(source, sizeof source, "%s/%s", from, name);
    snprintf(target, sizeof target, "%s/%s", to, name);
    char *bytes = program_read_file(source, &size);
    if (change != NULL)
        change(bytes, size);
    program_write_file(target, bytes, size);
    free(bytes);
}

static void change_weights(char *bytes, size_t size) {
    memset(bytes + size / 2, 0, size / 2);
}

static void change_config(char *bytes, size_t size) {
    char *epsilon = memmem(bytes, size, "1e-06", 5);
    EXPECT(epsilon != NULL, "config.json: expected an epsilon of 1e-06");
    if (epsilon != NULL)
        epsilon[4] = '5';
}

static void change_ends(char *bytes, size_t size) {
    char *end = memmem(bytes, size, "4095", 4);
    EXPECT(end != NULL, "generation_config.json: expected the end token 4095");
    if (end != NULL)
        end[3] = '4';
}

/* What becomes of each file of a model; NULL: nothing. */
struct model_change {
    void (*config)(char *bytes, size_t size);
    void (*ends)(char *bytes, size_t size);
    void (*weights)(char *bytes, size_t size);
};

static void check_model(const struct program *scratch, char **argv,
                        const struct model_change *change) {
    char folder[600], path[700];
    program_scratch_path(scratch, "model", folder, sizeof folder);
    mkdir(folder, 0700);
    copy_file(argv[3], folder, "config.json", change->config);
    copy_file(argv[3], folder, "generation_config.json", change->ends);
    copy_file(argv[3], folder, "model.safetensors", change->weights);
    struct mixed_job job = {"generate", "--token-ids=1", argv[2], NULL, folder, NULL, NULL};
    if (change->config != NULL || change->ends != NULL || change->weights != NULL) {
        check_refused(argv, &job,
                      "--model: expected the config.json, generation_config.json and "
                      "weights of rank 0");
    } else { /* control: a copy is the same model */
        struct program_run run;
        run_mixed(argv, &job, &run);
        EXPECT(run.exit_code == 0, "a copy: exit code %d: %s", run.exit_code, run.err);
        program_run_deinit(&run);
    }
    static const char *const names[] = {"config.json", "generation_config.json",
                                        "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void check_models(const struct program *scratch, char **argv) {
    check_model(scratch, argv, &(struct model_change){NULL, NULL, NULL});
    check_model(scratch, argv, &(struct model_change){.weights = change_weights});
    check_model(scratch, argv, &(struct model_change){.config = change_config});
    check_model(scratch, argv, &(struct model_change){.ends = change_ends});
}

/* An instruction set that only one rank lacks is no difference: all take it, and rank 0 says so. */
static void check_isa(char **argv) {
    struct mixed_job job = {"generate", "--token-ids=1", argv[2], "--cpu-isa=baseline", NULL, NULL,
                            NULL};
    struct program_run run;
    run_mixed(argv, &job, &run);
    EXPECT(run.exit_code == 0 && strstr(run.err, " info start_agreement.c") != NULL &&
               strstr(run.err, "kernels: all ranks use baseline, the best of rank 2 on ") != NULL,
           "one rank with baseline: exit code %d: %s", run.exit_code, run.err);
    program_run_deinit(&run);
    job.more = NULL; /* control */
    run_mixed(argv, &job, &run);
    EXPECT(run.exit_code == 0 && strstr(run.err, "kernels: all ranks") == NULL,
           "ranks alike: exit code %d: %s", run.exit_code, run.err);
    program_run_deinit(&run);
}

/* Ranks that count as nodes of their own share the CPUs of their host as before. */
static void check_pretended_nodes(char **argv) {
    struct program mpirun;
    struct program_run run;
    const char *const arguments[] = {MPIRUN_FLAGS,
                                     "-n",
                                     "3",
                                     argv[2],
                                     "generate",
                                     "--model",
                                     argv[3],
                                     "--token-ids=1",
                                     "--threads",
                                     "256",
                                     "--max-tokens",
                                     "1",
                                     "--ranks-per-node",
                                     "1",
                                     NULL};
    program_init(&mpirun, argv[1]);
    program_run(&mpirun, arguments, NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == 0 && strstr(run.err, "768 threads of 3 ranks share ") != NULL,
           "3 nodes of a host: exit code %d: %s", run.exit_code, run.err);
    program_run_deinit(&run);
    program_deinit(&mpirun);
}

/* What is wrong on all ranks alike is said once, by rank 0. */
static void check_alike(char **argv, const char *flag, enum status expected, const char *named) {
    struct program mpirun;
    struct program_run run;
    const char *const arguments[] = {MPIRUN_FLAGS, "-n",      "3",     argv[2],
                                     "generate",   "--model", argv[3], "--token-ids=1",
                                     flag,         NULL};
    program_init(&mpirun, argv[1]);
    program_run(&mpirun, arguments, NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == status_exit_code(expected) && count_errors(run.err) == 1 &&
               strstr(run.err, " 0@") != NULL && strstr(run.err, named) != NULL,
           "%s: exit code %d, expected %d and one line of rank 0 with '%s': %s", flag,
           run.exit_code, status_exit_code(expected), named, run.err);
    program_run_deinit(&run);
    program_deinit(&mpirun);
}

static void check_refusals(char **argv) {
    check_alike(argv, "--tensor-parallel-size=2", STATUS_USAGE, "the number of ranks");
    check_alike(argv, "--tensor-parallel-size=3", STATUS_USAGE, "heads");
    check_alike(argv, "--max-model-len=99999", STATUS_USAGE, "max_position_embeddings");
    check_alike(argv, "--max-tokens=3000", STATUS_BAD_REQUEST, "max_position_embeddings");
    check_alike(argv, "--expert-placement=tests/data/placement/demo-moe-4-ranks.json",
                STATUS_BAD_CONFIG, "num_ranks");
    check_alike(argv, "--expert-placement=nowhere.json", STATUS_IO, "nowhere.json");
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: test_rank_likeness MPIRUN MOEBIUS FOLDER\n");
        return 2;
    }
    struct program scratch;
    program_init(&scratch, argv[2]);
    check_builds(&scratch, argv);
    struct mixed_job flags = {"generate", "--token-ids=1", argv[2], "--moe-flow=a2a", NULL, NULL,
                              NULL};
    check_refused(argv, &flags, "moe-flow: expected \"auto\" as on rank 0, got \"a2a\"");
    struct mixed_job commands = {.command = "generate",
                                 .flag = "--token-ids=1",
                                 .other = argv[2],
                                 .other_command = "doctor",
                                 .other_flag = "--threads=1"};
    check_refused(argv, &commands, ": command: expected generate as on rank 0 on ");
    check_refused(argv, &commands, ", got doctor; 1 of 3 ranks run another than rank 0");
    check_models(&scratch, argv);
    check_refusals(argv);
    check_isa(argv);
    check_pretended_nodes(argv);
    program_deinit(&scratch);
    return expect_failures == 0 ? 0 : 1;
}
