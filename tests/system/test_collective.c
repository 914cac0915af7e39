/* What groups of ranks do together, held against what one rank computes alone from everybody's
 * data. Run under mpirun with 1, 2, 3, 4 and 8 ranks; all ranks run the same checks.
 *
 * Controls: sums that are no tree, in the order of ranks or of a ring, must differ, and a rank that
 * is at another step, in another layer or sends another kind of message must be refused. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "comm/rank_group.h"
#include "tests/support/expect.h"
#include "tests/support/log_capture.h"

#define RANKS_MAX 64
#define TIMEOUT_MS 20000 /* ranks share cores with whatever else runs */
#define ROWS 41
#define COLUMNS 7
#define TREE (-1)    /* no member to begin with */
#define LARGE 300000 /* bytes: past what MPI sends unannounced */

struct ranks {
    struct rank_group group;
    struct collective_group world, half; /* half: the ranks of the same parity as this one */
    int32_t all[RANKS_MAX], alike[RANKS_MAX];
    int64_t step;
};

static struct transport_scope next_scope(struct ranks *ranks, enum traffic_kind kind) {
    return (struct transport_scope){.step = ranks->step++, .layer = 3, .kind = kind};
}

/* The ranks have lost each other: nothing that follows would mean anything. */
static void demand(const struct ranks *ranks, enum status status, const char *what) {
    if (status == STATUS_OK)
        return;
    printf("FAILED: rank %d: %s: %s\n", ranks->group.rank, what, status_name(status));
    fflush(stdout);
    rank_group_abort(&ranks->group, 1);
}

static void *take(int64_t bytes) {
    void *memory = calloc(bytes > 0 ? (size_t)bytes : 1, 1);
    if (memory == NULL)
        exit(1);
    return memory;
}

static uint32_t mix(uint32_t value) {
    value = (value ^ value >> 16) * UINT32_C(0x7feb352d);
    value = (value ^ value >> 15) * UINT32_C(0x846ca68b);
    return value ^ value >> 16;
}

/* Byte `at` of the message numbered `seed`. */
static char byte_of(int64_t seed, int64_t at) {
    return (char)mix((uint32_t)(seed * 1000003 + at));
}

static void fill_bytes(char *bytes, int64_t seed, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        bytes[i] = byte_of(seed, i);
}

static bool bytes_are(const char *bytes, int64_t seed, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (bytes[i] != byte_of(seed, i))
            return false;
    return true;
}

/* A member's partial sum of one element: magnitudes from 2^-8 to 2^7, so that order matters. */
static float value_of(int32_t rank, int32_t row, int32_t column) {
    uint32_t bits = mix((uint32_t)((rank * ROWS + row) * COLUMNS + column + 1));
    float value = (float)(bits >> 8) / 16777216.0f - 0.5f;
    return value * (float)(1 << (bits & 15)) / 256.0f;
}

/* ---- bytes ---- */

static void check_broadcast(struct ranks *ranks, const struct collective_group *group,
                            int64_t bytes, bool idle) {
    struct transport_scope scope = next_scope(ranks, TRAFFIC_PLAN);
    char *buffer = take(LARGE);
    int64_t length = group->self == 0 ? bytes : -1;
    if (group->self == 0)
        fill_bytes(buffer, scope.step, bytes);
    demand(ranks, collective_broadcast(group, &scope, idle, buffer, LARGE, &length), "broadcast");
    EXPECT(length == bytes && bytes_are(buffer, scope.step, bytes),
           "rank %d: broadcast of %" PRId64 " bytes: got %" PRId64, ranks->group.rank, bytes,
           length);
    free(buffer);
}

/* Member i gives i * unit bytes: the root none, every other one more than the one before. */
static void check_gather(struct ranks *ranks, const struct collective_group *group, int64_t unit) {
    struct transport_scope scope = next_scope(ranks, TRAFFIC_ROWS);
    int64_t capacity = unit * group->count, sizes[RANKS_MAX], own = unit * group->self;
    char *mine = take(own), *memory = take(capacity * group->count);
    void *into[RANKS_MAX];
    for (int32_t i = 0; i < group->count; i++)
        into[i] = memory + capacity * i;
    fill_bytes(mine, scope.step + group->self, own);
    demand(ranks, collective_gather(group, &scope, mine, own, into, capacity, sizes), "gather");
    for (int32_t i = 0; group->self == 0 && i < group->count; i++)
        EXPECT(sizes[i] == unit * i && bytes_are(into[i], scope.step + i, sizes[i]),
               "gather: member %d of %d: got %" PRId64 " bytes", i, group->count, sizes[i]);
    free(mine);
    free(memory);
}

