/* A rank that dies or stops while ranks join, load, generate, idle or end, or that cannot start:
 * the whole job ends within seconds, with a distinct exit code, and the one line that counts names
 * the rank, its host and where that was. A job that is suspended as a whole goes on. Usage:
 * test_rank_faults MPIRUN MOEBIUS FOLDER TEST_IDLE */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/traffic.h"
#include "kernels/base/clock.h"
#include "kernels/base/status.h"
#include "tests/support/expect.h"
#include "tests/support/model_variant.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"
#include "tests/support/rank_job.h"

#define RANKS "4"
#define MEMORY_KIB "300000" /* MPI starts with it; the messages of 16384 rows do not fit */
#define TIMEOUT_S "2"
#define JOB_SECONDS_MAX 20.0 /* a machine under load; the deadline itself is 2 s */

/* A long generation on four ranks. */
static struct rank_job start_generation(const struct program *scratch, char **argv,
                                        const char *name) {
    const char *const arguments[] = {
        argv[1],          MPIRUN_FLAGS, "-n",           RANKS,       argv[2],
        "generate",       "--model",    argv[3],        "--threads", "1",
        "--token-ids",    "1 2 3",      "--max-tokens", "2000",      "--ignore-eos",
        "--comm-timeout", TIMEOUT_S,    "--json",       NULL};
    return rank_job_start(scratch, arguments, name);
}

/* Four ranks with nothing to do. */
static struct rank_job start_idle(const struct program *scratch, char **argv, const char *name) {
    const char *const arguments[] = {argv[1],   MPIRUN_FLAGS,    "-n", RANKS, argv[4],
                                     "forever", TIMEOUT_S "000", NULL};
    return rank_job_start(scratch, arguments, name);
}

/* A rank that stops before it becomes the program. */
static struct rank_job start_unborn(const struct program *scratch, char **argv, const char *name) {
    char command[1500];
    snprintf(command, sizeof command,
             "kill -STOP $$; exec '%s' generate --token-ids '1 2' --model '%s'", argv[2], argv[3]);
    const char *const arguments[] = {argv[1],
                                     MPIRUN_FLAGS,
                                     "-n",
                                     "2",
                                     argv[2],
                                     "generate",
                                     "--token-ids",
                                     "1 2",
                                     "--model",
                                     argv[3],
                                     "--comm-timeout",
                                     TIMEOUT_S,
                                     ":",
                                     "-n",
                                     "1",
                                     "sh",
                                     "-c",
                                     command,
                                     NULL};
    return rank_job_start(scratch, arguments, name);
}

/* A program that knows nothing of MPI in a rank's place. */
static struct rank_job start_absent(const struct program *scratch, char **argv, const char *name) {
    const char *const arguments[] = {argv[1],          MPIRUN_FLAGS,  "-n",  "2",       argv[2],
                                     "generate",       "--token-ids", "1 2", "--model", argv[3],
                                     "--comm-timeout", TIMEOUT_S,     ":",   "-n",      "1",
                                     "sleep",          "300",         NULL};
    return rank_job_start(scratch, arguments, name);
}

/* Weights that take seconds to make up. */
static struct rank_job start_loading(const struct program *scratch, char **argv, const char *name) {
    char folder[600];
    const struct model_variant large = {.name = name,
                                        .base = "tests/data/shapes/s",
                                        .file = "config.json",
                                        .change = VARIANT_REPLACE,
                                        .find = "\"num_hidden_layers\": 8",
                                        .with = "\"num_hidden_layers\": 48"};
    model_variant_make(&large, scratch->folder);
    program_scratch_path(scratch, name, folder, sizeof folder);
    const char *const arguments[] = {
        argv[1],          MPIRUN_FLAGS, "-n", RANKS,           argv[2], "generate",    "--model",
        folder,           "--threads",  "1",  "--load-format", "dummy", "--token-ids", "1 2",
        "--comm-timeout", TIMEOUT_S,    NULL};
    return rank_job_start(scratch, arguments, "loading.err");
}

