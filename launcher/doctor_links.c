/* moebius doctor, second part: ping-pong between every pair of ranks, over the transport that
 * serving uses, with its deadlines: a link that does not work is named. */
#include "launcher/doctor_links.h"

#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"

#define SMALL_BYTES 1024
#define SMALL_REPETITIONS 20
#define LARGE_BYTES (4 << 20)
#define LARGE_REPETITIONS 3
/* In larger jobs, pairs take turns in parallel and messages are smaller: the transport keeps a
 * buffer of the largest message for each peer. */
#define ONE_BY_ONE_RANKS_MAX 16
#define CROWD_LARGE_BYTES (256 << 10)

struct prober {
    const struct rank_group *ranks;
    struct doctor_links *links;
    char *out, *in; /* [large_bytes] each */
    struct transport_scope scope;
};

static enum status meet(struct prober *prober, int32_t peer, const char *data, int64_t send_bytes,
                        int64_t receive_bytes) {
    struct transport_send send = {.peer = peer, .data = data, .bytes = send_bytes};
    struct transport_receive receive = {
        .peer = peer, .buffer = prober->in, .capacity = receive_bytes};
    return transport_exchange(prober->ranks->transport, &prober->scope, &send,
                              send_bytes > 0 ? 1 : 0, &receive, receive_bytes > 0 ? 1 : 0);
}

/* The lower rank sends and waits for its bytes to come back; *best_ns is set there. */
static enum status ping(struct prober *prober, int32_t peer, int64_t bytes, int32_t repetitions,
                        int64_t *best_ns) {
    *best_ns = INT64_MAX;
    for (int32_t i = 0; i < repetitions; i++) {
        if (prober->ranks->rank > peer) {
            RETURN_IF_ERROR(meet(prober, peer, NULL, 0, bytes));
            RETURN_IF_ERROR(meet(prober, peer, prober->in, bytes, 0));
            continue;
        }
        int64_t start = clock_now_ns();
        RETURN_IF_ERROR(meet(prober, peer, prober->out, bytes, bytes));
        int64_t elapsed = clock_now_ns() - start;
        if (elapsed < *best_ns)
            *best_ns = elapsed > 0 ? elapsed : 1;
    }
    return STATUS_OK;
}

static enum status measure(struct prober *prober, int32_t peer) {
    struct doctor_links *links = prober->links;
    int64_t small_ns, large_ns;
    bool is_lower = prober->ranks->rank < peer;
    for (int64_t i = 0; is_lower && i < links->large_bytes; i++)
        prober->out[i] = (char)(i * 31 + (i >> 8) + peer);
    RETURN_IF_ERROR(ping(prober, peer, links->small_bytes, SMALL_REPETITIONS, &small_ns));
    RETURN_IF_ERROR(ping(prober, peer, links->large_bytes, LARGE_REPETITIONS, &large_ns));
    if (!is_lower)
        return STATUS_OK;
    links->pair[(int64_t)prober->ranks->rank * links->size + peer] = (struct doctor_link){
        .latency_us = (float)((double)small_ns / 2e3),
        .gigabytes_per_s = (float)(2.0 * (double)links->large_bytes / (double)large_ns),
        .is_intact = memcmp(prober->in, prober->out, (size_t)links->large_bytes) == 0,
        .was_measured = 1};
    return STATUS_OK;
}

/* Who meets whom in a round: over all rounds, everybody meets everybody once. `size` or more: that
 * rank has a break. */
static int32_t partner(int32_t rank, int32_t round, int32_t size) {
    int32_t seats = size + (size & 1), last = seats - 1;
    if (rank == last) /* the p with p + p = round */
        return (int32_t)((int64_t)round * (seats / 2) % last);
    int32_t other = (round - rank + 2 * last) % last;
    return other == rank ? last : other;
}

