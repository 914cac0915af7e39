/* Dispatch and combine: where each pair goes, what a flow brought, and the way back. */
#include "moe/expert_exchange.h"

#include <string.h>

#include "kernels/base/check.h"
#include "moe/expert_cost.h"
#include "moe/expert_flow.h"

static int32_t size_of(const struct expert_exchange *exchange) {
    return exchange->ranks->transport->size;
}

static size_t y_row_bytes(const struct expert_exchange *exchange) {
    return (size_t)exchange->limits.hidden * (size_t)dtype_bytes(exchange->limits.wire_dtype);
}

/* Nodes are numbered by their lowest rank; the members of each in order of rank. */
static void list_nodes(const struct transport *transport, struct expert_nodes *nodes) {
    int32_t listed = 0;
    nodes->count = transport_node_count(transport);
    for (int32_t node = 0; node < nodes->count; node++) {
        nodes->first[node] = listed;
        for (int32_t rank = 0; rank < transport->size; rank++) {
            if (transport->node_of[rank] != node)
                continue;
            nodes->rank_on_node[rank] = listed - nodes->first[node];
            nodes->members[listed++] = rank;
        }
    }
    nodes->first[nodes->count] = listed;
}

/* A message is longer than its share of a pool by its head and by what it is rounded up, twice. */
#define ROUNDING (3 * EXPERT_SECTION_ALIGNMENT)

/* Sections of all messages of an exchange, counted on the safe side: of the hierarchical flow each
 * rank of a node sends its own and those of the homes that it leads, at most one of a node more
 * than others, to each rank there. */
static int64_t count_sections(const struct transport *transport) {
    int64_t nodes = transport_node_count(transport), near = transport->size - nodes + 1;
    return 2 * (int64_t)transport->size + near * nodes;
}

static void take_pool(struct arena *arena, const struct expert_exchange *exchange, int64_t rows,
                      struct expert_pool *pool) {
    const struct transport *transport = exchange->ranks->transport;
    pool->capacity = expert_message_capacity(count_sections(transport), rows, exchange->pairs_max,
                                             expert_flow_row_bytes(exchange)) +
                     transport->size * (int64_t)ROUNDING;
    pool->bytes = arena_take(arena, (size_t)pool->capacity);
}

/* Each copy of a row is made for a pair of its own, so there are at most as many as pairs. */
static void take_messages(struct arena *arena, struct expert_exchange *exchange, bool copy_each) {
    int64_t rows = exchange->limits.rows, ranks = size_of(exchange);
    int64_t top_k = exchange->limits.top_k, copies = rows * (top_k < ranks ? top_k : ranks);
    exchange->home = arena_take(arena, (size_t)exchange->message_bytes);
    take_pool(arena, exchange, copy_each ? exchange->pairs_max : copies, &exchange->outgoing);
    take_pool(arena, exchange, copy_each ? exchange->pairs_max : rows, &exchange->incoming);
    exchange->writers = arena_take(arena, (size_t)ranks * sizeof *exchange->writers);
    exchange->sends = arena_take(arena, (size_t)ranks * sizeof *exchange->sends);
    exchange->receives = arena_take(arena, (size_t)ranks * sizeof *exchange->receives);
    exchange->sections = arena_take(arena, (size_t)ranks * sizeof *exchange->sections);
    exchange->led_pairs = arena_take(arena, (size_t)ranks * sizeof *exchange->led_pairs);
}

