/* The MPI transport: nonblocking point-to-point with a deadline, from the sender's memory into the
 * receiver's. With rank_group.c the only file that knows MPI.
 *
 * What a message is (step, layer, kind) is its tag, and is checked on arrival: ranks that do not do
 * the same thing at the same time are told so, instead of adding up the wrong rows. Between two
 * ranks MPI keeps messages in order, so a receive takes whatever comes next. */
#define _GNU_SOURCE
#include "comm/transport_mpi.h"

#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"

/* A receive with room for more is posted only when its message begins to come, so that the time for
 * the bytes is told apart from the wait for them. */
#define LOOK_BYTES (64 << 10)
#define KIND_BITS 4      /* of a tag, lowest first; the step's own lowest bits take the rest */
#define LAYER_BITS 10    /* layer + 1 */
#define SPIN_BYTE_NS 1   /* and for each byte that is under way: fragments want to be moved on */
#define SPIN_NS 200000   /* how long a step's wait polls before it sleeps between polls */
#define SLEEP_NS 50000   /* between polls of a step's wait */
#define BUSY_NS 20000000 /* how long after bytes moved the next ones are thought to be near */
#define IDLE_SLEEP_NS 700000 /* between polls of a rank with nothing to do that cannot be rung */
#define RING_NS 10000000     /* who was sent bytes this lately is awake: half of BUSY_NS */
#define BELL_MS 10           /* between polls of one that can: a datagram may be lost */
#define MISSED_MAX 3         /* rings that did not come, one after another, before it polls again */
#define SUSPENDED_MAX 4      /* of one wait */

_Static_assert(TRAFFIC_KIND_COUNT <= 1 << KIND_BITS, "room for the kind");

struct transport_mpi {
    struct transport transport;
    MPI_Comm communicator;
    MPI_Comm signs; /* signs of life, see struct wait */
    struct doorbell *doorbell;
    int32_t missed;        /* messages that came while it slept, without a ring */
    int64_t message_bytes; /* the longest that was announced by transport_reserve */
    int32_t step_mask;     /* how much of the step a tag holds */
    int64_t busy_ns;       /* when bytes came or went last: signs of life have none */
    /* Of the exchange in progress: the receives, then the sends. */
    MPI_Request requests[2 * TRANSPORT_RANKS_MAX];
    MPI_Status statuses[2 * TRANSPORT_RANKS_MAX];
    int finished[2 * TRANSPORT_RANKS_MAX];
    bool unseen[TRANSPORT_RANKS_MAX];     /* by receive: not posted before something is there */
    bool alive[TRANSPORT_RANKS_MAX];      /* by peer: gave a sign of life during this wait */
    int64_t sent_ns[TRANSPORT_RANKS_MAX]; /* by peer: when it was last sent bytes */
};

static struct transport_mpi *self_of(struct transport *transport) {
    return (struct transport_mpi *)(void *)transport;
}

static enum status mpi_reserve(struct transport *transport, int64_t message_bytes) {
    struct transport_mpi *mpi = self_of(transport);
    if (message_bytes > INT_MAX) {
        LOG_ERROR(
            "transport: expected messages of at most %d bytes (what MPI can count), got %lld: "
            "take a smaller --max-num-batched-tokens",
            INT_MAX, (long long)message_bytes);
        return STATUS_LIMIT;
    }
    if (message_bytes > mpi->message_bytes)
        mpi->message_bytes = message_bytes;
    return STATUS_OK;
}

/* Whether there is room for it was settled at start: a longer one is a mistake of ours. */
static enum status check_room(const struct transport_mpi *mpi, const struct transport_scope *scope,
                              int64_t bytes) {
    if (bytes <= mpi->message_bytes)
        return STATUS_OK;
    LOG_ERROR("transport: step %lld, layer %d, %s: expected messages of at most %lld bytes (as "
              "reserved at start), got %lld",
              (long long)scope->step, scope->layer, traffic_kind_name(scope->kind),
              (long long)mpi->message_bytes, (long long)bytes);
    return STATUS_INTERNAL;
}

