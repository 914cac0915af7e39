/* What a message costs between ranks of one node and of two: measured once, shared, so that all
 * ranks reckon with the same numbers. */
#ifndef MOEBIUS_COMM_LINK_PROBE_H
#define MOEBIUS_COMM_LINK_PROBE_H

#include <stdint.h>

#include "comm/transport.h"

/* A message of b bytes takes latency_ns + b * byte_ns from one rank to the other. */
struct link_cost {
    double latency_ns, byte_ns;
};

/* Inside a node, and between two. */
struct link_costs {
    struct link_cost node, remote;
};

/* What is assumed where there is nothing to measure: shared memory, and a fast network. */
struct link_costs link_probe_default(void);

/* Rank 0 plays ping-pong with the first other rank of its node and with the first rank of another
 * one (a few ms), the least times count, and tells all. scratch: two messages of scratch_bytes each
 * (more than 256 KiB are not used; with less than 64 bytes nothing is measured). Without such a
 * rank the default stays. STATUS_PEER.
 * Collective over all ranks. */
enum status link_probe_measure(struct transport *transport, char *scratch, int64_t scratch_bytes,
                               struct link_costs *costs);

#endif
