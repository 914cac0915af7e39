/* moebius bench exchange: how long the dispatch and combine of one MoE layer take on the ranks of
 * this job, flow by flow, beside a plain MPI_Alltoallv of the bytes that have to go. No
 * weights are loaded and nothing is computed: tokens are routed at random, as many rows go home as
 * came. */
#include "launcher/bench_exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "launcher/engine_flags.h"
#include "launcher/job.h"
#include "moe/expert_exchange.h"
#include "runtime/family.h"
#include "runtime/json_writer.h"

#define SIZES_MAX 16
#define BATCHES_MAX 100
#define BATCH_NS 20000000 /* about as long are the calls that are timed together */
#define CALLS_MAX 2000

struct exchange_flags {
    struct engine_flags engine;
    struct option_list tokens;
    int32_t repetitions;
    bool json;
};

/* One line of the table. */
struct exchange_row {
    int32_t tokens;
    enum expert_flow flow;
    double flow_us, mpi_us;  /* medians over the repetitions, of the slowest rank in each */
    int64_t bytes, messages; /* of one layer, over all ranks */
};

/* What is measured with. */
struct bench {
    const struct exchange_flags *flags;
    struct rank_group ranks;
    struct collective_group world;
    int32_t members[TRANSPORT_RANKS_MAX];
    char folder[FLAGS_PATH_MAX];
    struct model_spec spec;
    enum dtype dtype;
    struct placement *placement;
    int32_t sizes[SIZES_MAX], size_count, rows_max;
    int64_t step;
    struct exchange_row rows[SIZES_MAX * EXPERT_FLOW_COUNT];
    int32_t row_count;
};

/* Buffers of one number of tokens. */
struct subject {
    struct expert_ranks ranks;
    struct expert_exchange exchange;
    void *region;
    size_t region_bytes;
    int32_t rows_of[TRANSPORT_RANKS_MAX];
    int32_t *ids;
    char *sent, *received;
    int64_t
        *counts; /* [4][ranks]: bytes of a dispatch to and from each, of a combine to and from */
};

/* ---- who sends what ---- */

/* A rank's share of the tokens. */
static int32_t share_of(int32_t tokens, int32_t rank, int32_t ranks) {
    return tokens / ranks + (rank < tokens % ranks ? 1 : 0);
}

/* k different experts for a row of a rank, at random but the same in every run. */
static void route(const struct bench *bench, int32_t rank, int32_t row, int32_t *ids) {
    uint64_t state = ((uint64_t)rank << 32 | (uint32_t)row) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    int32_t experts = bench->spec.moe.router.experts, top_k = bench->spec.moe.router.top_k;
    for (int32_t slot = 0; slot < top_k; slot++) {
        bool fresh = false;
        while (!fresh) {
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            ids[slot] = (int32_t)((state >> 33) % (uint64_t)experts);
            fresh = true;
            for (int32_t before = 0; before < slot; before++)
                fresh = fresh && ids[before] != ids[slot];
        }
    }
}

/* Bytes that must go from one home to one rank, each row once, and back. */
static void count_bytes(const struct bench *bench, const struct subject *subject, int32_t home,
                        int32_t rank, int64_t *there, int64_t *back) {
    const struct placement_layer *layer = &bench->placement->layer[0];
    int32_t ids[MODEL_EXPERTS_MAX], top_k = bench->spec.moe.router.top_k;
    int64_t row_bytes = bench->spec.hidden * (int64_t)dtype_bytes(bench->dtype);
    int64_t rows = 0, pairs = 0;
    for (int32_t row = 0; home != rank && row < subject->rows_of[home]; row++) {
        int64_t before = pairs;
        route(bench, home, row, ids);
        for (int32_t slot = 0; slot < top_k; slot++) {
            int32_t at = layer->target[(int64_t)home * bench->placement->experts + ids[slot]];
            pairs += placement_rank_of(bench->placement, 0, at) == rank;
        }
        rows += pairs > before;
    }
    *there = rows * row_bytes + pairs * (int64_t)sizeof(struct expert_pair);
    *back = pairs * row_bytes;
}

