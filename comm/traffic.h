/* The accounts: every byte and message that leaves a rank, by kind, layer and distance, counted
 * where it is sent. */
#ifndef MOEBIUS_COMM_TRAFFIC_H
#define MOEBIUS_COMM_TRAFFIC_H

#include <stdint.h>

#include "kernels/base/status.h"

enum traffic_kind {
    TRAFFIC_PLAN,           /* the step's plan, from the coordinator */
    TRAFFIC_ROWS,           /* row results (logits, choices) to the coordinator */
    TRAFFIC_STATUS,         /* agreement on a status */
    TRAFFIC_DISPATCH,       /* tokens to experts */
    TRAFFIC_COMBINE,        /* expert outputs home */
    TRAFFIC_REDUCE_SCATTER, /* partial sums of tensor-parallel attention */
    TRAFFIC_ALL_GATHER,     /* slices back to every rank of the group */
    TRAFFIC_ALL_REDUCE,     /* only in the deepspeed flow */
    TRAFFIC_NORM,           /* sums of squares of a norm over the heads of several ranks */
    TRAFFIC_KIND_COUNT
};

enum traffic_distance { TRAFFIC_SELF, TRAFFIC_NODE, TRAFFIC_REMOTE, TRAFFIC_DISTANCE_COUNT };

struct traffic_cell {
    int64_t bytes; /* handed to the transport */
    int64_t messages;
};

/* What went to one other rank on behalf of experts. */
struct traffic_peer {
    int64_t dispatch_bytes, combine_bytes;
    int64_t messages; /* of both */
};

struct traffic {
    int32_t layers;             /* cells [layers + 1]: the last one is "outside the layers" */
    struct traffic_cell *cells; /* [layers + 1][TRAFFIC_KIND_COUNT][TRAFFIC_DISTANCE_COUNT] */
    int64_t wait_ns,
        transfer_ns; /* asleep or polling before the first byte of a peer came / from then on */
    /* Locality of routing, added up by moe over tokens at home: tokens and (token, expert) pairs,
     * pairs computed at home, distinct other ranks and distinct other nodes that tokens must reach.
     * Rows that left this rank in dispatches, forwarded ones included; pairs computed here for
     * anybody. */
    int64_t tokens, pairs, local_pairs, fan_out, node_fan_out;
    int64_t copies, computed_pairs;
    struct traffic_peer *to; /* [ranks]; NULL: not counted */
};

enum status
traffic_create(int32_t layers,
               struct traffic **traffic); /* zeroed; STATUS_NO_MEMORY (logged). Local. */
void traffic_destroy(struct traffic *traffic);

/* From here on what is sent for experts is also counted by destination, in traffic->to. `ranks`: of
 * the world. STATUS_NO_MEMORY (logged). Local. */
enum status traffic_count_peers(struct traffic *traffic, int32_t ranks);

/* Local. */
void traffic_count_to(struct traffic *traffic, int32_t peer, enum traffic_kind kind, int64_t bytes);

/* Local. */
void traffic_count(struct traffic *traffic, int32_t layer, enum traffic_kind kind,
                   enum traffic_distance distance, int64_t bytes);

/* "dispatch", "combine", ... */
const char *traffic_kind_name(enum traffic_kind kind);

/* The sums over all layers of one kind and distance. Local. */
struct traffic_cell traffic_total(const struct traffic *traffic, enum traffic_kind kind,
                                  enum traffic_distance distance);

/* Adds `other` to `traffic` (same number of layers). Local. */
void traffic_add(struct traffic *traffic, const struct traffic *other);

#endif
