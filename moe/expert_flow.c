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

static char *take(struct expert_pool *pool, int64_t bytes) {
    int64_t padded = (bytes + EXPERT_SECTION_ALIGNMENT - 1) / EXPERT_SECTION_ALIGNMENT *
                     EXPERT_SECTION_ALIGNMENT;
    ASSERT(pool->used + padded <= pool->capacity);
    pool->used += padded;
    return pool->bytes + pool->used - padded;
}

static int64_t capacity_for(const struct expert_exchange *exchange,
                            const struct expert_load *load) {
    return expert_message_capacity(load->sections, load->rows, load->pairs,
                                   expert_flow_row_bytes(exchange));
}

void expert_flow_start_message(struct expert_exchange *exchange, int32_t peer,
                               const struct expert_load *load) {
    int64_t capacity = capacity_for(exchange, load);
    expert_message_start(&exchange->writers[peer], take(&exchange->outgoing, capacity), capacity,
                         load->pairs);
}

struct transport_receive expert_flow_expect_message(struct expert_exchange *exchange, int32_t peer,
                                                    const struct expert_load *load) {
    int64_t capacity = capacity_for(exchange, load);
    return (struct transport_receive){
        .peer = peer, .buffer = take(&exchange->incoming, capacity), .capacity = capacity};
}

int32_t expert_flow_rows_for(const struct expert_exchange *exchange, int32_t rank) {
    int32_t rows = 0, next = 0, top_k = exchange->limits.top_k;
    for (int32_t i = exchange->home_first[rank]; i < exchange->home_first[rank + 1]; i++) {
        int32_t pair = exchange->home_pair[i];
        if (pair < next)
            continue;
        rows++;
        next = (pair / top_k + 1) * top_k;
    }
    return rows;
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
