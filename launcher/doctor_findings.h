/* What moebius doctor finds wrong. A problem is what would stop a run or change its bits; a warning
 * is what will make it slow. Judged on the coordinator, printed by doctor_report and doctor_json.
 */
#ifndef MOEBIUS_LAUNCHER_DOCTOR_FINDINGS_H
#define MOEBIUS_LAUNCHER_DOCTOR_FINDINGS_H

#include <stdint.h>

#include "launcher/doctor_facts.h"
#include "launcher/doctor_links.h"

#define DOCTOR_FINDINGS_MAX 16

struct doctor_finding {
    enum status status; /* of a problem; STATUS_OK: a warning */
    char text[512];
};

struct doctor_findings {
    int32_t problems, warnings; /* all of them */
    enum status worst;          /* of the problems; the one with the largest number */
    int32_t count;              /* kept */
    struct doctor_finding items[DOCTOR_FINDINGS_MAX];
};

/* Judges the facts of all ranks ([ranks->size]) and the links, and adds what it finds to
 * *findings. Local. */
void doctor_findings_judge(const struct rank_group *ranks, const struct doctor_facts *facts,
                           const struct doctor_links *links, struct doctor_findings *findings);

#endif