static void check_agree(struct ranks *ranks, const struct collective_group *group) {
    for (int32_t unhappy = -1; unhappy < group->count; unhappy++) {
        struct transport_scope scope = next_scope(ranks, TRAFFIC_STATUS);
        enum status mine = group->self == unhappy                        ? STATUS_NO_MEMORY
                           : group->self == (unhappy + 1) % group->count ? STATUS_IO
                                                                         : STATUS_OK;
        enum status agreed = STATUS_COUNT;
        demand(ranks, collective_agree(group, &scope, mine, &agreed), "agree");
        EXPECT(agreed == (unhappy < 0 ? STATUS_IO : STATUS_NO_MEMORY),
               "rank %d: agree: got %s with member %d unhappy", ranks->group.rank,
               status_name(agreed), unhappy);
    }
}

/* ---- rows ---- */

/* How rows are cut into slices, and in which order they stand. */
struct cut {
    int32_t rows, slices[RANKS_MAX + 1], order[ROWS];
    bool shuffled;
};

/* Slices of uneven length; with `empty`, every other member has none. */
static struct cut make_cut(int32_t members, int32_t row_count, bool empty, bool shuffled) {
    struct cut cut = {.rows = row_count, .shuffled = shuffled};
    for (int32_t i = 1; i < members; i++) {
        int32_t end = row_count * i / members + (i % 3 == 1 ? row_count / (3 * members) : 0);
        cut.slices[i] = empty && i % 2 == 1 ? cut.slices[i - 1] : end;
    }
    cut.slices[members] = row_count;
    for (int32_t i = 0; i < row_count; i++)
        cut.order[i] = i;
    for (int32_t i = row_count - 1; i > 0; i--) {
        int32_t other = (int32_t)(mix((uint32_t)i) % (uint32_t)(i + 1)), kept = cut.order[i];
        cut.order[i] = cut.order[other];
        cut.order[other] = kept;
    }
    return cut;
}

/* Just what this cut needs. */
static int64_t scratch_bytes(const struct collective_group *group, const struct cut *cut) {
    int32_t largest = 0;
    for (int32_t i = 0; i < group->count; i++)
        if (cut->slices[i + 1] - cut->slices[i] > largest)
            largest = cut->slices[i + 1] - cut->slices[i];
    return collective_scratch_bytes(group->count, largest, cut->shuffled ? cut->rows : 0, COLUMNS);
}

static struct collective_rows rows_of(const struct cut *cut, void *scratch) {
    return (struct collective_rows){.rows = cut->rows,
                                    .columns = COLUMNS,
                                    .slices = cut->slices,
                                    .order = cut->shuffled ? cut->order : NULL,
                                    .scratch = scratch};
}

static int32_t row_at(const struct cut *cut, int32_t place) {
    return cut->shuffled ? cut->order[place] : place;
}

/* Neighbours are added, then neighbouring sums; who has none joins a level later. */
static float sum_of_tree(const struct collective_group *group, int32_t row, int32_t column) {
    float sums[RANKS_MAX];
    for (int32_t i = 0; i < group->count; i++)
        sums[i] = value_of(group->members[i], row, column);
    for (int32_t count = group->count; count > 1; count = (count + 1) / 2)
        for (int32_t i = 0; i < count; i += 2)
            sums[i / 2] = i + 1 < count ? sums[i] + sums[i + 1] : sums[i];
    return sums[0];
}

/* The sum over members one after the other, beginning with member `first` and going round. */
static float sum_in_line(const struct collective_group *group, int32_t first, int32_t row,
                         int32_t column) {
    float sum = value_of(group->members[first], row, column);
    for (int32_t i = 1; i < group->count; i++)
        sum += value_of(group->members[(first + i) % group->count], row, column);
    return sum;
}