/* A generation whose coordinator cannot get rid of its output, while the others have ended. */
static struct rank_job start_ending(const struct program *scratch, char **argv, const char *name) {
    char pipe_path[600], command[2200];
    snprintf(command, sizeof command, "%s.pipe", name);
    program_scratch_path(scratch, command, pipe_path, sizeof pipe_path);
    int output = mkfifo(pipe_path, 0600) == 0 ? open(pipe_path, O_RDONLY | O_NONBLOCK) : -1;
    if (output < 0 || fcntl(output, F_SETPIPE_SZ, 4096) < 0)
        exit(1);
    snprintf(command, sizeof command,
             "exec '%s' generate --model '%s' --threads 1 --token-ids '1 2 3' --max-tokens 300 "
             "--logprobs 5 "
             "--ignore-eos --comm-timeout " TIMEOUT_S " --json >'%s'",
             argv[2], argv[3], pipe_path);
    const char *const arguments[] = {argv[1], MPIRUN_FLAGS, "-n", "3", "sh", "-c", command, NULL};
    struct rank_job job = rank_job_start(scratch, arguments, name);
    job.output = output;
    return job;
}

/* When the victim is hit. */
enum moment {
    AT_START, /* it does it itself */
    IN_LOADING,
    IN_STEPS,
    AT_END
};

static bool has_come(const struct rank_job *job, enum moment moment) {
    struct pollfd output = {.fd = job->output, .events = POLLIN};
    return moment == AT_START     ? true
           : moment == IN_LOADING ? rank_job_file_holds(job->err, "memory plan", 11)
           : moment == IN_STEPS   ? rank_job_file_holds(job->err, "ready in", 8)
                                  : poll(&output, 1, 0) == 1;
}

/* Waits for the moment; inside the steps a little more. Returns the victim, or -1. */
static pid_t wait_for_moment(const struct rank_job *job, enum moment moment, int victim) {
    for (int i = 0; i < 3000; i++) {
        if (has_come(job, moment)) {
            rank_job_pause_ms(moment == IN_STEPS ? 100 : 0);
            return rank_job_find(job->mpirun, victim);
        }
        rank_job_pause_ms(10);
    }
    return -1;
}

/* What is done to which rank, and what has to come of it. */
struct fault {
    const char *name;
    struct rank_job (*start)(const struct program *scratch, char **argv, const char *name);
    enum moment moment;
    int victim, signal_number, exit_code;
    const char *named, *place; /* before and behind the host */
    const char *kind;          /* of message, behind a step and a layer; "any"; NULL: no step */
};

/* "N, layer L, KIND": what was waited for. */
static bool tells_step(const char *text, const char *kind) {
    static const char layer_mark[] = ", layer ";
    char *end;
    long long step = strtoll(text, &end, 10);
    if (end == text || step < 0 || strncmp(end, layer_mark, sizeof layer_mark - 1) != 0)
        return false;
    text = end + sizeof layer_mark - 1;
    long layer = strtol(text, &end, 10);
    if (end == text || layer < -1 || layer > 100 || strncmp(end, ", ", 2) != 0)
        return false;
    for (int i = 0; i < TRAFFIC_KIND_COUNT; i++) {
        const char *name = traffic_kind_name((enum traffic_kind)i);
        if ((strcmp(kind, "any") == 0 || strcmp(kind, name) == 0) &&
            strncmp(end + 2, name, strlen(name)) == 0 && end[2 + strlen(name)] == '\n')
            return true;
    }
    return false;
}

static void check_end(const struct rank_job *job, const struct fault *fault, double seconds_max) {
    double seconds;
    char expected[300], host[64] = "";
    int code = rank_job_wait(job->mpirun, seconds_max, &seconds);
    char *err = program_read_file(job->err, &(size_t){0});
    gethostname(host, sizeof host - 1);
    snprintf(expected, sizeof expected, "%s%s%s", fault->named, fault->place != NULL ? host : "",
             fault->place != NULL ? fault->place : "");
    const char *line = strstr(err, expected);
    EXPECT(code == fault->exit_code, "%s: exit code %d, expected %d: %s", fault->name, code,
           fault->exit_code, err);
    EXPECT(line != NULL, "%s: expected '%s' in: %s", fault->name, expected, err);
    EXPECT(line == NULL || fault->kind != NULL || strstr(line + 1, expected) == NULL,
           "%s: expected one line, got: %s", fault->name, err);
    EXPECT(line == NULL || fault->kind == NULL || tells_step(line + strlen(expected), fault->kind),
           "%s: expected step, layer and %s in: %s", fault->name, fault->kind, err);
    printf("%s: ended after %.2f s with %d\n", fault->name, seconds, code);
    free(err);
    if (job->output >= 0)
        close(job->output);
}

