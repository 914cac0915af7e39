/* A thread of its own, that touches nothing but the socket: reading /proc as rank_watch.c does may
 * hang when another process hangs. */
#define _GNU_SOURCE
#include "comm/life_signs.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/watch_thread.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

#define MS INT64_C(1000000)
#define SIGNS_A_TIMEOUT 4
#define LOOKS_A_SIGN 4  /* or more; none between two signs: was stopped itself */
#define LOOK_MS 100     /* between looks at the socket, at most: it holds some hundred datagrams */
#define LOOK_MOST 16384 /* datagrams a look */
#define FAREWELLS 3     /* any of them may be lost */
#define NEARER_MS 2000  /* how much longer those wait that are not the nearest */

struct life_signs {
    struct life_signs_options options;
    struct watch_thread thread;
    int64_t *heard_ns; /* [size] */
    bool *has_left;    /* [size] */
};

static void tell_all(const struct life_signs *signs, enum doorbell_word word) {
    for (int32_t peer = 0; peer < signs->options.size; peer++)
        doorbell_tell(signs->options.doorbell, peer, word);
}

/* As if all had been heard just now. */
static void forget_silence(struct life_signs *signs, int64_t now) {
    for (int32_t peer = 0; peer < signs->options.size; peer++)
        signs->heard_ns[peer] = now;
}

/* Time in which this rank was stopped itself, perhaps with all others, is nobody's silence. */
static void leave_out(struct life_signs *signs, int64_t gap_ns, int64_t now) {
    for (int32_t peer = 0; peer < signs->options.size; peer++) {
        int64_t heard_ns = signs->heard_ns[peer] + gap_ns;
        signs->heard_ns[peer] = heard_ns < now ? heard_ns : now;
    }
}

/* Among foreign datagrams signs may get lost, so then nobody is silent. */
static void listen_for_signs(struct life_signs *signs, int64_t now) {
    enum doorbell_word word;
    int32_t peer;
    for (int i = 0; i < LOOK_MOST && doorbell_hear(signs->options.doorbell, &peer, &word); i++) {
        signs->heard_ns[peer] = now;
        signs->has_left[peer] |= word == DOORBELL_LEAVING;
    }
    if (doorbell_is_disturbed(signs->options.doorbell))
        forget_silence(signs, now);
}

static bool is_silent(const struct life_signs *signs, int32_t peer, int64_t now, int64_t ms) {
    return doorbell_hears(signs->options.doorbell, peer) && !signs->has_left[peer] &&
           now - signs->heard_ns[peer] >= ms * MS;
}

/* Whether another rank of its host is there to look at its process (rank_watch.h), or, of a silent
 * rank 0, another rank than this one is to speak first. */
static bool is_nearer_known(const struct life_signs *signs, int32_t silent, int64_t now) {
    const struct life_signs_options *options = &signs->options;
    if (silent == 0 && options->rank > 1)
        return true;
    for (int32_t rank = 0; rank < options->size; rank++)
        if (rank != silent && strcmp(options->host_of[rank], options->host_of[silent]) == 0 &&
            !is_silent(signs, rank, now, options->timeout_ms))
            return true;
    return false;
}

/* Ends the process if a rank has been silent for too long. */
static void judge(const struct life_signs *signs, int64_t now) {
    const struct life_signs_options *options = &signs->options;
    char text[512] = "";
    int used = 0;
    bool is_time = false;
    for (int32_t rank = 0; rank < options->size && used < 400; rank++) {
        if (!is_silent(signs, rank, now, options->timeout_ms))
            continue;
        used += snprintf(text + used, sizeof text - (size_t)used, "%srank %d on %s",
                         used > 0 ? ", " : "", rank, options->host_of[rank]);
        is_time |= is_silent(signs, rank, now, (int64_t)options->timeout_ms + NEARER_MS) ||
                   !is_nearer_known(signs, rank, now);
    }
    if (!is_time)
        return;
    LOG_ERROR("%s gave no sign of life for %d ms while %s", text, options->timeout_ms,
              options->phase);
    _exit(status_exit_code(STATUS_PEER));
}

static void *run(void *context) {
    struct life_signs *signs = context;
    int64_t period_ms = signs->options.timeout_ms / SIGNS_A_TIMEOUT;
    int64_t look_ms = period_ms / LOOKS_A_SIGN < LOOK_MS ? period_ms / LOOKS_A_SIGN : LOOK_MS;
    int64_t looked = clock_now_ns(), given = 0;
    do {
        int64_t now = clock_now_ns();
        if (given == 0 || now - given >= period_ms * MS) {
            tell_all(signs, DOORBELL_ALIVE);
            given = now;
        }
        listen_for_signs(signs, now);
        if (now - looked > period_ms * MS)
            leave_out(signs, now - looked, now);
        looked = now;
        judge(signs, now);
    } while (watch_thread_sleep(&signs->thread, look_ms));
    return NULL;
}

static void release(struct life_signs *signs) {
    free(signs->heard_ns);
    free(signs->has_left);
    free(signs);
}

struct life_signs *life_signs_begin(const struct life_signs_options *options) {
    struct life_signs *signs = calloc(1, sizeof *signs);
    if (signs == NULL)
        return NULL;
    signs->options = *options;
    signs->heard_ns = calloc((size_t)options->size, sizeof *signs->heard_ns);
    signs->has_left = calloc((size_t)options->size, sizeof *signs->has_left);
    if (signs->heard_ns != NULL && signs->has_left != NULL) {
        int64_t now = clock_now_ns();
        listen_for_signs(signs, now); /* farewells of another phase */
        memset(signs->has_left, 0, (size_t)options->size * sizeof *signs->has_left);
        forget_silence(signs, now);
        if (watch_thread_start(&signs->thread, run, signs))
            return signs;
    }
    release(signs);
    return NULL;
}

void life_signs_end(struct life_signs *signs) {
    if (signs == NULL)
        return;
    watch_thread_end(&signs->thread);
    for (int i = 0; i < FAREWELLS; i++)
        tell_all(signs, DOORBELL_LEAVING);
    release(signs);
}
