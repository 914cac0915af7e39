/* Two levels: one copy of a token for each other node that holds one of its experts crosses the
 * network, to the rank of that node that stands where the home stands on its own; that rank
 * forwards it to the ranks of its node that need it, together with what it has for them itself. So
 * a rank sends (nodes - 1) messages across the network and (ranks of its node - 1) inside the
 * node. */
#include "moe/expert_flow.h"

#include <string.h>

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

static int64_t lesser(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Pairs of home that are computed on a node. */
static int64_t pairs_for_node(const struct expert_exchange *exchange, int32_t node) {
    const struct expert_nodes *nodes = &exchange->nodes;
    int64_t pairs = 0;
    for (int32_t i = nodes->first[node]; i < nodes->first[node + 1]; i++) {
        const int32_t *first = exchange->home_first + nodes->members[i];
        pairs += first[1] - first[0];
    }
    return pairs;
}

/* Adds home rows and their pairs, to leaders of other nodes or to the other ranks of this one. */
static void add_own(struct expert_exchange *exchange, int32_t rows, bool far) {
    size_t row_bytes = expert_flow_row_bytes(exchange);
    int32_t self = exchange->ranks->transport->rank, own = node_of(exchange, self);
    int32_t top_k = exchange->limits.top_k;
    for (int32_t row = 0; row < rows; row++)
        for (int32_t pair = row * top_k; pair < (row + 1) * top_k; pair++) {
            int32_t rank = exchange->home_rank[pair], node = node_of(exchange, rank);
            if (rank == self || (node != own) != far)
                continue;
            int32_t hop = far ? leader_of(exchange, self, node) : rank;
            struct expert_writer *writer = &exchange->writers[hop];
            if (writer->last != row)
                expert_message_add_row(writer, exchange->home + (size_t)row * row_bytes, row_bytes);
            writer->last = row;
            expert_message_add_pair(writer, exchange->home_slot[pair]);
        }
}

/* Home rows to the leaders of other nodes. */
static void write_far(struct expert_exchange *exchange, int32_t rows) {
    int32_t self = exchange->ranks->transport->rank;
    if (exchange->rows_of[self] == 0)
        return;
    for (int32_t node = 0; node < exchange->nodes.count; node++) {
        if (node == node_of(exchange, self))
            continue;
        int32_t leader = leader_of(exchange, self, node);
        int64_t pairs = pairs_for_node(exchange, node);
        const struct expert_load load = {
            .sections = 1, .rows = lesser(pairs, rows), .pairs = pairs};
        expert_flow_start_message(exchange, leader, &load);
        expert_message_open(&exchange->writers[leader], self);
    }
    add_own(exchange, rows, true);
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
    for (int32_t home = 0; home < transport->size; home++) {
        const struct expert_load load = {.sections = 1,
                                         .rows = exchange->rows_of[home],
                                         .pairs = exchange->rows_of[home] *
                                                  (int64_t)exchange->limits.top_k};
        if (load.rows > 0 && node_of(exchange, home) != own &&
            leader_of(exchange, home, own) == self)
            receives[(*receive_count)++] = expert_flow_expect_message(exchange, home, &load);
    }
    return transport_exchange(transport, scope, sends, send_count, receives, *receive_count);
}

/* Reads the section of a home on another node, and counts its pairs for each rank of this one. */
static enum status read_far(struct expert_exchange *exchange, const struct transport_scope *scope,
                            const struct transport_receive *receive) {
    struct transport *transport = exchange->ranks->transport;
    struct expert_section section;
    int64_t end = receive->bytes;
    int32_t seen = 0;
    if (expert_message_last(receive->buffer, &end, expert_flow_row_bytes(exchange),
                            exchange->pairs_max, exchange->pairs_max, &section) != 0 ||
        end != 0 || section.source != receive->peer || !expert_flow_fits(exchange, &section))
        return transport_garbled(transport, scope, receive->peer, receive->bytes);
    for (int32_t i = 0; i < section.pairs; i++) {
        struct expert_pair pair = expert_message_pair(&section, i);
        if (pair.row < seen || pair.row >= section.rows || pair.slot < 0 ||
            pair.slot >= exchange->layer->first_slot[transport->size])
            return transport_garbled(transport, scope, receive->peer, receive->bytes);
        seen = pair.row; /* in order, or a row would be copied more than once */
        int32_t rank =
            placement_rank_of(exchange->ranks->placement, exchange->moe_layer, pair.slot);
        if (node_of(exchange, rank) != node_of(exchange, transport->rank))
            return transport_garbled(transport, scope, receive->peer, receive->bytes);
        exchange->led_pairs[rank]++;
    }
    exchange->sections[section.source] = section;
    return STATUS_OK;
}

/* Starts a message to each rank of this node, with room for what is known to go there. */
static void start_near(struct expert_exchange *exchange, int32_t rows,
                       const struct transport_receive *receives, int32_t receive_count) {
    const struct expert_nodes *nodes = &exchange->nodes;
    int32_t node = node_of(exchange, exchange->ranks->transport->rank);
    int64_t all_rows = rows;
    for (int32_t i = 0; i < receive_count; i++)
        all_rows += exchange->sections[receives[i].peer].rows;
    for (int32_t i = nodes->first[node]; i < nodes->first[node + 1]; i++) {
        const int32_t *first = exchange->home_first + nodes->members[i];
        int64_t pairs = first[1] - first[0] + exchange->led_pairs[nodes->members[i]];
        const struct expert_load load = {
            .sections = 1 + receive_count, .rows = lesser(pairs, all_rows), .pairs = pairs};
        expert_flow_start_message(exchange, nodes->members[i], &load);
    }
}

/* Cuts the section of a home on another node down to each rank of this one. */
static void forward(struct expert_exchange *exchange, const struct expert_section *section) {
    size_t row_bytes = expert_flow_row_bytes(exchange);
    open_sections(exchange, section->source);
    for (int32_t i = 0; i < section->pairs; i++) {
        struct expert_pair pair = expert_message_pair(section, i);
        int32_t rank =
            placement_rank_of(exchange->ranks->placement, exchange->moe_layer, pair.slot);
        struct expert_writer *writer = &exchange->writers[rank];
        if (writer->last != pair.row)
            expert_message_add_row(writer, section->row_bytes + (size_t)pair.row * row_bytes,
                                   row_bytes);
        writer->last = pair.row;
        expert_message_add_pair(writer, pair.slot);
    }
    close_sections(exchange);
}

/* Home rows, and those of homes on other nodes, to the ranks of this one. */
static void write_near(struct expert_exchange *exchange, int32_t rows,
                       const struct transport_receive *receives, int32_t receive_count) {
    int32_t self = exchange->ranks->transport->rank;
    start_near(exchange, rows, receives, receive_count);
    if (exchange->rows_of[self] > 0) {
        open_sections(exchange, self);
        add_own(exchange, rows, false);
        close_sections(exchange);
    }
    for (int32_t i = 0; i < receive_count; i++)
        forward(exchange, &exchange->sections[receives[i].peer]);
}

/* What a rank of this node has for the others of it, at most: its own rows and those it leads. */
static struct expert_load load_from(const struct expert_exchange *exchange, int32_t rank) {
    int32_t node = node_of(exchange, rank);
    struct expert_load load = {0};
    for (int32_t home = 0; home < exchange->ranks->transport->size; home++) {
        bool is_led = node_of(exchange, home) != node && leader_of(exchange, home, node) == rank;
        if (exchange->rows_of[home] == 0 || (home != rank && !is_led))
            continue;
        load.sections++;
        load.rows += exchange->rows_of[home];
    }
    load.pairs = load.rows * exchange->limits.top_k;
    return load;
}

/* Inside the node: to and from each rank of it. */
static enum status spread(struct expert_exchange *exchange, const struct transport_scope *scope) {
    struct transport *transport = exchange->ranks->transport;
    const struct expert_nodes *nodes = &exchange->nodes;
    struct transport_send *sends = exchange->sends;
    struct transport_receive *receives = exchange->receives;
    int32_t self = transport->rank, node = node_of(exchange, self);
    int32_t send_count = 0, receive_count = 0;
    bool sending = load_from(exchange, self).sections > 0;
    exchange->incoming.used = 0; /* what came across the network is forwarded */
    for (int32_t i = nodes->first[node]; i < nodes->first[node + 1]; i++) {
        int32_t peer = nodes->members[i];
        if (peer == self)
            continue;
        if (sending)
            sends[send_count++] = (struct transport_send){.peer = peer,
                                                          .data = exchange->writers[peer].message,
                                                          .bytes = exchange->writers[peer].used};
        const struct expert_load load = load_from(exchange, peer);
        if (load.sections > 0)
            receives[receive_count++] = expert_flow_expect_message(exchange, peer, &load);
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
    memset(exchange->led_pairs, 0,
           sizeof *exchange->led_pairs * (size_t)exchange->ranks->transport->size);
    write_far(exchange, rows);
    RETURN_IF_ERROR(cross(exchange, scope, &receive_count));
    for (int32_t i = 0; i < receive_count; i++)
        RETURN_IF_ERROR(read_far(exchange, scope, &exchange->receives[i]));
    write_near(exchange, rows, exchange->receives, receive_count);
    return spread(exchange, scope);
}

const struct expert_flow_ops expert_flow_hierarchical_ops = {.dispatch = dispatch};
