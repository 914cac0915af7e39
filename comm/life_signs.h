/* Ranks of other hosts, in times in which they may be silent for long: a thread gives signs of life
 * by the doorbell's datagrams, between rank 0 and each of the others, and listens for them. The
 * main thread may hang in a slow read meanwhile; a rank that is stopped, or whose host hangs or is
 * cut off, gives none. */
#ifndef MOEBIUS_COMM_LIFE_SIGNS_H
#define MOEBIUS_COMM_LIFE_SIGNS_H

#include <stdint.h>

#include "comm/doorbell.h"

struct life_signs_options {
    struct doorbell *doorbell; /* until the end nobody else waits for it */
    const char *phase;         /* for the message, behind "while"; kept */
    int32_t rank, size;
    int32_t timeout_ms;        /* how long another rank may be silent */
    const char (*host_of)[64]; /* by rank */
};

struct life_signs;

/* From here to life_signs_end the process ends with STATUS_PEER's exit code, and the launcher with
 * it the job, when a rank whose datagrams get here gives no sign for the timeout (logged: rank,
 * host, phase); somewhat later where another rank is nearer and may know more. A rank that has come
 * to life_signs_end is not waited for. NULL when there is no room for a thread. Collective. */
struct life_signs *life_signs_begin(const struct life_signs_options *options);

/* NULL is allowed. Collective, as far as it goes: waits for nobody. */
void life_signs_end(struct life_signs *signs);

#endif
