/* moebius doctor: judges what the ranks told and what the links showed. */
#include "launcher/doctor_findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/memory_plan.h"

struct judge {
    const struct rank_group *ranks;
    const struct doctor_facts *facts; /* [ranks->size] */
    struct doctor_findings *findings;
};

static void find(struct judge *judge, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* STATUS_OK: a warning. */
static void find(struct judge *judge, enum status status, const char *format, ...) {
    struct doctor_findings *findings = judge->findings;
    if (status == STATUS_OK)
        findings->warnings++;
    else
        findings->problems++;
    if (status > findings->worst)
        findings->worst = status;
    if (findings->count == DOCTOR_FINDINGS_MAX)
        return;
    struct doctor_finding *finding = &findings->items[findings->count++];
    finding->status = status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->text, sizeof finding->text, format, arguments);
    va_end(arguments);
}

static const char *host_of(const struct judge *judge, int32_t rank) {
    return judge->ranks->transport->host_of[rank];
}

static void check_likeness(struct judge *judge) {
    int32_t other_mpi = 0, other_kernels = 0;
    const struct doctor_facts *facts = judge->facts;
    for (int32_t rank = judge->ranks->size - 1; rank > 0; rank--) {
        if (strcmp(facts[rank].mpi, facts[0].mpi) != 0)
            other_mpi = rank;
        if (strcmp(facts[rank].kernels, facts[0].kernels) != 0)
            other_kernels = rank;
    }
    if (other_mpi > 0)
        find(judge, STATUS_PEER, "the ranks do not use the same MPI library, first rank %d on %s",
             other_mpi, host_of(judge, other_mpi));
    if (other_kernels > 0)
        find(judge, STATUS_PEER,
             "the ranks' CPUs differ, and so would the bits, first rank %d on %s: give --cpu-isa "
             "NAME with one that all can run",
             other_kernels, host_of(judge, other_kernels));
}

static void check_model(struct judge *judge) {
    int32_t failed = 0, first = -1, other = 0, size = judge->ranks->size;
    enum status worst = STATUS_OK;
    for (int32_t rank = 0; rank < size; rank++) {
        enum status status = judge->facts[rank].model_status;
        if (strcmp(judge->facts[rank].model, judge->facts[0].model) != 0 && other == 0)
            other = rank;
        if (status == STATUS_OK)
            continue;
        first = failed++ == 0 ? rank : first;
        worst = status > worst ? status : worst;
    }
    if (failed > 0)
        find(judge, worst, "%d of %d ranks cannot open the model, first rank %d on %s", failed,
             size, first, host_of(judge, first));
    else if (other > 0)
        find(
            judge, STATUS_PEER,
            "the ranks do not see the same model, first rank %d on %s: give the same folder to all",
            other, host_of(judge, other));
}

/* Memory is counted once a host. */
static void check_memory(struct judge *judge) {
    int32_t next_node = 0;
    double available = 0;
    for (int32_t rank = 0; rank < judge->ranks->size; rank++) {
        if (judge->ranks->transport->node_of[rank] != next_node)
            continue; /* nodes are numbered by their lowest rank */
        next_node++;
        available += (double)judge->facts[rank].memory_bytes;
    }
    char needed[32];
    int64_t checkpoint = judge->facts[0].checkpoint_bytes;
    if ((double)checkpoint > available)
        find(judge, STATUS_NO_MEMORY,
             "the checkpoint is %s, more than what all hosts together have available: take more "
             "hosts",
             memory_plan_format(checkpoint, needed, sizeof needed));
}

static void check_binding(struct judge *judge) {
    int32_t size = judge->ranks->size;
    char warning[400];
    struct topology_place *places = calloc((size_t)size, sizeof *places);
    bool is_known = places != NULL;
    for (int32_t rank = 0; is_known && rank < size; rank++) {
        const struct doctor_facts *facts = &judge->facts[rank];
        is_known = facts->topology_status == STATUS_OK;
        places[rank] = (struct topology_place){.node = judge->ranks->transport->node_of[rank],
                                               .host = host_of(judge, rank),
                                               .threads = facts->threads,
                                               .topology = &facts->topology};
    }
    if (!is_known)
        find(judge, STATUS_UNSUPPORTED, "the binding of some ranks is unknown");
    else if (!topology_check_binding(places, size, warning, sizeof warning))
        find(judge, STATUS_OK, "%s", warning);
    free(places);
}

static void check_links(struct judge *judge, const struct doctor_links *links) {
    for (int32_t a = 0; a < links->size; a++) {
        for (int32_t b = a + 1; b < links->size; b++) {
            const struct doctor_link *link = doctor_links_at(links, a, b);
            if (link->was_measured && link->is_intact)
                continue;
            find(judge, STATUS_PEER,
                 "rank %d on %s and rank %d on %s: other bytes came back than were sent", a,
                 host_of(judge, a), b, host_of(judge, b));
        }
    }
}

void doctor_findings_judge(const struct rank_group *ranks, const struct doctor_facts *facts,
                           const struct doctor_links *links, struct doctor_findings *findings) {
    struct judge judge = {.ranks = ranks, .facts = facts, .findings = findings};
    check_likeness(&judge);
    check_model(&judge);
    check_memory(&judge);
    check_binding(&judge);
    check_links(&judge, links);
}
