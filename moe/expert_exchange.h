/* Tokens to the ranks of their experts and back. Built from one plan that is used forwards
 * (dispatch) and backwards (combine).
 *
 * How a dispatch travels is the flow's business (expert_flow.h); it always ends with one section of
 * rows and pairs from every home rank. What a rank computes is sorted by (expert, source rank,
 * source token), its own tokens included, so that neither placement nor flow nor arrival changes
 * the order of anything. Combine is one message back to each home: one output row a pair, in the
 * order of the pairs; every output row travels alone, rounded to the wire type, and is summed at
 * home in the order of the token's slots. Both sides know when there is nothing to send, and then
 * nothing is.
 */
#ifndef MOEBIUS_MOE_EXPERT_EXCHANGE_H
#define MOEBIUS_MOE_EXPERT_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/link_probe.h"
#include "comm/transport.h"
#include "kernels/base/memory.h"
#include "kernels/kernel_ops.h"
#include "moe/expert_message.h"
#include "moe/placement.h"

enum expert_flow {
    EXPERT_FLOW_A2A,          /* one copy of a token for each of its experts elsewhere */
    EXPERT_FLOW_A2A_DEDUP,    /* one copy for each other rank that holds one of its experts; all
                                 tokens to a rank of the same node that needs most */
    EXPERT_FLOW_ALLGATHER,    /* every token to every rank */
    EXPERT_FLOW_HIERARCHICAL, /* one copy for each other node, spread there */
    EXPERT_FLOW_DEEPSPEED, /* DeepSpeed-MoE's: as A2A here; partial sums are all-reduced before */
    EXPERT_FLOW_COUNT,
    EXPERT_FLOW_AUTO = EXPERT_FLOW_COUNT
};

/* "a2a", "a2a-dedup", ... Local. */
const char *expert_flow_name(enum expert_flow flow);

/* The ranks that share the experts of a model. */
struct expert_ranks {
    struct transport *transport;
    const struct placement *placement;
    enum expert_flow flow;
};

/* Sizes fixed at start; the same on all ranks. */
struct expert_exchange_limits {
    int32_t rows; /* home rows of all ranks together in one step */
    int32_t top_k, hidden;
    int32_t slots; /* most expert slots of a rank in any layer */
    enum dtype act_dtype, wire_dtype;
};

/* The ranks of each node: those of node n are members[first[n]] .. members[first[n+1]-1]. */
struct expert_nodes {
    int32_t count;
    int32_t *first, *members, *rank_on_node;
};

/* Messages of one exchange, one behind the other: what travels is bounded for all peers together,
 * whoever they are. */
struct expert_pool {
    char *bytes;
    int64_t capacity, used;
};

/* Buffers and the plan of the layer in progress. */
struct expert_exchange {
    const struct expert_ranks *ranks;
    struct expert_exchange_limits limits;
    int32_t pairs_max; /* rows * top_k */
    struct expert_nodes nodes;
    struct link_costs links;             /* by which EXPERT_FLOW_AUTO chooses */
    const struct expert_flow_ops *flow;  /* of this step */
    int64_t steps_of[EXPERT_FLOW_COUNT]; /* steps with rows that went each way, for the accounts */
    double cost_ns[EXPERT_FLOW_COUNT];   /* EXPERT_FLOW_AUTO: reckoned for one dispatch, summed over
                                            those steps; 0: not a candidate */
    int32_t *rows_of;                    /* [ranks]: home rows of each in this step, as planned */

    char *home; /* act rows of home, written there by the caller, with room behind them: they are
                 * read and sent in place */
    int64_t message_bytes; /* of the longest dispatch; also home's capacity */
    int64_t longest_bytes; /* of any message, dispatch or combine */
    struct expert_pool outgoing, incoming;
    struct expert_writer *writers; /* [ranks] */
    struct transport_send *sends;  /* [ranks], and below: of the exchange in progress */
    struct transport_receive *receives;
    struct expert_section *sections; /* [ranks]: what came, by home */
    int32_t *led_pairs;              /* [ranks]: hierarchical: pairs to pass on to each */

    const struct placement_layer *layer; /* in progress */
    int32_t moe_layer;
    int32_t *home_slot, *home_rank; /* [rows * top_k]: where each (row, slot) of home is computed */
    int32_t *home_first; /* [ranks + 1]: first pair of home that each rank computes, in home_pair */
    int32_t *home_pair;  /* [rows * top_k]: pairs of home by rank, then as listed */

    int32_t *pair_first; /* [ranks + 1]: first pair of each source */
    const char **pair_x; /* [pairs here]: the pair's act row, in the message that brought it or at
                            home; by source, then as the source listed them */
    int32_t *pair_slot;  /* [pairs here]: its local slot, in the same order */
    int32_t *offsets;    /* sorted: expert_rows of the local slots ... */
    const void *
        *x_at; /* [pairs here]: ... and their inputs, where they are until the next dispatch */
    char *y;   /* outputs, rows [hidden] of wire_dtype: pairs_max computed here, by source as
                * listed, then pairs_max computed elsewhere, by rank as listed */
    int32_t *y_place; /* [pairs here]: the row of y that each sorted pair becomes */
    int32_t *row_of;  /* [rows * top_k]: after combine, the row of y of each (row, slot) of home */
    int32_t pairs;    /* to compute here */
};

/* Takes all buffers from the arena, or measures them. `ranks` is kept. Local. */
void expert_exchange_take(struct arena *arena, const struct expert_ranks *ranks,
                          const struct expert_exchange_limits *limits,
                          struct expert_exchange *exchange);

/* Measures what messages cost, if the flow is EXPERT_FLOW_AUTO: once, outside the steps; until then
 * link_probe's defaults count. STATUS_PEER. Collective over all ranks. */
enum status expert_exchange_measure_links(struct expert_exchange *exchange);

/* Before the first layer of a step: how many home rows each rank was planned to have, rows_of
 * [ranks], the same on all ranks; a rank may bring fewer. Ranks with none are not waited for, and
 * EXPERT_FLOW_AUTO chooses by them. Local, same result on all ranks. */
void expert_exchange_begin_step(struct expert_exchange *exchange, const int32_t *rows_of);

/* Sends the `rows` rows of exchange->home to where their experts ids [rows][top_k] are, and
 * receives. Afterwards exchange->offsets, x_at and pairs tell what to compute, y_place where to put
 * it. STATUS_PEER. Collective over all ranks, also those without rows. */
enum status expert_exchange_dispatch(struct expert_exchange *exchange,
                                     const struct transport_scope *scope, int32_t moe_layer,
                                     int32_t rows, const int32_t *ids);

/* Sends home the outputs that stand in exchange->y where y_place says. Afterwards exchange->y and
 * row_of give those of this rank's rows. Nothing is copied: outputs travel from and into y.
 * STATUS_PEER. Collective. */
enum status expert_exchange_combine(struct expert_exchange *exchange,
                                    const struct transport_scope *scope);

#endif