/* Elements of the own slice that are other bits than the tree's sum, or than the sum in a line that
 * begins with member `first`. */
static int32_t count_differences(const struct collective_group *group, const struct cut *cut,
                                 const float *out, int32_t first) {
    int32_t differences = 0, begin = cut->slices[group->self];
    for (int32_t place = begin; place < cut->slices[group->self + 1]; place++)
        for (int32_t column = 0; column < COLUMNS; column++) {
            int32_t row = row_at(cut, place);
            float expected = first == TREE ? sum_of_tree(group, row, column)
                                           : sum_in_line(group, first, row, column);
            differences +=
                memcmp(&out[(place - begin) * COLUMNS + column], &expected, sizeof expected) != 0;
        }
    return differences;
}

static void check_reduce_scatter(struct ranks *ranks, const struct collective_group *group,
                                 const struct cut *cut) {
    struct transport_scope scope = next_scope(ranks, TRAFFIC_REDUCE_SCATTER);
    float partial[ROWS * COLUMNS], out[ROWS * COLUMNS] = {0};
    void *scratch = take(scratch_bytes(group, cut));
    struct collective_rows rows = rows_of(cut, scratch);
    for (int32_t i = 0; i < cut->rows * COLUMNS; i++)
        partial[i] = value_of(ranks->group.rank, i / COLUMNS, i % COLUMNS);
    demand(ranks, collective_reduce_scatter(group, &scope, &rows, partial, out), "reduce-scatter");
    EXPECT(count_differences(group, cut, out, TREE) == 0,
           "rank %d: reduce-scatter over %d, %d rows: not the tree's sum", ranks->group.rank,
           group->count, cut->rows);
    /* A ring's sum ends at the owner. Two numbers have one sum, three in order are a tree, and few
     * rows may agree by luck. */
    int32_t own = cut->slices[group->self + 1] - cut->slices[group->self];
    int32_t ring_first = (group->self + 1) % group->count;
    if (group->count > 2 && ring_first != 0 && own >= 4)
        EXPECT(count_differences(group, cut, out, ring_first) > 0,
               "rank %d: control: a ring's sum of %d rows is the same", ranks->group.rank, own);
    if (group->count > 3 && own >= 8)
        EXPECT(count_differences(group, cut, out, 0) > 0,
               "rank %d: control: the sum in rank order of %d rows is the same", ranks->group.rank,
               own);
    free(scratch);
}

static void check_all_gather(struct ranks *ranks, const struct collective_group *group,
                             const struct cut *cut) {
    struct transport_scope scope = next_scope(ranks, TRAFFIC_ALL_GATHER);
    float slice[ROWS * COLUMNS] = {0}, full[ROWS * COLUMNS];
    memset(full, 0xff, sizeof full);
    void *scratch = take(scratch_bytes(group, cut));
    struct collective_rows rows = rows_of(cut, scratch);
    int32_t begin = cut->slices[group->self], end = cut->slices[group->self + 1], wrong = 0;
    for (int32_t i = 0; i < (end - begin) * COLUMNS; i++)
        slice[i] = value_of(0, row_at(cut, begin + i / COLUMNS), i % COLUMNS);
    demand(ranks, collective_all_gather(group, &scope, &rows, slice, full), "all-gather");
    for (int32_t i = 0; i < cut->rows * COLUMNS; i++) {
        float expected = value_of(0, i / COLUMNS, i % COLUMNS);
        wrong += memcmp(&full[i], &expected, sizeof expected) != 0;
    }
    EXPECT(wrong == 0, "rank %d: all-gather over %d, %d rows: %d wrong elements", ranks->group.rank,
           group->count, cut->rows, wrong);
    free(scratch);
}

static void check_rows(struct ranks *ranks, const struct collective_group *group) {
    static const int32_t row_counts[] = {ROWS, 8, 1, 0};
    for (size_t i = 0; i < sizeof row_counts / sizeof row_counts[0]; i++)
        for (int variant = 0; variant < 4; variant++) {
            struct cut cut =
                make_cut(group->count, row_counts[i], (variant & 1) != 0, (variant & 2) != 0);
            check_reduce_scatter(ranks, group, &cut);
            check_all_gather(ranks, group, &cut);
        }
}

