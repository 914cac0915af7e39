/* What --traffic-json says of a real run, held against the closed formulas for the very routing
 * that
 * --dump-routing wrote: one request at home on rank 0 of 4 ranks that count as 2 nodes of 2, a
 * prompt in one step and then a token a step. Usage: test_traffic MPIRUN MOEBIUS FOLDER [dummy]
 *
 * With dummy weights (of a real model's shape) routing is as good as random: then the mean fan-out
 * is also held against (N - 1)(1 - (1 - 1/N)^k). Control: one flow's formula against another's run.
 */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/family.h"
#include "runtime/safetensors.h"
#include "tests/support/expect.h"
#include "tests/support/fixture.h"
#include "tests/support/mpirun.h"
#include "tests/support/program_json.h"

#define RANKS 4
#define PER_NODE 2
#define PROMPT 96
#define STEPS 5 /* the prompt's and four tokens' */
#define ROWS (PROMPT + STEPS - 1)
#define HEAD_BYTES 12
#define PAIR_BYTES 8
#define ALIGNMENT 64         /* of a section of a message */
#define CHANCE_TOLERANCE 0.1 /* of the fan-out: few rows, and experts that the weights favour */

/* One layer's routing. */
struct routing {
    const int32_t *ids; /* [ROWS][stride] */
    int64_t stride;
    int32_t top_k, experts;
};

/* Messages and bytes of one layer, to ranks of the same node and of the other. */
struct cells {
    int64_t messages[2], bytes[2];
};

struct expectation {
    struct cells dispatch, combine;
    int64_t fan_out, local_pairs;
};

/* Contiguous placement: the first experts % ranks ranks hold one more. */
static int32_t rank_of(int32_t experts, int32_t expert) {
    int32_t base = experts / RANKS, more = experts % RANKS;
    return expert < more * (base + 1) ? expert / (base + 1)
                                      : more + (expert - more * (base + 1)) / base;
}

static int32_t pairs_to(const struct routing *routing, int32_t row, int32_t rank) {
    int32_t pairs = 0;
    for (int32_t slot = 0; slot < routing->top_k; slot++)
        pairs += rank_of(routing->experts, routing->ids[row * routing->stride + slot]) == rank;
    return pairs;
}

static void add(struct cells *cells, int32_t from, int32_t to, int64_t messages, int64_t bytes) {
    int distance = from / PER_NODE == to / PER_NODE ? 0 : 1;
    cells->messages[distance] += messages;
    cells->bytes[distance] += bytes;
}

/* The rows of one step: of the run's, from `first` to before `end`. */
struct step_rows {
    int32_t first, end;
};

static struct step_rows rows_of_step(int32_t step) {
    return (struct step_rows){step == 0 ? 0 : PROMPT + step - 1, PROMPT + step};
}

/* Rows and pairs of a step that go to a rank, and to its node. */
struct demand {
    int64_t rows, pairs, node_rows, node_pairs;
};

static struct demand demand_of(const struct routing *routing, struct step_rows rows, int32_t rank) {
    struct demand demand = {0};
    for (int32_t row = rows.first; row < rows.end; row++) {
        int32_t own = pairs_to(routing, row, rank), node = own + pairs_to(routing, row, rank ^ 1);
        demand.rows += own > 0;
        demand.pairs += own;
        demand.node_rows += node > 0;
        demand.node_pairs += node;
    }
    return demand;
}

