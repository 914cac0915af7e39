/* What rpc_admin answers with: figures of metrics and of the ranks' accounts, and the placement. */
#include "runtime/rpc_stats.h"

#include <time.h>

#include "kernels/base/clock.h"
#include "runtime/rpc_message.h"

/* ---- statistics ---- */

/* Seconds of the metrics become microseconds of the wire by `scale`. */
static bool fill_histogram(const struct metrics *metrics, enum metrics_histogram which,
                           double scale, struct rpc_arena *arena, Moebius__V1__Histogram **out) {
    struct metrics_snapshot snapshot;
    metrics_read(metrics, which, &snapshot);
    size_t bounds = (size_t)snapshot.bound_count;
    Moebius__V1__Histogram *histogram = rpc_arena_take(arena, sizeof *histogram);
    double *bound = rpc_arena_take(arena, bounds * sizeof *bound + 1);
    uint64_t *count = rpc_arena_take(arena, (bounds + 1) * sizeof *count);
    if (histogram == NULL || bound == NULL || count == NULL)
        return false;
    moebius__v1__histogram__init(histogram);
    for (size_t i = 0; i < bounds; i++)
        bound[i] = snapshot.bounds[i] * scale;
    for (size_t i = 0; i <= bounds; i++)
        count[i] = (uint64_t)snapshot.counts[i];
    histogram->n_bounds = bounds;
    histogram->bounds = bound;
    histogram->n_counts = bounds + 1;
    histogram->counts = count;
    histogram->sum = snapshot.sum * scale;
    *out = histogram;
    return true;
}

static void fill_rank(const struct metrics *metrics, int32_t rank, Moebius__V1__RankStats *stats) {
    struct metrics_rank accounts;
    metrics_get_rank(metrics, rank, &accounts);
    moebius__v1__rank_stats__init(stats);
    stats->rank = (uint32_t)rank;
    stats->expert_pairs = (uint64_t)accounts.computed_pairs;
    stats->wait_us = (uint64_t)accounts.wait_ns / 1000;
    stats->transfer_us = (uint64_t)accounts.transfer_ns / 1000;
    for (int kind = 0; kind < TRAFFIC_KIND_COUNT; kind++) {
        for (int distance = TRAFFIC_NODE; distance < TRAFFIC_DISTANCE_COUNT; distance++) {
            stats->bytes_sent += (uint64_t)accounts.sent[kind][distance].bytes;
            stats->messages_sent += (uint64_t)accounts.sent[kind][distance].messages;
        }
    }
}

static bool fill_ranks(const struct metrics *metrics, struct rpc_arena *arena,
                       Moebius__V1__GetStatsResponse *response) {
    int32_t ranks = metrics_ranks(metrics);
    Moebius__V1__RankStats *stats = rpc_arena_take(arena, (size_t)ranks * sizeof *stats);
    response->ranks = rpc_arena_take(arena, (size_t)ranks * sizeof *response->ranks);
    if (stats == NULL || response->ranks == NULL)
        return false;
    for (int32_t rank = 0; rank < ranks; rank++) {
        fill_rank(metrics, rank, &stats[rank]);
        response->ranks[rank] = &stats[rank];
    }
    response->n_ranks = (size_t)ranks;
    return true;
}

static uint64_t counted(const struct metrics *metrics, enum metrics_counter counter) {
    return (uint64_t)metrics_count(metrics, counter);
}

static void fill_counters(const struct metrics *metrics, Moebius__V1__GetStatsResponse *response) {
    response->running = (uint32_t)metrics_value(metrics, METRICS_REQUESTS_RUNNING);
    response->waiting = (uint32_t)metrics_value(metrics, METRICS_REQUESTS_WAITING);
    response->finished = counted(metrics, METRICS_FINISHED_STOP) +
                         counted(metrics, METRICS_FINISHED_LENGTH) +
                         counted(metrics, METRICS_FINISHED_TIME_LIMIT);
    response->aborted =
        counted(metrics, METRICS_FINISHED_ABORT) + counted(metrics, METRICS_FINISHED_ERROR);
    response->rejected = counted(metrics, METRICS_REJECTED) + counted(metrics, METRICS_DRAINING);
    response->prompt_tokens = counted(metrics, METRICS_PROMPT_TOKENS);
    response->generated_tokens = counted(metrics, METRICS_GENERATION_TOKENS);
    response->steps = counted(metrics, METRICS_STEPS);
    response->kv_blocks_total = (uint64_t)metrics_value(metrics, METRICS_KV_BLOCKS_TOTAL);
    response->kv_blocks_used = (uint64_t)metrics_value(metrics, METRICS_KV_BLOCKS_USED);
    response->prefix_hit_tokens = counted(metrics, METRICS_PREFIX_CACHE_HITS);
    response->schedule_us = counted(metrics, METRICS_SCHEDULE_NS) / 1000;
    response->network_cpu_us = counted(metrics, METRICS_NETWORK_CPU_NS) / 1000;
    response->preemptions = counted(metrics, METRICS_PREEMPTIONS);
    response->step_age_us = (uint64_t)(metrics_value(metrics, METRICS_STEP_AGE_SECONDS) * 1e6);
}

