/* The exchange alone, without a model: on every rank the outputs of a made-up expert function come
 * back bit for bit, whatever the flow, the nodes and the placement; what is computed stands in the
 * defined order; and what crossed is what the closed formulas say for this very routing. Run under
 * mpirun; all ranks run the same checks and know everybody's tokens.
 *
 * Controls: one bit flipped in one message of a dispatch or a combine, and outputs summed by the
 * rank that computed them before they travel, must be found. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "comm/rank_group.h"
#include "moe/expert_exchange.h"
#include "tests/support/expect.h"

#define RANKS_MAX 8
#define TIMEOUT_MS 20000
#define LAYERS 2
#define EXPERTS 13
#define TOP_K 4
#define HIDDEN 24
#define ROWS_MAX 40 /* of one rank */
#define HEAD_BYTES 12
#define PAIR_BYTES 8
#define ALIGNMENT 64 /* of a section of a message */

/* How many rows rank r of n brings. */
enum load { LOAD_EVEN, LOAD_UNEVEN, LOAD_ONE, LOAD_NONE, LOAD_COUNT };

/* One exchange of everybody's tokens. */
struct trial {
    enum expert_flow flow;
    enum load load;
    int32_t ranks_per_node;
    enum placement_policy policy;
    int32_t replicas;
    enum dtype dtype;
};

struct world {
    struct rank_group group;
    struct collective_group all;
    int32_t members[RANKS_MAX];
    int64_t step;
};

static uint32_t mix(uint32_t value) {
    value = (value ^ value >> 16) * UINT32_C(0x7feb352d);
    value = (value ^ value >> 15) * UINT32_C(0x846ca68b);
    return value ^ value >> 16;
}

static void demand(const struct world *world, enum status status, const char *what) {
    if (status == STATUS_OK)
        return;
    printf("FAILED: rank %d: %s: %s\n", world->group.rank, what, status_name(status));
    fflush(stdout);
    rank_group_abort(&world->group, 1);
}

/* ---- everybody's tokens ---- */

static int32_t rows_of(enum load load, int32_t rank) {
    switch (load) {
    case LOAD_EVEN:
        return 9;
    case LOAD_UNEVEN:
        return rank % 3 == 1 ? 0 : (rank * 7 + 5) % ROWS_MAX;
    case LOAD_ONE:
        return rank == 0 ? 1 : 0;
    case LOAD_NONE:
    case LOAD_COUNT:
        break;
    }
    return 0;
}

/* Slot `slot` of a token: k different experts. */
static int32_t expert_of(int32_t layer, int32_t rank, int32_t row, int32_t slot) {
    uint32_t seed = mix((uint32_t)((layer * RANKS_MAX + rank) * ROWS_MAX + row + 1));
    int32_t first = (int32_t)(seed % EXPERTS),
            stride = 1 + (int32_t)(seed / EXPERTS % (EXPERTS - 1));
    return (first + slot * stride) % EXPERTS; /* EXPERTS is prime */
}

/* The first columns say whose row it is. */
static float value_of(int32_t rank, int32_t row, int32_t column) {
    if (column == 0)
        return (float)rank;
    if (column == 1)
        return (float)row;
    return (float)(mix((uint32_t)((rank * ROWS_MAX + row) * HIDDEN + column)) & 0xffff) / 256.0f;
}

static float weight_of(int32_t rank, int32_t row, int32_t slot) {
    return (float)(1 + (mix((uint32_t)((rank * ROWS_MAX + row) * TOP_K + slot)) & 0xffff)) /
           65536.0f;
}

/* One element of an expert's output. */
static float output_of(int32_t expert, float x) {
    return x * (0.1f + 0.37f * (float)expert) + (float)expert / 3.0f;
}

static void put(enum dtype dtype, char *row, int32_t column, float value) {
    if (dtype == DTYPE_F32) {
        memcpy(row + (size_t)column * sizeof value, &value, sizeof value);
        return;
    }
    uint16_t half = dtype_f32_to_bf16(value);
    memcpy(row + (size_t)column * sizeof half, &half, sizeof half);
}

static float get(enum dtype dtype, const char *row, int32_t column) {
    float value;
    uint16_t half;
    if (dtype == DTYPE_F32) {
        memcpy(&value, row + (size_t)column * sizeof value, sizeof value);
        return value;
    }
    memcpy(&half, row + (size_t)column * sizeof half, sizeof half);
    return dtype_bf16_to_f32(half);
}

