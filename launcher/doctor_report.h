/* What moebius doctor says, in plain language. Only the coordinator speaks. */
#ifndef MOEBIUS_LAUNCHER_DOCTOR_REPORT_H
#define MOEBIUS_LAUNCHER_DOCTOR_REPORT_H

#include <stdint.h>
#include <stdio.h>

#include "launcher/doctor_facts.h"
#include "launcher/doctor_findings.h"
#include "launcher/doctor_links.h"

struct doctor_report {
    FILE *out;
    const struct rank_group *ranks;
    const struct doctor_facts *facts; /* [ranks->size] */
};

/* Who is there and what each has. Local. */
void doctor_report_facts(const struct doctor_report *report);

/* The table of pairs (left out in large jobs) and the slowest of them. Local. */
void doctor_report_links(const struct doctor_report *report, const struct doctor_links *links);

/* A line for each finding, then the last line: "doctor: all well" or "doctor: 2 problems". Local.
 */
void doctor_report_verdict(const struct doctor_report *report,
                           const struct doctor_findings *findings);

/* Everything as one JSON object: build, mpi, ranks, links, findings, verdict. Local. */
void doctor_report_json(const struct doctor_report *report, const struct doctor_links *links,
                        const struct doctor_findings *findings);

#endif
