/* generate --traffic: what crossed, counted where it was sent. */
#include "launcher/traffic_report.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/json_writer.h"

static double share(int64_t part, int64_t whole) {
    return whole > 0 ? (double)part / (double)whole : 0.0;
}

static const struct traffic_cell *cells_of(const struct traffic *traffic, int32_t layer,
                                           enum traffic_kind kind) {
    return traffic->cells +
           ((int64_t)layer * TRAFFIC_KIND_COUNT + (int64_t)kind) * TRAFFIC_DISTANCE_COUNT;
}

static bool is_empty(const struct traffic_cell *cells) {
    return cells[TRAFFIC_SELF].bytes + cells[TRAFFIC_NODE].messages +
               cells[TRAFFIC_REMOTE].messages ==
           0;
}

static void print_row(FILE *out, const char *layer, const char *kind,
                      const struct traffic_cell *cells) {
    fprintf(out,
            "| %s | %s | %" PRId64 " | %" PRId64 " | %" PRId64 " | %" PRId64 " | %" PRId64 " |\n",
            layer, kind, cells[TRAFFIC_SELF].bytes, cells[TRAFFIC_NODE].messages,
            cells[TRAFFIC_NODE].bytes, cells[TRAFFIC_REMOTE].messages, cells[TRAFFIC_REMOTE].bytes);
}

static void print_cells(FILE *out, const struct traffic *traffic) {
    fprintf(out,
            "\n| layer | kind | bytes kept on the rank | messages, same node | bytes, same node "
            "| messages, other node | bytes, other node |\n|---|---|---|---|---|---|---|\n");
    for (int kind = 0; kind < TRAFFIC_KIND_COUNT; kind++) {
        struct traffic_cell total[TRAFFIC_DISTANCE_COUNT];
        for (int distance = 0; distance < TRAFFIC_DISTANCE_COUNT; distance++)
            total[distance] =
                traffic_total(traffic, (enum traffic_kind)kind, (enum traffic_distance)distance);
        if (!is_empty(total))
            print_row(out, "all", traffic_kind_name((enum traffic_kind)kind), total);
    }
    for (int32_t layer = 0; layer < traffic->layers; layer++)
        for (int kind = 0; kind < TRAFFIC_KIND_COUNT; kind++) {
            const struct traffic_cell *cells = cells_of(traffic, layer, (enum traffic_kind)kind);
            char number[16];
            snprintf(number, sizeof number, "%d", layer);
            if (!is_empty(cells))
                print_row(out, number, traffic_kind_name((enum traffic_kind)kind), cells);
        }
}

/* Which flow, in how many steps; with `auto` also why. */
static void print_flows(FILE *out, const struct expert_exchange *exchange) {
    const struct link_costs *links = &exchange->links;
    bool chosen = exchange->ranks->flow == EXPERT_FLOW_AUTO;
    int64_t steps = 0;
    fprintf(out, "moe flow %s:", expert_flow_name(exchange->ranks->flow));
    for (int flow = 0; flow < EXPERT_FLOW_COUNT; flow++) {
        if (exchange->steps_of[flow] > 0)
            fprintf(out, "%s %s in %" PRId64 " steps", steps > 0 ? "," : "",
                    expert_flow_name((enum expert_flow)flow), exchange->steps_of[flow]);
        steps += exchange->steps_of[flow];
    }
    if (chosen && steps > 0) {
        fprintf(out, "; one dispatch was reckoned to take, on average over the steps,");
        for (int flow = 0; flow < EXPERT_FLOW_COUNT; flow++)
            if (exchange->cost_ns[flow] > 0.0)
                fprintf(out, " %s %.1f us,", expert_flow_name((enum expert_flow)flow),
                        exchange->cost_ns[flow] / (double)steps * 1e-3);
        fprintf(out, " with %.1f us and %.2f GB/s on a node, %.1f us and %.2f GB/s between nodes",
                links->node.latency_ns * 1e-3, 1.0 / links->node.byte_ns,
                links->remote.latency_ns * 1e-3, 1.0 / links->remote.byte_ns);
    }
    fprintf(out, "\n");
}

static double load_ratio(const struct job_load *load) {
    return load->computed_mean > 0.0 ? (double)load->computed_max / load->computed_mean : 1.0;
}

void traffic_report_print(FILE *out, const struct traffic_facts *facts) {
    const struct traffic *traffic = facts->traffic;
    print_cells(out, traffic);
    fprintf(
        out,
        "ranks %d; local activation rate %.3f (chance: %.3f); fan-out %.3f ranks and %.3f other "
        "nodes a token and layer, %.3f copies; load max/mean %.2f; waited %.3f s, transferred "
        "%.3f s over all ranks\n",
        facts->ranks, share(traffic->local_pairs, traffic->pairs), 1.0 / facts->ranks,
        share(traffic->fan_out, traffic->tokens), share(traffic->node_fan_out, traffic->tokens),
        share(traffic->copies, traffic->tokens), load_ratio(facts->load),
        (double)traffic->wait_ns * 1e-9, (double)traffic->transfer_ns * 1e-9);
    if (facts->exchange != NULL)
        print_flows(out, facts->exchange);
}

