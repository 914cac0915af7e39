/* Latency and bandwidth between every pair of ranks, for moebius doctor. */
#ifndef MOEBIUS_LAUNCHER_DOCTOR_LINKS_H
#define MOEBIUS_LAUNCHER_DOCTOR_LINKS_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/rank_group.h"

/* Best of a few repetitions, half of the way there and back. */
struct doctor_link {
    float latency_us;                /* of a small message */
    float gigabytes_per_s;           /* of a large one; 1e9 bytes */
    int32_t is_intact, was_measured; /* what came back was what went out */
};

struct doctor_links {
    int32_t size;
    int64_t small_bytes, large_bytes;
    bool one_by_one;          /* pairs did not disturb each other */
    struct doctor_link *pair; /* [size][size]; a pair stands where row < column */
};

/* Measures every pair: one after the other in small jobs, in rounds of disjoint pairs in large
 * ones. links->pair is complete on the coordinator; release with doctor_links_deinit on all.
 * STATUS_PEER (logged: the link that does not work), STATUS_NO_MEMORY. Collective. */
enum status doctor_links_measure(const struct rank_group *ranks, struct doctor_links *links);
void doctor_links_deinit(struct doctor_links *links);

/* The link of ranks a and b, in either order, a != b. Local. */
const struct doctor_link *doctor_links_at(const struct doctor_links *links, int32_t a, int32_t b);

#endif
