/* moebius doctor, last part: in plain language. What is the same on all ranks is said once. */
#include "launcher/doctor_report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/memory_plan.h"

#define TEXT_SIZE 512
#define LINK_TABLE_RANKS_MAX 16

static void say_problem(struct doctor_report *report, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void say_problem(struct doctor_report *report, enum status status, const char *format, ...) {
    char text[TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(report->out, "problem: %s\n", text);
    report->problems++;
    if (status > report->worst)
        report->worst = status;
}

/* ---- what is the same is said once ---- */

typedef void (*text_of)(const struct doctor_report *report, int32_t rank, char *text, size_t size);

/* The last rank of a run of ranks on one host with the same text as `first`. */
static int32_t last_alike(const struct doctor_report *report, int32_t first, text_of describe) {
    char text[TEXT_SIZE], other[TEXT_SIZE];
    describe(report, first, text, sizeof text);
    int32_t last = first;
    while (last + 1 < report->ranks->size) {
        describe(report, last + 1, other, sizeof other);
        if (strcmp(text, other) != 0)
            break;
        last++;
    }
    return last;
}

static bool is_alike(const struct doctor_report *report, text_of describe) {
    return last_alike(report, 0, describe) == report->ranks->size - 1;
}

static void print_alike(const struct doctor_report *report, const char *title, text_of describe) {
    char text[TEXT_SIZE];
    if (is_alike(report, describe)) {
        describe(report, 0, text, sizeof text);
        fprintf(report->out, "%s: %s\n", title, text);
        return;
    }
    fprintf(report->out, "%s:\n", title);
    for (int32_t rank = 0; rank < report->ranks->size;) {
        int32_t last = last_alike(report, rank, describe);
        describe(report, rank, text, sizeof text);
        if (last > rank)
            fprintf(report->out, "  ranks %d-%d: %s\n", rank, last, text);
        else
            fprintf(report->out, "  rank %d: %s\n", rank, text);
        rank = last + 1;
    }
}

static void build_text(const struct doctor_report *report, int32_t rank, char *text, size_t size) {
    snprintf(text, size, "%s", report->facts[rank].build);
}

static void mpi_text(const struct doctor_report *report, int32_t rank, char *text, size_t size) {
    snprintf(text, size, "%s", report->facts[rank].mpi);
}

static void kernels_text(const struct doctor_report *report, int32_t rank, char *text,
                         size_t size) {
    snprintf(text, size, "%s", report->facts[rank].kernels);
}

static void cuda_text(const struct doctor_report *report, int32_t rank, char *text, size_t size) {
    const struct doctor_facts *facts = &report->facts[rank];
    if (facts->cuda_count == 0)
        snprintf(text, size, "none: %s", facts->cuda);
    else
        snprintf(text, size, "%d: %s%s", facts->cuda_count, facts->cuda,
                 facts->cuda_count > 1 ? " (the first)" : "");
}

static void model_text(const struct doctor_report *report, int32_t rank, char *text, size_t size) {
    const struct doctor_facts *facts = &report->facts[rank];
    if (facts->model_status == STATUS_OK)
        snprintf(text, size, "%s", facts->model);
    else
        snprintf(text, size, "cannot be opened (%s; see the rank's own line above)",
                 status_name(facts->model_status));
}

static void binding_text(const struct doctor_report *report, int32_t rank, char *text,
                         size_t size) {
    const struct doctor_facts *facts = &report->facts[rank];
    char summary[400];
    if (facts->topology_status != STATUS_OK)
        snprintf(summary, sizeof summary, "unknown (%s)", status_name(facts->topology_status));
    else
        topology_summarize(&facts->topology, summary, sizeof summary);
    snprintf(text, size, "%d %s on %s", facts->threads, facts->threads == 1 ? "thread" : "threads",
             summary);
}

/* ---- facts ---- */

static void print_hosts(const struct doctor_report *report) {
    const struct rank_group *ranks = report->ranks;
    fprintf(report->out, "%d %s on %d %s:\n", ranks->size, ranks->size == 1 ? "rank" : "ranks",
            ranks->node_count, ranks->node_count == 1 ? "host" : "hosts");
    for (int32_t node = 0; node < ranks->node_count; node++) {
        char memory[32] = "";
        int32_t count = 0, first = 0;
        for (int32_t rank = ranks->size - 1; rank >= 0; rank--) {
            if (ranks->transport->node_of[rank] != node)
                continue;
            first = rank;
            count++;
        }
        memory_plan_format(report->facts[first].memory_bytes, memory, sizeof memory);
        fprintf(report->out, "  %-20s %s available, %s", ranks->transport->host_of[first], memory,
                count == 1 ? "rank" : "ranks");
        for (int32_t rank = first, left = count; left > 0; rank++) {
            if (ranks->transport->node_of[rank] != node)
                continue;
            fprintf(report->out, " %d", rank);
            left--;
        }
        fprintf(report->out, "\n");
    }
}

static void check_model(struct doctor_report *report) {
    const struct rank_group *ranks = report->ranks;
    int32_t failed = 0, first = -1;
    enum status worst = STATUS_OK;
    for (int32_t rank = 0; rank < ranks->size; rank++) {
        enum status status = report->facts[rank].model_status;
        if (status == STATUS_OK)
            continue;
        first = failed++ == 0 ? rank : first;
        worst = status > worst ? status : worst;
    }
    if (failed > 0)
        say_problem(report, worst, "%d of %d ranks cannot open the model, first rank %d on %s",
                    failed, ranks->size, first, ranks->transport->host_of[first]);
    else if (!is_alike(report, model_text))
        say_problem(report, STATUS_PEER,
                    "the ranks do not see the same model: give the same "
                    "folder to all");
}

/* Memory is counted once a host. */
static void check_memory(struct doctor_report *report) {
    const struct rank_group *ranks = report->ranks;
    int32_t next_node = 0;
    double available = 0;
    for (int32_t rank = 0; rank < ranks->size; rank++) {
        if (ranks->transport->node_of[rank] != next_node)
            continue; /* nodes are numbered by their lowest rank */
        next_node++;
        available += (double)report->facts[rank].memory_bytes;
    }
    char needed[32];
    int64_t checkpoint = report->facts[0].checkpoint_bytes;
    if ((double)checkpoint <= available)
        return;
    say_problem(report, STATUS_NO_MEMORY,
                "the checkpoint is %s, more than what all hosts together have available: take "
                "more hosts",
                memory_plan_format(checkpoint, needed, sizeof needed));
}

static void check_binding(struct doctor_report *report) {
    const struct rank_group *ranks = report->ranks;
    char warning[TEXT_SIZE];
    bool is_known = true;
    struct topology_place *places = calloc((size_t)ranks->size, sizeof *places);
    for (int32_t rank = 0; rank < ranks->size; rank++) {
        const struct doctor_facts *facts = &report->facts[rank];
        if (facts->topology_status != STATUS_OK)
            is_known = false;
        if (places != NULL)
            places[rank] = (struct topology_place){.node = ranks->transport->node_of[rank],
                                                   .host = ranks->transport->host_of[rank],
                                                   .threads = facts->threads,
                                                   .topology = &facts->topology};
    }
    if (!is_known)
        say_problem(report, STATUS_UNSUPPORTED, "the binding of some ranks is unknown");
    else if (places != NULL &&
             !topology_check_binding(places, ranks->size, warning, sizeof warning)) {
        fprintf(report->out, "warning: %s\n", warning);
        report->warnings++;
    }
    free(places);
}

void doctor_report_facts(struct doctor_report *report) {
    print_alike(report, "program", build_text);
    print_alike(report, "MPI", mpi_text);
    print_hosts(report);
    print_alike(report, "binding", binding_text);
    print_alike(report, "kernels", kernels_text);
    print_alike(report, "CUDA devices", cuda_text);
    print_alike(report, "model", model_text);
    if (!is_alike(report, mpi_text))
        say_problem(report, STATUS_PEER, "the ranks do not use the same MPI library");
    if (!is_alike(report, kernels_text))
        say_problem(report, STATUS_PEER,
                    "the ranks' CPUs differ, and so would the bits: give --cpu-isa NAME with one "
                    "that all can run");
    check_model(report);
    check_memory(report);
    check_binding(report);
}

/* ---- links ---- */

static const struct doctor_link *link_at(const struct doctor_links *links, int32_t a, int32_t b) {
    int32_t low = a < b ? a : b, high = a < b ? b : a;
    return &links->pair[(int64_t)low * links->size + high];
}

static void print_table(const struct doctor_report *report, const struct doctor_links *links) {
    fprintf(report->out, "%10s", "");
    for (int32_t column = 0; column < links->size; column++)
        fprintf(report->out, " %9d", column);
    for (int32_t row = 0; row < links->size; row++) {
        fprintf(report->out, "\n  rank %-3d", row);
        for (int32_t column = 0; column < links->size; column++) {
            if (column == row)
                fprintf(report->out, " %9s", "-");
            else if (column > row)
                fprintf(report->out, " %6.1f us", (double)link_at(links, row, column)->latency_us);
            else
                fprintf(report->out, " %9.3f",
                        (double)link_at(links, row, column)->gigabytes_per_s);
        }
    }
    fprintf(report->out, "\n");
}

/* The slowest pairs of one distance. */
static void print_slowest(const struct doctor_report *report, const struct doctor_links *links,
                          bool is_remote) {
    const int32_t *node_of = report->ranks->transport->node_of;
    int64_t count = 0;
    int32_t late[2] = {0, 0}, narrow[2] = {0, 0};
    for (int32_t a = 0; a < links->size; a++) {
        for (int32_t b = a + 1; b < links->size; b++) {
            const struct doctor_link *link = link_at(links, a, b);
            if ((node_of[a] != node_of[b]) != is_remote)
                continue;
            if (count == 0 || link->latency_us > link_at(links, late[0], late[1])->latency_us)
                late[0] = a, late[1] = b;
            if (count == 0 ||
                link->gigabytes_per_s < link_at(links, narrow[0], narrow[1])->gigabytes_per_s)
                narrow[0] = a, narrow[1] = b;
            count++;
        }
    }
    if (count == 0 || (count == 1 && links->size <= LINK_TABLE_RANKS_MAX))
        return;
    fprintf(report->out,
            "  slowest of %lld pairs %s: ranks %d-%d with %.1f us, ranks %d-%d with %.3f GB/s\n",
            (long long)count, is_remote ? "across hosts" : "on one host", late[0], late[1],
            (double)link_at(links, late[0], late[1])->latency_us, narrow[0], narrow[1],
            (double)link_at(links, narrow[0], narrow[1])->gigabytes_per_s);
}

void doctor_report_links(struct doctor_report *report, const struct doctor_links *links) {
    if (links->size == 1) {
        fprintf(report->out, "links: none, one rank\n");
        return;
    }
    fprintf(report->out,
            "links: latency of %lld KiB (upper right), GB/s of %lld KiB (lower left)%s\n",
            (long long)(links->small_bytes >> 10), (long long)(links->large_bytes >> 10),
            links->one_by_one ? "" : "; measured in rounds, many pairs at once");
    if (links->size <= LINK_TABLE_RANKS_MAX)
        print_table(report, links);
    print_slowest(report, links, false);
    print_slowest(report, links, true);
    for (int32_t a = 0; a < links->size; a++)
        for (int32_t b = a + 1; b < links->size; b++)
            if (!link_at(links, a, b)->was_measured || !link_at(links, a, b)->is_intact)
                say_problem(report, STATUS_PEER,
                            "ranks %d on %s and %d on %s: other bytes came back than were sent", a,
                            report->ranks->transport->host_of[a], b,
                            report->ranks->transport->host_of[b]);
}

/* ---- verdict ---- */

enum status doctor_report_verdict(const struct doctor_report *report) {
    char warnings[48] = "";
    if (report->warnings > 0)
        snprintf(warnings, sizeof warnings, ", %d %s", report->warnings,
                 report->warnings == 1 ? "warning" : "warnings");
    if (report->problems == 0)
        fprintf(report->out, "doctor: all well%s\n", warnings);
    else
        fprintf(report->out, "doctor: %d %s%s\n", report->problems,
                report->problems == 1 ? "problem" : "problems", warnings);
    return report->worst;
}