/* An error that MPI itself reports (a message too long, a connection gone). */
static enum status mpi_failed(const struct transport_mpi *mpi, const struct transport_scope *scope,
                              int32_t peer, int code) {
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(code, text, &length);
    LOG_ERROR("rank %d on %s: step %lld, layer %d, %s: MPI: %.*s", peer,
              mpi->transport.host_of[peer], (long long)scope->step, scope->layer,
              traffic_kind_name(scope->kind), length, text);
    return STATUS_PEER;
}

static int tag_of(const struct transport_mpi *mpi, const struct transport_scope *scope) {
    ASSERT(scope->layer >= -1 && scope->layer + 1 < 1 << LAYER_BITS);
    int32_t step = (int32_t)(scope->step & mpi->step_mask);
    return (int)(((step << LAYER_BITS | (scope->layer + 1)) << KIND_BITS) | (int32_t)scope->kind);
}

static enum status post(struct transport_mpi *mpi, const struct transport_scope *scope,
                        const struct transport_send *sends, int32_t send_count,
                        const struct transport_receive *receives, int32_t receive_count) {
    for (int32_t i = 0; i < receive_count; i++) {
        RETURN_IF_ERROR(check_room(mpi, scope, receives[i].capacity));
        mpi->requests[i] = MPI_REQUEST_NULL;
        mpi->unseen[i] = receives[i].capacity > LOOK_BYTES;
        if (mpi->unseen[i])
            continue;
        int code = MPI_Irecv(receives[i].buffer, (int)receives[i].capacity, MPI_BYTE,
                             receives[i].peer, MPI_ANY_TAG, mpi->communicator, &mpi->requests[i]);
        if (code != MPI_SUCCESS)
            return mpi_failed(mpi, scope, receives[i].peer, code);
    }
    for (int32_t i = 0; i < send_count; i++) {
        RETURN_IF_ERROR(check_room(mpi, scope, sends[i].bytes));
        int code =
            MPI_Isend(sends[i].data, (int)sends[i].bytes, MPI_BYTE, sends[i].peer,
                      tag_of(mpi, scope), mpi->communicator, &mpi->requests[receive_count + i]);
        if (code != MPI_SUCCESS)
            return mpi_failed(mpi, scope, sends[i].peer, code);
    }
    return STATUS_OK;
}

/* The step of a message, given that it is not far from ours. */
static int64_t step_of(const struct transport_mpi *mpi, int64_t near, int tag) {
    int64_t steps = (int64_t)mpi->step_mask + 1;
    int64_t ahead = ((tag >> (LAYER_BITS + KIND_BITS)) - near) & mpi->step_mask;
    return near + (ahead > mpi->step_mask / 2 ? ahead - steps : ahead);
}

static enum status take(const struct transport_mpi *mpi, const struct transport_scope *scope,
                        struct transport_receive *receive, const MPI_Status *status) {
    int count, tag = status->MPI_TAG;
    MPI_Get_count(status, MPI_BYTE, &count);
    receive->bytes = count;
    if (tag == tag_of(mpi, scope))
        return STATUS_OK;
    int kind = tag & ((1 << KIND_BITS) - 1);
    LOG_ERROR("rank %d on %s: expected %s of step %lld, layer %d, got %s of step %lld, layer %d "
              "(%d bytes): the ranks do not do the same thing",
              receive->peer, mpi->transport.host_of[receive->peer], traffic_kind_name(scope->kind),
              (long long)scope->step, scope->layer,
              kind < TRAFFIC_KIND_COUNT ? traffic_kind_name((enum traffic_kind)kind) : "garbage",
              (long long)step_of(mpi, scope->step, tag),
              (tag >> KIND_BITS & ((1 << LAYER_BITS) - 1)) - 1, count);
    return STATUS_PEER;
}

/* An exchange in progress. A rank that waits long may wait for one that waits itself, and only the
 * last in such a chain knows the one that is to blame. So whoever has waited for half a timeout
 * gives all others a sign of life, and at its deadline names those of its missing peers that gave
 * none; if all did, it gives them once more the same time. */
