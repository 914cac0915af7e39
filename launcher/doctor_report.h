/* What moebius doctor says: facts, links, and the verdict. Only the coordinator speaks. */
#ifndef MOEBIUS_LAUNCHER_DOCTOR_REPORT_H
#define MOEBIUS_LAUNCHER_DOCTOR_REPORT_H

#include <stdint.h>
#include <stdio.h>

#include "launcher/doctor_facts.h"
#include "launcher/doctor_links.h"

struct doctor_report {
    FILE *out;
    const struct rank_group *ranks;
    const struct doctor_facts *facts; /* [ranks->size] */
    int32_t problems, warnings;
    enum status worst; /* of the problems; the one with the largest number */
};

/* Who is there and what each has, then what is wrong with it. A problem is what would stop a run or
 * change its bits; a warning is what will make it slow. Local. */
void doctor_report_facts(struct doctor_report *report);

/* The table of pairs (a summary in large jobs) and the slowest of them. Local. */
void doctor_report_links(struct doctor_report *report, const struct doctor_links *links);

/* The last line, "doctor: all well" or "doctor: 2 problems"; returns the worst status. Local. */
enum status doctor_report_verdict(const struct doctor_report *report);

#endif