static void check_fault(const struct program *scratch, char **argv, const struct fault *fault) {
    struct rank_job job = fault->start(scratch, argv, fault->name);
    pid_t victim = wait_for_moment(&job, fault->moment, fault->victim);
    EXPECT(victim > 0 || fault->moment == AT_START, "%s: rank %d was not found", fault->name,
           fault->victim);
    if (victim > 0 && fault->moment != AT_START)
        kill(victim, fault->signal_number);
    check_end(&job, fault, JOB_SECONDS_MAX);
}

#define NO_ANSWER "no answer within " TIMEOUT_S "000 ms from rank "

static void check_faults(const struct program *scratch, char **argv) {
    static const struct fault faults[] = {
        {"stopped before it joins", start_unborn, AT_START, 2, 0, 12, NO_ANSWER "2 on ",
         ": MPI_Init; its process ", NULL},
        {"stopped in loading", start_loading, IN_LOADING, 2, SIGSTOP, 12, NO_ANSWER "2 on ",
         ": loading; its process ", NULL},
        {"coordinator stopped in loading", start_loading, IN_LOADING, 0, SIGSTOP, 12,
         NO_ANSWER "0 on ", ": loading; its process ", NULL},
        /* Only our own deadline sees it. */
        {"stopped", start_generation, IN_STEPS, 2, SIGSTOP, 12, NO_ANSWER "2 on ", ": step ",
         "any"},
        /* Killed: mpirun sees it first and names it. */
        {"killed", start_generation, IN_STEPS, 2, SIGKILL, 128 + SIGKILL, "process rank 2 ", NULL,
         NULL},
        {"idle, stopped", start_idle, IN_STEPS, 2, SIGSTOP, 12, NO_ANSWER "2 on ", ": step ",
         "any"},
        /* The others hear nothing of the coordinator, nor of what it may be waiting for. */
        {"idle, coordinator stopped", start_idle, IN_STEPS, 0, SIGSTOP, 12,
         "no answer within 4000 ms from rank 0 on ", ": step ", "plan"},
        {"stopped at the end", start_ending, AT_END, 2, SIGSTOP, 12, NO_ANSWER "2 on ",
         ": the end of the job; its process ", NULL},
        {"coordinator stopped at the end", start_ending, AT_END, 0, SIGSTOP, 12, NO_ANSWER "0 on ",
         ": the end of the job; its process ", NULL},
    };
    static const struct fault absent = {
        "absent",
        start_absent,
        AT_START,
        2,
        0,
        12,
        "MPI_Init: expected all ranks within 60 s, got fewer: rank 2 on ",
        " runs sleep",
        NULL};
    struct rank_job waiting = start_absent(scratch, argv, absent.name);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        check_fault(scratch, argv, &faults[i]);
    check_end(&waiting, &absent, 60.0 + JOB_SECONDS_MAX);
}

/* ---- starts that fail on one rank ---- */

/* `program` with these arguments has to end in time, with this code and this in its log, and
 * without any output. */
static void check_start(const char *path, const char *const *arguments, const char *name,
                        enum status expected, const char *named, const char *also_named) {
    struct program program;
    struct program_run run;
    program_init(&program, path);
    int64_t start = clock_now_ns();
    program_run(&program, arguments, NULL, PROGRAM_KEPT, &run);
    double seconds = (double)(clock_now_ns() - start) * 1e-9;
    EXPECT(run.exit_code == status_exit_code(expected) && run.out_size == 0 &&
               seconds < JOB_SECONDS_MAX,
           "%s: exit code %d after %.1f s, %zu bytes of output: %s", name, run.exit_code, seconds,
           run.out_size, run.err);
    EXPECT(strstr(run.err, named) != NULL && strstr(run.err, also_named) != NULL,
           "%s: expected '%s' and '%s' in: %s", name, named, also_named, run.err);
    printf("%s: ended after %.2f s with %d\n", name, seconds, run.exit_code);
    program_run_deinit(&run);
    program_deinit(&program);
}

/* How a rank's error lines say where they are from. */
static const char *place_of(int rank) {
    static char text[96];
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    snprintf(text, sizeof text, " %d@%s error ", rank, host);
    return text;
}

#define GENERATE "generate", "--token-ids", "1 2", "--log-level", "error", "--model"