struct wait {
    const struct transport_scope *scope;
    const struct transport_send *sends;
    struct transport_receive *receives;
    int32_t send_count, receive_count;
    int64_t start_ns, timeout_ns;
    int64_t bytes;         /* to send */
    bool idle;             /* nothing may come for long */
    int32_t suspended;     /* how often this process was */
    bool slept_long, rang; /* for the message */
    int64_t quiet_since_ns;
    enum { WAIT_SHORT, WAIT_LONG, WAIT_SIGNED, WAIT_EXTENDED } phase;
};

static int32_t request_count(const struct wait *wait) {
    return wait->receive_count + wait->send_count;
}

static bool is_missing(const struct transport_mpi *mpi, const struct wait *wait, int32_t request) {
    return mpi->requests[request] != MPI_REQUEST_NULL ||
           (request < wait->receive_count && mpi->unseen[request]);
}

static int32_t peer_of(const struct wait *wait, int32_t request) {
    if (request < wait->receive_count)
        return wait->receives[request].peer;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there are as many sends as counted
    return wait->sends[request - wait->receive_count].peer;
}

/* Whether a request before this one names the same peer. */
static bool is_named(const struct transport_mpi *mpi, const struct wait *wait, int32_t request) {
    for (int32_t i = 0; i < request; i++)
        if (is_missing(mpi, wait, i) && peer_of(wait, i) == peer_of(wait, request))
            return true;
    return false;
}

/* Who has not sent, or not taken what was sent, for the one line of a deadline; `silent`: only
 * those that gave no sign. */
static void report_deadline(const struct transport_mpi *mpi, const struct wait *wait, bool silent) {
    char text[512];
    int used = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < request_count(wait) && used < 400; i++) {
        int32_t peer = peer_of(wait, i);
        if (is_missing(mpi, wait, i) && !is_named(mpi, wait, i) && !(silent && mpi->alive[peer]))
            used += snprintf(text + used, sizeof text - (size_t)used, "%s rank %d on %s",
                             used > 0 ? "," : "", peer, mpi->transport.host_of[peer]);
    }
    LOG_ERROR("no answer within %lld ms from%s: step %lld, layer %d, %s",
              (long long)wait->timeout_ns / 1000000, text, (long long)wait->scope->step,
              wait->scope->layer, traffic_kind_name(wait->scope->kind));
}

/* Takes the signs of life that have come. */
static void take_signs(struct transport_mpi *mpi) {
    int there = 1;
    MPI_Status status;
    while (MPI_Iprobe(MPI_ANY_SOURCE, 0, mpi->signs, &there, &status) == MPI_SUCCESS && there) {
        MPI_Recv(NULL, 0, MPI_BYTE, status.MPI_SOURCE, 0, mpi->signs, MPI_STATUS_IGNORE);
        mpi->alive[status.MPI_SOURCE] = true;
    }
}

static void give_signs(struct transport_mpi *mpi) {
    for (int32_t peer = 0; peer < mpi->transport.size; peer++) {
        MPI_Request request;
        if (peer != mpi->transport.rank &&
            MPI_Isend(NULL, 0, MPI_BYTE, peer, 0, mpi->signs, &request) == MPI_SUCCESS)
            MPI_Request_free(&request); /* nothing in it to keep */
    }
}

static bool all_missing_are_alive(const struct transport_mpi *mpi, const struct wait *wait) {
    for (int32_t i = 0; i < request_count(wait); i++)
        if (is_missing(mpi, wait, i) && !mpi->alive[peer_of(wait, i)])
            return false;
    return true;
}

/* What a wait of this length calls for. STATUS_PEER (logged) when it has been too long. */
static enum status check_deadline(struct transport_mpi *mpi, struct wait *wait, int64_t waited_ns) {
    if (wait->phase == WAIT_SHORT && waited_ns > wait->timeout_ns / 4) {
        wait->phase = WAIT_LONG;
        take_signs(mpi); /* of earlier waits */
        memset(mpi->alive, 0, sizeof mpi->alive);
    } else if (wait->phase == WAIT_LONG && waited_ns > wait->timeout_ns / 2) {
        wait->phase = WAIT_SIGNED;
        give_signs(mpi);
    } else if (wait->phase == WAIT_SIGNED && waited_ns > wait->timeout_ns) {
        take_signs(mpi);
        wait->phase = WAIT_EXTENDED;
        if (all_missing_are_alive(mpi, wait))
            return STATUS_OK;
        report_deadline(mpi, wait, true);
        return STATUS_PEER;
    } else if (wait->phase == WAIT_EXTENDED && waited_ns > 2 * wait->timeout_ns) {
        report_deadline(mpi, wait, false);
        return STATUS_PEER;
    }
    return STATUS_OK;
}

