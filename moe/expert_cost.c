/* The cost model behind --moe-flow auto. Combine is the same for all flows and left out. */
#include "moe/expert_cost.h"

#include "kernels/base/check.h"

/* Share of a message's latency that its sender and its receiver are busy with it: the rest passes
 * for all messages at once. */
#define BUSY_SHARE 0.3

/* Probability that a token has an expert among `part` of the ranks. */
static double reach(const struct expert_cost_shape *shape, int32_t part) {
    double miss = 1.0, one = 1.0 - (double)part / shape->ranks;
    for (int32_t i = 0; i < shape->top_k; i++)
        miss *= one;
    return 1.0 - miss;
}

/* Bytes of `rows` home rows that reach a part of the ranks with this probability. */
static double bytes_of(const struct expert_cost_shape *shape, double rows, double probability,
                       double pair_share) {
    return rows * (probability * (double)shape->row_bytes +
                   pair_share * shape->top_k * (double)sizeof(struct expert_pair));
}

/* Messages and bytes in one direction, of one rank in one exchange. */
struct load {
    int32_t node_messages, remote_messages;
    double node_bytes, remote_bytes;
};

static double time_of(const struct load *load, const struct link_costs *links) {
    const struct link_cost *node = &links->node, *remote = &links->remote;
    double latency = load->remote_messages > 0 ? remote->latency_ns
                     : load->node_messages > 0 ? node->latency_ns
                                               : 0.0;
    double busy = BUSY_SHARE * (load->node_messages * node->latency_ns +
                                load->remote_messages * remote->latency_ns);
    return latency * (1.0 - BUSY_SHARE) + busy + load->node_bytes * node->byte_ns +
           load->remote_bytes * remote->byte_ns;
}

static double greater(double a, double b) {
    return a > b ? a : b;
}

/* Every home to every rank. */
static double cost_of_direct(const struct expert_cost_shape *shape,
                             const struct link_costs *links) {
    double each = reach(shape, 1), all_rows = 0.0, worst = 0.0;
    int32_t homes = 0;
    for (int32_t rank = 0; rank < shape->ranks; rank++) {
        homes += shape->rows_of[rank] > 0 ? 1 : 0;
        all_rows += shape->rows_of[rank];
    }
    for (int32_t node = 0; node < shape->nodes->count; node++) {
        int32_t first = shape->nodes->first[node], end = shape->nodes->first[node + 1];
        int32_t near_homes = 0, near = end - first;
        double near_rows = 0.0;
        for (int32_t i = first; i < end; i++) {
            near_homes += shape->rows_of[shape->nodes->members[i]] > 0 ? 1 : 0;
            near_rows += shape->rows_of[shape->nodes->members[i]];
        }
        for (int32_t i = first; i < end; i++) {
            int32_t rows = shape->rows_of[shape->nodes->members[i]], home = rows > 0 ? 1 : 0;
            double bytes = bytes_of(shape, rows, each, 1.0 / shape->ranks);
            struct load sent = {home * (near - 1), home * (shape->ranks - near), bytes * (near - 1),
                                bytes * (shape->ranks - near)};
            struct load received = {
                near_homes - home, homes - near_homes,
                bytes_of(shape, near_rows - rows, each, 1.0 / shape->ranks),
                bytes_of(shape, all_rows - near_rows, each, 1.0 / shape->ranks)};
            worst = greater(worst, greater(time_of(&sent, links), time_of(&received, links)));
        }
    }
    return worst;
}

/* Rows of `count` ranks from `first` upwards, going round. */
static int64_t rows_from(const struct expert_cost_shape *shape, int32_t first, int32_t count) {
    int64_t rows = 0;
    for (int32_t i = 0; i < count; i++)
        rows += shape->rows_of[(first + i) % shape->ranks];
    return rows;
}

/* The rounds of the all-gather, one after the other. */
static double cost_of_allgather(const struct expert_cost_shape *shape,
                                const struct link_costs *links) {
    double total = 0.0;
    for (int32_t distance = 1; distance < shape->ranks; distance *= 2) {
        int32_t count = distance < shape->ranks - distance ? distance : shape->ranks - distance;
        int64_t rows = rows_from(shape, 0, count);
        double worst = 0.0;
        for (int32_t rank = 0; rank < shape->ranks; rank++) {
            int32_t below = (rank - distance + shape->ranks) % shape->ranks;
            bool near = shape->node_of[rank] == shape->node_of[below];
            double bytes = bytes_of(shape, (double)rows, 1.0, 1.0);
            struct load sent = {near ? 1 : 0, near ? 0 : 1, near ? bytes : 0.0, near ? 0.0 : bytes};
            if (rows > 0)
                worst = greater(worst, time_of(&sent, links));
            rows += shape->rows_of[(rank + count) % shape->ranks] - shape->rows_of[rank];
        }
        total += worst;
    }
    return total;
}