/* Rank 2's copy of the checkpoint is a byte short. */
static void check_unreadable(const struct program *scratch, char **argv) {
    static const char *const files[] = {"config.json", "model.safetensors"};
    char folder[700], from[1000], to[1000];
    program_scratch_path(scratch, "short", folder, sizeof folder);
    mkdir(folder, 0700);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        size_t size;
        snprintf(from, sizeof from, "%s/%s", argv[3], files[i]);
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        char *bytes = program_read_file(from, &size);
        program_write_file(to, bytes, size - i);
        free(bytes);
    }
    const char *const arguments[] = {
        MPIRUN_FLAGS, "-n",   "2", argv[2], GENERATE, argv[3], ":",      "-n",    "1", argv[2],
        GENERATE,     folder, ":", "-n",    "1",      argv[2], GENERATE, argv[3], NULL};
    check_start(argv[1], arguments, "unreadable shard", STATUS_BAD_CHECKPOINT, place_of(2), to);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        unlink(to);
    }
    rmdir(folder);
}

/* A folder that is not there on rank 1: found before MPI has started. */
static void check_not_mounted(char **argv) {
    const char *const arguments[] = {MPIRUN_FLAGS, "-n",       "1",  argv[2], GENERATE,
                                     argv[3],      ":",        "-n", "1",     argv[2],
                                     GENERATE,     "/nowhere", NULL};
    check_start(argv[1], arguments, "not mounted", STATUS_IO, place_of(1), "'/nowhere'");
}

#ifdef __SANITIZE_ADDRESS__ /* takes terabytes of addresses, so that no limit can be set */
static void check_memory(char **argv) {
    (void)argv;
}
#else
/* Rank 1 may take less memory than the others, and than it needs. */
static void check_memory(char **argv) {
    char command[1500];
    snprintf(command, sizeof command,
             "ulimit -v " MEMORY_KIB " && exec '%s' generate --token-ids '1 2' --log-level error "
             "--max-num-batched-tokens 16384 --model '%s'",
             argv[2], argv[3]);
    const char *const arguments[] = {
        MPIRUN_FLAGS, "-n", "1",  argv[2], GENERATE, argv[3], "--max-num-batched-tokens",
        "16384",      ":",  "-n", "1",     "sh",     "-c",    command,
        NULL};
    check_start(argv[1], arguments, "out of memory", STATUS_NO_MEMORY, place_of(1),
                ": Cannot allocate memory");
}

#endif

static void signal_others(const struct rank_job *job, int but, int signal_number) {
    for (int rank = 0; rank < 4; rank++)
        if (rank != but)
            kill(rank_job_find(job->mpirun, rank), signal_number);
}

/* All ranks stopped for longer than the timeout, as Slurm suspends a job, while they wait for one;
 * nobody is to blame when they go on, though that one goes on last. */
static void check_suspended(const struct program *scratch, char **argv) {
    struct rank_job job = start_generation(scratch, argv, "suspended");
    pid_t last = wait_for_moment(&job, IN_STEPS, 2);
    double seconds;
    EXPECT(last > 0, "suspended: rank 2 was not found");
    if (last > 0) {
        kill(last, SIGSTOP);
        rank_job_pause_ms(200);
        signal_others(&job, 2, SIGSTOP);
        rank_job_pause_ms(3000);
        signal_others(&job, 2, SIGCONT);
        rank_job_pause_ms(100);
        kill(last, SIGCONT);
    }
    int code = rank_job_wait(job.mpirun, 3 * JOB_SECONDS_MAX, &seconds);
    char *err = program_read_file(job.err, &(size_t){0});
    EXPECT(code == 0, "suspended: exit code %d: %s", code, err);
    free(err);
}

/* The environment of an mpirun that is not there. */
static void check_no_launcher(char **argv) {
    const char *const arguments[] = {SANITIZED_ENVIRONMENT "OMPI_COMM_WORLD_SIZE=4",
                                     "OMPI_COMM_WORLD_RANK=2",
                                     argv[2],
                                     GENERATE,
                                     argv[3],
                                     NULL};
    check_start("/usr/bin/env", arguments, "half a launcher", STATUS_PEER,
                "the launcher started 4, MPI knows of 1", "srun --mpi=pmix");
    check_start("/usr/bin/env", arguments, "half a launcher, third of four", STATUS_PEER,
                place_of(2), "srun --mpi=pmix");
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: test_rank_faults MPIRUN MOEBIUS FOLDER TEST_IDLE\n");
        return 2;
    }
    struct program scratch;
    program_init(&scratch, argv[2]);
    check_faults(&scratch, argv);
    check_suspended(&scratch, argv);
    check_unreadable(&scratch, argv);
    check_not_mounted(argv);
    program_deinit(&scratch);
    check_memory(argv);
    check_no_launcher(argv);
    return expect_failures == 0 ? 0 : 1;
}