/* Wakes the peers that may have gone to sleep: their messages are on the way. A peer sleeps only
 * when bytes have not moved for BUSY_NS, so one that was sent some within RING_NS is awake and will
 * be when these come. */
static void ring_peers(struct transport_mpi *mpi, const struct wait *wait) {
    for (int32_t i = 0; i < wait->send_count; i++) {
        const struct transport_send *send = &wait->sends[i];
        if (send->is_awaited && wait->start_ns - mpi->sent_ns[send->peer] > RING_NS)
            doorbell_tell(mpi->doorbell, send->peer, DOORBELL_RING);
        if (send->bytes > 0)
            mpi->sent_ns[send->peer] = wait->start_ns;
    }
}

/* Sleeps until the peer rings; its message may come a little later. Where its rings do not come,
 * any more or at all, the next look at MPI has to be near. */
static void sleep_long(struct transport_mpi *mpi, struct wait *wait) {
    wait->slept_long = true;
    if (mpi->missed == MISSED_MAX || !doorbell_hears(mpi->doorbell, wait->receives[0].peer)) {
        nanosleep(&(struct timespec){0, IDLE_SLEEP_NS}, NULL);
    } else if (doorbell_wait(mpi->doorbell, BELL_MS)) {
        wait->rang = true;
        wait->quiet_since_ns = clock_now_ns();
    }
}

/* After a message for which this rank slept: whether a ring has come with it. */
static void count_rings(struct transport_mpi *mpi, const struct wait *wait) {
    int32_t peer = wait->receives[0].peer;
    bool rang = doorbell_wait(mpi->doorbell, 0) || wait->rang;
    if (mpi->missed == MISSED_MAX - 1 && !rang && doorbell_hears(mpi->doorbell, peer))
        LOG_INFO("rank %d on %s: its datagrams do not come any more: this rank polls while idle",
                 peer, mpi->transport.host_of[peer]);
    mpi->missed = rang ? 0 : mpi->missed + (mpi->missed < MISSED_MAX);
}

/* quiet_ns: how long nothing has come or gone. Returns whether it slept. */
static bool pause_between_polls(struct transport_mpi *mpi, struct wait *wait, int64_t quiet_ns) {
    if (quiet_ns < SPIN_NS + SPIN_BYTE_NS * wait->bytes) {
        sched_yield(); /* ranks share cores */
        return false;
    }
    if (wait->idle && quiet_ns > BUSY_NS)
        sleep_long(mpi, wait);
    else
        nanosleep(&(struct timespec){0, SLEEP_NS}, NULL);
    return true;
}

/* Posts the long receives whose messages have begun to come; *events: how many. */
static enum status look(struct transport_mpi *mpi, struct wait *wait, int32_t *events) {
    *events = 0;
    for (int32_t i = 0; i < wait->receive_count; i++) {
        struct transport_receive *receive = &wait->receives[i];
        MPI_Message message;
        int there = 0;
        if (!mpi->unseen[i])
            continue;
        int code = MPI_Improbe(receive->peer, MPI_ANY_TAG, mpi->communicator, &there, &message,
                               MPI_STATUS_IGNORE);
        if (code == MPI_SUCCESS && there) {
            mpi->unseen[i] = false;
            (*events)++;
            code = MPI_Imrecv(receive->buffer, (int)receive->capacity, MPI_BYTE, &message,
                              &mpi->requests[i]);
        }
        if (code != MPI_SUCCESS)
            return mpi_failed(mpi, wait->scope, receive->peer, code);
    }
    return STATUS_OK;
}