/* Rows of homes on other nodes that the member at `place` of a node forwards, and how many homes
 * they are. */
static double led_rows(const struct expert_cost_shape *shape, int32_t node, int32_t place,
                       int32_t *homes) {
    int32_t size = shape->nodes->first[node + 1] - shape->nodes->first[node];
    double rows = 0.0;
    *homes = 0;
    for (int32_t home = 0; home < shape->ranks; home++) {
        if (shape->node_of[home] == node || shape->nodes->rank_on_node[home] % size != place)
            continue;
        rows += shape->rows_of[home];
        *homes += shape->rows_of[home] > 0 ? 1 : 0;
    }
    return rows;
}

/* What the member at `place` of a node exchanges across the network. */
static double cost_of_crossing(const struct expert_cost_shape *shape,
                               const struct link_costs *links, int32_t node, int32_t rows,
                               double led, int32_t homes) {
    const struct expert_nodes *nodes = shape->nodes;
    int32_t size = nodes->first[node + 1] - nodes->first[node];
    struct load sent = {.remote_messages = rows > 0 ? nodes->count - 1 : 0};
    struct load received = {.remote_messages = homes};
    for (int32_t other = 0; other < nodes->count; other++) {
        int32_t ranks = nodes->first[other + 1] - nodes->first[other];
        if (other != node)
            sent.remote_bytes +=
                bytes_of(shape, rows, reach(shape, ranks), (double)ranks / shape->ranks);
    }
    received.remote_bytes = bytes_of(shape, led, reach(shape, size), (double)size / shape->ranks);
    return greater(time_of(&sent, links), time_of(&received, links));
}

/* Across the network, then inside the nodes. */
static double cost_of_hierarchical(const struct expert_cost_shape *shape,
                                   const struct link_costs *links) {
    const struct expert_nodes *nodes = shape->nodes;
    double each = reach(shape, 1), pairs = 1.0 / shape->ranks, across = 0.0, inside = 0.0;
    for (int32_t node = 0; node < nodes->count; node++) {
        int32_t first = nodes->first[node], size = nodes->first[node + 1] - first, senders = 0;
        double all_rows = 0.0, least_rows = 0.0;
        for (int32_t place = 0; place < size; place++) {
            int32_t homes, rows = shape->rows_of[nodes->members[first + place]];
            double led = led_rows(shape, node, place, &homes), own = rows + led;
            struct load spread = {.node_messages = own > 0.0 ? size - 1 : 0,
                                  .node_bytes = (size - 1) * bytes_of(shape, own, each, pairs)};
            across = greater(across, cost_of_crossing(shape, links, node, rows, led, homes));
            inside = greater(inside, time_of(&spread, links));
            least_rows = place == 0 || own < least_rows ? own : least_rows;
            all_rows += own;
            senders += own > 0.0 ? 1 : 0;
        }
        struct load gathered = {.node_messages = senders < size ? senders : size - 1,
                                .node_bytes = bytes_of(shape, all_rows - least_rows, each, pairs)};
        if (size > 1)
            inside = greater(inside, time_of(&gathered, links));
    }
    return across + inside;
}

double expert_cost_of(enum expert_flow flow, const struct expert_cost_shape *shape,
                      const struct link_costs *links) {
    if (flow == EXPERT_FLOW_A2A_DEDUP)
        return cost_of_direct(shape, links);
    if (flow == EXPERT_FLOW_ALLGATHER)
        return cost_of_allgather(shape, links);
    ASSERT(flow == EXPERT_FLOW_HIERARCHICAL);
    return cost_of_hierarchical(shape, links);
}

enum expert_flow expert_cost_choose(const struct expert_cost_shape *shape,
                                    const struct link_costs *links, double *cost_ns) {
    static const enum expert_flow candidates[] = {EXPERT_FLOW_A2A_DEDUP, EXPERT_FLOW_ALLGATHER,
                                                  EXPERT_FLOW_HIERARCHICAL};
    enum expert_flow best = EXPERT_FLOW_A2A_DEDUP;
    for (int i = 0; i < EXPERT_FLOW_COUNT; i++)
        cost_ns[i] = 0.0;
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        if (candidates[i] == EXPERT_FLOW_HIERARCHICAL &&
            (shape->nodes->count == 1 || shape->nodes->count == shape->ranks))
            continue; /* it would be a2a-dedup */
        cost_ns[candidates[i]] = expert_cost_of(candidates[i], shape, links);
        if (cost_ns[candidates[i]] < cost_ns[best])
            best = candidates[i];
    }
    return best;
}
