/* The bytes of one connected, non-blocking socket, in cleartext or TLS. */
#ifndef MOEBIUS_RUNTIME_RPC_CHANNEL_H
#define MOEBIUS_RUNTIME_RPC_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/rpc_tls.h"

struct ssl_st;

/* Zeroed ({0}) before init. */
struct rpc_channel {
    int fd;
    struct ssl_st *ssl; /* NULL: cleartext */
    bool wants_output;  /* TLS itself waits until the socket is writable */
};

enum rpc_channel_result {
    RPC_CHANNEL_OK,
    RPC_CHANNEL_BLOCKED, /* not now: wait for the socket */
    RPC_CHANNEL_CLOSED,  /* the peer has closed, or the connection is lost */
};

/* Takes the descriptor over, also when it fails. `host`: whose certificate a client expects; NULL
 * for a server. STATUS_NO_MEMORY. Local. */
enum status rpc_channel_init(struct rpc_channel *channel, int fd, const struct rpc_tls *tls,
                             const char *host);

/* Closes at once. No effect on a zeroed channel that was deinitialized already. Local. */
void rpc_channel_deinit(struct rpc_channel *channel);

/* Says that no more will be written; reading goes on. Local. */
void rpc_channel_end_output(struct rpc_channel *channel);

/* Goes on with the TLS handshake; OK: done (cleartext: at once). A failure writes why to reason
 * [reason_size]. Local. */
enum rpc_channel_result rpc_channel_handshake(struct rpc_channel *channel, char *reason,
                                              size_t reason_size);

/* Reads or writes what goes now, at least one byte when OK. Local. */
enum rpc_channel_result rpc_channel_read(struct rpc_channel *channel, uint8_t *data, size_t size,
                                         size_t *count);
enum rpc_channel_result rpc_channel_write(struct rpc_channel *channel, const uint8_t *data,
                                          size_t size, size_t *count);

/* Whether bytes wait inside TLS that the socket does not tell of. Local. */
bool rpc_channel_has_pending(const struct rpc_channel *channel);

/* The common name of the peer's certificate; false: there is none. Local. */
bool rpc_channel_peer_name(const struct rpc_channel *channel, char *name, size_t size);

#endif