static int64_t message_bytes(int64_t rows, int64_t pairs, int64_t row_bytes) {
    int64_t bytes = rows * row_bytes + pairs * PAIR_BYTES + HEAD_BYTES;
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void expect_dispatch(const struct routing *routing, struct step_rows rows, const char *flow,
                            int64_t row_bytes, struct cells *cells) {
    bool hierarchical = strcmp(flow, "hierarchical") == 0, each = strcmp(flow, "a2a") == 0;
    int64_t count = rows.end - rows.first;
    int64_t all = message_bytes(count, count * routing->top_k, row_bytes);
    struct demand other = demand_of(routing, rows, 2);
    if (strcmp(flow, "allgather") == 0) { /* 0 to 3, then 0 to 2 and 3 to 1 */
        add(cells, 0, 3, 1, all);
        add(cells, 0, 2, 1, all);
        add(cells, 3, 1, 1, all);
        return;
    }
    if (hierarchical)
        add(cells, 0, 2, 1, message_bytes(other.node_rows, other.node_pairs, row_bytes));
    for (int32_t rank = 1; rank < RANKS; rank++) {
        struct demand demand = demand_of(routing, rows, rank);
        bool whole = rank < PER_NODE && !hierarchical && !each && 8 * demand.rows >= 5 * count;
        int64_t bytes = message_bytes(each ? demand.pairs : demand.rows, demand.pairs, row_bytes);
        if (!hierarchical || rank != 2) /* which leads, and has its own then */
            add(cells, hierarchical && rank == 3 ? 2 : 0, rank, 1, whole ? all : bytes);
    }
}

/* A message back from each rank that computed something in a step. */
static void expect_combine(const struct routing *routing, int64_t row_bytes, struct cells *cells) {
    for (int32_t rank = 1; rank < RANKS; rank++)
        for (int32_t step = 0; step < STEPS; step++) {
            struct step_rows rows = rows_of_step(step);
            int64_t pairs = 0;
            for (int32_t row = rows.first; row < rows.end; row++)
                pairs += pairs_to(routing, row, rank);
            add(cells, rank, 0, pairs > 0, pairs * row_bytes);
        }
}

static struct expectation expect_layer(const struct routing *routing, const char *flow,
                                       int64_t row_bytes) {
    struct expectation expected = {0};
    for (int32_t step = 0; step < STEPS; step++)
        expect_dispatch(routing, rows_of_step(step), flow, row_bytes, &expected.dispatch);
    expect_combine(routing, row_bytes, &expected.combine);
    for (int32_t row = 0; row < ROWS; row++) {
        expected.local_pairs += pairs_to(routing, row, 0);
        for (int32_t rank = 1; rank < RANKS; rank++)
            expected.fan_out += pairs_to(routing, row, rank) > 0;
    }
    return expected;
}

/* ---- a run ---- */

struct run {
    json_t *traffic;
    struct safetensors_file *file;
    const int32_t *ids;
    int64_t layers, top_k;
};

static struct run run_flow(const struct program *mpirun, char **argv, const char *ids,
                           const char *flow, bool dummy) {
    char traffic[128], routing[128];
    struct run run = {0};
    program_scratch_path(mpirun, "traffic.json", traffic, sizeof traffic);
    program_scratch_path(mpirun, "routing.safetensors", routing, sizeof routing);
    json_decref(program_json_run(mpirun, (const char *const[]){MPIRUN_FLAGS,
                                                               "-n",
                                                               "4",
                                                               argv[2],
                                                               "generate",
                                                               "--model",
                                                               argv[3],
                                                               "--load-format",
                                                               dummy ? "dummy" : "auto",
                                                               "--threads",
                                                               "1",
                                                               "--log-level",
                                                               "error",
                                                               "--token-ids",
                                                               ids,
                                                               "--max-tokens",
                                                               "5",
                                                               "--ignore-eos",
                                                               "--json",
                                                               "--ranks-per-node",
                                                               "2",
                                                               "--moe-flow",
                                                               flow,
                                                               "--traffic-json",
                                                               traffic,
                                                               "--dump-routing",
                                                               routing,
                                                               NULL}));
    run.traffic = program_json_load(traffic);
    if (safetensors_open(routing, &run.file) != STATUS_OK)
        exit(1);
    const struct tensor_info *tensor = safetensors_find(run.file, "expert_ids");
    run.layers = tensor->shape[1];
    run.top_k = tensor->shape[2];
    run.ids = safetensors_data(run.file, tensor);
    EXPECT(tensor->shape[0] == ROWS, "%s: expected the routing of %d rows, got %" PRId64, flow,
           ROWS, tensor->shape[0]);
    return run;
}

static int64_t field(const json_t *layer, const char *kind, const char *name) {
    return json_integer_value(json_object_get(json_object_get(layer, kind), name));
}

/* Whether a kind of one layer is as expected; says so if not and `loud`. */
static bool agrees(const json_t *layer, const char *kind, const struct cells *expected,
                   const char *what, bool loud) {
    int64_t got[4] = {field(layer, kind, "node_messages"), field(layer, kind, "node_bytes"),
                      field(layer, kind, "remote_messages"), field(layer, kind, "remote_bytes")};
    bool same = got[0] == expected->messages[0] && got[1] == expected->bytes[0] &&
                got[2] == expected->messages[1] && got[3] == expected->bytes[1];
    EXPECT(same || !loud,
           "%s, %s: expected %" PRId64 " messages of %" PRId64 " bytes on the node and %" PRId64
           " of %" PRId64 " to the other, got %" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64,
           what, kind, expected->messages[0], expected->bytes[0], expected->messages[1],
           expected->bytes[1], got[0], got[1], got[2], got[3]);
    return same;
}

/* Every layer of a run against the formulas of `flow`. Returns whether all agree. */
static bool check_run(const struct run *run, const struct model_spec *spec, const char *flow,
                      bool loud, double *fan_out) {
    int64_t row_bytes = spec->hidden * (spec->stored_dtype == DTYPE_F32 ? 4 : 2), reach = 0;
    int64_t local = 0;
    bool same = true;
    for (int32_t layer = 0; layer < run->layers; layer++) {
        struct routing routing = {.ids = run->ids + layer * run->top_k,
                                  .stride = run->layers * run->top_k,
                                  .top_k = spec->moe.router.top_k,
                                  .experts = spec->moe.router.experts};
        struct expectation expected = expect_layer(&routing, flow, row_bytes);
        const json_t *got = json_array_get(json_object_get(run->traffic, "layers"), (size_t)layer);
        same = agrees(got, "dispatch", &expected.dispatch, flow, loud) && same;
        same = agrees(got, "combine", &expected.combine, flow, loud) && same;
        reach += expected.fan_out;
        local += expected.local_pairs;
    }
    double tokens = (double)(ROWS * run->layers);
    *fan_out = (double)reach / tokens;
    double said = json_number_value(json_object_get(run->traffic, "fan_out"));
    double rate = json_number_value(json_object_get(run->traffic, "local_activation_rate"));
    EXPECT(fabs(said - *fan_out) < 1e-6, "%s: expected a fan-out of %g, got %g", flow, *fan_out,
           said);
    EXPECT(fabs(rate - (double)local / (tokens * (double)run->top_k)) < 1e-6,
           "%s: expected %" PRId64 " local pairs, got a rate of %g", flow, local, rate);
    return same;
}

static void check_chance(const struct model_spec *spec, double fan_out) {
    double expected = (RANKS - 1) * (1.0 - pow(1.0 - 1.0 / RANKS, (double)spec->moe.router.top_k));
    printf("fan-out %.4f, by chance %.4f\n", fan_out, expected);
    EXPECT(fabs(fan_out - expected) <= CHANCE_TOLERANCE * expected,
           "expected a fan-out within %g of %g, got %g", CHANCE_TOLERANCE, expected, fan_out);
}

/* bench exchange tells of every flow; what a2a-dedup sends is a message to each rank and back from
 * some, and never more bytes than a2a. */
static void check_bench(const struct program *mpirun, char **argv) {
    json_t *answer = program_json_run(
        mpirun, (const char *const[]){MPIRUN_FLAGS, "-n", "4", argv[2], "bench", "exchange",
                                      "--model", argv[3], "--tokens", "3", "--repetitions", "1",
                                      "--log-level", "error", "--json", NULL});
    const json_t *rows = json_object_get(answer, "rows");
    int64_t bytes[2] = {0, 0}, messages[2] = {0, 0};
    EXPECT(json_array_size(rows) == 4, "bench exchange: expected 4 rows, got %zu",
           json_array_size(rows));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        EXPECT(json_number_value(json_object_get(row, "seconds")) > 0.0 &&
                   json_number_value(json_object_get(row, "alltoallv_seconds")) > 0.0,
               "bench exchange: row %zu: expected times above 0", i);
        if (i < 2) {
            bytes[i] = json_integer_value(json_object_get(row, "bytes"));
            messages[i] = json_integer_value(json_object_get(row, "messages"));
        }
    }
    EXPECT(bytes[0] > 0 && bytes[0] <= bytes[1] && messages[0] == messages[1] && messages[0] > 9 &&
               messages[0] <= 18,
           "bench exchange: a2a-dedup sends %" PRId64 " bytes in %" PRId64 " messages, a2a %" PRId64
           " in %" PRId64,
           bytes[0], messages[0], bytes[1], messages[1]);
    json_decref(answer);
}

