/* Who is next among the waiting requests: by priority, then the client that has had the least
 * service, then who came first. Requests are small numbers (handles).
 *
 * A client has one account per priority: the tokens that it was served (virtual token counter,
 * Sheng et al., OSDI '24). An account whose client comes (again) to wait is lifted to what the last
 * one chosen at that priority had, so that being away saves nothing up; a debt is remembered for
 * as long as there is room for the account. */
#ifndef MOEBIUS_RUNTIME_FAIR_QUEUE_H
#define MOEBIUS_RUNTIME_FAIR_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/index_heap.h"

/* Lines of an account: long prompts have one of their own, so that they can be held back. */
enum fair_queue_line { FAIR_QUEUE_SHORT, FAIR_QUEUE_LONG, FAIR_QUEUE_LINES };

struct fair_queue_item {
    int64_t arrival;        /* order of fair_queue_join */
    int32_t account;        /* -1: not joined */
    int32_t previous, next; /* in its line; -1: end */
    enum fair_queue_line line;
};

struct fair_queue_account {
    uint64_t client;
    int32_t priority;
    int32_t items; /* joined: waiting or running; 0: remembered */
    int64_t served;
    int32_t first[FAIR_QUEUE_LINES], last[FAIR_QUEUE_LINES]; /* -1: nobody waits */
    int32_t chain;                                           /* next of the same bucket, -1: end */
    int32_t previous, next; /* while items == 0, in order of leaving */
};

struct fair_queue_level {
    int32_t priority, accounts;
    int64_t served; /* what the last chosen account had been served when it was chosen */
};

struct fair_queue {
    int32_t capacity, account_capacity, accounts, levels;
    struct fair_queue_item *item;       /* [capacity] */
    struct fair_queue_account *account; /* [account_capacity], the first `accounts` in use */
    struct fair_queue_level *level;     /* [levels], ascending priority */
    int32_t *bucket;                    /* [bucket_mask + 1] accounts */
    int32_t bucket_mask;
    int32_t first_idle, last_idle;            /* remembered accounts, the first left longest ago */
    struct index_heap line[FAIR_QUEUE_LINES]; /* accounts with somebody in that line */
    struct index_heap oldest;                 /* waiting items by arrival */
    int64_t arrivals;
    int32_t passes; /* chosen past the oldest, since it is the oldest */
};

/* For requests 0 .. capacity - 1. The struct must not move afterwards. STATUS_NO_MEMORY (not
 * logged). Local. */
enum status fair_queue_init(struct fair_queue *queue, int32_t capacity);
void fair_queue_deinit(struct fair_queue *queue);

/* A request begins and ends to exist; between them it may wait any number of times. leave takes it
 * out of its line if it waits. Local. */
void fair_queue_join(struct fair_queue *queue, int32_t item, uint64_t client, int32_t priority);
void fair_queue_leave(struct fair_queue *queue, int32_t item);

/* Puts a joined request into a line, at the place that its arrival gives it. Local. */
void fair_queue_push(struct fair_queue *queue, int32_t item, enum fair_queue_line line);

/* The next one: the oldest if `passes` were chosen past it (*overdue is true then), else the best.
 * Long ones only when `long_too`. -1: none. Local. */
int32_t fair_queue_next(const struct fair_queue *queue, bool long_too, int32_t passes,
                        bool *overdue);

/* Takes the one out that fair_queue_next named, with what it said of it. Local. */
void fair_queue_take(struct fair_queue *queue, int32_t item, bool overdue);

/* Adds tokens that were served to a joined request's account. Local. */
void fair_queue_charge(struct fair_queue *queue, int32_t item, int64_t tokens);

#endif
