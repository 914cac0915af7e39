/* The server that bench startup measures. */
#define _GNU_SOURCE /* pipe2 */
#include "launcher/bench_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/log.h"

#define READY "ready: gRPC at "
#define NS_PER_MS INT64_C(1000000)
#define STOP_NS (10000 * NS_PER_MS)

/* In the child, until it is another program: async-signal-safe calls only. */
static void become(char *const *arguments, int out) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(out, STDOUT_FILENO) >= 0)
        execv("/proc/self/exe", arguments);
    _exit(127);
}

enum status bench_child_start(char *const *arguments, struct bench_child *child) {
    int ends[2];
    *child = (struct bench_child){.out = -1};
    if (pipe2(ends, O_CLOEXEC) != 0) {
        LOG_ERROR("bench: cannot make a pipe: %s", strerror(errno));
        return STATUS_IO;
    }
    child->start_ns = clock_now_ns();
    pid_t pid = fork();
    if (pid == 0)
        become(arguments, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        LOG_ERROR("bench: cannot start a process: %s", strerror(errno));
        close(ends[0]);
        return STATUS_IO;
    }
    child->pid = pid;
    child->out = ends[0];
    return STATUS_OK;
}

/* One line of its output, or less when it ends first. */
static enum status read_line(const struct bench_child *child, int64_t deadline_ns, char *line,
                             size_t size) {
    size_t length = 0;
    line[0] = '\0';
    while (length + 1 < size && strchr(line, '\n') == NULL) {
        int64_t left_ms = (deadline_ns - clock_now_ns()) / NS_PER_MS;
        struct pollfd poller = {.fd = child->out, .events = POLLIN};
        int ready = left_ms > 0 ? poll(&poller, 1, (int)(left_ms < 1000 ? left_ms : 1000)) : -1;
        if (left_ms <= 0) {
            LOG_ERROR("bench: expected the server to be ready in time, got no line from it");
            return STATUS_DEADLINE;
        }
        ssize_t count = ready > 0 ? read(child->out, line + length, size - 1 - length) : 0;
        if (ready > 0 && count <= 0)
            return STATUS_OK;
        length += (size_t)count;
        line[length] = '\0';
    }
    return STATUS_OK;
}

enum status bench_child_await(struct bench_child *child, int64_t deadline_ns) {
    char line[512];
    RETURN_IF_ERROR(read_line(child, deadline_ns, line, sizeof line));
    size_t length =
        strncmp(line, READY, strlen(READY)) == 0 ? strcspn(line + strlen(READY), " ,\n") : 0;
    if (length > 0 && length < sizeof child->address) {
        memcpy(child->address, line + strlen(READY), length);
        child->address[length] = '\0';
        return STATUS_OK;
    }
    line[strcspn(line, "\n")] = '\0';
    LOG_ERROR("bench: expected a line '" READY "ADDRESS, ...' from the server, got '%.80s'", line);
    return STATUS_UNAVAILABLE;
}

enum status bench_child_stop(struct bench_child *child) {
    if (child->pid == 0)
        return STATUS_OK;
    int code = 0;
    int64_t deadline_ns = clock_now_ns() + STOP_NS;
    kill(child->pid, SIGTERM);
    pid_t ended;
    while ((ended = waitpid(child->pid, &code, WNOHANG)) == 0 && clock_now_ns() < deadline_ns)
        usleep(2000);
    if (ended == 0) {
        kill(child->pid, SIGKILL);
        waitpid(child->pid, &code, 0);
    }
    close(child->out);
    child->pid = 0;
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0)
        return STATUS_OK;
    if (child->address[0] == '\0')
        return STATUS_UNAVAILABLE; /* it was never ready, and that has been said */
    LOG_ERROR("bench: expected the server to end with exit code 0, got %s %d",
              WIFEXITED(code) ? "exit code" : "signal",
              WIFEXITED(code) ? WEXITSTATUS(code) : WTERMSIG(code));
    return STATUS_UNAVAILABLE;
}