void expert_exchange_take(struct arena *arena, const struct expert_ranks *ranks,
                          const struct expert_exchange_limits *limits,
                          struct expert_exchange *exchange) {
    *exchange = (struct expert_exchange){.ranks = ranks,
                                         .limits = *limits,
                                         .pairs_max = limits->rows * limits->top_k,
                                         .links = link_probe_default()};
    size_t count = (size_t)size_of(exchange), rows = (size_t)limits->rows;
    size_t pairs = (size_t)exchange->pairs_max;
    bool copy_each = ranks->flow != EXPERT_FLOW_AUTO && expert_flow_ops_of(ranks->flow)->copy_each;
    size_t copies = copy_each ? pairs : rows;
    exchange->message_bytes = expert_message_capacity(
        (int64_t)count, (int64_t)copies, exchange->pairs_max, expert_flow_row_bytes(exchange));
    int64_t combine = exchange->pairs_max * (int64_t)y_row_bytes(exchange);
    exchange->longest_bytes = combine > exchange->message_bytes ? combine : exchange->message_bytes;
    take_messages(arena, exchange, copy_each);
    exchange->rows_of = arena_take(arena, count * sizeof(int32_t));
    exchange->nodes.first = arena_take(arena, (count + 1) * sizeof(int32_t));
    exchange->nodes.members = arena_take(arena, count * sizeof(int32_t));
    exchange->nodes.rank_on_node = arena_take(arena, count * sizeof(int32_t));
    exchange->home_slot = arena_take(arena, pairs * sizeof(int32_t));
    exchange->home_rank = arena_take(arena, pairs * sizeof(int32_t));
    exchange->home_first = arena_take(arena, (count + 1) * sizeof(int32_t));
    exchange->home_pair = arena_take(arena, pairs * sizeof(int32_t));
    exchange->pair_first = arena_take(arena, (count + 1) * sizeof(int32_t));
    exchange->pair_x = arena_take(arena, pairs * sizeof(char *));
    exchange->pair_slot = arena_take(arena, pairs * sizeof(int32_t));
    exchange->y_place = arena_take(arena, pairs * sizeof(int32_t));
    exchange->row_of = arena_take(arena, pairs * sizeof(int32_t));
    exchange->offsets = arena_take(arena, ((size_t)limits->slots + 1) * sizeof(int32_t));
    exchange->x_at = arena_take(arena, pairs * sizeof(void *));
    exchange->y = arena_take(arena, 2 * pairs * y_row_bytes(exchange));
    if (exchange->nodes.first != NULL)
        list_nodes(ranks->transport, &exchange->nodes);
}

enum status expert_exchange_measure_links(struct expert_exchange *exchange) {
    if (exchange->ranks->flow != EXPERT_FLOW_AUTO)
        return STATUS_OK;
    return link_probe_measure(exchange->ranks->transport, exchange->home,
                              exchange->message_bytes / 2, &exchange->links);
}

/* The flow of this step: as fixed, or what costs least for these rows. */
static enum expert_flow choose_flow(struct expert_exchange *exchange, bool has_rows) {
    const struct transport *transport = exchange->ranks->transport;
    double cost_ns[EXPERT_FLOW_COUNT];
    if (exchange->ranks->flow != EXPERT_FLOW_AUTO)
        return exchange->ranks->flow;
    struct expert_cost_shape shape = {.ranks = transport->size,
                                      .top_k = exchange->limits.top_k,
                                      .row_bytes = (int64_t)expert_flow_row_bytes(exchange),
                                      .nodes = &exchange->nodes,
                                      .node_of = transport->node_of,
                                      .rows_of = exchange->rows_of};
    enum expert_flow flow = expert_cost_choose(&shape, &exchange->links, cost_ns);
    for (int i = 0; has_rows && i < EXPERT_FLOW_COUNT; i++)
        exchange->cost_ns[i] += cost_ns[i];
    return flow;
}

void expert_exchange_begin_step(struct expert_exchange *exchange, const int32_t *rows_of) {
    bool has_rows = false;
    for (int32_t rank = 0; rank < size_of(exchange); rank++) {
        exchange->rows_of[rank] = rows_of[rank];
        has_rows = has_rows || rows_of[rank] > 0;
    }
    enum expert_flow flow = choose_flow(exchange, has_rows);
    exchange->steps_of[flow] += has_rows ? 1 : 0;
    exchange->flow = expert_flow_ops_of(flow);
}

/* ---- dispatch ---- */

/* Where each pair of home is computed, and the pairs of each rank in the order in which they will
 * come back. */
static void aim(struct expert_exchange *exchange, int32_t moe_layer, int32_t rows,
                const int32_t *ids) {
    const struct placement *placement = exchange->ranks->placement;
    const int32_t *target = placement->layer[moe_layer].target +
                            (int64_t)exchange->ranks->transport->rank * placement->experts;
    int32_t *first = exchange->home_first, pairs = rows * exchange->limits.top_k;
    exchange->moe_layer = moe_layer;
    exchange->layer = &placement->layer[moe_layer];
    memset(first, 0, sizeof *first * (size_t)(size_of(exchange) + 1));
    for (int32_t i = 0; i < pairs; i++) {
        exchange->home_slot[i] = target[ids[i]];
        exchange->home_rank[i] = placement_rank_of(placement, moe_layer, exchange->home_slot[i]);
        first[exchange->home_rank[i] + 1]++;
    }
    for (int32_t rank = 0; rank < size_of(exchange); rank++)
        first[rank + 1] += first[rank];
    for (int32_t i = 0; i < pairs; i++)
        exchange->home_pair[first[exchange->home_rank[i]]++] = i;
    memmove(first + 1, first, sizeof *first * (size_t)size_of(exchange));
    first[0] = 0;
}