/* MPI_Testsome looks first and then lets MPI work: what has come is seen by the next call only,
 * which would be after a sleep, or after whoever shares the core. So it looks twice. MPI_Test does
 * it by itself. */
static int test_some(struct transport_mpi *mpi, int32_t count, int *through) {
    if (count == 1) {
        mpi->finished[0] = 0;
        *through = 0;
        if (mpi->requests[0] == MPI_REQUEST_NULL)
            return MPI_SUCCESS;
        return MPI_Test(&mpi->requests[0], through, &mpi->statuses[0]);
    }
    int code = MPI_Testsome(count, mpi->requests, through, mpi->finished, mpi->statuses);
    if (code == MPI_SUCCESS && *through == 0)
        code = MPI_Testsome(count, mpi->requests, through, mpi->finished, mpi->statuses);
    return code;
}

/* One look at all requests; *left: those that are not through; *events: what has happened. */
static enum status poll_once(struct transport_mpi *mpi, struct wait *wait, int32_t *left,
                             int32_t *events) {
    int through;
    RETURN_IF_ERROR(look(mpi, wait, events));
    int code = test_some(mpi, request_count(wait), &through);
    if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS)
        return mpi_failed(mpi, wait->scope, peer_of(wait, 0), code);
    for (int i = 0; i < through; i++) {
        (*left)--;
        (*events)++;
        int32_t at = mpi->finished[i];
        if (code == MPI_ERR_IN_STATUS && mpi->statuses[i].MPI_ERROR != MPI_SUCCESS)
            return mpi_failed(mpi, wait->scope, peer_of(wait, at), mpi->statuses[i].MPI_ERROR);
        if (at < wait->receive_count)
            RETURN_IF_ERROR(take(mpi, wait->scope, &wait->receives[at], &mpi->statuses[i]));
    }
    return STATUS_OK;
}

/* Tells other threads whom this one waits for. */
static void tell_missing(struct transport_mpi *mpi, const struct wait *wait) {
    int32_t missing = 0;
    while (missing < request_count(wait) && !is_missing(mpi, wait, missing))
        missing++;
    if (missing < request_count(wait))
        atomic_store_explicit(&mpi->transport.waited_for, 1 + peer_of(wait, missing),
                              memory_order_relaxed);
}

/* A process that has not looked for so long was stopped itself, most likely with all others (Slurm
 * suspends whole jobs): that time is nobody's fault. Not without end: MPI may be what it hung in.
 */
static int64_t suspended_ns(struct wait *wait, int64_t unlooked_ns) {
    if (unlooked_ns <= wait->timeout_ns / 4 || wait->suspended == SUSPENDED_MAX)
        return 0;
    wait->suspended++;
    return unlooked_ns;
}

static enum status wait_all(struct transport_mpi *mpi, struct wait *wait) {
    int32_t left = request_count(wait), events = 0;
    int64_t first = 0, looked = wait->start_ns;
    wait->quiet_since_ns = wait->idle ? mpi->busy_ns : wait->start_ns;
    while (left > 0) {
        RETURN_IF_ERROR(poll_once(mpi, wait, &left, &events));
        if (events > 0 && first == 0)
            first = looked; /* MPI may move all the bytes before it says that some have come */
        int64_t now = clock_now_ns(), suspended = suspended_ns(wait, now - looked);
        looked = now;
        wait->start_ns += suspended;
        first += first > 0 ? suspended : 0;
        if (events > 0) {
            wait->quiet_since_ns = looked;
            continue;
        }
        RETURN_IF_ERROR(check_deadline(mpi, wait, looked - wait->start_ns));
        if (pause_between_polls(mpi, wait, looked - wait->quiet_since_ns))
            tell_missing(mpi, wait);
    }
    atomic_store_explicit(&mpi->transport.waited_for, 0, memory_order_relaxed);
    for (int32_t i = 0; i < wait->send_count; i++)
        mpi->busy_ns = wait->sends[i].bytes > 0 ? looked : mpi->busy_ns;
    for (int32_t i = 0; i < wait->receive_count; i++)
        mpi->busy_ns = wait->receives[i].bytes > 0 ? looked : mpi->busy_ns;
    if (mpi->transport.traffic != NULL && first > 0 && !wait->idle) {
        mpi->transport.traffic->wait_ns += first - wait->start_ns;
        mpi->transport.traffic->transfer_ns += looked - first;
    }
    return STATUS_OK;
}

