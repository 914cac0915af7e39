/* A server of our own program, started, waited for and ended. */
#ifndef MOEBIUS_LAUNCHER_BENCH_CHILD_H
#define MOEBIUS_LAUNCHER_BENCH_CHILD_H

#include <stdint.h>
#include <sys/types.h>

#include "kernels/base/status.h"

struct bench_child {
    pid_t pid;         /* 0: none */
    int out;           /* its standard output */
    int64_t start_ns;  /* clock_now_ns just before it was started */
    char address[128]; /* where it takes gRPC, once it is ready */
};

/* Runs this program again with arguments[0 ..] (NULL at the end; [0] is the program's name). It is
 * killed when this process ends. STATUS_IO (logged). Local. */
enum status bench_child_start(char *const *arguments, struct bench_child *child);

/* Waits for its ready line until `deadline_ns` (clock_now_ns). STATUS_UNAVAILABLE: it ended, or
 * said something else; STATUS_DEADLINE (logged). Local. */
enum status bench_child_await(struct bench_child *child, int64_t deadline_ns);

/* SIGTERM, SIGKILL after ten seconds; no effect without a child. STATUS_UNAVAILABLE: it did not end
 * well (logged where it had been ready). Local. */
enum status bench_child_stop(struct bench_child *child);

#endif
