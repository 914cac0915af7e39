/* Support of the tests in which ranks are hit while they run. */
#define _GNU_SOURCE
#include "tests/support/rank_job.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/clock.h"

void rank_job_pause_ms(long milliseconds) {
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

#define ARGUMENTS_MAX 40

struct rank_job rank_job_start(const struct program *scratch, const char *const *arguments,
                               const char *name) {
    struct rank_job job = {.output = -1};
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

bool rank_job_file_holds(const char *path, const char *text, size_t length) {
    char bytes[65536];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    ssize_t size = read(descriptor, bytes, sizeof bytes);
    close(descriptor);
    return size > 0 && memmem(bytes, (size_t)size, text, length) != NULL;
}

pid_t rank_job_find(pid_t parent, int rank) {
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
        if (!rank_job_file_holds(path, parent_mark, (size_t)parent_length))
            continue;
        snprintf(path, sizeof path, "/proc/%ld/environ", process);
        if (rank_job_file_holds(path, mark, (size_t)mark_length)) /* with the NUL behind it */
            found = (pid_t)process;
    }
    closedir(processes);
    return found;
}

int rank_job_wait(pid_t process, double seconds_max, double *seconds) {
    int64_t start = clock_now_ns();
    int status;
    for (;;) {
        pid_t ended = waitpid(process, &status, WNOHANG);
        *seconds = (double)(clock_now_ns() - start) * 1e-9;
        if (ended == process)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (*seconds > seconds_max) {
            kill(process, SIGKILL);
            waitpid(process, &status, 0);
            return -1;
        }
        rank_job_pause_ms(20);
    }
}
