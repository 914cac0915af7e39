/* The front of every transport: what leaves is counted here, so that no implementation can forget
 * it. */
#include "comm/transport.h"

#include "kernels/base/check.h"
#include "kernels/base/log.h"

int32_t transport_node_count(const struct transport *transport) {
    int32_t count = 0;
    for (int32_t rank = 0; rank < transport->size; rank++)
        if (transport->node_of[rank] >= count)
            count = transport->node_of[rank] + 1;
    return count;
}

static enum traffic_distance distance_to(const struct transport *transport, int32_t peer) {
    return transport->node_of[peer] == transport->node_of[transport->rank] ? TRAFFIC_NODE
                                                                           : TRAFFIC_REMOTE;
}

enum status transport_exchange(struct transport *transport, const struct transport_scope *scope,
                               const struct transport_send *sends, int32_t send_count,
                               struct transport_receive *receives, int32_t receive_count) {
    if (send_count == 0 && receive_count == 0)
        return STATUS_OK;
    RETURN_IF_ERROR(
        transport->ops->exchange(transport, scope, sends, send_count, receives, receive_count));
    for (int32_t i = 0; transport->traffic != NULL && i < send_count; i++) {
        ASSERT(sends[i].peer != transport->rank);
        traffic_count(transport->traffic, scope->layer, scope->kind,
                      distance_to(transport, sends[i].peer), sends[i].bytes);
        traffic_count_to(transport->traffic, sends[i].peer, scope->kind, sends[i].bytes);
    }
    return STATUS_OK;
}

enum status transport_reserve(struct transport *transport, int64_t message_bytes) {
    return transport->ops->reserve(transport, message_bytes);
}

enum status transport_garbled(const struct transport *transport,
                              const struct transport_scope *scope, int32_t peer, int64_t bytes) {
    LOG_ERROR("rank %d on %s: expected a well-formed %s message of step %lld, layer %d, got %lld "
              "bytes that are none",
              peer, transport->host_of[peer], traffic_kind_name(scope->kind),
              (long long)scope->step, scope->layer, (long long)bytes);
    return STATUS_PEER;
}
