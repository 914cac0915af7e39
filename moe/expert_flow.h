/* The flows: ways for a dispatch to bring tokens to the ranks of their experts. A flow decides who
 * sends which rows to whom; what arrives, and in which order it is computed and summed, is the same
 * for all. One file a flow (or family of flows), one line in expert_flow.c. Internal to moe. */
#ifndef MOEBIUS_MOE_EXPERT_FLOW_H
#define MOEBIUS_MOE_EXPERT_FLOW_H

#include "moe/expert_exchange.h"

struct expert_flow_ops {
    /* Brings this rank's `rows` home rows, exchange->home, to where exchange->home_slot and
     * home_rank say, and fills exchange->sections from all others'. Ranks for which
     * exchange->rows_of is 0 send no section. STATUS_PEER. Collective. */
    enum status (*dispatch)(struct expert_exchange *exchange, const struct transport_scope *scope,
                            int32_t rows);
    bool copy_each; /* a row for each pair, not for each destination */
};

/* The ops of a flow that is not EXPERT_FLOW_AUTO. Local. */
const struct expert_flow_ops *expert_flow_ops_of(enum expert_flow flow);

/* Bytes of one act row, at home and in a message: it travels with its zeros past `hidden`, so that
 * it can be read where it arrives. Local. */
size_t expert_flow_row_bytes(const struct expert_exchange *exchange);

/* Makes exchange->home a section of all home rows and pairs: no row is copied. Returns its
 * bytes; 0 when this rank was planned to have no rows. Local. */
int64_t expert_flow_whole_home(struct expert_exchange *exchange, int32_t rows);

/* What a message may hold. */
struct expert_load {
    int64_t sections, rows, pairs;
};

/* Starts an empty message to `peer` with room for this, behind those that were started before it in
 * this dispatch. Local. */
void expert_flow_start_message(struct expert_exchange *exchange, int32_t peer,
                               const struct expert_load *load);

/* Room for a message of up to this much from `peer`, behind those expected before. Local. */
struct transport_receive expert_flow_expect_message(struct expert_exchange *exchange, int32_t peer,
                                                    const struct expert_load *load);

/* Home rows that `rank` has an expert of. Local. */
int32_t expert_flow_rows_for(const struct expert_exchange *exchange, int32_t rank);

/* Whether a section that was received can be of this step: no more rows and pairs than its home was
 * planned to bring. Everything behind it is sized by that. Local. */
bool expert_flow_fits(const struct expert_exchange *exchange, const struct expert_section *section);

/* Reads the sections of a message that came from `peer` (the own rank: what it kept) into
 * exchange->sections. STATUS_PEER (logged) if it cannot be right. Local. */
enum status expert_flow_read_message(struct expert_exchange *exchange,
                                     const struct transport_scope *scope, int32_t peer,
                                     const char *message, int64_t bytes);

/* Counts rows handed to other ranks, for the accounts. Local. */
void expert_flow_count_copies(const struct expert_exchange *exchange, int64_t rows);

extern const struct expert_flow_ops expert_flow_direct_a2a_ops;   /* expert_flow_direct.c */
extern const struct expert_flow_ops expert_flow_direct_dedup_ops; /* the same */
extern const struct expert_flow_ops expert_flow_allgather_ops;    /* expert_flow_allgather.c */
extern const struct expert_flow_ops expert_flow_hierarchical_ops; /* expert_flow_hierarchical.c */

#endif
