/* Where experts live, from a file: --expert-placement FILE.
 *
 * One JSON object:
 *
 *     {"num_ranks": 2, "num_logical_experts": 4,
 *      "layers": [{"physical_to_logical": [0, 3, 1, 2, 0], "physical_rank": [0, 0, 0, 1, 1]},
 *                 {"rank_experts": [[0, 1], [2, 3]]}]}
 *
 * `layers` has one object for each MoE layer of the model, in order, in one of two forms.
 * physical_to_logical names the logical (the model's) expert of each physical one, as in EPLB's
 * physical_to_logical_map; physical_rank the rank that holds it; without it, every rank holds an
 * equal share in order, as EPLB deals them out. rank_experts lists the logical experts of each
 * rank. The order inside a rank means nothing. An expert may stand on several ranks (replicas),
 * once on each; a rank may hold none. Other keys at the top are the file's own affair; others in a
 * layer are refused. */
#ifndef MOEBIUS_RUNTIME_PLACEMENT_FILE_H
#define MOEBIUS_RUNTIME_PLACEMENT_FILE_H

#include <stdint.h>

#include "kernels/base/status.h"
#include "moe/placement.h"

/* What the file must be for. */
struct placement_need {
    int32_t layers, experts, ranks; /* layers: those with experts */
    const int32_t *node_of;         /* [ranks] or NULL */
};

/* STATUS_IO, STATUS_BAD_CONFIG (one line: file, layer, rank, expected, got), STATUS_NO_MEMORY.
 * Local, same result on all ranks that read the same file. */
enum status placement_file_load(const char *path, const struct placement_need *need,
                                struct placement **placement);

#endif
