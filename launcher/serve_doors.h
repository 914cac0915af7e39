/* The network thread of a server: the doors (gRPC, public and admin; HTTP), the service behind
 * them, health, signals, the line that tells how things go. */
#ifndef MOEBIUS_LAUNCHER_SERVE_DOORS_H
#define MOEBIUS_LAUNCHER_SERVE_DOORS_H

#include "launcher/serve_entry.h"
#include "launcher/serve_run.h"
#include "runtime/engine_loop.h"
#include "runtime/generation_service.h"
#include "runtime/metrics.h"

struct serve_doors;

struct serve_doors_options {
    const struct serve_flags *flags;
    struct serve_entry *entry; /* its sockets are taken over */
    struct engine_loop *loop;
    struct metrics *metrics;
    struct generation_service *service;
    const struct rank_group *ranks;
    const struct placement *placement; /* NULL: one rank, or a dense model */
    const struct rank_accounts *accounts;
    int64_t start_ns; /* of the server */
    int signal_fd;    /* SIGINT and SIGTERM, blocked in all threads */
};

/* Listens. STATUS_IO, STATUS_NO_MEMORY (logged). Local. */
enum status serve_doors_create(const struct serve_doors_options *options,
                               struct serve_doors **doors);

/* As serve_entry_tell says it. Local. */
const char *serve_doors_told(const struct serve_doors *doors);

/* Starts the thread. On the first signal it drains and then stops the engine loop; on the second it
 * stops it at once, and when it does not stop within a second, ends the process. When the engine
 * loop has ended, for whatever reason, it tells all clients and ends. STATUS_NO_MEMORY (logged).
 * Local. */
enum status serve_doors_start(struct serve_doors *doors);

/* Waits for the thread; after engine_loop_run. Bounded: clients have a moment to take what is for
 * them. Returns what the thread ended with. Local. */
enum status serve_doors_join(struct serve_doors *doors);

void serve_doors_destroy(struct serve_doors *doors); /* NULL allowed */

#endif