/* ---- a wire that flips a bit ---- */

struct flip {
    struct transport transport; /* stands before `inner` */
    struct transport *inner;
    enum traffic_kind kind; /* of the message that suffers; TRAFFIC_KIND_COUNT: none */
    bool done;
    char copy[1 << 16];
};

static enum status flip_exchange(struct transport *transport, const struct transport_scope *scope,
                                 const struct transport_send *sends, int32_t send_count,
                                 struct transport_receive *receives, int32_t receive_count) {
    struct flip *flip = (struct flip *)(void *)transport;
    struct transport_send changed[RANKS_MAX];
    for (int32_t i = 0; i < send_count; i++) {
        changed[i] = sends[i];
        if (flip->done || scope->kind != flip->kind || sends[i].bytes <= HEAD_BYTES + HIDDEN ||
            sends[i].bytes > (int64_t)sizeof flip->copy)
            continue;
        memcpy(flip->copy, sends[i].data, (size_t)sends[i].bytes);
        flip->copy[9] ^= 1; /* in the first row, behind the columns that name it */
        changed[i].data = flip->copy;
        flip->done = true;
    }
    return flip->inner->ops->exchange(flip->inner, scope, changed, send_count, receives,
                                      receive_count);
}

static const struct transport_ops flip_ops = {.name = "flip", .exchange = flip_exchange};

/* ---- one trial ---- */

struct subject {
    const struct trial *trial;
    struct world *world;
    struct flip flip;
    struct placement *placement;
    struct expert_ranks ranks;
    struct expert_exchange exchange;
    struct traffic *traffic;
    void *region;
    size_t region_bytes;
    int32_t planned[RANKS_MAX], node_of[RANKS_MAX];
};

static void subject_open(struct subject *s, struct world *world, const struct trial *trial,
                         enum traffic_kind flipped) {
    *s = (struct subject){.trial = trial, .world = world};
    int32_t size = world->group.size, all_rows = 0;
    for (int32_t rank = 0; rank < size; rank++) {
        s->node_of[rank] = rank / trial->ranks_per_node;
        s->planned[rank] = rows_of(trial->load, rank);
        all_rows += s->planned[rank];
    }
    struct placement_options options = {
        .policy = trial->policy, .seed = 5, .replicas = trial->replicas, .node_of = s->node_of};
    demand(world, placement_create(LAYERS, EXPERTS, size, &options, &s->placement), "placement");
    demand(world, traffic_create(LAYERS, &s->traffic), "accounts");
    s->flip.transport = *world->group.transport;
    s->flip.transport.ops = &flip_ops;
    s->flip.transport.node_of = s->node_of;
    s->flip.transport.traffic = s->traffic;
    s->flip.inner = world->group.transport;
    s->flip.kind = flipped;
    s->ranks = (struct expert_ranks){
        .transport = &s->flip.transport, .placement = s->placement, .flow = trial->flow};
    struct expert_exchange_limits limits = {.rows = all_rows > 0 ? all_rows : 1,
                                            .top_k = TOP_K,
                                            .hidden = HIDDEN,
                                            .slots = EXPERTS,
                                            .act_dtype = trial->dtype,
                                            .wire_dtype = trial->dtype};
    struct arena arena = {0};
    expert_exchange_take(&arena, &s->ranks, &limits, &s->exchange);
    s->region_bytes = arena.used;
    demand(world, memory_acquire("test", s->region_bytes, &s->region), "memory");
    demand(world, transport_reserve(world->group.transport, s->exchange.longest_bytes), "buffers");
    arena = (struct arena){.base = s->region, .capacity = s->region_bytes};
    expert_exchange_take(&arena, &s->ranks, &limits, &s->exchange);
    expert_exchange_begin_step(&s->exchange, s->planned);
}

static void subject_close(struct subject *s) {
    memory_release(s->region, s->region_bytes);
    placement_destroy(s->placement);
    traffic_destroy(s->traffic);
}

static size_t row_bytes(const struct subject *s) {
    return (size_t)HIDDEN * (size_t)dtype_bytes(s->trial->dtype);
}

/* A row of exchange->y. */
static char *output_row(const struct subject *s, int32_t row) {
    return s->exchange.y + (size_t)row * row_bytes(s);
}

