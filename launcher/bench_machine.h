/* What work costs, and what this machine can do: the two sides of a share. */
#ifndef MOEBIUS_LAUNCHER_BENCH_MACHINE_H
#define MOEBIUS_LAUNCHER_BENCH_MACHINE_H

#include "runtime/engine.h"

/* Bytes that a step of `rows` rows must read: the weights that all take, the experts that rows who
 * choose at random take at least once, and `positions` of the KV cache. Local. */
double bench_machine_step_bytes(const struct engine *engine, double rows, double positions);

/* Multiplications and additions of `rows` rows that attend to `pairs` positions together, with the
 * logits of `logits` of them. Local. */
double bench_machine_flop(const struct engine *engine, double rows, double pairs, double logits);

/* Bytes a second that this machine reads of the engine's weights, where decoding would. Takes half
 * a second. STATUS_NO_MEMORY (logged). Local. */
enum status bench_machine_read_bandwidth(const struct engine *engine, double *bytes_per_second);

#endif
