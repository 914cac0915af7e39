/* Dispatch and combine: the two messages of an MoE layer. */
#include "moe/expert_exchange.h"

#include <string.h>

#include "kernels/base/check.h"

/* What a message starts with. */
struct message_head {
    int32_t rows, pairs;
};

struct message_pair {
    int32_t row, slot; /* row of the message, expert slot on the receiver */
};

static int32_t size_of(const struct expert_exchange *exchange) {
    return exchange->ranks->transport->size;
}

static size_t row_bytes(const struct expert_exchange *exchange) {
    return (size_t)exchange->limits.hidden * (size_t)dtype_bytes(exchange->limits.act_dtype);
}

static size_t x_stride_bytes(const struct expert_exchange *exchange) {
    return (size_t)(activation_stride(exchange->limits.hidden) *
                    dtype_bytes(exchange->limits.act_dtype));
}

static size_t y_row_bytes(const struct expert_exchange *exchange) {
    return (size_t)exchange->limits.hidden * (size_t)dtype_bytes(exchange->limits.wire_dtype);
}

void expert_exchange_take(struct arena *arena, const struct expert_ranks *ranks,
                          const struct expert_exchange_limits *limits,
                          struct expert_exchange *exchange) {
    *exchange = (struct expert_exchange){.ranks = ranks, .limits = *limits};
    size_t count = (size_t)size_of(exchange), rows = (size_t)limits->rows;
    size_t pairs = rows * (size_t)limits->top_k;
    size_t copies = ranks->flow == EXPERT_FLOW_A2A ? pairs : rows;
    size_t dispatch = sizeof(struct message_head) + pairs * sizeof(struct message_pair) +
                      copies * row_bytes(exchange);
    size_t combine = pairs * y_row_bytes(exchange);
    exchange->copies = (int32_t)copies;
    exchange->message_bytes = (int64_t)(dispatch > combine ? dispatch : combine);
    exchange->outgoing = arena_take(arena, count * sizeof(char *));
    exchange->incoming = arena_take(arena, count * sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        char *outgoing = arena_take(arena, (size_t)exchange->message_bytes);
        char *incoming = arena_take(arena, (size_t)exchange->message_bytes);
        if (exchange->outgoing == NULL)
            continue;
        exchange->outgoing[i] = outgoing;
        exchange->incoming[i] = incoming;
    }
    exchange->x = arena_take(arena, copies * x_stride_bytes(exchange));
    exchange->x_first = arena_take(arena, (count + 1) * sizeof(int32_t));
    exchange->pair_first = arena_take(arena, (count + 1) * sizeof(int32_t));
    exchange->pair_row = arena_take(arena, pairs * sizeof(int32_t));
    exchange->pair_slot = arena_take(arena, pairs * sizeof(int32_t));
    exchange->pair_place = arena_take(arena, pairs * sizeof(int32_t));
    exchange->offsets = arena_take(arena, ((size_t)limits->slots + 1) * sizeof(int32_t));
    exchange->source = arena_take(arena, pairs * sizeof(int32_t));
    exchange->home_pair = arena_take(arena, count * pairs * sizeof(int32_t));
    exchange->home_count = arena_take(arena, count * sizeof(int32_t));
    exchange->y_home = arena_take(arena, pairs * y_row_bytes(exchange));
}

/* ---- dispatch ---- */

/* A message being written: pairs from the front, rows behind the most pairs that there can be. */
struct writer {
    struct message_head head;
    struct message_pair *pairs;
    char *rows;
};

/* The pairs are listed first, rows follow at once behind them in the end; while writing, rows are
 * kept at a fixed place. */
static struct writer writer_of(struct expert_exchange *exchange, int32_t peer) {
    char *message = exchange->outgoing[peer] + sizeof(struct message_head);
    size_t pairs = (size_t)exchange->limits.rows * (size_t)exchange->limits.top_k;
    return (struct writer){.pairs = (struct message_pair *)(void *)message,
                           .rows = message + pairs * sizeof(struct message_pair)};
}

static void write_row(const struct expert_exchange *exchange, struct writer *writer,
                      const char *x) {
    memcpy(writer->rows + (size_t)writer->head.rows * row_bytes(exchange), x, row_bytes(exchange));
    writer->head.rows++;
}

/* Lists one peer's share of the home rows. Rows go in ascending order, slots of a row in slot
 * order. */