/* Computes the pairs that are here, and checks their order: expert, source rank, token. */
static void compute(const struct subject *s, int32_t layer) {
    const struct expert_exchange *e = &s->exchange;
    const struct placement_layer *tables = &s->placement->layer[layer];
    int32_t rank = s->world->group.rank, first = tables->first_slot[rank];
    for (int32_t slot = 0; slot < tables->first_slot[rank + 1] - first; slot++) {
        float last = -1.0f;
        for (int32_t place = e->offsets[slot]; place < e->offsets[slot + 1]; place++) {
            const char *x = e->x_at[place];
            float token = get(s->trial->dtype, x, 0) * ROWS_MAX + get(s->trial->dtype, x, 1);
            EXPECT(token > last, "rank %d: slot %d: token %g behind %g", rank, slot, (double)token,
                   (double)last);
            last = token;
            for (int32_t column = HIDDEN; column < activation_stride(HIDDEN); column++)
                EXPECT(get(s->trial->dtype, x, column) == 0.0f, "rank %d: not zero past a row",
                       rank);
            for (int32_t column = 0; column < HIDDEN; column++)
                put(s->trial->dtype, output_row(s, e->y_place[place]), column,
                    output_of(tables->expert_of[first + slot], get(s->trial->dtype, x, column)));
        }
    }
}

/* Home rows whose outputs are not what this rank computes alone. */
static int64_t count_wrong(const struct subject *s, int32_t layer) {
    int32_t rank = s->world->group.rank;
    int64_t wrong = 0;
    for (int32_t row = 0; row < s->planned[rank]; row++)
        for (int32_t slot = 0; slot < TOP_K; slot++) {
            char expected[HIDDEN * sizeof(float)];
            for (int32_t column = 0; column < HIDDEN; column++) {
                char x[sizeof(float)];
                put(s->trial->dtype, x, 0, value_of(rank, row, column));
                put(s->trial->dtype, expected, column,
                    output_of(expert_of(layer, rank, row, slot), get(s->trial->dtype, x, 0)));
            }
            wrong += memcmp(expected, output_row(s, s->exchange.row_of[row * TOP_K + slot]),
                            row_bytes(s)) != 0;
        }
    return wrong;
}

/* Home rows that sum to other bits when each rank sums its own outputs first. */
static int64_t count_sums_that_differ(const struct subject *s) {
    const struct expert_exchange *e = &s->exchange;
    int32_t rank = s->world->group.rank;
    int64_t differ = 0;
    for (int32_t row = 0; row < s->planned[rank]; row++)
        for (int32_t column = 0; column < HIDDEN; column++) {
            float in_order = 0.0f, by_rank = 0.0f, partial[RANKS_MAX] = {0.0f};
            for (int32_t slot = 0; slot < TOP_K; slot++) {
                const char *y = output_row(s, e->row_of[row * TOP_K + slot]);
                float term = weight_of(rank, row, slot) * get(s->trial->dtype, y, column);
                in_order += term;
                partial[e->home_rank[row * TOP_K + slot]] += term;
            }
            for (int32_t peer = 0; peer < s->world->group.size; peer++)
                by_rank += partial[peer];
            differ += memcmp(&in_order, &by_rank, sizeof in_order) != 0;
        }
    return differ;
}

static void run_layer(struct subject *s, int32_t layer) {
    int32_t rank = s->world->group.rank, ids[ROWS_MAX * TOP_K], rows = s->planned[rank];
    size_t stride = (size_t)(activation_stride(HIDDEN) * dtype_bytes(s->trial->dtype));
    char *x = s->exchange.home;
    memset(x, 0, (size_t)rows * stride);
    for (int32_t row = 0; row < rows; row++) {
        for (int32_t column = 0; column < HIDDEN; column++)
            put(s->trial->dtype, x + (size_t)row * stride, column, value_of(rank, row, column));
        for (int32_t slot = 0; slot < TOP_K; slot++)
            ids[row * TOP_K + slot] = expert_of(layer, rank, row, slot);
    }
    struct transport_scope scope = {
        .step = s->world->step, .layer = layer, .kind = TRAFFIC_DISPATCH};
    demand(s->world, expert_exchange_dispatch(&s->exchange, &scope, layer, rows, ids), "dispatch");
    compute(s, layer);
    scope.kind = TRAFFIC_COMBINE;
    demand(s->world, expert_exchange_combine(&s->exchange, &scope), "combine");
}