static void write_layer(struct json_writer *json, const struct traffic *traffic, int32_t layer) {
    json_writer_begin_object(json, NULL);
    json_writer_integer(json, "layer", layer < traffic->layers ? layer : -1);
    for (int kind = 0; kind < TRAFFIC_KIND_COUNT; kind++) {
        const struct traffic_cell *cells = cells_of(traffic, layer, (enum traffic_kind)kind);
        if (is_empty(cells))
            continue;
        json_writer_begin_object(json, traffic_kind_name((enum traffic_kind)kind));
        json_writer_integer(json, "self_bytes", cells[TRAFFIC_SELF].bytes);
        json_writer_integer(json, "node_messages", cells[TRAFFIC_NODE].messages);
        json_writer_integer(json, "node_bytes", cells[TRAFFIC_NODE].bytes);
        json_writer_integer(json, "remote_messages", cells[TRAFFIC_REMOTE].messages);
        json_writer_integer(json, "remote_bytes", cells[TRAFFIC_REMOTE].bytes);
        json_writer_end_object(json);
    }
    json_writer_end_object(json);
}

static void write_link(struct json_writer *json, const char *key, const struct link_cost *link) {
    json_writer_begin_object(json, key);
    json_writer_number(json, "latency_seconds", link->latency_ns * 1e-9);
    json_writer_number(json, "bytes_per_second", 1e9 / link->byte_ns);
    json_writer_end_object(json);
}

static void write_flows(struct json_writer *json, const struct expert_exchange *exchange) {
    json_writer_text(json, "moe_flow", expert_flow_name(exchange->ranks->flow));
    json_writer_begin_object(json, "flow_steps");
    int64_t steps = 0; /* 0: nothing was reckoned */
    for (int flow = 0; flow < EXPERT_FLOW_COUNT; flow++) {
        json_writer_integer(json, expert_flow_name((enum expert_flow)flow),
                            exchange->steps_of[flow]);
        steps += exchange->steps_of[flow];
    }
    json_writer_end_object(json);
    if (exchange->ranks->flow != EXPERT_FLOW_AUTO)
        return;
    json_writer_begin_object(json, "reckoned_dispatch_seconds");
    for (int flow = 0; flow < EXPERT_FLOW_COUNT; flow++)
        if (exchange->cost_ns[flow] > 0.0)
            json_writer_number(json, expert_flow_name((enum expert_flow)flow),
                               exchange->cost_ns[flow] / (double)steps * 1e-9);
    json_writer_end_object(json);
    write_link(json, "node_link", &exchange->links.node);
    write_link(json, "remote_link", &exchange->links.remote);
}

static void write_locality(struct json_writer *json, const struct traffic_facts *facts) {
    const struct traffic *traffic = facts->traffic;
    json_writer_integer(json, "ranks", facts->ranks);
    json_writer_number(json, "local_activation_rate", share(traffic->local_pairs, traffic->pairs));
    json_writer_number(json, "chance", 1.0 / facts->ranks);
    json_writer_number(json, "fan_out", share(traffic->fan_out, traffic->tokens));
    json_writer_number(json, "node_fan_out", share(traffic->node_fan_out, traffic->tokens));
    json_writer_integer(json, "tokens", traffic->tokens);
    json_writer_integer(json, "pairs", traffic->pairs);
    json_writer_integer(json, "local_pairs", traffic->local_pairs);
    json_writer_integer(json, "copies", traffic->copies);
    json_writer_begin_array(json, "load");
    for (int32_t rank = 0; rank < facts->ranks; rank++)
        json_writer_integer(json, NULL, facts->load->computed[rank]);
    json_writer_end_array(json);
    json_writer_integer(json, "load_max", facts->load->computed_max);
    json_writer_number(json, "load_mean", facts->load->computed_mean);
    json_writer_number(json, "wait_seconds", (double)traffic->wait_ns * 1e-9);
    json_writer_number(json, "transfer_seconds", (double)traffic->transfer_ns * 1e-9);
}

enum status traffic_report_write(const char *path, const struct traffic_facts *facts) {
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        LOG_ERROR("--traffic-json: %s: cannot open: %s", path, strerror(errno));
        return STATUS_IO;
    }
    struct json_writer json = {.out = file};
    json_writer_begin_object(&json, NULL);
    write_locality(&json, facts);
    if (facts->exchange != NULL)
        write_flows(&json, facts->exchange);
    json_writer_begin_array(&json, "layers");
    for (int32_t layer = 0; layer <= facts->traffic->layers; layer++)
        write_layer(&json, facts->traffic, layer);
    json_writer_end_array(&json);
    json_writer_end_object(&json);
    fputc('\n', file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        LOG_ERROR("--traffic-json: %s: cannot write: %s", path, strerror(errno));
        return STATUS_IO;
    }
    return STATUS_OK;
}
