/* Counting what crosses: filled in by transport_exchange, read by --traffic. */
#include "comm/traffic.h"

#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

static struct traffic_cell *cell_of(const struct traffic *traffic, int32_t layer,
                                    enum traffic_kind kind, enum traffic_distance distance) {
    if (layer < 0 || layer > traffic->layers)
        layer = traffic->layers;
    int64_t row = (int64_t)layer * TRAFFIC_KIND_COUNT + (int64_t)kind;
    return &traffic->cells[row * TRAFFIC_DISTANCE_COUNT + (int64_t)distance];
}

enum status traffic_create(int32_t layers, struct traffic **traffic) {
    ASSERT(layers >= 0);
    size_t cells = (size_t)(layers + 1) * TRAFFIC_KIND_COUNT * TRAFFIC_DISTANCE_COUNT;
    struct traffic *created = calloc(1, sizeof *created);
    struct traffic_cell *memory = calloc(cells, sizeof *memory);
    if (created == NULL || memory == NULL) {
        LOG_ERROR("traffic: cannot take the accounts of %d layers", layers);
        free(created);
        free(memory);
        return STATUS_NO_MEMORY;
    }
    created->layers = layers;
    created->cells = memory;
    *traffic = created;
    return STATUS_OK;
}

void traffic_destroy(struct traffic *traffic) {
    if (traffic == NULL)
        return;
    free(traffic->cells);
    free(traffic->to);
    free(traffic);
}

void traffic_count(struct traffic *traffic, int32_t layer, enum traffic_kind kind,
                   enum traffic_distance distance, int64_t bytes) {
    struct traffic_cell *cell = cell_of(traffic, layer, kind, distance);
    cell->bytes += bytes;
    cell->messages++;
}

enum status traffic_count_peers(struct traffic *traffic, int32_t ranks) {
    traffic->to = calloc((size_t)ranks, sizeof *traffic->to);
    if (traffic->to != NULL)
        return STATUS_OK;
    LOG_ERROR("traffic: cannot take the accounts of %d ranks", ranks);
    return STATUS_NO_MEMORY;
}

void traffic_count_to(struct traffic *traffic, int32_t peer, enum traffic_kind kind,
                      int64_t bytes) {
    if (traffic->to == NULL || (kind != TRAFFIC_DISPATCH && kind != TRAFFIC_COMBINE))
        return;
    struct traffic_peer *to = &traffic->to[peer];
    *(kind == TRAFFIC_DISPATCH ? &to->dispatch_bytes : &to->combine_bytes) += bytes;
    to->messages++;
}

const char *traffic_kind_name(enum traffic_kind kind) {
    static const char *const names[TRAFFIC_KIND_COUNT] = {
        "plan",           "rows",       "status",     "dispatch", "combine",
        "reduce-scatter", "all-gather", "all-reduce", "norm"};
    ASSERT((unsigned)kind < TRAFFIC_KIND_COUNT);
    return names[kind];
}

struct traffic_cell traffic_total(const struct traffic *traffic, enum traffic_kind kind,
                                  enum traffic_distance distance) {
    struct traffic_cell total = {0, 0};
    for (int32_t layer = 0; layer <= traffic->layers; layer++) {
        const struct traffic_cell *cell = cell_of(traffic, layer, kind, distance);
        total.bytes += cell->bytes;
        total.messages += cell->messages;
    }
    return total;
}

void traffic_add(struct traffic *traffic, const struct traffic *other) {
    ASSERT(traffic->layers == other->layers);
    size_t cells = (size_t)(traffic->layers + 1) * TRAFFIC_KIND_COUNT * TRAFFIC_DISTANCE_COUNT;
    for (size_t i = 0; i < cells; i++) {
        traffic->cells[i].bytes += other->cells[i].bytes;
        traffic->cells[i].messages += other->cells[i].messages;
    }
    traffic->wait_ns += other->wait_ns;
    traffic->transfer_ns += other->transfer_ns;
    traffic->pairs += other->pairs;
    traffic->local_pairs += other->local_pairs;
    traffic->tokens += other->tokens;
    traffic->fan_out += other->fan_out;
    traffic->node_fan_out += other->node_fan_out;
    traffic->copies += other->copies;
    traffic->computed_pairs += other->computed_pairs;
}