/* The sum of everybody's numbers. */
static void add_up(struct world *world, int64_t *numbers, int32_t count) {
    int64_t all[RANKS_MAX * 16];
    struct transport_scope scope = {.step = world->step++, .layer = -1, .kind = TRAFFIC_STATUS};
    demand(world,
           collective_share(&world->all, &scope, numbers, count * (int64_t)sizeof *numbers,
                            (char *)(void *)all),
           "sum");
    memset(numbers, 0, sizeof *numbers * (size_t)count);
    for (int32_t i = 0; i < world->group.size * count; i++)
        numbers[i % count] += all[i];
}

/* ---- what must have crossed ---- */

/* Of all ranks together. */
struct crossing {
    int64_t messages, rows, bytes;                      /* in dispatches between different ranks */
    int64_t remote_messages, remote_rows, remote_bytes; /* those between nodes */
    int64_t needed_rows; /* of those rows, the ones that some expert there is to see */
    int64_t combine_messages, combine_rows;
    int64_t combine_remote_rows;
};

static bool copies_each(enum expert_flow flow) {
    return flow == EXPERT_FLOW_A2A || flow == EXPERT_FLOW_DEEPSPEED;
}

/* Pairs of a token that are computed by ranks of one set: the one rank `rank`, or with `node` >= 0
 * all ranks of that node. */
static int32_t pairs_to(const struct subject *s, int32_t layer, int32_t home, int32_t row,
                        int32_t rank, int32_t node) {
    const struct placement_layer *tables = &s->placement->layer[layer];
    int32_t pairs = 0;
    for (int32_t slot = 0; slot < TOP_K; slot++) {
        int32_t at = tables->target[home * EXPERTS + expert_of(layer, home, row, slot)];
        int32_t owner = placement_rank_of(s->placement, layer, at);
        pairs += node >= 0 ? s->node_of[owner] == node : owner == rank;
    }
    return pairs;
}

static void expect_combine(const struct subject *s, int32_t layer, struct crossing *c) {
    int32_t size = s->world->group.size;
    for (int32_t home = 0; home < size; home++)
        for (int32_t rank = 0; rank < size; rank++) {
            int64_t pairs = 0;
            for (int32_t row = 0; rank != home && row < s->planned[home]; row++)
                pairs += pairs_to(s, layer, home, row, rank, -1);
            c->combine_messages += pairs > 0;
            c->combine_rows += pairs;
            c->combine_remote_rows += s->node_of[rank] != s->node_of[home] ? pairs : 0;
        }
}

/* A message of one section. */
static void add_message(const struct subject *s, int32_t from, int32_t to, int64_t rows,
                        int64_t pairs, struct crossing *c) {
    bool remote = s->node_of[from] != s->node_of[to];
    int64_t row = activation_stride(HIDDEN) * dtype_bytes(s->trial->dtype); /* with its zeros */
    int64_t bytes = rows * row + pairs * PAIR_BYTES + HEAD_BYTES;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    c->messages++;
    c->rows += rows;
    c->bytes += bytes;
    c->remote_messages += remote;
    c->remote_rows += remote ? rows : 0;
    c->remote_bytes += remote ? bytes : 0;
}

/* All-to-all: sum over tokens of the distinct other ranks, or of the pairs elsewhere; all tokens to
 * a rank of the same node that needs 5 of 8. */
static void expect_direct(const struct subject *s, int32_t layer, struct crossing *c) {
    int32_t size = s->world->group.size;
    for (int32_t home = 0; home < size; home++)
        for (int32_t rank = 0; rank < size; rank++) {
            int64_t rows = 0, pairs = 0;
            if (rank == home || s->planned[home] == 0)
                continue;
            for (int32_t row = 0; row < s->planned[home]; row++) {
                int32_t here = pairs_to(s, layer, home, row, rank, -1);
                rows += copies_each(s->trial->flow) ? here : here > 0;
                pairs += here;
            }
            c->needed_rows += rows;
            if (!copies_each(s->trial->flow) && s->node_of[home] == s->node_of[rank] &&
                8 * rows >= 5 * (int64_t)s->planned[home]) {
                rows = s->planned[home];
                pairs = rows * TOP_K;
            }
            add_message(s, home, rank, rows, pairs, c);
        }
}

/* Every token crosses N - 1 times, whoever passes it on. */
static void expect_allgather(const struct subject *s, struct crossing *c) {
    int32_t size = s->world->group.size;
    for (int32_t distance = 1; distance < size; distance *= 2)
        for (int32_t rank = 0; rank < size; rank++) {
            int64_t rows = 0;
            int32_t count = distance < size - distance ? distance : size - distance;
            for (int32_t i = 0; i < count; i++)
                rows += s->planned[(rank + i) % size];
            if (rows > 0)
                add_message(s, rank, (rank - distance + size) % size, rows, rows * TOP_K, c);
        }
}