static enum status mpi_exchange(struct transport *transport, const struct transport_scope *scope,
                                const struct transport_send *sends, int32_t send_count,
                                struct transport_receive *receives, int32_t receive_count) {
    struct transport_mpi *mpi = self_of(transport);
    struct wait wait = {.scope = scope,
                        .sends = sends,
                        .receives = receives,
                        .send_count = send_count,
                        .receive_count = receive_count,
                        .start_ns = clock_now_ns(),
                        .timeout_ns = (int64_t)transport->timeout_ms * 1000000};
    for (int32_t i = 0; i < send_count; i++)
        wait.bytes += sends[i].bytes;
    RETURN_IF_ERROR(post(mpi, scope, sends, send_count, receives, receive_count));
    ring_peers(mpi, &wait);
    return wait_all(mpi, &wait);
}

static enum status mpi_await(struct transport *transport, const struct transport_scope *scope,
                             struct transport_receive *receive) {
    struct transport_mpi *mpi = self_of(transport);
    struct wait wait = {.scope = scope,
                        .receives = receive,
                        .receive_count = 1,
                        .start_ns = clock_now_ns(),
                        .timeout_ns =
                            (int64_t)transport->timeout_ms * TRANSPORT_AWAIT_TIMEOUTS * 1000000,
                        .idle = true};
    RETURN_IF_ERROR(post(mpi, scope, NULL, 0, receive, 1));
    RETURN_IF_ERROR(wait_all(mpi, &wait));
    if (wait.slept_long)
        count_rings(mpi, &wait);
    return STATUS_OK;
}

static void mpi_destroy(struct transport *transport) {
    struct transport_mpi *mpi = self_of(transport);
    MPI_Comm_free(&mpi->communicator);
    MPI_Comm_free(&mpi->signs);
    free(mpi);
}

static const struct transport_ops transport_mpi_ops = {.name = "mpi",
                                                       .exchange = mpi_exchange,
                                                       .await = mpi_await,
                                                       .reserve = mpi_reserve,
                                                       .destroy = mpi_destroy};

/* MPI allows tags of 15 bits at least, Open MPI of 31. */
static int32_t step_mask(MPI_Comm communicator) {
    void *value;
    int there, bits = 15;
    MPI_Comm_get_attr(communicator, MPI_TAG_UB, &value, &there);
    while (there && bits < 31 && *(const int *)value >= (int)((INT64_C(1) << (bits + 1)) - 1))
        bits++;
    return (1 << (bits - KIND_BITS - LAYER_BITS)) - 1;
}

enum status transport_mpi_create(const int32_t *node_of, const char (*host_of)[64],
                                 struct doorbell *doorbell, int32_t timeout_ms,
                                 struct transport **transport) {
    struct transport_mpi *mpi = calloc(1, sizeof *mpi);
    if (mpi == NULL) {
        LOG_ERROR("transport: out of memory");
        return STATUS_NO_MEMORY;
    }
    int rank, size;
    MPI_Comm_dup(MPI_COMM_WORLD, &mpi->signs);
    MPI_Comm_dup(MPI_COMM_WORLD, &mpi->communicator);
    MPI_Comm_set_errhandler(mpi->communicator,
                            MPI_ERRORS_RETURN); /* errors are told in our words */
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    mpi->transport = (struct transport){.ops = &transport_mpi_ops,
                                        .rank = rank,
                                        .size = size,
                                        .timeout_ms = timeout_ms,
                                        .node_of = node_of,
                                        .host_of = host_of};
    mpi->doorbell = doorbell;
    mpi->step_mask = step_mask(mpi->communicator);
    mpi->message_bytes = TRANSPORT_MESSAGE_BYTES_LEAST;
    *transport = &mpi->transport;
    return STATUS_OK;
}
