/* A load generator: requests go to a server when they are due, as many at once as may be, and what
 * comes back is timed. One thread, one event loop, any number of connections. */
#ifndef MOEBIUS_LAUNCHER_BENCH_LOAD_H
#define MOEBIUS_LAUNCHER_BENCH_LOAD_H

#include "launcher/bench_figures.h"
#include "launcher/client_flags.h"
#include "runtime/rpc_model_client.h"

struct bench_load;

struct bench_load_plan {
    int32_t count;
    const double *due_s;     /* [count], ascending, from the beginning of the run */
    int32_t max_concurrency; /* requests open at once; 0: no bound */
    /* Makes request `number`; what it points to must stand until the next is made. */
    enum status (*make)(void *context, int32_t number, struct generation_request *request);
    void *context;
    bool shows_progress; /* a line on standard error that is written over and over */
    /* Out: outcomes[count], zeroed by the caller; their gaps_s are the caller's to free. */
    struct bench_outcome *outcomes;
    int32_t sent; /* how many of them count: all, unless the run was interrupted */
};

/* Takes SIGINT and SIGTERM from here on. Connections are made by the first requests. STATUS_USAGE,
 * STATUS_IO, STATUS_BAD_CONFIG, STATUS_NO_MEMORY (logged). Local. */
enum status bench_load_create(const struct client_flags *flags, int32_t connections,
                              struct bench_load **load);
void bench_load_destroy(struct bench_load *load); /* NULL allowed */

/* Asks the server for its model. The status of what goes wrong (logged). Local. */
enum status bench_load_ask_model(struct bench_load *load, struct rpc_model_client *model);

/* Sends all, waits for all ends. A request's clock runs from when it is sent. STATUS_INTERRUPTED:
 * by a signal, which gives up what is open; a second one does not wait for the server.
 * STATUS_NO_MEMORY, STATUS_IO (logged). What requests end with is no error. Local. */
enum status bench_load_run(struct bench_load *load, struct bench_load_plan *plan);

#endif
