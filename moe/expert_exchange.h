/* Tokens to the ranks of their experts and back. Built from one plan that is used forwards
 * (dispatch) and backwards (combine).
 *
 * Dispatch to a peer is one message: counts, then the pairs (row of the message, expert slot on the
 * receiver), then the rows. Combine is one message back: one output row a pair, in the order of the
 * pairs. What a rank computes is sorted by (expert, source rank, source token), its own tokens
 * included, so that neither placement nor arrival changes the order of anything; every output row
 * travels alone, rounded to the wire type, and is summed at home in the order of the token's slots.
 */
#ifndef MOEBIUS_MOE_EXPERT_EXCHANGE_H
#define MOEBIUS_MOE_EXPERT_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/transport.h"
#include "kernels/base/memory.h"
#include "kernels/kernel_ops.h"
#include "moe/placement.h"

enum expert_flow {
    EXPERT_FLOW_A2A,       /* one copy of a token for each of its experts elsewhere */
    EXPERT_FLOW_A2A_DEDUP, /* one copy for each other rank that holds one of its experts */
    EXPERT_FLOW_ALLGATHER, /* every token to every rank */
};

/* The ranks that share the experts of a model. */
struct expert_ranks {
    struct transport *transport;
    const struct placement *placement;
    enum expert_flow flow;
};

/* Sizes fixed at start; the same on all ranks. */
struct expert_exchange_limits {
    int32_t rows; /* home rows of one rank in one step */
    int32_t top_k, hidden;
    int32_t slots; /* most expert slots of a rank in any layer */
    enum dtype act_dtype, wire_dtype;
};

/* Buffers and the plan of the layer in progress. */
struct expert_exchange {
    const struct expert_ranks *ranks;
    struct expert_exchange_limits limits;
    char **outgoing, **incoming; /* [ranks]: one message each */
    int64_t message_bytes;       /* capacity of each */
    int32_t copies;              /* rows that x holds */
    char *x;             /* act rows: tokens to compute here, by source rank, own ones included */
    int32_t *x_first;    /* [ranks + 1]: first row of each source in x */
    int32_t *pair_first; /* [ranks + 1]: first pair of each source */
    int32_t *pair_row, *pair_slot; /* [pairs here]: row in x, local slot; by source, then as the
                                      source listed them */
    int32_t *pair_place;           /* [pairs here]: place in the sorted order */
    int32_t *offsets, *source;     /* sorted: expert_rows of the local slots */
    int32_t *home_pair;  /* [ranks][rows * top_k]: which (row, slot) of home each listed pair is */
    int32_t *home_count; /* [ranks] pairs listed for each rank */
    char *y_home;        /* [rows * top_k][hidden] of wire_dtype: outputs by (row, slot) */
    int32_t pairs;       /* to compute here */
};

/* Takes all buffers from the arena, or measures them. `ranks` is kept. Local. */
void expert_exchange_take(struct arena *arena, const struct expert_ranks *ranks,
                          const struct expert_exchange_limits *limits,
                          struct expert_exchange *exchange);

/* Sends `rows` home rows x_act (act rows) to where their experts ids [rows][top_k] are, and
 * receives. Afterwards exchange->x, offsets, source and pairs tell what to compute. STATUS_PEER.
 * Collective over all ranks, also those without rows. */
enum status expert_exchange_dispatch(struct expert_exchange *exchange,
                                     const struct transport_scope *scope, int32_t moe_layer,
                                     int32_t rows, const int32_t *ids, const void *x_act);

/* Sends the outputs y [pairs][hidden] (sorted order, wire type) home. Afterwards exchange->y_home
 * holds this rank's own. STATUS_PEER. Collective. */
enum status expert_exchange_combine(struct expert_exchange *exchange,
                                    const struct transport_scope *scope, const void *y);

#endif