static enum status subject_open(struct bench *bench, int32_t tokens, enum expert_flow flow,
                                struct subject *s) {
    int32_t ranks = bench->ranks.size, self = bench->ranks.rank;
    *s = (struct subject){.ranks = {.transport = bench->ranks.transport,
                                    .placement = bench->placement,
                                    .flow = flow}};
    for (int32_t rank = 0; rank < ranks; rank++)
        s->rows_of[rank] = share_of(tokens, rank, ranks);
    int32_t slots = bench->spec.moe.router.experts;
    struct expert_exchange_limits limits = {.rows = tokens,
                                            .top_k = bench->spec.moe.router.top_k,
                                            .hidden = bench->spec.hidden,
                                            .slots = slots,
                                            .act_dtype = bench->dtype,
                                            .wire_dtype = bench->dtype};
    int64_t row_bytes = limits.hidden * (int64_t)dtype_bytes(bench->dtype);
    int64_t row = activation_stride(limits.hidden) * (int64_t)dtype_bytes(bench->dtype);
    size_t all = (size_t)(tokens * (row + 8) * limits.top_k);
    for (int pass = 0; pass < 2; pass++) { /* first the size, then the memory */
        struct arena arena = {.base = s->region, .capacity = s->region_bytes};
        expert_exchange_take(&arena, &s->ranks, &limits, &s->exchange);
        s->ids = arena_take(&arena, (size_t)(tokens * limits.top_k) * sizeof *s->ids);
        s->sent = arena_take(&arena, all);
        s->received = arena_take(&arena, all);
        s->counts = arena_take(&arena, 4 * (size_t)ranks * sizeof *s->counts);
        if (pass == 1)
            break;
        s->region_bytes = arena.used;
        RETURN_IF_ERROR(memory_acquire("bench exchange", s->region_bytes, &s->region));
    }
    /* Pages that were never written are all the same one, and too fast to be true. */
    memset(s->sent, 1, all);
    memset(s->exchange.home, 1, (size_t)(tokens * row));
    memset(s->exchange.y, 1, 2 * (size_t)s->exchange.pairs_max * (size_t)row_bytes);
    RETURN_IF_ERROR(transport_reserve(bench->ranks.transport, s->exchange.longest_bytes));
    for (int32_t i = 0; i < s->rows_of[self]; i++)
        route(bench, self, i, s->ids + (int64_t)i * limits.top_k);
    for (int32_t peer = 0; peer < ranks; peer++) {
        count_bytes(bench, s, self, peer, &s->counts[peer], &s->counts[3 * ranks + peer]);
        count_bytes(bench, s, peer, self, &s->counts[ranks + peer], &s->counts[2 * ranks + peer]);
    }
    return STATUS_OK;
}

static void subject_close(struct subject *s) {
    memory_release(s->region, s->region_bytes);
}

/* ---- timing ---- */

/* One layer by our exchange. */
static enum status run_flow(struct bench *bench, struct subject *s) {
    struct transport_scope scope = {.step = bench->step++, .layer = 0, .kind = TRAFFIC_DISPATCH};
    expert_exchange_begin_step(&s->exchange, s->rows_of);
    RETURN_IF_ERROR(
        expert_exchange_dispatch(&s->exchange, &scope, 0, s->rows_of[bench->ranks.rank], s->ids));
    scope.kind = TRAFFIC_COMBINE;
    return expert_exchange_combine(&s->exchange, &scope);
}

/* The same bytes by MPI. */
static enum status run_mpi(struct bench *bench, struct subject *s) {
    int32_t ranks = bench->ranks.size;
    RETURN_IF_ERROR(
        rank_group_alltoallv(&bench->ranks, s->sent, s->counts, s->received, s->counts + ranks));
    return rank_group_alltoallv(&bench->ranks, s->sent, s->counts + 2 * ranks, s->received,
                                s->counts + 3 * ranks);
}

