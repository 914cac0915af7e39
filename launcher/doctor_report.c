/* moebius doctor, last part: in plain language. What is the same on all ranks is said once. */
#include "launcher/doctor_report.h"

#include <string.h>

#include "runtime/json_writer.h"
#include "runtime/memory_plan.h"

#define TEXT_SIZE 512
#define LINK_TABLE_RANKS_MAX 16

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
    int32_t nodes = transport_node_count(ranks->transport);
    fprintf(report->out, "%d %s on %d %s:\n", ranks->size, ranks->size == 1 ? "rank" : "ranks",
            nodes, nodes == 1 ? "host" : "hosts");
    for (int32_t node = 0; node < nodes; node++) {
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

void doctor_report_facts(const struct doctor_report *report) {
    print_alike(report, "program", build_text);
    print_alike(report, "MPI", mpi_text);
    print_hosts(report);
    print_alike(report, "binding", binding_text);
    print_alike(report, "kernels", kernels_text);
    print_alike(report, "CUDA devices", cuda_text);
    print_alike(report, "model", model_text);
}

/* ---- links ---- */

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
                fprintf(report->out, " %6.1f us",
                        (double)doctor_links_at(links, row, column)->latency_us);
            else
                fprintf(report->out, " %9.3f",
                        (double)doctor_links_at(links, row, column)->gigabytes_per_s);
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
            const struct doctor_link *link = doctor_links_at(links, a, b);
            if ((node_of[a] != node_of[b]) != is_remote)
                continue;
            if (count == 0 ||
                link->latency_us > doctor_links_at(links, late[0], late[1])->latency_us)
                late[0] = a, late[1] = b;
            if (count == 0 || link->gigabytes_per_s <
                                  doctor_links_at(links, narrow[0], narrow[1])->gigabytes_per_s)
                narrow[0] = a, narrow[1] = b;
            count++;
        }
    }
    if (count == 0 || (count == 1 && links->size <= LINK_TABLE_RANKS_MAX))
        return;
    fprintf(report->out,
            "  slowest of %lld pairs %s: ranks %d-%d with %.1f us, ranks %d-%d with %.3f GB/s\n",
            (long long)count, is_remote ? "across hosts" : "on one host", late[0], late[1],
            (double)doctor_links_at(links, late[0], late[1])->latency_us, narrow[0], narrow[1],
            (double)doctor_links_at(links, narrow[0], narrow[1])->gigabytes_per_s);
}

void doctor_report_links(const struct doctor_report *report, const struct doctor_links *links) {
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
}

/* ---- verdict ---- */

void doctor_report_verdict(const struct doctor_report *report,
                           const struct doctor_findings *findings) {
    for (int32_t i = 0; i < findings->count; i++)
        fprintf(report->out, "%s: %s\n",
                findings->items[i].status == STATUS_OK ? "warning" : "problem",
                findings->items[i].text);
    if (findings->count < findings->problems + findings->warnings)
        fprintf(report->out, "and %d more\n",
                findings->problems + findings->warnings - findings->count);
    char warnings[48] = "";
    if (findings->warnings > 0)
        snprintf(warnings, sizeof warnings, ", %d %s", findings->warnings,
                 findings->warnings == 1 ? "warning" : "warnings");
    if (findings->problems == 0)
        fprintf(report->out, "doctor: all well%s\n", warnings);
    else
        fprintf(report->out, "doctor: %d %s%s\n", findings->problems,
                findings->problems == 1 ? "problem" : "problems", warnings);
}

/* ---- the same for programs ---- */

static void write_rank(const struct doctor_report *report, int32_t rank, struct json_writer *json) {
    const struct doctor_facts *facts = &report->facts[rank];
    char summary[400];
    json_writer_begin_object(json, NULL);
    json_writer_integer(json, "rank", rank);
    json_writer_text(json, "host", report->ranks->transport->host_of[rank]);
    json_writer_integer(json, "threads", facts->threads);
    json_writer_integer(json, "cores", facts->topology.core_count);
    json_writer_integer(json, "cpus", facts->topology.cpu_count);
    json_writer_text(json, "binding",
                     topology_summarize(&facts->topology, summary, sizeof summary));
    json_writer_text(json, "kernels", facts->kernels);
    json_writer_integer(json, "memory_available_bytes", facts->memory_bytes);
    json_writer_integer(json, "cuda_devices", facts->cuda_count);
    json_writer_text(json, "cuda", facts->cuda);
    json_writer_text(json, "model_status", status_name(facts->model_status));
    json_writer_text(json, "model", facts->model);
    json_writer_end_object(json);
}

static void write_links(const struct doctor_links *links, struct json_writer *json) {
    json_writer_integer(json, "latency_message_bytes", links->small_bytes);
    json_writer_integer(json, "bandwidth_message_bytes", links->large_bytes);
    json_writer_begin_array(json, "links");
    for (int32_t a = 0; a < links->size; a++) {
        for (int32_t b = a + 1; b < links->size; b++) {
            const struct doctor_link *link = doctor_links_at(links, a, b);
            json_writer_begin_object(json, NULL);
            json_writer_integer(json, "from", a);
            json_writer_integer(json, "to", b);
            json_writer_number(json, "latency_us", (double)link->latency_us);
            json_writer_number(json, "gigabytes_per_s", (double)link->gigabytes_per_s);
            json_writer_end_object(json);
        }
    }
    json_writer_end_array(json);
}

void doctor_report_json(const struct doctor_report *report, const struct doctor_links *links,
                        const struct doctor_findings *findings) {
    struct json_writer json = {.out = report->out};
    json_writer_begin_object(&json, NULL);
    json_writer_text(&json, "build", report->facts[0].build);
    json_writer_text(&json, "mpi", report->facts[0].mpi);
    json_writer_begin_array(&json, "ranks");
    for (int32_t rank = 0; rank < report->ranks->size; rank++)
        write_rank(report, rank, &json);
    json_writer_end_array(&json);
    write_links(links, &json);
    json_writer_begin_array(&json, "findings");
    for (int32_t i = 0; i < findings->count; i++) {
        json_writer_begin_object(&json, NULL);
        json_writer_text(&json, "kind",
                         findings->items[i].status == STATUS_OK ? "warning" : "problem");
        json_writer_text(&json, "status", status_name(findings->items[i].status));
        json_writer_text(&json, "text", findings->items[i].text);
        json_writer_end_object(&json);
    }
    json_writer_end_array(&json);
    json_writer_integer(&json, "problems", findings->problems);
    json_writer_integer(&json, "warnings", findings->warnings);
    json_writer_text(&json, "verdict", status_name(findings->worst));
    json_writer_end_object(&json);
}