static int64_t write_message(struct expert_exchange *exchange, int32_t moe_layer, int32_t peer,
                             int32_t rows, const int32_t *ids, const char *x) {
    const struct placement *placement = exchange->ranks->placement;
    const struct placement_layer *layer = &placement->layer[moe_layer];
    int32_t top_k = exchange->limits.top_k, home = exchange->ranks->transport->rank;
    const int32_t *target = layer->target + (int64_t)home * placement->experts;
    int32_t first = layer->first_slot[peer], end = layer->first_slot[peer + 1];
    int32_t *home_pair =
        exchange->home_pair + (int64_t)peer * exchange->limits.rows * exchange->limits.top_k;
    struct writer writer = writer_of(exchange, peer);
    bool all = exchange->ranks->flow == EXPERT_FLOW_ALLGATHER;
    bool each = exchange->ranks->flow == EXPERT_FLOW_A2A;
    for (int32_t row = 0; row < rows; row++) {
        const char *from = x + (size_t)row * x_stride_bytes(exchange);
        bool sent = false;
        if (all) {
            write_row(exchange, &writer, from);
            sent = true;
        }
        for (int32_t slot = 0; slot < top_k; slot++) {
            int32_t at = target[ids[row * top_k + slot]];
            if (at < first || at >= end)
                continue;
            if (!sent || each)
                write_row(exchange, &writer, from);
            sent = true;
            home_pair[writer.head.pairs] = row * top_k + slot;
            writer.pairs[writer.head.pairs++] =
                (struct message_pair){.row = writer.head.rows - 1, .slot = at - first};
        }
    }
    exchange->home_count[peer] = writer.head.pairs;
    memcpy(exchange->outgoing[peer], &writer.head, sizeof writer.head);
    size_t pair_bytes = (size_t)writer.head.pairs * sizeof(struct message_pair);
    size_t bytes = (size_t)writer.head.rows * row_bytes(exchange);
    memmove((char *)writer.pairs + pair_bytes, writer.rows, bytes);
    return (int64_t)(sizeof writer.head + pair_bytes + bytes);
}

/* Takes one source's message apart, behind what the sources before it brought. Returns -1 if it
 * cannot be one. */
static int read_message(struct expert_exchange *exchange, int32_t source, const char *message,
                        int64_t bytes, int32_t slots) {
    struct message_head head;
    if (bytes < (int64_t)sizeof head)
        return -1;
    memcpy(&head, message, sizeof head);
    int64_t most = (int64_t)exchange->limits.rows * exchange->limits.top_k;
    if (head.rows < 0 || head.rows > most || head.pairs < 0 || head.pairs > most ||
        bytes != (int64_t)(sizeof head + (size_t)head.pairs * sizeof(struct message_pair) +
                           (size_t)head.rows * row_bytes(exchange)))
        return -1;
    const char *pairs = message + sizeof head;
    const char *rows = pairs + (size_t)head.pairs * sizeof(struct message_pair);
    int32_t x_first = exchange->x_first[source], pair_first = exchange->pair_first[source];
    if (head.pairs > most - pair_first || head.rows > exchange->copies - x_first)
        return -1;
    for (int32_t i = 0; i < head.pairs; i++) {
        struct message_pair pair;
        memcpy(&pair, pairs + (size_t)i * sizeof pair, sizeof pair);
        if (pair.row < 0 || pair.row >= head.rows || pair.slot < 0 || pair.slot >= slots)
            return -1;
        exchange->pair_row[pair_first + i] = x_first + pair.row;
        exchange->pair_slot[pair_first + i] = pair.slot;
    }
    size_t stride = x_stride_bytes(exchange);
    for (int32_t i = 0; i < head.rows; i++) {
        char *to = exchange->x + (size_t)(x_first + i) * stride;
        memcpy(to, rows + (size_t)i * row_bytes(exchange), row_bytes(exchange));
        memset(to + row_bytes(exchange), 0, stride - row_bytes(exchange));
    }
    exchange->x_first[source + 1] = x_first + head.rows;
    exchange->pair_first[source + 1] = pair_first + head.pairs;
    return 0;
}

/* Sorts the pairs by slot (slots are in order of expert), then by source rank, then as listed (by
 * token). */
static void sort_pairs(struct expert_exchange *exchange, int32_t slots) {
    int32_t *offsets = exchange->offsets, pairs = exchange->pairs;
    memset(offsets, 0, sizeof *offsets * (size_t)(slots + 1));
    for (int32_t i = 0; i < pairs; i++)
        offsets[exchange->pair_slot[i] + 1]++;
    for (int32_t s = 0; s < slots; s++)
        offsets[s + 1] += offsets[s];
    for (int32_t i = 0; i < pairs; i++) {
        int32_t place = offsets[exchange->pair_slot[i]]++;
        exchange->pair_place[i] = place;
        exchange->source[place] = exchange->pair_row[i];
    }
    memmove(offsets + 1, offsets, sizeof *offsets * (size_t)slots);
    offsets[0] = 0;
}

static void count_locality(const struct expert_exchange *exchange, int32_t rows,
                           const int64_t *bytes) {
    struct traffic *traffic = exchange->ranks->transport->traffic;
    int32_t self = exchange->ranks->transport->rank;
    if (traffic == NULL)
        return;
    traffic->tokens += rows;
    traffic->pairs += (int64_t)rows * exchange->limits.top_k;
    traffic->local_pairs += exchange->home_count[self];
    traffic->computed_pairs += exchange->pairs;
    for (int32_t peer = 0; peer < size_of(exchange); peer++) {
        struct message_head head;
        memcpy(&head, exchange->outgoing[peer], sizeof head);
        if (peer != self && bytes[peer] > 0)
            traffic->copies += head.rows;
    }
}

