/* Collectives over transport_exchange. Sums are made at the owner, in a tree in rank order: what a
 * row's sum is must not depend on who owns it, which is just what shuffling changes. */
#include "comm/collective.h"

#include <string.h>

#include "kernels/base/check.h"
#include "kernels/dtype.h"

enum status collective_broadcast(const struct collective_group *group,
                                 const struct transport_scope *scope, bool idle, void *buffer,
                                 int64_t capacity, int64_t *bytes) {
    if (group->count == 1)
        return STATUS_OK;
    if (group->self == 0) {
        struct transport_send sends[TRANSPORT_RANKS_MAX];
        for (int32_t i = 1; i < group->count; i++)
            sends[i - 1] = (struct transport_send){
                .peer = group->members[i], .data = buffer, .bytes = *bytes, .is_awaited = idle};
        return transport_exchange(group->transport, scope, sends, group->count - 1, NULL, 0);
    }
    struct transport_receive receive = {
        .peer = group->members[0], .buffer = buffer, .capacity = capacity};
    if (idle)
        RETURN_IF_ERROR(group->transport->ops->await(group->transport, scope, &receive));
    else
        RETURN_IF_ERROR(transport_exchange(group->transport, scope, NULL, 0, &receive, 1));
    *bytes = receive.bytes;
    return STATUS_OK;
}

enum status collective_gather(const struct collective_group *group,
                              const struct transport_scope *scope, const void *mine, int64_t bytes,
                              void *const *into, int64_t capacity, int64_t *sizes) {
    if (group->self != 0) {
        struct transport_send send = {.peer = group->members[0], .data = mine, .bytes = bytes};
        return transport_exchange(group->transport, scope, &send, 1, NULL, 0);
    }
    struct transport_receive receives[TRANSPORT_RANKS_MAX];
    for (int32_t i = 1; i < group->count; i++)
        receives[i - 1] = (struct transport_receive){
            .peer = group->members[i], .buffer = into[i], .capacity = capacity};
    RETURN_IF_ERROR(
        transport_exchange(group->transport, scope, NULL, 0, receives, group->count - 1));
    ASSERT(bytes <= capacity);
    if (into[0] != mine)
        memcpy(into[0], mine, (size_t)bytes);
    sizes[0] = bytes;
    for (int32_t i = 1; i < group->count; i++)
        sizes[i] = receives[i - 1].bytes;
    return STATUS_OK;
}

enum status collective_share(const struct collective_group *group,
                             const struct transport_scope *scope, const void *mine, int64_t bytes,
                             char *all) {
    struct transport_send sends[TRANSPORT_RANKS_MAX] = {{0}};
    struct transport_receive receives[TRANSPORT_RANKS_MAX] = {{0}};
    int32_t count = 0;
    memcpy(all + group->self * bytes, mine, (size_t)bytes);
    for (int32_t i = 0; i < group->count; i++) {
        if (i == group->self)
            continue;
        sends[count] =
            (struct transport_send){.peer = group->members[i], .data = mine, .bytes = bytes};
        receives[count] = (struct transport_receive){
            .peer = group->members[i], .buffer = all + i * bytes, .capacity = bytes};
        count++;
    }
    RETURN_IF_ERROR(transport_exchange(group->transport, scope, sends, count, receives, count));
    for (int32_t i = 0; i < count; i++)
        if (receives[i].bytes != bytes)
            return transport_garbled(group->transport, scope, receives[i].peer, receives[i].bytes);
    return STATUS_OK;
}

enum status collective_agree(const struct collective_group *group,
                             const struct transport_scope *scope, enum status mine,
                             enum status *agreed) {
    int32_t own = (int32_t)mine, all[TRANSPORT_RANKS_MAX] = {0};
    RETURN_IF_ERROR(collective_share(group, scope, &own, sizeof own, (char *)(void *)all));
    *agreed = mine;
    for (int32_t i = 0; i < group->count; i++)
        if (all[i] > (int32_t)*agreed && all[i] < STATUS_COUNT)
            *agreed = (enum status)all[i];
    return STATUS_OK;
}

/* ---- rows of a tensor-parallel group ---- */

static int32_t row_at(const struct collective_rows *rows, int32_t place) {
    return rows->order != NULL ? rows->order[place] : place;
}

static int64_t slice_elements(const struct collective_rows *rows, int32_t member) {
    return (int64_t)(rows->slices[member + 1] - rows->slices[member]) * rows->columns;
}

int64_t collective_scratch_bytes(int32_t members, int32_t slice_rows, int32_t ordered_rows,
                                 int32_t columns) {
    /* All rows in another order, then every other member's share of the own slice. */
    int64_t rows = ordered_rows + (int64_t)(members - 1) * slice_rows;
    return (int64_t)sizeof(float) * rows * columns;
}