/* ---- the accounts ---- */

static void expect_account(const struct ranks *ranks, const struct traffic *traffic,
                           enum traffic_kind kind, int64_t bytes, int64_t messages) {
    struct traffic_cell near = traffic_total(traffic, kind, TRAFFIC_NODE);
    struct traffic_cell far = traffic_total(traffic, kind, TRAFFIC_REMOTE);
    EXPECT(near.bytes == bytes && near.messages == messages && far.messages == 0,
           "rank %d: %s: expected %" PRId64 " bytes in %" PRId64 " messages, counted %" PRId64
           " in %" PRId64 ", %" PRId64 " to other nodes",
           ranks->group.rank, traffic_kind_name(kind), bytes, messages, near.bytes, near.messages,
           far.messages);
}

/* Each operation once, over the world: what is counted is what was handed over. */
static void check_accounts(struct ranks *ranks) {
    const struct collective_group *world = &ranks->world;
    struct traffic *traffic;
    demand(ranks, traffic_create(4, &traffic), "accounts");
    world->transport->traffic = traffic;
    struct cut cut = make_cut(world->count, ROWS, true, true);
    check_broadcast(ranks, world, 1000, false);
    check_gather(ranks, world, 10);
    check_reduce_scatter(ranks, world, &cut);
    check_all_gather(ranks, world, &cut);
    world->transport->traffic = NULL;
    int64_t others = world->count - 1, row_bytes = COLUMNS * (int64_t)sizeof(float);
    int64_t own = cut.slices[world->self + 1] - cut.slices[world->self];
    bool root = world->self == 0;
    expect_account(ranks, traffic, TRAFFIC_PLAN, root ? 1000 * others : 0, root ? others : 0);
    expect_account(ranks, traffic, TRAFFIC_ROWS, world->self * 10, root ? 0 : 1);
    int32_t others_with_rows = 0;
    for (int32_t i = 0; i < world->count; i++)
        others_with_rows += i != world->self && cut.slices[i + 1] > cut.slices[i];
    expect_account(ranks, traffic, TRAFFIC_REDUCE_SCATTER, (ROWS - own) * row_bytes,
                   others_with_rows);
    expect_account(ranks, traffic, TRAFFIC_ALL_GATHER, own * row_bytes * others,
                   own > 0 ? others : 0);
    traffic_destroy(traffic);
}

/* ---- ranks that do not do the same thing ---- */

/* Rank 0 sends to rank 1 under another scope than rank 1 expects, or more bytes than it has room
 * for. */
static void check_refused(struct ranks *ranks, struct transport_scope scope,
                          struct transport_scope other, int64_t bytes, const char *named) {
    if (ranks->group.rank > 1 || ranks->group.size == 1)
        return;
    struct transport *transport = ranks->group.transport;
    char message[LARGE] = {0};
    if (ranks->group.rank == 0) {
        struct transport_send send = {.peer = 1, .data = message, .bytes = bytes};
        demand(ranks, transport_exchange(transport, &scope, &send, 1, NULL, 0), "send");
        return;
    }
    struct transport_receive receive = {.peer = 0, .buffer = message, .capacity = 1};
    struct log_capture capture;
    char text[1000];
    log_capture_begin(&capture);
    enum status status = transport_exchange(transport, &other, NULL, 0, &receive, 1);
    int lines = log_capture_end(&capture, text, sizeof text);
    EXPECT(status == STATUS_PEER && lines == 1 && strstr(text, "rank 0 on ") != NULL &&
               strstr(text, named) != NULL,
           "expected one line with rank 0 and '%s', got %s, %d lines: %s", named,
           status_name(status), lines, text);
}

