/* All-to-all: every home sends to every rank what that rank's experts need, with one copy of a
 * token for each of its experts there (a2a) or one for all of them (a2a-dedup). */
#include "moe/expert_flow.h"

static void write_messages(struct expert_exchange *exchange, int32_t rows, const char *x,
                           bool copy_each) {
    size_t row_bytes = expert_flow_row_bytes(exchange);
    int32_t size = exchange->ranks->transport->size, top_k = exchange->limits.top_k;
    for (int32_t peer = 0; peer < size; peer++) {
        expert_flow_start_message(exchange, peer);
        expert_message_open(&exchange->writers[peer], exchange->ranks->transport->rank);
    }
    for (int32_t row = 0; row < rows; row++)
        for (int32_t pair = row * top_k; pair < (row + 1) * top_k; pair++) {
            struct expert_writer *writer = &exchange->writers[exchange->home_rank[pair]];
            if (exchange->home_rank[pair] == exchange->ranks->transport->rank)
                continue;
            if (writer->last != row || copy_each)
                expert_message_add_row(writer, x + (size_t)row * row_bytes, row_bytes);
            writer->last = row;
            expert_message_add_pair(writer, exchange->home_slot[pair]);
        }
    for (int32_t peer = 0; peer < size; peer++)
        expert_message_close(&exchange->writers[peer], row_bytes);
}

static enum status dispatch(struct expert_exchange *exchange, const struct transport_scope *scope,
                            int32_t rows, const char *x, bool copy_each) {
    struct transport *transport = exchange->ranks->transport;
    struct transport_send *sends = exchange->sends;
    struct transport_receive *receives = exchange->receives;
    int32_t self = transport->rank, send_count = 0, receive_count = 0;
    write_messages(exchange, rows, x, copy_each);
    for (int32_t peer = 0; peer < transport->size; peer++) {
        const struct expert_writer *writer = &exchange->writers[peer];
        if (peer == self)
            continue;
        if (exchange->rows_of[self] > 0) {
            sends[send_count++] = (struct transport_send){
                .peer = peer, .data = writer->message, .bytes = writer->used};
            expert_flow_count_copies(exchange, writer->row_count);
        }
        int64_t theirs = exchange->rows_of[peer], pairs = theirs * exchange->limits.top_k;
        if (theirs > 0)
            receives[receive_count++] = (struct transport_receive){
                .peer = peer,
                .buffer = exchange->incoming[peer],
                .capacity = expert_message_capacity(1, copy_each ? pairs : theirs, pairs,
                                                    expert_flow_row_bytes(exchange))};
    }
    RETURN_IF_ERROR(
        transport_exchange(transport, scope, sends, send_count, receives, receive_count));
    for (int32_t i = 0; i < receive_count; i++)
        RETURN_IF_ERROR(expert_flow_read_message(exchange, scope, receives[i].peer,
                                                 receives[i].buffer, receives[i].bytes));
    return STATUS_OK;
}

static enum status dispatch_each(struct expert_exchange *exchange,
                                 const struct transport_scope *scope, int32_t rows, const char *x) {
    return dispatch(exchange, scope, rows, x, true);
}

static enum status dispatch_once(struct expert_exchange *exchange,
                                 const struct transport_scope *scope, int32_t rows, const char *x) {
    return dispatch(exchange, scope, rows, x, false);
}

const struct expert_flow_ops expert_flow_direct_a2a_ops = {.dispatch = dispatch_each,
                                                           .copy_each = true};
const struct expert_flow_ops expert_flow_direct_dedup_ops = {.dispatch = dispatch_once};
