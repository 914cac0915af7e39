/* Ping-pong at start, for those who must choose between few long messages and many short ones. */
#include "comm/link_probe.h"

#include <stdbool.h>
#include <string.h>

#include "comm/collective.h"
#include "kernels/base/clock.h"

#define SMALL_BYTES 64
#define LARGE_BYTES (256 << 10)
#define SMALL_ROUNDS 24
#define LARGE_ROUNDS 6

static const struct transport_scope scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};

struct link_costs link_probe_default(void) {
    return (struct link_costs){.node = {.latency_ns = 1000.0, .byte_ns = 0.2},
                               .remote = {.latency_ns = 3000.0, .byte_ns = 0.2}};
}

/* The first rank but 0 on rank 0's node, or off it; 0: none. */
static int32_t find_partner(const struct transport *transport, bool on_node) {
    for (int32_t rank = 1; rank < transport->size; rank++)
        if ((transport->node_of[rank] == transport->node_of[0]) == on_node)
            return rank;
    return 0;
}

/* The least time of one way between ranks 0 and `partner`; on others nothing happens. */
static enum status time_message(struct transport *transport, int32_t partner, char *scratch,
                                int64_t bytes, int32_t rounds, double *least_ns) {
    int32_t peer = transport->rank == 0 ? partner : 0;
    struct transport_send send = {.peer = peer, .data = scratch, .bytes = bytes};
    struct transport_receive receive = {.peer = peer, .buffer = scratch + bytes, .capacity = bytes};
    *least_ns = 0.0;
    if (transport->rank != 0 && transport->rank != partner)
        return STATUS_OK;
    for (int32_t i = 0; i < rounds; i++) {
        int64_t start = clock_now_ns();
        if (transport->rank == 0)
            RETURN_IF_ERROR(transport_exchange(transport, &scope, &send, 1, NULL, 0));
        RETURN_IF_ERROR(transport_exchange(transport, &scope, NULL, 0, &receive, 1));
        if (transport->rank != 0)
            RETURN_IF_ERROR(transport_exchange(transport, &scope, &send, 1, NULL, 0));
        double one_way = (double)(clock_now_ns() - start) / 2.0;
        if (i == 0 || one_way < *least_ns)
            *least_ns = one_way;
    }
    return STATUS_OK;
}

static enum status measure(struct transport *transport, bool on_node, char *scratch,
                           int64_t scratch_bytes, struct link_cost *cost) {
    int32_t partner = find_partner(transport, on_node);
    int64_t large = scratch_bytes < LARGE_BYTES ? scratch_bytes : LARGE_BYTES;
    double small_ns, large_ns;
    if (partner == 0)
        return STATUS_OK;
    RETURN_IF_ERROR(
        time_message(transport, partner, scratch, SMALL_BYTES, SMALL_ROUNDS, &small_ns));
    RETURN_IF_ERROR(time_message(transport, partner, scratch, large, LARGE_ROUNDS, &large_ns));
    if (small_ns > 0.0)
        cost->latency_ns = small_ns;
    if (large >= 64 * SMALL_BYTES && large_ns > small_ns)
        cost->byte_ns = (large_ns - small_ns) / (double)large;
    return STATUS_OK;
}

enum status link_probe_measure(struct transport *transport, char *scratch, int64_t scratch_bytes,
                               struct link_costs *costs) {
    int32_t members[TRANSPORT_RANKS_MAX];
    for (int32_t i = 0; i < transport->size; i++)
        members[i] = i;
    struct collective_group world = {.transport = transport,
                                     .members = members,
                                     .count = transport->size,
                                     .self = transport->rank};
    struct link_costs measured = link_probe_default();
    int64_t bytes = sizeof measured;
    if (scratch_bytes < SMALL_BYTES) {
        *costs = measured;
        return STATUS_OK;
    }
    memset(scratch, 0, (size_t)(2 * (scratch_bytes < LARGE_BYTES ? scratch_bytes : LARGE_BYTES)));
    RETURN_IF_ERROR(measure(transport, true, scratch, scratch_bytes, &measured.node));
    RETURN_IF_ERROR(measure(transport, false, scratch, scratch_bytes, &measured.remote));
    RETURN_IF_ERROR(
        collective_broadcast(&world, &scope, false, &measured, sizeof measured, &bytes));
    *costs = measured;
    return STATUS_OK;
}
