/* All-gather: every token to every rank, in ceil(log2 ranks) messages a rank (Bruck et al., IEEE
 * TPDS 8(11), 1997): in round i a rank hands what it holds of the ranks from itself upwards, up to
 * 2^i of them, to the rank 2^i below. More bytes than an all-to-all, fewer messages: for few
 * tokens on many ranks. */
#include "moe/expert_flow.h"

/* Whether any of `count` ranks from `first` upwards (going round) has rows in this step. */
static bool any_rows(const struct expert_exchange *exchange, int32_t first, int32_t count) {
    int32_t size = exchange->ranks->transport->size;
    for (int32_t i = 0; i < count; i++)
        if (exchange->rows_of[(first + i) % size] > 0)
            return true;
    return false;
}

/* What this rank holds: sections of the ranks from itself upwards, one behind the other; the own
 * rows were there before. */
struct pool {
    char *bytes;
    int64_t used;
    int32_t count; /* ranks */
};

/* Bytes and rows of the pool's first `count` ranks. STATUS_PEER if the pool does not hold just the
 * sections that are due. */
static enum status measure(const struct expert_exchange *exchange,
                           const struct transport_scope *scope, const struct pool *pool,
                           int32_t count, int64_t *bytes, int64_t *rows) {
    struct transport *transport = exchange->ranks->transport;
    int64_t end = *bytes = pool->used;
    *rows = 0;
    for (int32_t i = pool->count - 1; i >= 0; i--) {
        int32_t source = (transport->rank + i) % transport->size;
        struct expert_section section = {0};
        if (exchange->rows_of[source] > 0 &&
            (expert_message_last(pool->bytes, &end, expert_flow_row_bytes(exchange),
                                 exchange->pairs_max, exchange->pairs_max, &section) != 0 ||
             section.source != source))
            return transport_garbled(transport, scope, source, pool->used);
        if (i >= count)
            *bytes = end;
        else
            *rows += section.rows;
    }
    return end == 0 ? STATUS_OK : transport_garbled(transport, scope, transport->rank, end);
}

static enum status run_round(struct expert_exchange *exchange, const struct transport_scope *scope,
                             int32_t distance, struct pool *pool) {
    struct transport *transport = exchange->ranks->transport;
    int32_t size = transport->size, self = transport->rank;
    int32_t count = distance < size - distance ? distance : size - distance;
    int32_t below = (self - distance + size) % size, above = (self + distance) % size;
    struct transport_send send = {.peer = below, .data = pool->bytes};
    struct transport_receive receive = {.peer = above,
                                        .buffer = pool->bytes + pool->used,
                                        .capacity = exchange->message_bytes - pool->used};
    int64_t rows;
    RETURN_IF_ERROR(measure(exchange, scope, pool, count, &send.bytes, &rows));
    int32_t sends = any_rows(exchange, self, count), receives = any_rows(exchange, above, count);
    if (sends > 0)
        expert_flow_count_copies(exchange, rows);
    RETURN_IF_ERROR(transport_exchange(transport, scope, &send, sends, &receive, receives));
    pool->used += receive.bytes;
    pool->count += count;
    return measure(exchange, scope, pool, pool->count, &send.bytes, &rows);
}

static enum status dispatch(struct expert_exchange *exchange, const struct transport_scope *scope,
                            int32_t rows) {
    int32_t self = exchange->ranks->transport->rank;
    struct pool pool = {.bytes = exchange->home, .count = 1};
    pool.used = expert_flow_whole_home(exchange, rows);
    for (int32_t distance = 1; distance < exchange->ranks->transport->size; distance *= 2)
        RETURN_IF_ERROR(run_round(exchange, scope, distance, &pool));
    return expert_flow_read_message(exchange, scope, self, pool.bytes, pool.used);
}

const struct expert_flow_ops expert_flow_allgather_ops = {.dispatch = dispatch};
