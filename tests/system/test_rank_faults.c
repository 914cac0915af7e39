/* A rank that dies or stops in the middle of a generation: the whole job ends within seconds, with
 * a distinct exit code, and the one line that counts names the rank. Usage: test_rank_faults MPIRUN
 * MOEBIUS FOLDER */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/status.h"
#include "tests/support/expect.h"
#include "tests/support/mpirun.h"
#include "tests/support/program.h"

#define RANKS "4"
#define VICTIM 2
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

/* A long generation on four ranks, in the background. */
static struct job start_job(const struct program *scratch, const char *mpirun, const char *moebius,
                            const char *folder, const char *name) {
    struct job job;
    program_scratch_path(scratch, name, job.err, sizeof job.err);
    const char *const arguments[] = {
        mpirun,           MPIRUN_FLAGS, "-n",           RANKS,       moebius,
        "generate",       "--model",    folder,         "--threads", "1",
        "--token-ids",    "1 2 3",      "--max-tokens", "2000",      "--ignore-eos",
        "--comm-timeout", TIMEOUT_S,    "--json",       NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, job.err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char *environment[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    char *argv[sizeof arguments / sizeof arguments[0]];
    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++)
        argv[i] = arguments[i] != NULL ? strdup(arguments[i]) : NULL;
    if (posix_spawn(&job.mpirun, mpirun, &actions, NULL, argv, environment) != 0)
        exit(1);
    for (size_t i = 0; argv[i] != NULL; i++)
        free(argv[i]);
    posix_spawn_file_actions_destroy(&actions);
    return job;
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
static pid_t wait_until_running(const struct job *job) {
    for (int i = 0; i < 600; i++) {
        if (file_holds(job->err, "ready in", 8)) {
            pause_ms(100);
            return find_rank(job->mpirun, VICTIM);
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

static void check_fault(const struct program *scratch, char **argv, int signal_number,
                        const char *name, int exit_code, const char *named) {
    struct job job = start_job(scratch, argv[1], argv[2], argv[3], name);
    pid_t victim = wait_until_running(&job);
    EXPECT(victim > 0, "%s: rank %d was not found", name, VICTIM);
    if (victim > 0)
        kill(victim, signal_number);
    double seconds;
    int code = wait_for_end(job.mpirun, &seconds);
    char *err = program_read_file(job.err, &(size_t){0});
    EXPECT(code == exit_code, "%s: exit code %d, expected %d: %s", name, code, exit_code, err);
    EXPECT(strstr(err, named) != NULL, "%s: expected '%s' in: %s", name, named, err);
    printf("%s: ended after %.2f s with %d\n", name, seconds, code);
    free(err);
}

/* Two ranks that were started with different flags: refused before anything is loaded, and the flag
 * is named. */
static void check_disagreement(char **argv) {
    struct program mpirun;
    struct program_run run;
    program_init(&mpirun, argv[1]);
    const char *const arguments[] = {
        MPIRUN_FLAGS,  "-n",      "1",           argv[2],       "generate",
        "--model",     argv[3],   "--token-ids", "1 2",         "--log-level",
        "error",       ":",       "-n",          "1",           argv[2],
        "generate",    "--model", argv[3],       "--token-ids", "1 2",
        "--log-level", "error",   "--moe-flow",  "a2a",         NULL};
    program_run(&mpirun, arguments, NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == status_exit_code(STATUS_PEER) && run.out_size == 0,
           "other flags: exit code %d, %zu bytes of output", run.exit_code, run.out_size);
    EXPECT(strstr(run.err, "rank 1 on ") != NULL && strstr(run.err, "moe-flow: expected") != NULL,
           "other flags: expected rank 1 and the moe flow in: %s", run.err);
    program_run_deinit(&run);
    program_deinit(&mpirun);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: test_rank_faults MPIRUN MOEBIUS FOLDER\n");
        return 2;
    }
    struct program scratch;
    program_init(&scratch, argv[2]);
    /* Stopped: only our own deadline sees it; it names rank, step, layer and kind of message. */
    check_fault(&scratch, argv, SIGSTOP, "stopped", status_exit_code(STATUS_PEER),
                "no answer within 2000 ms from rank 2 on ");
    /* Killed: mpirun sees it first and names it. */
    check_fault(&scratch, argv, SIGKILL, "killed", 128 + SIGKILL, "process rank 2 ");
    program_deinit(&scratch);
    check_disagreement(argv);
    return expect_failures == 0 ? 0 : 1;
}
