/* How bytes get from one rank to another. One primitive, an exchange of messages whose peers and
 * sizes are known to the sender and whose upper bounds are known to the receiver; everything
 * collective is built from it (collective.h), so that every byte is counted in one place, every
 * wait has a deadline, and every deadline names the peers that were waited for.
 *
 * Implementations, chosen at start: transport_self.c (one rank, no MPI), transport_mpi.c. A place
 * for transport_nccl.cu. */
#ifndef MOEBIUS_COMM_TRANSPORT_H
#define MOEBIUS_COMM_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/traffic.h"
#include "kernels/base/status.h"

#define TRANSPORT_RANKS_MAX 1024
#define TRANSPORT_AWAIT_TIMEOUTS 2
#define TRANSPORT_MESSAGE_BYTES_LEAST (16 << 10) /* may be sent without transport_reserve */

/* What is going on, for the message of a deadline and for the accounts. */
struct transport_scope {
    int64_t step;
    int32_t layer; /* -1: outside the layers */
    enum traffic_kind kind;
};

struct transport_send {
    int32_t peer; /* world rank, not the own one */
    const void *data;
    int64_t bytes;
    bool is_awaited; /* the peer may be asleep for it (transport_ops.await): it is woken */
};

struct transport_receive {
    int32_t peer;
    void *buffer;
    int64_t capacity; /* a longer message is STATUS_PEER (logged) */
    int64_t bytes;    /* out: received */
};

struct transport;

struct transport_ops {
    const char *name;
    /* Posts all receives and sends, returns when all are done. At most one message to and from each
     * peer a call; both sides call with the same scope, which travels with the message and is
     * checked. */
    enum status (*exchange)(struct transport *transport, const struct transport_scope *scope,
                            const struct transport_send *sends, int32_t send_count,
                            struct transport_receive *receives, int32_t receive_count);
    /* Waits for one message from `peer` asleep: how an idle rank waits for the next plan. The peer
     * sends with is_awaited, and something at least once a timeout_ms; it may itself be waiting for
     * a third rank, which it can name and we cannot, so this waits for TRANSPORT_AWAIT_TIMEOUTS of
     * them. */
    enum status (*await)(struct transport *transport, const struct transport_scope *scope,
                         struct transport_receive *receive);
    /* See transport_reserve. */
    enum status (*reserve)(struct transport *transport, int64_t message_bytes);
    void (*destroy)(struct transport *transport);
};

/* The head of every implementation. */
struct transport {
    const struct transport_ops *ops;
    int32_t rank, size;
    int32_t timeout_ms;        /* of every wait inside a step; --comm-timeout */
    const int32_t *node_of;    /* [size]: which node a rank is on */
    const char (*host_of)[64]; /* [size] */
    struct traffic *traffic;   /* where sends are counted; NULL: not */
    /* For other threads: 1 + a rank that this one has been waiting for, asleep; 0: for none. */
    _Atomic int32_t waited_for;
};

/* How many nodes node_of tells apart; they are numbered from 0. Local. */
int32_t transport_node_count(const struct transport *transport);

/* Checked front of ops->exchange: counts what is sent. STATUS_PEER (logged once: which ranks on
 * which hosts were waited for, step, layer, kind, how long) when the deadline passes. Collective
 * among the peers named. */
enum status transport_exchange(struct transport *transport, const struct transport_scope *scope,
                               const struct transport_send *sends, int32_t send_count,
                               struct transport_receive *receives, int32_t receive_count);

/* Announces messages of up to `message_bytes` to and from every peer, at start: a longer one, sent
 * or expected, is STATUS_INTERNAL afterwards (TRANSPORT_MESSAGE_BYTES_LEAST may always be).
 * STATUS_LIMIT (logged) for more than MPI can count. Local. */
enum status transport_reserve(struct transport *transport, int64_t message_bytes);

/* Logs that a peer's message is not what this scope needs and returns STATUS_PEER. Local. */
enum status transport_garbled(const struct transport *transport,
                              const struct transport_scope *scope, int32_t peer, int64_t bytes);

/* One rank, nothing to send to. STATUS_NO_MEMORY. Local. */
enum status transport_self_create(struct transport **transport);

#endif