/* The rows of one member's slice, one after another: where they stand if rows are in order, else
 * gathered in scratch. */
static const float *share_of(const struct collective_rows *rows, int32_t member, const float *all) {
    int64_t first = (int64_t)rows->slices[member] * rows->columns;
    if (rows->order == NULL)
        return all + first;
    float *share = (float *)rows->scratch + first;
    for (int32_t place = rows->slices[member]; place < rows->slices[member + 1]; place++)
        memcpy((float *)rows->scratch + (int64_t)place * rows->columns,
               all + (int64_t)row_at(rows, place) * rows->columns,
               (size_t)rows->columns * sizeof(float));
    return share;
}

/* Receives from every other member what the slices say; a message of another length is no part of a
 * sum. Members with nothing to send or to get are not talked to. */
static enum status swap_rows(const struct collective_group *group,
                             const struct transport_scope *scope, struct transport_send *sends,
                             struct transport_receive *receives) {
    int32_t send_count = 0, receive_count = 0;
    for (int32_t member = 0; member < group->count; member++) {
        if (member == group->self)
            continue;
        sends[member].peer = receives[member].peer = group->members[member];
        if (sends[member].bytes > 0)
            sends[send_count++] = sends[member];
        if (receives[member].capacity > 0)
            receives[receive_count++] = receives[member];
    }
    RETURN_IF_ERROR(
        transport_exchange(group->transport, scope, sends, send_count, receives, receive_count));
    for (int32_t i = 0; i < receive_count; i++)
        if (receives[i].bytes != receives[i].capacity)
            return transport_garbled(group->transport, scope, receives[i].peer, receives[i].bytes);
    return STATUS_OK;
}

static void add_rows(float *to, const float *from, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        to[i] += from[i];
}

enum status collective_reduce_scatter(const struct collective_group *group,
                                      const struct transport_scope *scope,
                                      const struct collective_rows *rows, const float *partial,
                                      float *out) {
    struct transport_send sends[TRANSPORT_RANKS_MAX];
    struct transport_receive receives[TRANSPORT_RANKS_MAX];
    float *shares[TRANSPORT_RANKS_MAX], *next = rows->scratch;
    if (rows->order != NULL)
        next += (int64_t)rows->rows * rows->columns;
    int64_t own = slice_elements(rows, group->self);
    size_t own_bytes = (size_t)own * sizeof(float);
    ASSERT(group->count >= 1);
    for (int32_t member = 0; member < group->count; member++) {
        const float *share = share_of(rows, member, partial);
        shares[member] = member == group->self ? out : next;
        if (member == group->self) {
            memcpy(out, share, own_bytes);
            continue;
        }
        sends[member] = (struct transport_send){
            .data = share, .bytes = slice_elements(rows, member) * (int64_t)sizeof(float)};
        receives[member] =
            (struct transport_receive){.buffer = next, .capacity = (int64_t)own_bytes};
        next += own;
    }
    RETURN_IF_ERROR(swap_rows(group, scope, sends, receives));
    for (int32_t step = 1; step < group->count; step *= 2)
        for (int32_t member = 0; member + step < group->count; member += 2 * step)
            add_rows(shares[member], shares[member + step], own);
    if (group->self != 0)
        memcpy(out, shares[0], own_bytes);
    return STATUS_OK;
}

enum status collective_all_gather(const struct collective_group *group,
                                  const struct transport_scope *scope,
                                  const struct collective_rows *rows, const float *slice,
                                  float *full) {
    size_t row_bytes = (size_t)rows->columns * sizeof(float);
    struct transport_send sends[TRANSPORT_RANKS_MAX];
    struct transport_receive receives[TRANSPORT_RANKS_MAX];
    float *incoming = rows->order == NULL ? full : rows->scratch;
    int64_t own = slice_elements(rows, group->self) * (int64_t)sizeof(float);
    for (int32_t member = 0; member < group->count; member++) {
        sends[member] = (struct transport_send){.data = slice, .bytes = own};
        receives[member] = (struct transport_receive){
            .buffer = incoming + (int64_t)rows->slices[member] * rows->columns,
            .capacity = slice_elements(rows, member) * (int64_t)sizeof(float)};
    }
    float *home = incoming + (int64_t)rows->slices[group->self] * rows->columns;
    if (own > 0 && home != slice)
        memcpy(home, slice, (size_t)own);
    RETURN_IF_ERROR(swap_rows(group, scope, sends, receives));
    for (int32_t place = 0; rows->order != NULL && place < rows->rows; place++)
        memcpy(full + (int64_t)rows->order[place] * rows->columns,
               incoming + (int64_t)place * rows->columns, row_bytes);
    return STATUS_OK;
}
