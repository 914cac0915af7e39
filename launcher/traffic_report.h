/* The traffic accounts for people and for scripts. */
#ifndef MOEBIUS_LAUNCHER_TRAFFIC_REPORT_H
#define MOEBIUS_LAUNCHER_TRAFFIC_REPORT_H

#include <stdio.h>

#include "launcher/job.h"

/* One line a kind: messages and bytes to ranks on the same node and on other nodes; then how local
 * the routing was beside what chance gives. Local. */
void traffic_report_print(FILE *out, const struct traffic *traffic, const struct job_load *load,
                          int32_t ranks);

/* The same as one JSON object, with every layer, into a file. STATUS_IO (logged). Local. */
enum status traffic_report_write(const char *path, const struct traffic *traffic,
                                 const struct job_load *load, int32_t ranks);

#endif