/* ---- every field is explained ---- */

#define FIELDS "launcher/traffic_report.h"

/* Whether a line of the table in FIELDS begins with the name. */
static bool is_explained(const char *text, const char *name) {
    size_t length = strlen(name);
    for (const char *at = text; (at = strstr(at, "\n *   ")) != NULL; at++) {
        const char *word = at + 3 + strspn(at + 3, " ");
        if (strncmp(word, name, length) == 0 && (word[length] == ' ' || word[length] == '\n'))
            return true;
    }
    return false;
}

/* How many fields of `value`, at any depth, are not explained; names them if `loud`. */
static int count_unknown(const json_t *value, const char *text, bool loud) {
    int unknown = 0;
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++)
        unknown += count_unknown(json_array_get(value, i), text, loud);
    if (!json_is_object(value))
        return unknown;
    const char *name;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)value, name, member) {
        bool known = is_explained(text, name);
        EXPECT(known || !loud, "--traffic-json: expected an explanation of '%s' in " FIELDS, name);
        unknown += (known ? 0 : 1) + count_unknown(member, text, loud);
    }
    return unknown;
}

/* Two flows and tensor parallelism show all there is. */
static void check_fields(const struct program *mpirun, char **argv) {
    static const char *const flows[] = {"auto", "deepspeed"};
    char path[128];
    size_t size;
    char *text = program_read_file(FIELDS, &size);
    program_scratch_path(mpirun, "fields.json", path, sizeof path);
    for (size_t i = 0; i < 2; i++) {
        json_decref(
            program_json_run(mpirun, (const char *const[]){MPIRUN_FLAGS, "-n",
                                                           "4",          argv[2],
                                                           "generate",   "--model",
                                                           argv[3],      "--threads",
                                                           "1",          "--log-level",
                                                           "error",      "--token-ids",
                                                           "1 2 3",      "--max-tokens",
                                                           "40",         "--ignore-eos",
                                                           "--json",     "--ranks-per-node",
                                                           "2",          "--tensor-parallel-size",
                                                           "2",          "--moe-flow",
                                                           flows[i],     "--traffic-json",
                                                           path,         NULL}));
        json_t *traffic = program_json_load(path);
        count_unknown(traffic, text, true);
        const json_t *layers = json_object_get(traffic, "layers");
        const json_t *last = json_array_get(layers, json_array_size(layers) - 1);
        EXPECT(json_integer_value(json_object_get(last, "layer")) == -1 &&
                   field(last, "plan", "node_messages") > 0,
               "%s: expected what belongs to no layer at the end", flows[i]);
        json_object_set_new(traffic, "surprise", json_integer(1)); /* control */
        EXPECT(count_unknown(traffic, text, false) == 1, "control: a field that nobody explained");
        json_decref(traffic);
    }
    free(text);
}

