/* What groups of ranks do together, from transport_exchange alone: point to point, in rank order,
 * every byte counted. `members` are world ranks in ascending order and contain the caller; a group
 * of one is a copy. */
#ifndef MOEBIUS_COMM_COLLECTIVE_H
#define MOEBIUS_COMM_COLLECTIVE_H

#include <stdint.h>

#include "comm/transport.h"

struct collective_group {
    struct transport *transport;
    const int32_t *members; /* [count] */
    int32_t count, self;    /* self: own index */
};

/* members[0]'s buffer to all. *bytes is the length on the root and set on the others (<= capacity).
 * `idle`: the others wait asleep (transport_ops.await), and are woken. Collective. */
enum status collective_broadcast(const struct collective_group *group,
                                 const struct transport_scope *scope, bool idle, void *buffer,
                                 int64_t capacity, int64_t *bytes);

/* Everybody's `mine` to members[0]: there, member i's bytes land at into[i] (capacity each;
 * sizes[i] set). Collective. */
enum status collective_gather(const struct collective_group *group,
                              const struct transport_scope *scope, const void *mine, int64_t bytes,
                              void *const *into, int64_t capacity, int64_t *sizes);

/* Everybody's `bytes` bytes to everybody: all + i * bytes is member i's (the own ones too). `bytes`
 * is the same on all members. Collective. */
enum status collective_share(const struct collective_group *group,
                             const struct transport_scope *scope, const void *mine, int64_t bytes,
                             char *all);

/* The largest status of all members: how ranks agree before they go on or stop. Collective. */
enum status collective_agree(const struct collective_group *group,
                             const struct transport_scope *scope, enum status mine,
                             enum status *agreed);

/* Rows of `columns` f32. partial: [rows][columns], this member's partial sums of all rows. Row r
 * belongs to the member whose slice holds it: slices[i] .. slices[i+1]-1 in the order given by
 * `order` (order[p] = row at place p; NULL: identity). out: the own slice, in order, = sum over
 * members, f32, in a tree in rank order: neighbours 0 + 1, 2 + 3 ..., then 0 + 2 ..., and so on,
 * where both exist. Never a ring. Nothing is sent of or to an empty slice. scratch: see
 * collective_scratch_bytes. Collective. */
struct collective_rows {
    int32_t rows, columns;
    const int32_t *slices; /* [count + 1] */
    const int32_t *order;  /* [rows] or NULL */
    void *scratch;
};
/* slice_rows: of the largest slice; ordered_rows: all rows, or 0 if `order` is never given. Local.
 */
int64_t collective_scratch_bytes(int32_t members, int32_t slice_rows, int32_t ordered_rows,
                                 int32_t columns);
enum status collective_reduce_scatter(const struct collective_group *group,
                                      const struct transport_scope *scope,
                                      const struct collective_rows *rows, const float *partial,
                                      float *out);

/* The way back: `slice` is the own slice in order; full gets all rows, each at its own row number.
 * `slice` may be where it goes when `order` is NULL. Collective. */
enum status collective_all_gather(const struct collective_group *group,
                                  const struct transport_scope *scope,
                                  const struct collective_rows *rows, const float *slice,
                                  float *full);

#endif