/* Mean time of `calls` calls in a row, of the slowest rank. */
static enum status time_calls(struct bench *bench, struct subject *s,
                              enum status (*run)(struct bench *, struct subject *), int32_t calls,
                              double *us) {
    double own, all[TRANSPORT_RANKS_MAX];
    struct transport_scope scope = {.step = bench->step++, .layer = -1, .kind = TRAFFIC_STATUS};
    enum status agreed;
    RETURN_IF_ERROR(collective_agree(&bench->world, &scope, STATUS_OK, &agreed)); /* a barrier */
    int64_t start = clock_now_ns();
    for (int32_t i = 0; i < calls; i++)
        RETURN_IF_ERROR(run(bench, s));
    own = (double)(clock_now_ns() - start) * 1e-3 / calls;
    RETURN_IF_ERROR(collective_share(&bench->world, &scope, &own, sizeof own, (char *)(void *)all));
    *us = 0.0;
    for (int32_t rank = 0; rank < bench->ranks.size; rank++)
        *us = all[rank] > *us ? all[rank] : *us;
    return STATUS_OK;
}

static int compare_doubles(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double median_of(double *values, int32_t count) {
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return (values[(count - 1) / 2] + values[count / 2]) / 2.0;
}

/* What one layer sends, over all ranks. */
static enum status count_traffic(struct bench *bench, struct subject *s, struct exchange_row *row) {
    struct traffic *traffic;
    struct job_load load;
    RETURN_IF_ERROR(traffic_create(1, &traffic));
    bench->ranks.transport->traffic = traffic;
    enum status status = run_flow(bench, s);
    if (status == STATUS_OK)
        status = job_gather_traffic(&bench->ranks, traffic, &load);
    bench->ranks.transport->traffic = NULL;
    for (int distance = TRAFFIC_NODE; distance <= TRAFFIC_REMOTE; distance++)
        for (int kind = TRAFFIC_DISPATCH; kind <= TRAFFIC_COMBINE; kind++) {
            struct traffic_cell cell =
                traffic_total(traffic, (enum traffic_kind)kind, (enum traffic_distance)distance);
            row->bytes += cell.bytes;
            row->messages += cell.messages;
        }
    traffic_destroy(traffic);
    return status;
}

/* One flow and MPI in turn, so that what else the machine does hits both. */
static enum status measure(struct bench *bench, struct subject *s, struct exchange_row *row) {
    double flow_us[BATCHES_MAX], mpi_us[BATCHES_MAX], first_us;
    RETURN_IF_ERROR(time_calls(bench, s, run_mpi, 10, &first_us));
    RETURN_IF_ERROR(time_calls(bench, s, run_flow, 10, &first_us));
    double calls = BATCH_NS * 1e-3 / (first_us > 1.0 ? first_us : 1.0);
    int32_t count = calls < 5.0 ? 5 : calls > CALLS_MAX ? CALLS_MAX : (int32_t)calls;
    for (int32_t i = 0; i < bench->flags->repetitions; i++) {
        RETURN_IF_ERROR(time_calls(bench, s, run_mpi, count, &mpi_us[i]));
        RETURN_IF_ERROR(time_calls(bench, s, run_flow, count, &flow_us[i]));
    }
    row->flow_us = median_of(flow_us, bench->flags->repetitions);
    row->mpi_us = median_of(mpi_us, bench->flags->repetitions);
    return count_traffic(bench, s, row);
}

/* ---- the report ---- */

static void print_table(const struct bench *bench, const char *mpi) {
    printf("%d ranks on %d nodes (%s), %s: hidden %d, %d experts, %d a token, %s\n\n"
           "| tokens | flow | us a layer | MPI_Alltoallv, us | ratio | messages | bytes |\n"
           "|---|---|---|---|---|---|---|\n",
           bench->ranks.size, transport_node_count(bench->ranks.transport), mpi, bench->folder,
           bench->spec.hidden, bench->spec.moe.router.experts, bench->spec.moe.router.top_k,
           dtype_name(bench->dtype));
    for (int32_t i = 0; i < bench->row_count; i++) {
        const struct exchange_row *row = &bench->rows[i];
        printf("| %d | %s | %.1f | %.1f | %.2f | %lld | %lld |\n", row->tokens,
               expert_flow_name(row->flow), row->flow_us, row->mpi_us, row->flow_us / row->mpi_us,
               (long long)row->messages, (long long)row->bytes);
    }
}

static void print_json(const struct bench *bench, const char *mpi) {
    struct json_writer json = {.out = stdout};
    json_writer_begin_object(&json, NULL);
    json_writer_integer(&json, "ranks", bench->ranks.size);
    json_writer_integer(&json, "nodes", transport_node_count(bench->ranks.transport));
    json_writer_text(&json, "mpi", mpi);
    json_writer_text(&json, "model", bench->folder);
    json_writer_integer(&json, "hidden", bench->spec.hidden);
    json_writer_integer(&json, "experts", bench->spec.moe.router.experts);
    json_writer_integer(&json, "top_k", bench->spec.moe.router.top_k);
    json_writer_text(&json, "dtype", dtype_name(bench->dtype));
    json_writer_begin_array(&json, "rows");
    for (int32_t i = 0; i < bench->row_count; i++) {
        const struct exchange_row *row = &bench->rows[i];
        json_writer_begin_object(&json, NULL);
        json_writer_integer(&json, "tokens", row->tokens);
        json_writer_text(&json, "flow", expert_flow_name(row->flow));
        json_writer_number(&json, "seconds", row->flow_us * 1e-6);
        json_writer_number(&json, "alltoallv_seconds", row->mpi_us * 1e-6);
        json_writer_number(&json, "ratio", row->flow_us / row->mpi_us);
        json_writer_integer(&json, "messages", row->messages);
        json_writer_integer(&json, "bytes", row->bytes);
        json_writer_end_object(&json);
    }
    json_writer_end_array(&json);
    json_writer_end_object(&json);
    printf("\n");
}

/* ---- the run ---- */

static enum status run_all(struct bench *bench) {
    static const enum expert_flow flows[] = {EXPERT_FLOW_A2A_DEDUP, EXPERT_FLOW_A2A,
                                             EXPERT_FLOW_ALLGATHER, EXPERT_FLOW_HIERARCHICAL};
    for (int32_t size = 0; size < bench->size_count; size++)
        for (size_t flow = 0; flow < sizeof flows / sizeof flows[0]; flow++) {
            struct subject subject;
            struct exchange_row *row = &bench->rows[bench->row_count++];
            *row = (struct exchange_row){.tokens = bench->sizes[size], .flow = flows[flow]};
            enum status status = subject_open(bench, row->tokens, row->flow, &subject);
            if (status == STATUS_OK)
                status = measure(bench, &subject, row);
            subject_close(&subject);
            RETURN_IF_ERROR(status);
        }
    return STATUS_OK;
}

static enum status parse_sizes(struct bench *bench) {
    static const int32_t usual[] = {1, 16, 256};
    const struct option_list *given = &bench->flags->tokens;
    for (int32_t i = 0; i < 3 && given->count == 0; i++)
        bench->sizes[bench->size_count++] = usual[i];
    for (int32_t i = 0; i < given->count; i++) {
        char *end;
        long tokens = strtol(given->values[i], &end, 10);
        if (*end != '\0' || tokens < 1 || tokens > 65536 || i == SIZES_MAX) {
            LOG_ERROR("--tokens: expected at most %d numbers from 1 to 65536, got '%s'", SIZES_MAX,
                      given->values[i]);
            return STATUS_USAGE;
        }
        bench->sizes[bench->size_count++] = (int32_t)tokens;
    }
    return STATUS_OK;
}

static enum status prepare(struct bench *bench) {
    const struct family *family;
    struct engine_options options;
    RETURN_IF_ERROR(engine_flags_resolve(&bench->flags->engine, &options, bench->folder));
    RETURN_IF_ERROR(parse_sizes(bench));
    RETURN_IF_ERROR(family_parse(bench->folder, &family, &bench->spec));
    if (bench->spec.moe.router.experts == 0) {
        LOG_ERROR("bench exchange: expected a model with experts, got none in %s", bench->folder);
        return STATUS_USAGE;
    }
    bool f32 = options.dtype == ENGINE_DTYPE_F32 ||
               (options.dtype == ENGINE_DTYPE_AUTO && bench->spec.stored_dtype == DTYPE_F32);
    bench->dtype = f32 ? DTYPE_F32 : DTYPE_BF16;
    RETURN_IF_ERROR(engine_flags_join(&bench->flags->engine, &options, &bench->ranks));
    if (bench->ranks.size == 1) {
        LOG_ERROR("bench exchange: expected to run under mpirun or srun on 2 ranks or more, got 1");
        return STATUS_USAGE;
    }
    for (int32_t i = 0; i < bench->ranks.size; i++)
        bench->members[i] = i;
    bench->world = (struct collective_group){.transport = bench->ranks.transport,
                                             .members = bench->members,
                                             .count = bench->ranks.size,
                                             .self = bench->ranks.rank};
    options.placement.node_of = bench->ranks.node_of;
    return placement_create(1, bench->spec.moe.router.experts, bench->ranks.size,
                            &options.placement, &bench->placement);
}

static enum status bench_all(const struct exchange_flags *flags, int argc, char **argv) {
    static struct bench bench; /* large, and one is enough */
    int operand = flags->engine.settings.first_operand;
    if (operand != argc) {
        LOG_ERROR("bench exchange: expected no more arguments, got '%s'", argv[operand]);
        return STATUS_USAGE;
    }
    bench.flags = flags;
    enum status status = prepare(&bench);
    if (status == STATUS_OK)
        status = run_all(&bench);
    char mpi[64];
    const char *level;
    if (status == STATUS_OK && bench.ranks.rank == 0) {
        rank_group_describe_mpi(&bench.ranks, mpi, sizeof mpi, &level);
        (flags->json ? print_json : print_table)(&bench, mpi);
    }
    placement_destroy(bench.placement);
    job_end(&bench.ranks, status);
    return status;
}

#define EXCHANGE_ENTRIES 4

enum status bench_exchange(int argc, char **argv) {
    struct exchange_flags flags = {.engine = engine_flags_default(), .repetitions = 7};
    struct option_entry
        entries[EXCHANGE_ENTRIES + ENGINE_FLAGS_ENTRIES + ENGINE_FLAGS_RANK_ENTRIES] = {
            {.kind = OPTION_HEADING, .name = "Measurement"},
            {OPTION_LIST, "tokens", &flags.tokens, "N",
             "of one step, over all ranks; may be repeated; default 1, 16 and 256", 0, 0},
            {OPTION_INT, "repetitions", &flags.repetitions, "N", "default 7", 1, BATCHES_MAX},
            {OPTION_FLAG, "json", &flags.json, NULL, "one JSON object instead of the table", 0, 0},
        };
    int32_t count = engine_flags_entries(&flags.engine, entries, EXCHANGE_ENTRIES);
    struct option_command command = {
        .name = "bench exchange",
        .usage = "[options]",
        .summary = "Measures dispatch and combine of one MoE layer on the ranks of this job, by "
                   "every flow, beside a\nplain MPI_Alltoallv of the same bytes.",
        .entries = entries,
        .count = engine_flags_rank_entries(&flags.engine, entries, count)};
    struct settings *settings = &flags.engine.settings;
    enum status status = settings_parse(&command, argc, argv, settings);
    if (status == STATUS_OK && !settings->answered)
        status = bench_all(&flags, argc, argv);
    settings_deinit(settings);
    return status;
}