/* One row for each other node that a token needs, then one for each rank there but the leader. */
static void expect_hierarchical(const struct subject *s, int32_t layer, struct crossing *c) {
    int32_t size = s->world->group.size, per_node = s->trial->ranks_per_node;
    for (int32_t home = 0; home < size; home++)
        for (int32_t node = 0; node < (size + per_node - 1) / per_node; node++) {
            int64_t rows = 0, pairs = 0;
            if (node == s->node_of[home] || s->planned[home] == 0)
                continue;
            for (int32_t row = 0; row < s->planned[home]; row++) {
                int32_t here = pairs_to(s, layer, home, row, -1, node);
                rows += here > 0;
                pairs += here;
            }
            add_message(s, home, node * per_node, rows, pairs, c);
        }
    for (int32_t from = 0; from < size; from++)
        for (int32_t to = 0; to < size; to++) {
            int64_t rows = 0, pairs = 0;
            bool any = false;
            if (to == from || s->node_of[to] != s->node_of[from])
                continue;
            for (int32_t home = 0; home < size; home++) {
                int32_t first = s->node_of[from] * per_node;
                int32_t ranks = size - first < per_node ? size - first : per_node;
                bool leads =
                    s->node_of[home] != s->node_of[from] && home % per_node % ranks == from - first;
                if (s->planned[home] == 0 || (home != from && !leads))
                    continue;
                any = true;
                for (int32_t row = 0; row < s->planned[home]; row++) {
                    int32_t here = pairs_to(s, layer, home, row, to, -1);
                    rows += here > 0;
                    pairs += here;
                }
            }
            if (any)
                add_message(s, from, to, rows, pairs, c);
        }
}

static struct crossing expected_crossing(const struct subject *s) {
    struct crossing c = {0};
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        expect_combine(s, layer, &c);
        if (s->trial->flow == EXPERT_FLOW_ALLGATHER)
            expect_allgather(s, &c);
        else if (s->trial->flow == EXPERT_FLOW_HIERARCHICAL)
            expect_hierarchical(s, layer, &c);
        else
            expect_direct(s, layer, &c);
    }
    return c;
}

static void expect_equal(const struct subject *s, const char *what, int64_t got, int64_t expected) {
    EXPECT(got == expected, "%s, load %d, %d to a node: %s: expected %" PRId64 ", counted %" PRId64,
           expert_flow_name(s->trial->flow), (int)s->trial->load, s->trial->ranks_per_node, what,
           expected, got);
}

/* The accounts of all ranks against the closed formulas. Sections of a forwarded or gathered
 * message have a head each, so bytes are checked to the byte where one message is one section. */
static void check_accounts(const struct subject *s) {
    struct traffic_cell near = traffic_total(s->traffic, TRAFFIC_DISPATCH, TRAFFIC_NODE);
    struct traffic_cell far = traffic_total(s->traffic, TRAFFIC_DISPATCH, TRAFFIC_REMOTE);
    struct traffic_cell back_near = traffic_total(s->traffic, TRAFFIC_COMBINE, TRAFFIC_NODE);
    struct traffic_cell back_far = traffic_total(s->traffic, TRAFFIC_COMBINE, TRAFFIC_REMOTE);
    int64_t n[12] = {near.messages + far.messages,
                     near.bytes + far.bytes,
                     far.messages,
                     far.bytes,
                     back_near.messages + back_far.messages,
                     back_near.bytes + back_far.bytes,
                     back_far.bytes,
                     s->traffic->copies,
                     s->traffic->fan_out,
                     s->traffic->node_fan_out,
                     s->traffic->computed_pairs,
                     s->traffic->pairs};
    add_up(s->world, n, 12);
    struct crossing c = expected_crossing(s);
    int64_t output = (int64_t)row_bytes(s);
    expect_equal(s, "dispatch messages", n[0], c.messages);
    expect_equal(s, "dispatch messages between nodes", n[2], c.remote_messages);
    expect_equal(s, "copies", n[7], c.rows);
    if (s->trial->flow != EXPERT_FLOW_ALLGATHER)
        expect_equal(s, "dispatch bytes between nodes", n[3], c.remote_bytes);
    if (copies_each(s->trial->flow) || s->trial->flow == EXPERT_FLOW_A2A_DEDUP)
        expect_equal(s, "dispatch bytes", n[1], c.bytes);
    if (s->trial->flow == EXPERT_FLOW_A2A_DEDUP)
        expect_equal(s, "fan-out", n[8], c.needed_rows);
    if (s->trial->flow == EXPERT_FLOW_HIERARCHICAL)
        expect_equal(s, "fan-out over nodes", n[9], c.remote_rows);
    expect_equal(s, "combine messages", n[4], c.combine_messages);
    expect_equal(s, "combine bytes", n[5], c.combine_rows * output);
    expect_equal(s, "combine bytes between nodes", n[6], c.combine_remote_rows * output);
    expect_equal(s, "pairs computed", n[10], n[11]);
}

