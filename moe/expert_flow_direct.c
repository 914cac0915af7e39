/* All-to-all: every home sends to every rank what that rank's experts need, with one copy of a
 * token for each of its experts there (a2a) or one for all of them (a2a-dedup). */
#include "moe/expert_flow.h"

/* A rank of the same node that needs at least so many eighths of the home rows gets all of them
 * from where they stand: to read a row there costs about what it costs to copy one together here.
 * Between nodes a copy costs less than the bytes that it saves. */
#define WHOLE_EIGHTHS 5

static bool goes_whole(const struct expert_exchange *exchange, int32_t peer, int32_t needed,
                       int32_t rows) {
    const struct transport *transport = exchange->ranks->transport;
    return transport->node_of[peer] == transport->node_of[transport->rank] &&
           8 * (int64_t)needed >= WHOLE_EIGHTHS * (int64_t)rows;
}

/* The rows and pairs of home that `peer` needs. */
static void write_message(struct expert_exchange *exchange, int32_t peer, int32_t rows,
                          bool copy_each) {
    size_t row_bytes = expert_flow_row_bytes(exchange);
    int32_t top_k = exchange->limits.top_k, next = 0;
    const int32_t *first = exchange->home_first + peer;
    struct expert_writer *writer = &exchange->writers[peer];
    const struct expert_load load = {.sections = 1,
                                     .rows = copy_each ? first[1] - first[0] : rows,
                                     .pairs = first[1] - first[0]};
    expert_flow_start_message(exchange, peer, &load);
    expert_message_open(writer, exchange->ranks->transport->rank);
    for (int32_t i = first[0]; i < first[1]; i++) {
        int32_t pair = exchange->home_pair[i];
        if (copy_each || pair >= next) {
            int32_t row = pair / top_k;
            expert_message_add_row(writer, exchange->home + (size_t)row * row_bytes, row_bytes);
            next = (row + 1) * top_k;
        }
        expert_message_add_pair(writer, exchange->home_slot[pair]);
    }
    expert_message_close(writer, row_bytes);
}

/* What this rank sends to all others; returns how many messages. */
static int32_t write_messages(struct expert_exchange *exchange, int32_t rows, bool copy_each) {
    struct transport *transport = exchange->ranks->transport;
    int64_t whole_bytes = 0;
    int32_t count = 0;
    for (int32_t peer = 0; peer < transport->size; peer++) {
        if (peer == transport->rank || exchange->rows_of[transport->rank] == 0)
            continue;
        struct transport_send *send = &exchange->sends[count++];
        int32_t needed = expert_flow_rows_for(exchange, peer);
        *send = (struct transport_send){.peer = peer};
        if (!copy_each && goes_whole(exchange, peer, needed, rows)) {
            if (whole_bytes == 0)
                whole_bytes = expert_flow_whole_home(exchange, rows);
            send->data = exchange->home;
            send->bytes = whole_bytes;
            expert_flow_count_copies(exchange, rows);
            continue;
        }
        write_message(exchange, peer, needed, copy_each);
        send->data = exchange->writers[peer].message;
        send->bytes = exchange->writers[peer].used;
        expert_flow_count_copies(exchange, exchange->writers[peer].row_count);
    }
    return count;
}

static enum status dispatch(struct expert_exchange *exchange, const struct transport_scope *scope,
                            int32_t rows, bool copy_each) {
    struct transport *transport = exchange->ranks->transport;
    struct transport_receive *receives = exchange->receives;
    int32_t send_count = write_messages(exchange, rows, copy_each), receive_count = 0;
    for (int32_t peer = 0; peer < transport->size; peer++) {
        int64_t theirs = exchange->rows_of[peer], pairs = theirs * exchange->limits.top_k;
        if (peer == transport->rank || theirs == 0)
            continue;
        const struct expert_load load = {
            .sections = 1, .rows = copy_each ? pairs : theirs, .pairs = pairs};
        receives[receive_count++] = expert_flow_expect_message(exchange, peer, &load);
    }
    RETURN_IF_ERROR(
        transport_exchange(transport, scope, exchange->sends, send_count, receives, receive_count));
    for (int32_t i = 0; i < receive_count; i++)
        RETURN_IF_ERROR(expert_flow_read_message(exchange, scope, receives[i].peer,
                                                 receives[i].buffer, receives[i].bytes));
    return STATUS_OK;
}

static enum status dispatch_each(struct expert_exchange *exchange,
                                 const struct transport_scope *scope, int32_t rows) {
    return dispatch(exchange, scope, rows, true);
}

static enum status dispatch_once(struct expert_exchange *exchange,
                                 const struct transport_scope *scope, int32_t rows) {
    return dispatch(exchange, scope, rows, false);
}

const struct expert_flow_ops expert_flow_direct_a2a_ops = {.dispatch = dispatch_each,
                                                           .copy_each = true};
const struct expert_flow_ops expert_flow_direct_dedup_ops = {.dispatch = dispatch_once};
