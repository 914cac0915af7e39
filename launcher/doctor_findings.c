/* moebius doctor: judges what the ranks told and what the links showed. */
#include "launcher/doctor_findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/topology_binding.h"
#include "kernels/cpu_features.h"

#define UNLIKE_LINKS 4.0f /* of pairs across hosts: the best bandwidth over the worst */

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
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is not seen when it is inlined
    vsnprintf(finding->text, sizeof finding->text, format, arguments);
    va_end(arguments);
}

static const char *host_of(const struct judge *judge, int32_t rank) {
    return judge->ranks->transport->host_of[rank];
}

static void check_mpi(struct judge *judge) {
    int32_t other = 0;
    for (int32_t rank = judge->ranks->size - 1; rank > 0; rank--)
        if (strcmp(judge->facts[rank].mpi, judge->facts[0].mpi) != 0)
            other = rank;
    if (other > 0)
        find(judge, STATUS_PEER, "the ranks do not use the same MPI library, first rank %d on %s",
             other, host_of(judge, other));
}

/* The engine lowers all ranks to the least (start_agreement_facts). */
static void check_kernels(struct judge *judge) {
    int32_t least = 0, most = 0;
    const struct doctor_facts *facts = judge->facts;
    for (int32_t rank = 1; rank < judge->ranks->size; rank++) {
        least = facts[rank].isa < facts[least].isa ? rank : least;
        most = facts[rank].isa > facts[most].isa ? rank : most;
    }
    if (facts[least].isa < facts[most].isa)
        find(judge, STATUS_OK, "all ranks will use %s, the best of rank %d on %s; others have %s",
             cpu_isa_name((enum cpu_isa)facts[least].isa), least, host_of(judge, least),
             cpu_isa_name((enum cpu_isa)facts[most].isa));
}

/* The ranks for which something is so. */
struct rank_count {
    int32_t count, first; /* first: 0 when there are none */
    enum status worst;
};

static void count_rank(struct rank_count *ranks, int32_t rank, enum status status) {
    ranks->first = ranks->count++ == 0 ? rank : ranks->first;
    ranks->worst = status > ranks->worst ? status : ranks->worst;
}

static void check_model(struct judge *judge) {
    int32_t other = 0, size = judge->ranks->size;
    struct rank_count failed = {0}, unread = {0}, missing = {0};
    for (int32_t rank = 0; rank < size; rank++) {
        const struct doctor_facts *facts = &judge->facts[rank];
        if (facts->model_status != STATUS_OK)
            count_rank(&failed, rank, facts->model_status);
        if (facts->tokenizer_status != STATUS_OK)
            count_rank(&unread, rank, facts->tokenizer_status);
        if (facts->lacks_tokenizer != 0)
            count_rank(&missing, rank, STATUS_OK);
        if (facts->digest != judge->facts[0].digest && other == 0)
            other = rank;
    }
    if (failed.count > 0)
        find(judge, failed.worst, "%d of %d ranks cannot open the model, first rank %d on %s",
             failed.count, size, failed.first, host_of(judge, failed.first));
    else if (other > 0)
        find(judge, STATUS_PEER,
             "the ranks do not have the same model: config.json, generation_config.json or weights "
             "of rank %d on %s are not those of rank 0: give the same folder to all",
             other, host_of(judge, other));
    if (unread.count > 0)
        find(judge, unread.worst, "%d of %d ranks cannot read tokenizer.json, first rank %d on %s",
             unread.count, size, unread.first, host_of(judge, unread.first));
    if (missing.count > 0)
        find(judge, STATUS_OK,
             "%d of %d ranks have no tokenizer.json, first rank %d on %s: serve needs "
             "--skip-tokenizer-init then, and generate --token-ids",
             missing.count, size, missing.first, host_of(judge, missing.first));
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
    else if (!topology_binding_check(places, size, warning, sizeof warning))
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

static bool is_faster(const struct doctor_link *link, const struct doctor_link *other) {
    return other == NULL || link->gigabytes_per_s > other->gigabytes_per_s;
}

/* Every step waits for the slowest link. Those inside a host are not alike by nature, and pairs
 * that were measured at the same time shared some. */
static void compare_links(struct judge *judge, const struct doctor_links *links) {
    const int32_t *node_of = judge->ranks->transport->node_of;
    const struct doctor_link *best = NULL, *worst = NULL;
    int32_t of_best[2] = {0, 0}, of_worst[2] = {0, 0};
    for (int32_t a = 0; links->one_by_one && a < links->size; a++) {
        for (int32_t b = a + 1; b < links->size; b++) {
            const struct doctor_link *link = doctor_links_at(links, a, b);
            if (node_of[a] == node_of[b] || !link->was_measured)
                continue;
            if (is_faster(link, best))
                best = link, of_best[0] = a, of_best[1] = b;
            if (worst == NULL || is_faster(worst, link))
                worst = link, of_worst[0] = a, of_worst[1] = b;
        }
    }
    if (best == NULL || best->gigabytes_per_s < UNLIKE_LINKS * worst->gigabytes_per_s)
        return;
    find(judge, STATUS_OK,
         "the links between hosts are not alike: rank %d on %s and rank %d on %s have %.3f GB/s, "
         "rank %d on %s and rank %d on %s %.3f",
         of_worst[0], host_of(judge, of_worst[0]), of_worst[1], host_of(judge, of_worst[1]),
         (double)worst->gigabytes_per_s, of_best[0], host_of(judge, of_best[0]), of_best[1],
         host_of(judge, of_best[1]), (double)best->gigabytes_per_s);
}

void doctor_findings_judge(const struct rank_group *ranks, const struct doctor_facts *facts,
                           const struct doctor_links *links, struct doctor_findings *findings) {
    struct judge judge = {.ranks = ranks, .facts = facts, .findings = findings};
    check_mpi(&judge);
    check_kernels(&judge);
    check_model(&judge);
    check_binding(&judge);
    check_links(&judge, links);
    compare_links(&judge, links);
}
