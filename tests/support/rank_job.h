/* A job of mpirun in the background, and its ranks' processes. What goes wrong in the test itself
 * ends the test with 1. */
#ifndef MOEBIUS_TESTS_SUPPORT_RANK_JOB_H
#define MOEBIUS_TESTS_SUPPORT_RANK_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/support/program.h"

struct rank_job {
    pid_t mpirun;
    char err[600]; /* file with standard error */
    int output;    /* a pipe that the coordinator writes to and nobody reads; -1: none */
};

/* Starts arguments[0] (mpirun) with the others, NULL-terminated, and without output. `name`: of the
 * file for standard error. */
struct rank_job rank_job_start(const struct program *scratch, const char *const *arguments,
                               const char *name);

/* Whether a file's first 64 KiB hold these bytes. */
bool rank_job_file_holds(const char *path, const char *text, size_t length);

/* The process of a rank that mpirun `parent` started, or -1. */
pid_t rank_job_find(pid_t parent, int rank);

/* The exit code (128 + the number of a signal) and how long it took to come; after seconds_max
 * mpirun is killed, and -1. */
int rank_job_wait(pid_t process, double seconds_max, double *seconds);

void rank_job_pause_ms(long milliseconds);

#endif
