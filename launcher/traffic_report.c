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

void traffic_report_print(FILE *out, const struct traffic *traffic, const struct job_load *load,
                          int32_t ranks) {
    fprintf(out,
            "\n| kind | messages, same node | bytes, same node | messages, other node | bytes, "
            "other node |\n|---|---|---|---|---|\n");
    for (int kind = 0; kind < TRAFFIC_KIND_COUNT; kind++) {
        struct traffic_cell node = traffic_total(traffic, (enum traffic_kind)kind, TRAFFIC_NODE);
        struct traffic_cell remote =
            traffic_total(traffic, (enum traffic_kind)kind, TRAFFIC_REMOTE);
        if (node.messages + remote.messages > 0)
            fprintf(out, "| %s | %" PRId64 " | %" PRId64 " | %" PRId64 " | %" PRId64 " |\n",
                    traffic_kind_name((enum traffic_kind)kind), node.messages, node.bytes,
                    remote.messages, remote.bytes);
    }
    fprintf(out,
            "ranks %d; local activation rate %.3f (chance: %.3f); fan-out %.3f ranks a token and "
            "layer; load max/mean %.2f; waited %.3f s, transferred %.3f s over all ranks\n",
            ranks, share(traffic->local_pairs, traffic->pairs), 1.0 / ranks,
            share(traffic->fan_out, traffic->tokens),
            load->computed_mean > 0.0 ? (double)load->computed_max / load->computed_mean : 1.0,
            (double)traffic->wait_ns * 1e-9, (double)traffic->transfer_ns * 1e-9);
}

static void write_layer(struct json_writer *json, const struct traffic *traffic, int32_t layer) {
    json_writer_begin_object(json, NULL);
    json_writer_integer(json, "layer", layer < traffic->layers ? layer : -1);
    for (int kind = 0; kind < TRAFFIC_KIND_COUNT; kind++) {
        const struct traffic_cell *cells =
            traffic->cells + ((int64_t)layer * TRAFFIC_KIND_COUNT + kind) * TRAFFIC_DISTANCE_COUNT;
        if (cells[TRAFFIC_NODE].messages + cells[TRAFFIC_REMOTE].messages == 0)
            continue;
        json_writer_begin_object(json, traffic_kind_name((enum traffic_kind)kind));
        json_writer_integer(json, "node_messages", cells[TRAFFIC_NODE].messages);
        json_writer_integer(json, "node_bytes", cells[TRAFFIC_NODE].bytes);
        json_writer_integer(json, "remote_messages", cells[TRAFFIC_REMOTE].messages);
        json_writer_integer(json, "remote_bytes", cells[TRAFFIC_REMOTE].bytes);
        json_writer_end_object(json);
    }
    json_writer_end_object(json);
}

enum status traffic_report_write(const char *path, const struct traffic *traffic,
                                 const struct job_load *load, int32_t ranks) {
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        LOG_ERROR("--traffic-json: %s: cannot open: %s", path, strerror(errno));
        return STATUS_IO;
    }
    struct json_writer json = {.out = file};
    json_writer_begin_object(&json, NULL);
    json_writer_integer(&json, "ranks", ranks);
    json_writer_number(&json, "local_activation_rate", share(traffic->local_pairs, traffic->pairs));
    json_writer_number(&json, "chance", 1.0 / ranks);
    json_writer_number(&json, "fan_out", share(traffic->fan_out, traffic->tokens));
    json_writer_integer(&json, "tokens", traffic->tokens);
    json_writer_integer(&json, "pairs", traffic->pairs);
    json_writer_integer(&json, "local_pairs", traffic->local_pairs);
    json_writer_integer(&json, "copies", traffic->copies);
    json_writer_integer(&json, "load_max", load->computed_max);
    json_writer_number(&json, "load_mean", load->computed_mean);
    json_writer_number(&json, "wait_seconds", (double)traffic->wait_ns * 1e-9);
    json_writer_number(&json, "transfer_seconds", (double)traffic->transfer_ns * 1e-9);
    json_writer_begin_array(&json, "layers");
    for (int32_t layer = 0; layer <= traffic->layers; layer++)
        write_layer(&json, traffic, layer);
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
