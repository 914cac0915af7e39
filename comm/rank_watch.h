/* Watches over what MPI does without a deadline (joining, leaving) and over times in which a rank
 * may be silent for long (loading). MPI may only be called by the main thread, and that is where it
 * waits; so another thread looks at the processes of this host, and ends this one.
 *
 * A rank is found stopped by the host that it is on: by any other rank there. One that is alone on
 * its host is found silent by rank 0, as life_signs.h says, and so is a host that is cut off. */
#ifndef MOEBIUS_COMM_RANK_WATCH_H
#define MOEBIUS_COMM_RANK_WATCH_H

#include <stdint.h>

#include "comm/life_signs.h"

struct rank_watch_options {
    const char *phase;         /* for the message; kept */
    int32_t timeout_ms;        /* how long another rank of this host may be stopped */
    int32_t deadline_ms;       /* how long the phase may take; 0: any time */
    const char (*host_of)[64]; /* by rank; NULL: not known yet, all here are on this host */
    const struct life_signs_options *signs; /* also of other hosts; NULL: not; not kept */
};

struct rank_watch;

/* From here to rank_watch_end, also as life_signs_begin says with `signs`, the process ends with
 * STATUS_PEER's exit code, and the launcher with it the job, when another rank of this host has
 * been stopped for the timeout (logged: rank, host, process, phase), or when the deadline has
 * passed (logged: rank, host and program of those of this host that do not take part, where there
 * are any). One rank of a host speaks, the others wait for it to. Processes are not looked at when
 * the launcher does not say which belong together, or when there is no room for a thread. NULL when
 * there is no memory. Local; with `signs` collective. */
struct rank_watch *rank_watch_begin(const struct rank_watch_options *options);

/* NULL is allowed. Local. */
void rank_watch_end(struct rank_watch *watch);

#endif