/* ---- all of it ---- */

static int64_t run_trial(struct world *world, const struct trial *trial, enum traffic_kind flipped,
                         int64_t *sums_that_differ) {
    struct subject s;
    int64_t wrong[2] = {0, 0};
    subject_open(&s, world, trial, flipped);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        run_layer(&s, layer);
        wrong[0] += count_wrong(&s, layer);
        wrong[1] += count_sums_that_differ(&s);
    }
    add_up(world, wrong, 2);
    if (flipped == TRAFFIC_KIND_COUNT)
        check_accounts(&s);
    subject_close(&s);
    *sums_that_differ = wrong[1];
    return wrong[0];
}

static void check_trials(struct world *world) {
    static const int32_t nodes[] = {1, 2, 3, 8};
    int64_t differ;
    for (int i = 0; i < EXPERT_FLOW_COUNT * LOAD_COUNT * 4; i++) {
        struct trial trial = {.flow = (enum expert_flow)(i % EXPERT_FLOW_COUNT),
                              .load = (enum load)(i / EXPERT_FLOW_COUNT % LOAD_COUNT),
                              .ranks_per_node = nodes[i / (EXPERT_FLOW_COUNT * LOAD_COUNT)],
                              .policy = (enum placement_policy)(i % 3),
                              .replicas = world->group.size > 1 ? i % 4 : 0,
                              .dtype = i % 2 == 0 ? DTYPE_F32 : DTYPE_BF16};
        int64_t wrong = run_trial(world, &trial, TRAFFIC_KIND_COUNT, &differ);
        EXPECT(wrong == 0, "%s, load %d, %d to a node: %" PRId64 " wrong outputs",
               expert_flow_name(trial.flow), (int)trial.load, trial.ranks_per_node, wrong);
    }
}

/* Every rank that can flips one bit of one message; sums are another order's. */
static void check_controls(struct world *world) {
    for (int flow = 0; flow < EXPERT_FLOW_COUNT; flow++) {
        struct trial trial = {.flow = (enum expert_flow)flow,
                              .load = LOAD_EVEN,
                              .ranks_per_node = 2,
                              .dtype = DTYPE_F32};
        int64_t differ;
        run_trial(world, &trial, TRAFFIC_KIND_COUNT, &differ);
        EXPECT(differ > 0, "%s: control: sums made before they travel are the same bits",
               expert_flow_name(trial.flow));
        EXPECT(run_trial(world, &trial, TRAFFIC_DISPATCH, &differ) > 0,
               "%s: control: a flipped bit of a dispatch is not seen",
               expert_flow_name(trial.flow));
        EXPECT(run_trial(world, &trial, TRAFFIC_COMBINE, &differ) > 0,
               "%s: control: a flipped bit of a combine is not seen", expert_flow_name(trial.flow));
    }
}

int main(int argc, char **argv) {
    struct world world = {.step = 1};
    const struct rank_group_options join = {
        .under_launcher = true, .timeout_ms = TIMEOUT_MS, .command = "test_exchange"};
    enum status status = rank_group_start(&join, &world.group);
    if (status != STATUS_OK || argc != 2 || world.group.size != strtol(argv[1], NULL, 10) ||
        world.group.size > RANKS_MAX) {
        printf("usage: mpirun -n RANKS test_exchange RANKS (at most %d)\n", RANKS_MAX);
        return 2;
    }
    for (int32_t i = 0; i < world.group.size; i++)
        world.members[i] = i;
    world.all = (struct collective_group){.transport = world.group.transport,
                                          .members = world.members,
                                          .count = world.group.size,
                                          .self = world.group.rank};
    check_trials(&world);
    if (world.group.size > 1)
        check_controls(&world);
    int64_t failures = expect_failures;
    add_up(&world, &failures, 1);
    rank_group_finish(&world.group);
    return failures == 0 ? 0 : 1;
}