static bool fill_flows(const struct metrics *metrics, struct rpc_arena *arena,
                       Moebius__V1__GetStatsResponse *response) {
    if (metrics_ranks(metrics) == 1)
        return true;
    Moebius__V1__FlowSteps *flow = rpc_arena_take(arena, EXPERT_FLOW_COUNT * sizeof *flow);
    response->flow_steps = rpc_arena_take(arena, EXPERT_FLOW_COUNT * sizeof *response->flow_steps);
    if (flow == NULL || response->flow_steps == NULL)
        return false;
    for (int i = 0; i < EXPERT_FLOW_COUNT; i++) {
        moebius__v1__flow_steps__init(&flow[i]);
        flow[i].flow = rpc_message_borrow(expert_flow_name((enum expert_flow)i));
        flow[i].steps = counted(metrics, (enum metrics_counter)(METRICS_FLOW_STEPS + i));
        response->flow_steps[i] = &flow[i];
    }
    response->n_flow_steps = EXPERT_FLOW_COUNT;
    return true;
}

bool rpc_stats_fill(const struct metrics *metrics, int64_t start_ns, bool per_rank,
                    struct rpc_arena *arena, Moebius__V1__GetStatsResponse *response) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    response->time_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    response->uptime_us = (uint64_t)(clock_now_ns() - start_ns) / 1000;
    fill_counters(metrics, response);
    return fill_histogram(metrics, METRICS_STEP_SECONDS, 1e6, arena, &response->step_us) &&
           fill_histogram(metrics, METRICS_TIME_TO_FIRST_TOKEN, 1e6, arena,
                          &response->first_token_us) &&
           fill_histogram(metrics, METRICS_INTER_TOKEN_LATENCY, 1e6, arena,
                          &response->inter_token_us) &&
           fill_histogram(metrics, METRICS_ITERATION_TOKENS, 1.0, arena, &response->batch_tokens) &&
           fill_flows(metrics, arena, response) &&
           (!per_rank || fill_ranks(metrics, arena, response));
}

/* ---- experts ---- */

/* Pairs of one layer: by expert over all ranks, and by rank over all experts. */
static void add_up(const struct rank_accounts *accounts, int32_t layer, uint64_t *by_expert,
                   uint64_t *by_rank) {
    for (int32_t rank = 0; rank < rank_accounts_ranks(accounts); rank++) {
        for (int32_t expert = 0; expert < rank_accounts_experts(accounts); expert++) {
            uint64_t pairs = (uint64_t)rank_accounts_pairs(accounts, rank, layer, expert);
            by_expert[expert] += pairs;
            by_rank[rank] += pairs;
        }
    }
}

/* The busiest rank over the mean; 0: nothing computed. */
static double imbalance_of(const uint64_t *by_rank, int32_t ranks) {
    uint64_t most = 0, sum = 0;
    for (int32_t rank = 0; rank < ranks; rank++) {
        most = by_rank[rank] > most ? by_rank[rank] : most;
        sum += by_rank[rank];
    }
    return sum > 0 ? (double)most * ranks / (double)sum : 0.0;
}