/* Appends the pairs of one section that are computed here. */
static int take_section(struct expert_exchange *exchange, const struct expert_section *section) {
    size_t row_bytes = expert_flow_row_bytes(exchange);
    const int32_t *first_slot = exchange->layer->first_slot;
    int32_t rank = exchange->ranks->transport->rank, seen = 0;
    int32_t first = first_slot[rank], end = first_slot[rank + 1];
    for (int32_t i = 0; i < section->pairs; i++) {
        struct expert_pair pair = expert_message_pair(section, i);
        if (pair.row < seen || pair.row >= section->rows || pair.slot < 0 ||
            pair.slot >= first_slot[size_of(exchange)])
            return -1;
        seen = pair.row;
        if (pair.slot < first || pair.slot >= end)
            continue; /* another rank's, as whole sections bring them */
        if (exchange->pairs == exchange->pairs_max)
            return -1;
        exchange->pair_x[exchange->pairs] = section->row_bytes + (size_t)pair.row * row_bytes;
        exchange->pair_slot[exchange->pairs++] = pair.slot - first;
    }
    return 0;
}

/* The same for this rank's own rows, which did not travel. */
static void take_own(struct expert_exchange *exchange) {
    size_t row_bytes = expert_flow_row_bytes(exchange);
    int32_t self = exchange->ranks->transport->rank;
    for (int32_t i = exchange->home_first[self]; i < exchange->home_first[self + 1]; i++) {
        int32_t pair = exchange->home_pair[i], row = pair / exchange->limits.top_k;
        exchange->pair_x[exchange->pairs] = exchange->home + (size_t)row * row_bytes;
        exchange->pair_slot[exchange->pairs++] =
            exchange->home_slot[pair] - exchange->layer->first_slot[self];
    }
}

/* What is computed here: by source rank, whatever way it came. */
static enum status take_sections(struct expert_exchange *exchange,
                                 const struct transport_scope *scope) {
    exchange->pairs = 0;
    for (int32_t source = 0; source < size_of(exchange); source++) {
        const struct expert_section *section = &exchange->sections[source];
        exchange->pair_first[source] = exchange->pairs;
        if (source == exchange->ranks->transport->rank)
            take_own(exchange);
        else if (take_section(exchange, section) != 0)
            return transport_garbled(exchange->ranks->transport, scope, source, section->pairs);
    }
    exchange->pair_first[size_of(exchange)] = exchange->pairs;
    return STATUS_OK;
}

/* Sorts the pairs by slot (slots are in order of expert), then by source rank, then as listed (by
 * token). */
static void sort_pairs(struct expert_exchange *exchange) {
    const int32_t *first_slot = exchange->layer->first_slot;
    int32_t rank = exchange->ranks->transport->rank;
    int32_t slots = first_slot[rank + 1] - first_slot[rank];
    int32_t *offsets = exchange->offsets, pairs = exchange->pairs;
    if (slots == 0)
        slots = 1; /* a rank without experts still has one empty stack */
    memset(offsets, 0, sizeof *offsets * (size_t)(slots + 1));
    for (int32_t i = 0; i < pairs; i++)
        offsets[exchange->pair_slot[i] + 1]++;
    for (int32_t s = 0; s < slots; s++)
        offsets[s + 1] += offsets[s];
    for (int32_t i = 0; i < pairs; i++) {
        int32_t place = offsets[exchange->pair_slot[i]]++;
        exchange->y_place[place] = i;
        exchange->x_at[place] = exchange->pair_x[i];
    }
    memmove(offsets + 1, offsets, sizeof *offsets * (size_t)slots);
    offsets[0] = 0;
}

/* Distinct other ranks and nodes that a home row must reach; returns whether it is needed at home.
 * A row has few slots: each is held against those before it. */
static bool count_reach(const struct expert_exchange *exchange, int32_t row,
                        struct traffic *traffic) {
    const struct transport *transport = exchange->ranks->transport;
    const int32_t *ranks = exchange->home_rank + (int64_t)row * exchange->limits.top_k;
    bool at_home = false;
    for (int32_t slot = 0; slot < exchange->limits.top_k; slot++) {
        int32_t node = transport->node_of[ranks[slot]];
        at_home = at_home || ranks[slot] == transport->rank;
        bool new_rank = ranks[slot] != transport->rank;
        bool new_node = node != transport->node_of[transport->rank];
        for (int32_t before = 0; before < slot; before++) {
            new_rank = new_rank && ranks[before] != ranks[slot];
            new_node = new_node && transport->node_of[ranks[before]] != node;
        }
        traffic->fan_out += new_rank ? 1 : 0;
        traffic->node_fan_out += new_node ? 1 : 0;
    }
    return at_home;
}

