/* Memory that the ranks of one node have in common: what is the same on all of them (replicated
 * weights) is read once and held once. */
#ifndef MOEBIUS_COMM_NODE_MEMORY_H
#define MOEBIUS_COMM_NODE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "comm/collective.h"

/* A zero-filled region of `bytes` (the same on all members; may be 0), mapped by all members of
 * `group`, which are on one node: what one writes the others see after the next message from it. It
 * has no name and is gone with the last process that maps it, however that ends. Pages lie near
 * whoever writes them first.
 *
 * *is_shared: false when the group is of one, or when its ranks cannot reach each other's memory
 * (containers of their own; a warning says so): then each has a region of its own. STATUS_NO_MEMORY
 * (logged), on all members alike, STATUS_PEER. Free with memory_release(region, bytes). Collective.
 */
enum status node_memory_acquire(const struct collective_group *group, const char *what,
                                size_t bytes, void **region, bool *is_shared);

#endif
