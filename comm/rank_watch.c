/* Reads /proc: a rank is a process whose environment names this job. */
#define _GNU_SOURCE
#include "comm/rank_watch.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/transport.h"
#include "comm/watch_thread.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

#define MS INT64_C(1000000)
#define OTHERS_MS 2000 /* how long those wait that are not to speak first */

/* One process of this job on this host. */
struct neighbour {
    int32_t rank, process;
    bool is_stopped;
    char program[20];
};

struct rank_watch {
    struct rank_watch_options options;
    char job[160]; /* "PMIX_NAMESPACE=..." */
    int32_t rank;
    char host[64], program[20];
    struct watch_thread thread;
    bool is_started;
    struct life_signs *signs;
    int64_t stopped_since[TRANSPORT_RANKS_MAX]; /* 0: not */
    struct neighbour neighbours[TRANSPORT_RANKS_MAX];
    int32_t neighbour_count;
    bool took_part[TRANSPORT_RANKS_MAX]; /* by rank: when last seen; one that is gone has spoken */
    char text[1 << 17]; /* a process's environment; of a longer one, its beginning */
};

/* ---- processes ---- */

/* Up to size - 1 bytes of /proc/PROCESS/NAME, with a NUL behind them. */
static size_t read_proc(const char *process, const char *name, char *text, size_t size) {
    char path[300];
    snprintf(path, sizeof path, "/proc/%s/%s", process, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t more = 0;
    while (file >= 0 && length < size - 1 &&
           (more = read(file, text + length, size - 1 - length)) > 0)
        length += (size_t)more;
    if (file >= 0)
        close(file);
    text[length] = '\0';
    return length;
}

/* The value behind "NAME=" among NUL-terminated variables. */
static const char *find_variable(const char *environment, size_t length, const char *start) {
    size_t wanted = strlen(start);
    for (const char *at = environment; at < environment + length; at += strlen(at) + 1)
        if (strncmp(at, start, wanted) == 0)
            return at + wanted;
    return NULL;
}

static bool is_of_job(const struct rank_watch *watch, size_t length) {
    const char *rest = find_variable(watch->text, length, watch->job);
    return rest != NULL && *rest == '\0';
}

static void read_program(const char *process, char program[20]) {
    size_t length = read_proc(process, "comm", program, 20);
    if (length > 0 && program[length - 1] == '\n')
        program[length - 1] = '\0';
}

/* 'R', 'S', 'D', 'T', ... */
static char read_state(const char *process) {
    char text[512];
    read_proc(process, "stat", text, sizeof text);
    const char *name_end = strrchr(text, ')'); /* a name may hold anything */
    return name_end != NULL && name_end[1] == ' ' ? name_end[2] : '?';
}

/* Looks at one process; adds it if it is another rank of this job. */
static void look_at(struct rank_watch *watch, const char *process) {
    size_t length = read_proc(process, "environ", watch->text, sizeof watch->text);
    const char *rank = find_variable(watch->text, length, "PMIX_RANK=");
    if (rank == NULL || !is_of_job(watch, length))
        return;
    struct neighbour found = {.rank = (int32_t)strtol(rank, NULL, 10),
                              .process = (int32_t)strtol(process, NULL, 10),
                              .is_stopped = read_state(process) == 'T'};
    if (found.rank < 0 || found.rank >= TRANSPORT_RANKS_MAX || found.rank == watch->rank ||
        watch->neighbour_count == TRANSPORT_RANKS_MAX)
        return;
    read_program(process, found.program);
    watch->neighbours[watch->neighbour_count++] = found;
}

static bool takes_part(const struct rank_watch *watch, const struct neighbour *neighbour) {
    return !neighbour->is_stopped && strcmp(neighbour->program, watch->program) == 0;
}

/* A wrapper's process has the rank of the program that it started. */
static bool rank_takes_part(const struct rank_watch *watch, int32_t rank) {
    for (int32_t i = 0; i < watch->neighbour_count; i++)
        if (watch->neighbours[i].rank == rank && takes_part(watch, &watch->neighbours[i]))
            return true;
    return false;
}

static void look_around(struct rank_watch *watch) {
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    watch->neighbour_count = 0;
    while (processes != NULL && (entry = readdir(processes)) != NULL)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            look_at(watch, entry->d_name);
    if (processes != NULL)
        closedir(processes);
    for (int32_t i = 0; i < watch->neighbour_count; i++)
        watch->took_part[watch->neighbours[i].rank] =
            rank_takes_part(watch, watch->neighbours[i].rank);
}

/* ---- the end ---- */

static const char *host_of(const struct rank_watch *watch, int32_t rank) {
    return watch->options.host_of != NULL ? watch->options.host_of[rank] : watch->host;
}

/* Whether no rank of this host that takes part comes before this one. */
static bool is_speaker(const struct rank_watch *watch) {
    for (int32_t rank = 0; rank < watch->rank; rank++)
        if (watch->took_part[rank])
            return false;
    return true;
}

/* Returns when the phase has come to its end after all. */
static void end_process(struct rank_watch *watch, const char *text, int64_t patience_ms) {
    if (patience_ms > 0 && !watch_thread_sleep(&watch->thread, patience_ms))
        return;
    LOG_ERROR("%s", text);
    _exit(status_exit_code(STATUS_PEER));
}

static void blame(struct rank_watch *watch, const struct neighbour *stopped) {
    char text[256];
    snprintf(text, sizeof text,
             "no answer within %d ms from rank %d on %s: %s; its process %d is "
             "stopped",
             watch->options.timeout_ms, stopped->rank, host_of(watch, stopped->rank),
             watch->options.phase, stopped->process);
    end_process(watch, text, is_speaker(watch) ? 0 : OTHERS_MS);
}

/* Who can name somebody speaks at once; else the coordinator, as the first of all hosts. */
static void blame_nobody(struct rank_watch *watch) {
    char text[512];
    int used = snprintf(text, sizeof text, "%s: expected all ranks within %d s, got fewer",
                        watch->options.phase, watch->options.deadline_ms / 1000);
    bool is_named = false;
    for (int32_t i = 0; i < watch->neighbour_count && used < 400; i++) {
        const struct neighbour *neighbour = &watch->neighbours[i];
        if (rank_takes_part(watch, neighbour->rank))
            continue;
        used += snprintf(text + used, sizeof text - (size_t)used, "%s rank %d on %s %s %s",
                         is_named ? "," : ":", neighbour->rank, host_of(watch, neighbour->rank),
                         neighbour->is_stopped ? "is stopped in" : "runs", neighbour->program);
        is_named = true;
    }
    bool is_first = is_named ? is_speaker(watch) : watch->rank == 0;
    end_process(watch, text, is_first ? is_named ? 0 : OTHERS_MS / 2 : OTHERS_MS);
}

/* ---- the thread ---- */

/* Ends the process if a neighbour has been seen stopped for the whole timeout. */
static void judge(struct rank_watch *watch, int64_t now) {
    for (int32_t i = 0; i < watch->neighbour_count; i++) {
        const struct neighbour *neighbour = &watch->neighbours[i];
        int64_t *since = &watch->stopped_since[neighbour->rank];
        if (!neighbour->is_stopped)
            *since = 0;
        else if (*since == 0)
            *since = now;
        else if (now - *since >= watch->options.timeout_ms * MS)
            blame(watch, neighbour);
    }
}

static void *run(void *context) {
    struct rank_watch *watch = context;
    int64_t start = clock_now_ns(), looked = start, tick_ms = watch->options.timeout_ms / 4 + 1;
    while (watch_thread_sleep(&watch->thread, tick_ms)) {
        int64_t now = clock_now_ns();
        if (now - looked > 2 * tick_ms * MS) /* was stopped itself, perhaps with all others */
            memset(watch->stopped_since, 0, sizeof watch->stopped_since);
        looked = now;
        look_around(watch);
        judge(watch, now);
        if (watch->options.deadline_ms > 0 && now - start > watch->options.deadline_ms * MS)
            blame_nobody(watch);
    }
    return NULL;
}

/* What this process was started with says which job it is of. */
static bool find_own_job(struct rank_watch *watch) {
    size_t length = read_proc("self", "environ", watch->text, sizeof watch->text);
    const char *job = find_variable(watch->text, length, "PMIX_NAMESPACE=");
    const char *rank = find_variable(watch->text, length, "PMIX_RANK=");
    if (job == NULL || rank == NULL)
        return false;
    watch->rank = (int32_t)strtol(rank, NULL, 10);
    snprintf(watch->job, sizeof watch->job, "PMIX_NAMESPACE=%s", job);
    return true;
}

struct rank_watch *rank_watch_begin(const struct rank_watch_options *options) {
    struct rank_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return NULL;
    watch->options = *options;
    gethostname(watch->host, sizeof watch->host - 1);
    read_program("self", watch->program);
    watch->is_started = find_own_job(watch) && watch_thread_start(&watch->thread, run, watch);
    if (options->signs != NULL)
        watch->signs = life_signs_begin(options->signs);
    return watch;
}

void rank_watch_end(struct rank_watch *watch) {
    if (watch == NULL)
        return;
    life_signs_end(watch->signs);
    if (watch->is_started)
        watch_thread_end(&watch->thread);
    free(watch);
}