int main(int argc, char **argv) {
    static const char *const flows[] = {"a2a", "a2a-dedup", "allgather", "hierarchical"};
    static struct model_spec spec;
    const struct family *family;
    if (argc < 4 || family_parse(argv[3], &family, &spec) != STATUS_OK) {
        fprintf(stderr, "usage: test_traffic MPIRUN MOEBIUS FOLDER [dummy]\n");
        return 2;
    }
    bool dummy = argc > 4;
    struct program mpirun;
    program_init(&mpirun, argv[1]);
    int32_t tokens[PROMPT];
    char ids[PROMPT * 8];
    size_t used = 0;
    fixture_random_tokens(3, spec.vocabulary, PROMPT, tokens);
    for (int i = 0; i < PROMPT; i++)
        used += (size_t)snprintf(ids + used, sizeof ids - used, "%d ", tokens[i]);
    for (size_t i = 0; i < sizeof flows / sizeof flows[0]; i++) {
        struct run run = run_flow(&mpirun, argv, ids, flows[i], dummy);
        double fan_out;
        check_run(&run, &spec, flows[i], true, &fan_out);
        EXPECT(!check_run(&run, &spec, flows[(i + 1) % 4], false, &fan_out),
               "control: a run of %s agrees with the formulas of %s", flows[i], flows[(i + 1) % 4]);
        if (dummy)
            check_chance(&spec, fan_out);
        json_decref(run.traffic);
        safetensors_close(run.file);
    }
    if (!dummy) {
        check_bench(&mpirun, argv);
        check_fields(&mpirun, argv);
    }
    program_deinit(&mpirun);
    return expect_failures == 0 ? 0 : 1;
}
