/* Wakes a rank that sleeps in the kernel, which MPI cannot: a datagram that says nothing but that
 * it is time to look at MPI. It may be lost or come too early, so whoever sleeps looks now and then
 * by itself.
 *
 * Every rank has one UDP socket. Rank 0 and each of the others find out at start, by trying, by
 * which of its addresses one reaches the other; rank_group.c carries by MPI what they have to tell
 * each other for that. Datagrams without the job's secret are as good as none. */
#ifndef MOEBIUS_COMM_DOORBELL_H
#define MOEBIUS_COMM_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"

#define DOORBELL_ADDRESSES_MAX 16
#define DOORBELL_SECRET_BYTES 16

/* Where a rank can be rung: told to the others as bytes. */
struct doorbell_door {
    unsigned char secret[DOORBELL_SECRET_BYTES]; /* rank 0's is the job's */
    char network[64]; /* ranks with the same one have one loopback; "": not known */
    int32_t port;     /* in the host's byte order */
    int32_t count;    /* of addresses; 0: it cannot be rung */
    unsigned char addresses[DOORBELL_ADDRESSES_MAX][16]; /* IPv6, or IPv4 as IPv6 maps it */
};

/* What one rank says to another. */
enum doorbell_word {
    DOORBELL_TRY, /* only inside: is this where you are? */
    DOORBELL_RING,
    DOORBELL_ALIVE, /* life_signs.h */
    DOORBELL_LEAVING
};

struct doorbell;

/* Opens a socket on all addresses of this host; without any the door has none and nothing ever
 * rings. STATUS_NO_MEMORY (logged). Local. */
enum status doorbell_create(int32_t rank, int32_t size, struct doorbell **bell,
                            struct doorbell_door *door);

/* NULL is allowed. Local. */
void doorbell_destroy(struct doorbell *bell);

/* The doors of all ranks: doors[size], borrowed until doorbell_settle. Local. */
void doorbell_meet(struct doorbell *bell, const struct doorbell_door *doors);

/* Tries all addresses of the ranks that this one wants to reach (again every now and then) and
 * listens for up to timeout_ms. Returns whether all those that want to reach it have. Local. */
bool doorbell_try(struct doorbell *bell, int32_t timeout_ms);

/* By rank: the number of the own address at which it was heard first; -1: not heard. [size]. */
const int32_t *doorbell_heard(const struct doorbell *bell);

/* told[size]: what the others' doorbell_heard says of this rank; what a rank that is not tried says
 * does not matter. Local. */
void doorbell_settle(struct doorbell *bell, const int32_t *told);

/* Whether datagrams of this rank get to `peer`, and those of `peer` to this rank. Local. */
bool doorbell_reaches(const struct doorbell *bell, int32_t peer);
bool doorbell_hears(const struct doorbell *bell, int32_t peer);

/* Nothing where it does not reach. Takes a microsecond or two. Local. */
void doorbell_tell(struct doorbell *bell, int32_t peer, enum doorbell_word word);

/* Sleeps until it rings, or for up to timeout_ms; returns whether it rang. While foreign datagrams
 * come it wakes every 0.7 ms instead of at each of them, since among them a ring may get lost.
 * Local.
 */
bool doorbell_wait(struct doorbell *bell, int32_t timeout_ms);

/* The next word of another rank that has come; false: there is none, or too much that is foreign
 * stands before it. Local. */
bool doorbell_hear(struct doorbell *bell, int32_t *peer, enum doorbell_word *word);

/* Whether foreign datagrams came with what was heard last. Local. */
bool doorbell_is_disturbed(const struct doorbell *bell);

#endif
