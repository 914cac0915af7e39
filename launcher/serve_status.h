/* The line that a server under load logs every few seconds. */
#ifndef MOEBIUS_LAUNCHER_SERVE_STATUS_H
#define MOEBIUS_LAUNCHER_SERVE_STATUS_H

#include "runtime/metrics.h"

/* The counters as of the last line. */
struct serve_status {
    const struct metrics *metrics;
    int64_t then_ns;
    int64_t prompt_tokens, generation_tokens, steps, queries, hits;
    int64_t sent_bytes, copies, remote_pairs;
};

void serve_status_init(struct serve_status *status, const struct metrics *metrics, int64_t now_ns);

/* Logs what happened since the last call; says nothing when there was nothing and nothing runs.
 * Local. */
void serve_status_tell(struct serve_status *status, int64_t now_ns);

#endif