static void check_scopes(struct ranks *ranks) {
    struct transport_scope scope = {.step = 70, .layer = 2, .kind = TRAFFIC_DISPATCH};
    struct transport_scope late = {.step = 71, .layer = 2, .kind = TRAFFIC_DISPATCH};
    struct transport_scope above = {.step = 70, .layer = 1, .kind = TRAFFIC_DISPATCH};
    struct transport_scope back = {.step = 70, .layer = 2, .kind = TRAFFIC_COMBINE};
    check_refused(ranks, scope, late, 1,
                  "expected dispatch of step 71, layer 2, got dispatch of step 70, layer 2");
    check_refused(ranks, scope, above, 1,
                  "expected dispatch of step 70, layer 1, got dispatch of step 70, layer 2");
    check_refused(ranks, scope, back, 1,
                  "expected combine of step 70, layer 2, got dispatch of step 70, layer 2");
    check_refused(ranks, scope, scope, 2, "step 70, layer 2, dispatch: MPI: ");
    check_refused(ranks, scope, scope, LARGE, "step 70, layer 2, dispatch: MPI: ");
}

/* ---- room for messages ---- */

/* Nothing grows by itself: what was not reserved is refused, and what MPI cannot count cannot be
 * reserved. */
static void check_reserve(struct ranks *ranks) {
    struct transport *transport = ranks->group.transport;
    if (ranks->group.size > 1) {
        struct log_capture capture;
        char text[1000], byte = 0;
        struct transport_send send = {
            .peer = ranks->world.self == 0 ? 1 : 0, .data = &byte, .bytes = LARGE};
        struct transport_scope scope = {.step = 9, .layer = 4, .kind = TRAFFIC_COMBINE};
        log_capture_begin(&capture);
        enum status sent = transport_exchange(transport, &scope, &send, 1, NULL, 0);
        enum status reserved = transport_reserve(transport, (int64_t)INT32_MAX + 1);
        int lines = log_capture_end(&capture, text, sizeof text);
        EXPECT(sent == STATUS_INTERNAL && reserved == STATUS_LIMIT && lines == 2 &&
                   strstr(text, "step 9, layer 4, combine: expected messages of at most 16384") &&
                   strstr(text, "got 2147483648: take a smaller --max-num-batched-tokens"),
               "not reserved: got %s and %s: %s", status_name(sent), status_name(reserved), text);
    }
    demand(ranks, transport_reserve(transport, LARGE), "reserve");
    demand(ranks, transport_reserve(transport, 1), "reserve less");
}

/* ---- all of it ---- */

static void check_group(struct ranks *ranks, const struct collective_group *group) {
    static const int64_t lengths[] = {0, 1, 4097, LARGE};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        check_broadcast(ranks, group, lengths[i], false);
        check_broadcast(ranks, group, lengths[i], true);
    }
    check_gather(ranks, group, 3);
    check_gather(ranks, group, 20000);
    check_agree(ranks, group);
    check_rows(ranks, group);
}

static void make_groups(struct ranks *ranks) {
    struct rank_group *group = &ranks->group;
    ranks->world = (struct collective_group){.transport = group->transport,
                                             .members = ranks->all,
                                             .count = group->size,
                                             .self = group->rank};
    ranks->half = (struct collective_group){
        .transport = group->transport, .members = ranks->alike, .self = group->rank / 2};
    for (int32_t rank = 0; rank < group->size; rank++) {
        ranks->all[rank] = rank;
        if (rank % 2 == group->rank % 2)
            ranks->alike[ranks->half.count++] = rank;
    }
}

int main(int argc, char **argv) {
    static struct ranks ranks;
    const struct rank_group_options join = {
        .under_launcher = true, .timeout_ms = TIMEOUT_MS, .command = "test_collective"};
    enum status joined = rank_group_start(&join, &ranks.group);
    demand(&ranks, joined, "start");
    if (argc != 2 || ranks.group.size != strtol(argv[1], NULL, 10) ||
        ranks.group.size > RANKS_MAX) {
        fprintf(stderr, "usage: mpirun -n RANKS test_collective RANKS\n");
        rank_group_abort(&ranks.group, 2);
    }
    make_groups(&ranks);
    check_reserve(&ranks);
    check_group(&ranks, &ranks.world);
    check_group(&ranks, &ranks.half);
    /* The halves differ in size and so in steps; one scope for all again. */
    ranks.step = INT64_C(1) << 40;
    check_group(&ranks, &ranks.world);
    check_accounts(&ranks);
    check_scopes(&ranks);
    check_group(&ranks, &ranks.world);
    rank_group_finish(&ranks.group);
    return expect_failures == 0 ? 0 : 1;
}
