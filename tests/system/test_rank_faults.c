/* A rank that dies or stops in the middle of a generation, or while all are idle, or cannot start:
 * the whole job ends within seconds, with a distinct exit code, and the one line that counts names
 * the rank. Usage: test_rank_faults MPIRUN MOEBIUS FOLDER TEST_IDLE */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/status.h"
#include "tests/support/expect.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"

#define RANKS "4"
#define MEMORY_KIB "300000" /* MPI starts with it; the messages of 16384 rows do not fit */
#define TIMEOUT_S "2"
#define JOB_SECONDS_MAX 20.0 /* a machine under load; the deadline itself is 2 s */

struct job {
    pid_t mpirun;
    char err[600]; /* file with standard error */
};

static void pause_ms(long milliseconds) {
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

#define ARGUMENTS_MAX 40

/* mpirun with these arguments, in the background. */
static struct job start_job(const struct program *scratch, const char *const *arguments,
                            const char *name) {
    struct job job;
    program_scratch_path(scratch, name, job.err, sizeof job.err);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, job.err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char *environment[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    char *argv[ARGUMENTS_MAX] = {NULL};
    for (size_t i = 0; i + 1 < ARGUMENTS_MAX && arguments[i] != NULL; i++)
        argv[i] = strdup(arguments[i]);
    if (posix_spawn(&job.mpirun, arguments[0], &actions, NULL, argv, environment) != 0)
        exit(1);
    for (size_t i = 0; argv[i] != NULL; i++)
        free(argv[i]);
    posix_spawn_file_actions_destroy(&actions);
    return job;
}

/* A long generation on four ranks. */
static struct job start_generation(const struct program *scratch, char **argv, const char *name) {
    const char *const arguments[] = {
        argv[1],          MPIRUN_FLAGS, "-n",           RANKS,       argv[2],
        "generate",       "--model",    argv[3],        "--threads", "1",
        "--token-ids",    "1 2 3",      "--max-tokens", "2000",      "--ignore-eos",
        "--comm-timeout", TIMEOUT_S,    "--json",       NULL};
    return start_job(scratch, arguments, name);
}

/* Four ranks with nothing to do. */
static struct job start_idle(const struct program *scratch, char **argv, const char *name) {
    const char *const arguments[] = {argv[1],   MPIRUN_FLAGS,    "-n", RANKS, argv[4],
                                     "forever", TIMEOUT_S "000", NULL};
    return start_job(scratch, arguments, name);
}

static bool file_holds(const char *path, const char *text, size_t length) {
    char bytes[65536];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    ssize_t size = read(descriptor, bytes, sizeof bytes);
    close(descriptor);
    return size > 0 && memmem(bytes, (size_t)size, text, length) != NULL;
}

/* The process of a rank that mpirun `parent` started, or -1. */
static pid_t find_rank(pid_t parent, int rank) {
    char mark[64], parent_mark[64], path[64];
    int mark_length = snprintf(mark, sizeof mark, "OMPI_COMM_WORLD_RANK=%d", rank) + 1;
    int parent_length = snprintf(parent_mark, sizeof parent_mark, "PPid:\t%d\n", (int)parent);
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    pid_t found = -1;
    while (processes != NULL && found < 0 && (entry = readdir(processes)) != NULL) {
        long process = strtol(entry->d_name, NULL, 10);
        if (process <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%ld/status", process);
        if (!file_holds(path, parent_mark, (size_t)parent_length))
            continue;
        snprintf(path, sizeof path, "/proc/%ld/environ", process);
        if (file_holds(path, mark, (size_t)mark_length)) /* with the NUL behind it */
            found = (pid_t)process;
    }
    closedir(processes);
    return found;
}

/* Waits until the coordinator is ready, then a little, so that the victim is hit inside the steps.
 */
static pid_t wait_until_running(const struct job *job, int victim) {
    for (int i = 0; i < 600; i++) {
        if (file_holds(job->err, "ready in", 8)) {
            pause_ms(100);
            return find_rank(job->mpirun, victim);
        }
        pause_ms(50);
    }
    return -1;
}

static int wait_for_end(pid_t process, double *seconds) {
    int64_t start = clock_now_ns();
    int status;
    for (;;) {
        pid_t ended = waitpid(process, &status, WNOHANG);
        *seconds = (double)(clock_now_ns() - start) * 1e-9;
        if (ended == process)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (*seconds > JOB_SECONDS_MAX) {
            kill(process, SIGKILL);
            waitpid(process, &status, 0);
            return -1;
        }
        pause_ms(20);
    }
}

/* What is done to which rank, and what has to come of it. */
struct fault {
    const char *name;
    int victim, signal_number, exit_code;
    const char *named;
};

static void check_fault(struct job job, const struct fault *fault) {
    pid_t victim = wait_until_running(&job, fault->victim);
    EXPECT(victim > 0, "%s: rank %d was not found", fault->name, fault->victim);
    if (victim > 0)
        kill(victim, fault->signal_number);
    double seconds;
    int code = wait_for_end(job.mpirun, &seconds);
    char *err = program_read_file(job.err, &(size_t){0});
    EXPECT(code == fault->exit_code, "%s: exit code %d, expected %d: %s", fault->name, code,
           fault->exit_code, err);
    EXPECT(strstr(err, fault->named) != NULL, "%s: expected '%s' in: %s", fault->name, fault->named,
           err);
    printf("%s: ended after %.2f s with %d\n", fault->name, seconds, code);
    free(err);
}

static void check_faults(const struct program *scratch, char **argv) {
    static const struct fault in_steps[] = {
        /* Stopped: only our own deadline sees it; it names rank, step, layer, kind of message. */
        {"stopped", 2, SIGSTOP, 12, "no answer within " TIMEOUT_S "000 ms from rank 2 on "},
        /* Killed: mpirun sees it first and names it. */
        {"killed", 2, SIGKILL, 128 + SIGKILL, "process rank 2 "},
    };
    static const struct fault idle[] = {
        {"idle, stopped", 2, SIGSTOP, 12, "no answer within " TIMEOUT_S "000 ms from rank 2 on "},
        /* The others hear nothing of the coordinator, nor of what it may be waiting for. */
        {"idle, coordinator stopped", 0, SIGSTOP, 12, "no answer within 4000 ms from rank 0 on "},
    };
    for (size_t i = 0; i < sizeof in_steps / sizeof in_steps[0]; i++)
        check_fault(start_generation(scratch, argv, in_steps[i].name), &in_steps[i]);
    for (size_t i = 0; i < sizeof idle / sizeof idle[0]; i++)
        check_fault(start_idle(scratch, argv, idle[i].name), &idle[i]);
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

/* The environment of an mpirun that is not there. */
static void check_no_launcher(char **argv) {
    const char *const arguments[] = {SANITIZED_ENVIRONMENT "OMPI_COMM_WORLD_SIZE=4", argv[2],
                                     GENERATE, argv[3], NULL};
    check_start("/usr/bin/env", arguments, "half a launcher", STATUS_PEER,
                "the launcher started 4, MPI knows of 1", "srun --mpi=pmix");
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: test_rank_faults MPIRUN MOEBIUS FOLDER TEST_IDLE\n");
        return 2;
    }
    struct program scratch;
    program_init(&scratch, argv[2]);
    check_faults(&scratch, argv);
    check_unreadable(&scratch, argv);
    check_not_mounted(argv);
    program_deinit(&scratch);
    check_memory(argv);
    check_no_launcher(argv);
    return expect_failures == 0 ? 0 : 1;
}