enum status expert_exchange_dispatch(struct expert_exchange *exchange,
                                     const struct transport_scope *scope, int32_t moe_layer,
                                     int32_t rows, const int32_t *ids, const void *x_act) {
    struct transport *transport = exchange->ranks->transport;
    struct transport_send sends[TRANSPORT_RANKS_MAX] = {{0}};
    struct transport_receive receives[TRANSPORT_RANKS_MAX] = {{0}};
    int64_t sent[TRANSPORT_RANKS_MAX] = {0}, received[TRANSPORT_RANKS_MAX] = {0};
    int32_t count = 0;
    ASSERT(rows <= exchange->limits.rows);
    for (int32_t peer = 0; peer < transport->size; peer++) {
        sent[peer] = write_message(exchange, moe_layer, peer, rows, ids, x_act);
        if (peer == transport->rank)
            continue;
        sends[count] = (struct transport_send){
            .peer = peer, .data = exchange->outgoing[peer], .bytes = sent[peer]};
        receives[count] = (struct transport_receive){
            .peer = peer, .buffer = exchange->incoming[peer], .capacity = exchange->message_bytes};
        count++;
    }
    RETURN_IF_ERROR(transport_exchange(transport, scope, sends, count, receives, count));
    for (int32_t i = 0; i < count; i++)
        received[receives[i].peer] = receives[i].bytes;
    received[transport->rank] = sent[transport->rank];

    const int32_t *first_slot = exchange->ranks->placement->layer[moe_layer].first_slot;
    int32_t slots = first_slot[transport->rank + 1] - first_slot[transport->rank];
    exchange->x_first[0] = exchange->pair_first[0] = 0;
    for (int32_t source = 0; source < transport->size; source++) {
        const char *message =
            source == transport->rank ? exchange->outgoing[source] : exchange->incoming[source];
        if (read_message(exchange, source, message, received[source], slots) != 0)
            return transport_garbled(transport, scope, source, received[source]);
    }
    exchange->pairs = exchange->pair_first[transport->size];
    sort_pairs(exchange,
               slots > 0 ? slots : 1); /* a rank without experts still has one empty stack */
    count_locality(exchange, rows, sent);
    return STATUS_OK;
}

/* ---- combine ---- */

static int64_t write_outputs(struct expert_exchange *exchange, int32_t home, const char *y) {
    size_t bytes = y_row_bytes(exchange);
    int32_t first = exchange->pair_first[home], end = exchange->pair_first[home + 1];
    char *to = exchange->outgoing[home];
    for (int32_t i = first; i < end; i++, to += bytes)
        memcpy(to, y + (size_t)exchange->pair_place[i] * bytes, bytes);
    return (int64_t)((size_t)(end - first) * bytes);
}

static void read_outputs(struct expert_exchange *exchange, int32_t from, const char *message) {
    size_t bytes = y_row_bytes(exchange);
    const int32_t *home_pair =
        exchange->home_pair + (int64_t)from * exchange->limits.rows * exchange->limits.top_k;
    for (int32_t i = 0; i < exchange->home_count[from]; i++)
        memcpy(exchange->y_home + (size_t)home_pair[i] * bytes, message + (size_t)i * bytes, bytes);
}

enum status expert_exchange_combine(struct expert_exchange *exchange,
                                    const struct transport_scope *scope, const void *y) {
    struct transport *transport = exchange->ranks->transport;
    struct transport_send sends[TRANSPORT_RANKS_MAX] = {{0}};
    struct transport_receive receives[TRANSPORT_RANKS_MAX] = {{0}};
    int32_t count = 0;
    for (int32_t peer = 0; peer < transport->size; peer++) {
        int64_t bytes = write_outputs(exchange, peer, y);
        if (peer == transport->rank)
            continue;
        sends[count] =
            (struct transport_send){.peer = peer, .data = exchange->outgoing[peer], .bytes = bytes};
        receives[count] = (struct transport_receive){
            .peer = peer, .buffer = exchange->incoming[peer], .capacity = exchange->message_bytes};
        count++;
    }
    RETURN_IF_ERROR(transport_exchange(transport, scope, sends, count, receives, count));
    for (int32_t i = 0; i < count; i++) {
        int32_t peer = receives[i].peer;
        int64_t expected = exchange->home_count[peer] * (int64_t)y_row_bytes(exchange);
        if (receives[i].bytes != expected)
            return transport_garbled(transport, scope, peer, receives[i].bytes);
        read_outputs(exchange, peer, exchange->incoming[peer]);
    }
    read_outputs(exchange, transport->rank, exchange->outgoing[transport->rank]);
    return STATUS_OK;
}
