/* Two levels: one copy of a token for each other node that holds one of its experts crosses the
 * network, to the rank of that node that stands where the home stands on its own; that rank
 * forwards it to the ranks of its node that need it, together with what it has for them itself. So
 * a rank sends (nodes - 1) messages across the network and (ranks of its node - 1) inside the
 * node. */
#include "moe/expert_flow.h"

#include "moe/placement.h"

/* The rank of `node` that takes what `home` (on another node) sends there. */
static int32_t leader_of(const struct expert_exchange *exchange, int32_t home, int32_t node) {
    const struct expert_nodes *nodes = &exchange->nodes;
    int32_t first = nodes->first[node], count = nodes->first[node + 1] - first;
    return nodes->members[first + nodes->rank_on_node[home] % count];
}

static int32_t node_of(const struct expert_exchange *exchange, int32_t rank) {
    return exchange->ranks->transport->node_of[rank];
}

/* Where a pair of `rank` goes first. */
static int32_t next_hop(const struct expert_exchange *exchange, int32_t rank) {
    int32_t self = exchange->ranks->transport->rank, node = node_of(exchange, rank);
    return node == node_of(exchange, self) ? rank : leader_of(exchange, self, node);
}

/* Whether `rank` has rows of its own, or of homes on other nodes, for the ranks of its node. */
static bool has_rows_for_node(const struct expert_exchange *exchange, int32_t rank) {
    int32_t node = node_of(exchange, rank);
    if (exchange->rows_of[rank] > 0)
        return true;
    for (int32_t home = 0; home < exchange->ranks->transport->size; home++)
        if (exchange->rows_of[home] > 0 && node_of(exchange, home) != node &&
            leader_of(exchange, home, node) == rank)
            return true;
    return false;
}

static void open_sections(struct expert_exchange *exchange, int32_t source) {
    const struct expert_nodes *nodes = &exchange->nodes;
    int32_t node = node_of(exchange, exchange->ranks->transport->rank);
    for (int32_t i = nodes->first[node]; i < nodes->first[node + 1]; i++)
        expert_message_open(&exchange->writers[nodes->members[i]], source);
}

static void close_sections(struct expert_exchange *exchange) {
    const struct expert_nodes *nodes = &exchange->nodes;
    int32_t self = exchange->ranks->transport->rank, node = node_of(exchange, self);
    for (int32_t i = nodes->first[node]; i < nodes->first[node + 1]; i++) {
        struct expert_writer *writer = &exchange->writers[nodes->members[i]];
        expert_message_close(writer, expert_flow_row_bytes(exchange));
        if (nodes->members[i] != self)
            expert_flow_count_copies(exchange, writer->row_count);
    }
}

/* Home rows: to the leaders of other nodes, and to the ranks of this one. */
static void write_own(struct expert_exchange *exchange, int32_t rows) {
    size_t row_bytes = expert_flow_row_bytes(exchange);
    int32_t size = exchange->ranks->transport->size, self = exchange->ranks->transport->rank;
    int32_t top_k = exchange->limits.top_k;
    for (int32_t peer = 0; peer < size; peer++) {
        expert_flow_start_message(exchange, peer);
        if (node_of(exchange, peer) != node_of(exchange, self))
            expert_message_open(&exchange->writers[peer], self);
    }
    if (exchange->rows_of[self] == 0)
        return;
    open_sections(exchange, self);
    for (int32_t row = 0; row < rows; row++)
        for (int32_t pair = row * top_k; pair < (row + 1) * top_k; pair++) {
            int32_t hop = next_hop(exchange, exchange->home_rank[pair]);
            struct expert_writer *writer = &exchange->writers[hop];
            if (hop == self)
                continue;
            if (writer->last != row)
                expert_message_add_row(writer, exchange->home + (size_t)row * row_bytes, row_bytes);
            writer->last = row;
            expert_message_add_pair(writer, exchange->home_slot[pair]);
        }
    close_sections(exchange);
}

