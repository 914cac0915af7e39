/* The traffic accounts for people and for scripts. */
#ifndef MOEBIUS_LAUNCHER_TRAFFIC_REPORT_H
#define MOEBIUS_LAUNCHER_TRAFFIC_REPORT_H

#include <stdio.h>

#include "launcher/job.h"
#include "moe/expert_exchange.h"

struct traffic_facts {
    const struct traffic *traffic; /* of all ranks */
    const struct job_load *load;
    int32_t ranks;
    const struct expert_exchange *exchange; /* of any rank: all choose alike. NULL: no experts, or
                                               all on one rank */
};

/* One line a kind, then one a layer with experts: messages and bytes that stayed on a rank, went to
 * the same node, to other nodes; then how local the routing was beside what chance gives, and which
 * flow the steps took and why. Local. */
void traffic_report_print(FILE *out, const struct traffic_facts *facts);

/* The same as one JSON object, with every kind in every layer, into a file. STATUS_IO (logged).
 * Local. */
enum status traffic_report_write(const char *path, const struct traffic_facts *facts);

#endif