bool rpc_stats_load(const struct rank_accounts *accounts, int32_t first, int32_t count,
                    bool by_rank, struct rpc_arena *arena,
                    Moebius__V1__GetExpertLoadResponse *response) {
    size_t experts = (size_t)rank_accounts_experts(accounts);
    size_t ranks = (size_t)rank_accounts_ranks(accounts);
    response->layers = rpc_arena_take(arena, (size_t)count * sizeof *response->layers + 1);
    if (response->layers == NULL)
        return false;
    for (int32_t i = 0; i < count; i++) {
        Moebius__V1__LayerLoad *layer = rpc_arena_take(arena, sizeof *layer);
        uint64_t *tokens = rpc_arena_take(arena, experts * sizeof *tokens);
        uint64_t *tokens_by_rank = rpc_arena_take(arena, ranks * sizeof *tokens_by_rank);
        if (layer == NULL || tokens == NULL || tokens_by_rank == NULL)
            return false;
        moebius__v1__layer_load__init(layer);
        add_up(accounts, first + i, tokens, tokens_by_rank);
        layer->layer = (uint32_t)(first + i);
        layer->n_tokens = experts;
        layer->tokens = tokens;
        layer->n_tokens_by_rank = by_rank ? ranks : 0;
        layer->tokens_by_rank = tokens_by_rank;
        layer->imbalance = imbalance_of(tokens_by_rank, (int32_t)ranks);
        response->layers[response->n_layers++] = layer;
    }
    return true;
}

/* ---- traffic ---- */

bool rpc_stats_traffic(const struct rank_accounts *accounts, const struct rank_group *ranks,
                       bool by_node, struct rpc_arena *arena,
                       Moebius__V1__GetTrafficResponse *response) {
    const int32_t *node_of = ranks->transport->node_of;
    int32_t size = by_node ? transport_node_count(ranks->transport) : ranks->size;
    size_t cells = (size_t)size * (size_t)size;
    response->dispatch_bytes = rpc_arena_take(arena, cells * sizeof *response->dispatch_bytes);
    response->combine_bytes = rpc_arena_take(arena, cells * sizeof *response->combine_bytes);
    response->messages = rpc_arena_take(arena, cells * sizeof *response->messages);
    if (response->dispatch_bytes == NULL || response->combine_bytes == NULL ||
        response->messages == NULL)
        return false;
    for (int32_t from = 0; from < ranks->size; from++) {
        for (int32_t to = 0; to < ranks->size; to++) {
            struct traffic_peer sent = rank_accounts_sent(accounts, from, to);
            int32_t row = by_node ? node_of[from] : from;
            int32_t cell = row * size + (by_node ? node_of[to] : to);
            response->dispatch_bytes[cell] += (uint64_t)sent.dispatch_bytes;
            response->combine_bytes[cell] += (uint64_t)sent.combine_bytes;
            response->messages[cell] += (uint64_t)sent.messages;
        }
    }
    response->size = (uint32_t)size;
    response->n_dispatch_bytes = response->n_combine_bytes = response->n_messages = cells;
    return true;
}

/* ---- placement ---- */

static bool fill_layer(const struct placement *placement, int32_t experts, int32_t index,
                       struct rpc_arena *arena, Moebius__V1__LayerPlacement **out) {
    const struct placement_layer *from = placement != NULL ? &placement->layer[index] : NULL;
    int32_t slots = from != NULL ? from->first_slot[placement->ranks] : experts;
    Moebius__V1__LayerPlacement *layer = rpc_arena_take(arena, sizeof *layer);
    uint32_t *expert_of = rpc_arena_take(arena, (size_t)slots * sizeof *expert_of);
    uint32_t *rank_of = rpc_arena_take(arena, (size_t)slots * sizeof *rank_of);
    if (layer == NULL || expert_of == NULL || rank_of == NULL)
        return false;
    moebius__v1__layer_placement__init(layer);
    for (int32_t slot = 0; slot < slots; slot++) {
        expert_of[slot] = (uint32_t)(from != NULL ? from->expert_of[slot] : slot);
        rank_of[slot] = from != NULL ? (uint32_t)placement_rank_of(placement, index, slot) : 0;
    }
    layer->layer = (uint32_t)index;
    layer->n_physical_to_logical = layer->n_physical_rank = (size_t)slots;
    layer->physical_to_logical = expert_of;
    layer->physical_rank = rank_of;
    *out = layer;
    return true;
}

bool rpc_stats_placement(const struct placement *placement, int32_t experts, int32_t first,
                         int32_t count, struct rpc_arena *arena, Moebius__V1__Placement *response) {
    response->layers = rpc_arena_take(arena, (size_t)count * sizeof *response->layers + 1);
    if (response->layers == NULL)
        return false;
    for (int32_t i = 0; i < count; i++) {
        if (!fill_layer(placement, experts, first + i, arena, &response->layers[i]))
            return false;
        response->n_layers++;
    }
    return true;
}