static void count_locality(const struct expert_exchange *exchange,
                           const struct transport_scope *scope, int32_t rows) {
    struct traffic *traffic = exchange->ranks->transport->traffic;
    int32_t self = exchange->ranks->transport->rank;
    if (traffic == NULL)
        return;
    traffic->tokens += rows;
    traffic->pairs += (int64_t)rows * exchange->limits.top_k;
    traffic->local_pairs += exchange->home_first[self + 1] - exchange->home_first[self];
    traffic->computed_pairs += exchange->pairs;
    int64_t kept = 0; /* rows that need not travel to be computed */
    for (int32_t row = 0; row < rows; row++)
        kept += count_reach(exchange, row, traffic) ? 1 : 0;
    if (kept > 0)
        traffic_count(traffic, scope->layer, scope->kind, TRAFFIC_SELF,
                      kept * (int64_t)expert_flow_row_bytes(exchange));
}

enum status expert_exchange_dispatch(struct expert_exchange *exchange,
                                     const struct transport_scope *scope, int32_t moe_layer,
                                     int32_t rows, const int32_t *ids) {
    ASSERT(rows <= exchange->rows_of[exchange->ranks->transport->rank]);
    aim(exchange, moe_layer, rows, ids);
    exchange->outgoing.used = exchange->incoming.used = 0;
    memset(exchange->sections, 0, sizeof *exchange->sections * (size_t)size_of(exchange));
    RETURN_IF_ERROR(exchange->flow->dispatch(exchange, scope, rows));
    RETURN_IF_ERROR(take_sections(exchange, scope));
    sort_pairs(exchange);
    count_locality(exchange, scope, rows);
    return STATUS_OK;
}

/* ---- combine ---- */

/* Where the outputs of home's pairs stand: what this rank computed itself, and behind that what
 * came. */
static void find_outputs(struct expert_exchange *exchange) {
    int32_t self = exchange->ranks->transport->rank;
    for (int32_t rank = 0; rank < size_of(exchange); rank++) {
        int32_t first = exchange->home_first[rank], count = exchange->home_first[rank + 1] - first;
        int32_t row = rank == self ? exchange->pair_first[self] : exchange->pairs_max + first;
        for (int32_t i = 0; i < count; i++)
            exchange->row_of[exchange->home_pair[first + i]] = row + i;
    }
}

enum status expert_exchange_combine(struct expert_exchange *exchange,
                                    const struct transport_scope *scope) {
    struct transport *transport = exchange->ranks->transport;
    struct transport_send *sends = exchange->sends;
    struct transport_receive *receives = exchange->receives;
    int64_t bytes = (int64_t)y_row_bytes(exchange), kept = 0;
    char *elsewhere = exchange->y + exchange->pairs_max * bytes;
    int32_t send_count = 0, receive_count = 0;
    for (int32_t peer = 0; peer < transport->size; peer++) {
        const int32_t *pair = exchange->pair_first + peer, *home = exchange->home_first + peer;
        int64_t sent = (pair[1] - pair[0]) * bytes, expected = (home[1] - home[0]) * bytes;
        if (peer == transport->rank) {
            kept = expected;
            continue;
        }
        if (sent > 0)
            sends[send_count++] = (struct transport_send){
                .peer = peer, .data = exchange->y + pair[0] * bytes, .bytes = sent};
        if (expected > 0)
            receives[receive_count++] = (struct transport_receive){
                .peer = peer, .buffer = elsewhere + home[0] * bytes, .capacity = expected};
    }
    RETURN_IF_ERROR(
        transport_exchange(transport, scope, sends, send_count, receives, receive_count));
    for (int32_t i = 0; i < receive_count; i++)
        if (receives[i].bytes != receives[i].capacity)
            return transport_garbled(transport, scope, receives[i].peer, receives[i].bytes);
    if (transport->traffic != NULL && kept > 0)
        traffic_count(transport->traffic, scope->layer, scope->kind, TRAFFIC_SELF, kept);
    find_outputs(exchange);
    return STATUS_OK;
}
