/* The list of flows, and what they share. */
#include "moe/expert_flow.h"

#include "kernels/base/check.h"

static const struct {
    const char *name;
    const struct expert_flow_ops *ops;
} flows[EXPERT_FLOW_COUNT] = {
    [EXPERT_FLOW_A2A] = {"a2a", &expert_flow_direct_a2a_ops},
    [EXPERT_FLOW_A2A_DEDUP] = {"a2a-dedup", &expert_flow_direct_dedup_ops},
    [EXPERT_FLOW_ALLGATHER] = {"allgather", &expert_flow_allgather_ops},
    [EXPERT_FLOW_HIERARCHICAL] = {"hierarchical", &expert_flow_hierarchical_ops},
    [EXPERT_FLOW_DEEPSPEED] = {"deepspeed", &expert_flow_direct_a2a_ops},
};

const char *expert_flow_name(enum expert_flow flow) {
    return flow == EXPERT_FLOW_AUTO ? "auto" : flows[flow].name;
}

const struct expert_flow_ops *expert_flow_ops_of(enum expert_flow flow) {
    ASSERT((unsigned)flow < EXPERT_FLOW_COUNT);
    return flows[flow].ops;
}

size_t expert_flow_row_bytes(const struct expert_exchange *exchange) {
    return (size_t)(activation_stride(exchange->limits.hidden) *
                    dtype_bytes(exchange->limits.act_dtype));
}

int64_t expert_flow_whole_home(struct expert_exchange *exchange, int32_t rows) {
    int32_t self = exchange->ranks->transport->rank;
    if (exchange->rows_of[self] == 0)
        return 0;
    return expert_message_whole(exchange->home, self, rows, expert_flow_row_bytes(exchange),
                                exchange->home_slot, exchange->limits.top_k);
}

void expert_flow_start_message(struct expert_exchange *exchange, int32_t peer) {
    expert_message_start(&exchange->writers[peer], exchange->outgoing[peer],
                         exchange->message_bytes, exchange->pairs_max);
}

bool expert_flow_fits(const struct expert_exchange *exchange,
                      const struct expert_section *section) {
    if (section->source < 0 || section->source >= exchange->ranks->transport->size)
        return false;
    int64_t rows = exchange->rows_of[section->source], pairs = rows * exchange->limits.top_k;
    return section->rows <= (exchange->flow->copy_each ? pairs : rows) && section->pairs <= pairs;
}

enum status expert_flow_read_message(struct expert_exchange *exchange,
                                     const struct transport_scope *scope, int32_t peer,
                                     const char *message, int64_t bytes) {
    struct transport *transport = exchange->ranks->transport;
    int64_t end = bytes;
    while (end > 0) {
        struct expert_section section;
        if (expert_message_last(message, &end, expert_flow_row_bytes(exchange), exchange->pairs_max,
                                exchange->pairs_max, &section) != 0 ||
            !expert_flow_fits(exchange, &section))
            return transport_garbled(transport, scope, peer, bytes);
        exchange->sections[section.source] = section;
    }
    return STATUS_OK;
}

void expert_flow_count_copies(const struct expert_exchange *exchange, int64_t rows) {
    if (exchange->ranks->transport->traffic != NULL)
        exchange->ranks->transport->traffic->copies += rows;
}
