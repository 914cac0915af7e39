/* What generate --dump-logits and --dump-routing write. */
#ifndef MOEBIUS_LAUNCHER_GENERATE_DUMP_H
#define MOEBIUS_LAUNCHER_GENERATE_DUMP_H

#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/engine.h"

/* Rows collected in memory while a request runs, position after position. */
struct generate_dump {
    const struct engine *engine;
    bool wants_logits, wants_routing;
    float *logits; /* [logit_rows][vocabulary] */
    int64_t logit_rows;
    int32_t *expert_ids; /* [positions][moe_layers][top_k] */
    float *expert_weights;
    int64_t routing_rows;
    int32_t moe_layers;
    int64_t capacity; /* rows that fit */
    struct model_observer observer;
};

/* Whether --dump-logits and --dump-routing (each NULL: not given) name two files that can be
 * written, so that nobody waits for a text whose dump then fails. STATUS_USAGE, STATUS_IO (logged).
 * Local. */
enum status generate_dump_check_paths(const char *logits, const char *routing);

/* Takes room for `positions` rows of each kind that is wanted. STATUS_NO_MEMORY, or
 * STATUS_BAD_REQUEST when routing of a dense model is wanted (logged). Local. */
enum status generate_dump_init(struct generate_dump *dump, const struct engine *engine,
                               bool wants_logits, bool wants_routing, int64_t positions);
void generate_dump_deinit(struct generate_dump *dump);

/* The logits of the next position. Local. */
void generate_dump_add_logits(struct generate_dump *dump, const float *logits);

/* Writes f32 `logits` [positions][vocabulary]. STATUS_IO (logged). Local. */
enum status generate_dump_write_logits(const struct generate_dump *dump, const char *path);

/* Writes i32 `expert_ids` and f32 `expert_weights` [positions][MoE layers][top_k], slots in falling
 * order of score. Local. */
enum status generate_dump_write_routing(const struct generate_dump *dump, const char *path);

#endif