/* All ranks wait for the slowest, then one turn has passed. */
static enum status end_turn(struct prober *prober, const struct collective_group *world) {
    void *into[TRANSPORT_RANKS_MAX] = {prober->in};
    int64_t sizes[TRANSPORT_RANKS_MAX], bytes = 0;
    RETURN_IF_ERROR(collective_gather(world, &prober->scope, prober->in, 0, into, 0, sizes));
    RETURN_IF_ERROR(collective_broadcast(world, &prober->scope, false, prober->in, 0, &bytes));
    prober->scope.step++;
    return STATUS_OK;
}

static enum status play_round(struct prober *prober, const struct collective_group *world,
                              int32_t round) {
    int32_t rank = prober->ranks->rank, size = prober->ranks->size;
    int32_t own = partner(rank, round, size);
    if (!prober->links->one_by_one) {
        if (own < size)
            RETURN_IF_ERROR(measure(prober, own));
        return end_turn(prober, world);
    }
    for (int32_t low = 0; low < size; low++) {
        int32_t high = partner(low, round, size);
        if (high < low || high >= size)
            continue;
        if (rank == low || rank == high)
            RETURN_IF_ERROR(measure(prober, own));
        RETURN_IF_ERROR(end_turn(prober, world));
    }
    return STATUS_OK;
}

static enum status play_all(struct prober *prober) {
    int32_t members[TRANSPORT_RANKS_MAX], size = prober->ranks->size;
    int64_t sizes[TRANSPORT_RANKS_MAX];
    void *into[TRANSPORT_RANKS_MAX];
    int64_t row_bytes = size * (int64_t)sizeof(struct doctor_link);
    for (int32_t i = 0; i < size; i++) {
        members[i] = i;
        into[i] = prober->links->pair + (int64_t)i * size;
    }
    struct collective_group world = {.transport = prober->ranks->transport,
                                     .members = members,
                                     .count = size,
                                     .self = prober->ranks->rank};
    for (int32_t round = 0; round < size + (size & 1) - 1; round++)
        RETURN_IF_ERROR(play_round(prober, &world, round));
    const struct doctor_link *own = prober->links->pair + (int64_t)prober->ranks->rank * size;
    return collective_gather(&world, &prober->scope, own, row_bytes, into, row_bytes, sizes);
}

enum status doctor_links_measure(const struct rank_group *ranks, struct doctor_links *links) {
    bool one_by_one = ranks->size <= ONE_BY_ONE_RANKS_MAX;
    *links = (struct doctor_links){.size = ranks->size,
                                   .small_bytes = SMALL_BYTES,
                                   .large_bytes = one_by_one ? LARGE_BYTES : CROWD_LARGE_BYTES,
                                   .one_by_one = one_by_one};
    if (ranks->size == 1)
        return STATUS_OK;
    char *out = malloc((size_t)links->large_bytes), *in = malloc((size_t)links->large_bytes);
    struct prober prober = {.ranks = ranks,
                            .links = links,
                            .out = out,
                            .in = in,
                            .scope = {.step = 1, .layer = -1, .kind = TRAFFIC_STATUS}};
    links->pair = calloc((size_t)ranks->size * (size_t)ranks->size, sizeof *links->pair);
    int64_t row_bytes = ranks->size * (int64_t)sizeof(struct doctor_link);
    int64_t longest = links->large_bytes > row_bytes ? links->large_bytes : row_bytes;
    enum status status = STATUS_NO_MEMORY;
    if (out != NULL && in != NULL && links->pair != NULL) {
        status = transport_reserve(ranks->transport, longest);
        status = status == STATUS_OK ? play_all(&prober) : status;
    } else
        LOG_ERROR("doctor: cannot take the messages of a link test");
    free(out);
    free(in);
    return status;
}

void doctor_links_deinit(struct doctor_links *links) {
    free(links->pair);
    *links = (struct doctor_links){0};
}

const struct doctor_link *doctor_links_at(const struct doctor_links *links, int32_t a, int32_t b) {
    int32_t low = a < b ? a : b, high = a < b ? b : a;
    return &links->pair[(int64_t)low * links->size + high];
}