/* Across the network: to one rank of each other node, from the homes that this rank leads. */
static enum status cross(struct expert_exchange *exchange, const struct transport_scope *scope,
                         int32_t *receive_count) {
    struct transport *transport = exchange->ranks->transport;
    struct transport_receive *receives = exchange->receives;
    struct transport_send *sends = exchange->sends;
    int32_t self = transport->rank, own = node_of(exchange, self), send_count = 0;
    *receive_count = 0;
    for (int32_t node = 0; node < exchange->nodes.count; node++) {
        if (node == own || exchange->rows_of[self] == 0)
            continue;
        int32_t leader = leader_of(exchange, self, node);
        struct expert_writer *writer = &exchange->writers[leader];
        expert_message_close(writer, expert_flow_row_bytes(exchange));
        expert_flow_count_copies(exchange, writer->row_count);
        sends[send_count++] =
            (struct transport_send){.peer = leader, .data = writer->message, .bytes = writer->used};
    }
    for (int32_t home = 0; home < transport->size; home++)
        if (exchange->rows_of[home] > 0 && node_of(exchange, home) != own &&
            leader_of(exchange, home, own) == self)
            receives[(*receive_count)++] =
                (struct transport_receive){.peer = home,
                                           .buffer = exchange->incoming[home],
                                           .capacity = exchange->message_bytes};
    return transport_exchange(transport, scope, sends, send_count, receives, *receive_count);
}

/* Cuts the section of a home on another node down to each rank of this one. */
static enum status forward(struct expert_exchange *exchange, const struct transport_scope *scope,
                           const struct transport_receive *receive) {
    struct transport *transport = exchange->ranks->transport;
    size_t row_bytes = expert_flow_row_bytes(exchange);
    struct expert_section section;
    int64_t end = receive->bytes;
    int32_t own = node_of(exchange, transport->rank), seen = 0;
    if (expert_message_last(receive->buffer, &end, row_bytes, exchange->pairs_max,
                            exchange->pairs_max, &section) != 0 ||
        end != 0 || section.source != receive->peer || !expert_flow_fits(exchange, &section))
        return transport_garbled(transport, scope, receive->peer, receive->bytes);
    open_sections(exchange, section.source);
    for (int32_t i = 0; i < section.pairs; i++) {
        struct expert_pair pair = expert_message_pair(&section, i);
        if (pair.row < seen || pair.row >= section.rows || pair.slot < 0 ||
            pair.slot >= exchange->layer->first_slot[transport->size])
            return transport_garbled(transport, scope, receive->peer, receive->bytes);
        seen = pair.row; /* in order, or a row would be copied more than once */
        int32_t rank =
            placement_rank_of(exchange->ranks->placement, exchange->moe_layer, pair.slot);
        if (node_of(exchange, rank) != own)
            return transport_garbled(transport, scope, receive->peer, receive->bytes);
        struct expert_writer *writer = &exchange->writers[rank];
        if (writer->last != pair.row)
            expert_message_add_row(writer, section.row_bytes + (size_t)pair.row * row_bytes,
                                   row_bytes);
        writer->last = pair.row;
        expert_message_add_pair(writer, pair.slot);
    }
    close_sections(exchange);
    return STATUS_OK;
}

/* Inside the node: to and from each rank of it. */
static enum status spread(struct expert_exchange *exchange, const struct transport_scope *scope) {
    struct transport *transport = exchange->ranks->transport;
    const struct expert_nodes *nodes = &exchange->nodes;
    struct transport_send *sends = exchange->sends;
    struct transport_receive *receives = exchange->receives;
    int32_t self = transport->rank, node = node_of(exchange, self);
    int32_t send_count = 0, receive_count = 0;
    bool sending = has_rows_for_node(exchange, self);
    for (int32_t i = nodes->first[node]; i < nodes->first[node + 1]; i++) {
        int32_t peer = nodes->members[i];
        if (peer == self)
            continue;
        if (sending)
            sends[send_count++] = (struct transport_send){.peer = peer,
                                                          .data = exchange->writers[peer].message,
                                                          .bytes = exchange->writers[peer].used};
        if (has_rows_for_node(exchange, peer))
            receives[receive_count++] =
                (struct transport_receive){.peer = peer,
                                           .buffer = exchange->incoming[peer],
                                           .capacity = exchange->message_bytes};
    }
    RETURN_IF_ERROR(
        transport_exchange(transport, scope, sends, send_count, receives, receive_count));
    for (int32_t i = 0; i < receive_count; i++)
        RETURN_IF_ERROR(expert_flow_read_message(exchange, scope, receives[i].peer,
                                                 receives[i].buffer, receives[i].bytes));
    return expert_flow_read_message(exchange, scope, self, exchange->writers[self].message,
                                    exchange->writers[self].used);
}

static enum status dispatch(struct expert_exchange *exchange, const struct transport_scope *scope,
                            int32_t rows) {
    int32_t receive_count;
    write_own(exchange, rows);
    RETURN_IF_ERROR(cross(exchange, scope, &receive_count));
    for (int32_t i = 0; i < receive_count; i++)
        RETURN_IF_ERROR(forward(exchange, scope, &exchange->receives[i]));
    return spread(exchange, scope);
}

const struct expert_flow_ops expert_flow_hierarchical_ops = {.dispatch = dispatch};
