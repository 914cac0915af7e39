/* One connection's bytes. TLS reads and writes the socket through a BIO of ours, because OpenSSL's
 * own writes raise SIGPIPE when the peer has gone. */
#include "runtime/rpc_channel.h"

#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/rpc_tls_context.h"

static enum status init_ssl(struct rpc_channel *channel, const struct rpc_tls *tls,
                            const char *host) {
    SSL *ssl = SSL_new(tls->context);
    BIO *bio = BIO_new(tls->socket_method);
    if (ssl == NULL || bio == NULL) {
        SSL_free(ssl);
        BIO_free(bio);
        return STATUS_NO_MEMORY;
    }
    BIO_set_data(bio, channel);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    channel->ssl = ssl;
    if (tls->is_server) {
        SSL_set_accept_state(ssl);
        return STATUS_OK;
    }
    SSL_set_connect_state(ssl);
    /* A number is checked against the certificate's addresses, a name against its names. */
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1)
        return STATUS_OK;
    ERR_clear_error();
    char *name = (char *)(uintptr_t)host; /* the macro below casts const away */
    if (SSL_set1_host(ssl, host) != 1 || SSL_set_tlsext_host_name(ssl, name) != 1)
        return STATUS_NO_MEMORY;
    return STATUS_OK;
}

enum status rpc_channel_init(struct rpc_channel *channel, int fd, const struct rpc_tls *tls,
                             const char *host) {
    *channel = (struct rpc_channel){.fd = fd};
    if (tls == NULL)
        return STATUS_OK;
    enum status status = init_ssl(channel, tls, host);
    if (status != STATUS_OK)
        rpc_channel_deinit(channel);
    return status;
}

void rpc_channel_end_output(struct rpc_channel *channel) {
    if (channel->ssl != NULL && SSL_is_init_finished(channel->ssl))
        SSL_shutdown(channel->ssl); /* says goodbye; the answer is not waited for */
    shutdown(channel->fd, SHUT_WR);
}

void rpc_channel_deinit(struct rpc_channel *channel) {
    if (channel->ssl != NULL && SSL_is_init_finished(channel->ssl))
        SSL_shutdown(channel->ssl); /* where it has not been said yet */
    SSL_free(channel->ssl);
    ERR_clear_error();
    if (channel->fd >= 0)
        close(channel->fd);
    *channel = (struct rpc_channel){.fd = -1};
}

/* What an SSL call that did not succeed means. */
static enum rpc_channel_result explain(struct rpc_channel *channel, int result) {
    int error = SSL_get_error(channel->ssl, result);
    channel->wants_output = error == SSL_ERROR_WANT_WRITE;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return RPC_CHANNEL_BLOCKED;
    return RPC_CHANNEL_CLOSED;
}

/* gRPC's clients insist on the protocol being negotiated; so do we. */
static bool has_alpn(const struct rpc_channel *channel) {
    const unsigned char *protocol = NULL;
    unsigned length = 0;
    SSL_get0_alpn_selected(channel->ssl, &protocol, &length);
    return length == 2 && memcmp(protocol, "h2", 2) == 0;
}

enum rpc_channel_result rpc_channel_handshake(struct rpc_channel *channel, char *reason,
                                              size_t reason_size) {
    if (channel->ssl == NULL)
        return RPC_CHANNEL_OK;
    ERR_clear_error();
    int result = SSL_do_handshake(channel->ssl);
    if (result == 1) {
        channel->wants_output = false;
        if (has_alpn(channel))
            return RPC_CHANNEL_OK;
        snprintf(reason, reason_size, "the peer does not speak h2 (ALPN)");
        return RPC_CHANNEL_CLOSED;
    }
    enum rpc_channel_result meaning = explain(channel, result);
    if (meaning == RPC_CHANNEL_BLOCKED)
        return meaning;
    long verdict = SSL_get_verify_result(channel->ssl);
    unsigned long error = ERR_peek_last_error();
    const char *text = verdict != X509_V_OK ? X509_verify_cert_error_string(verdict)
                                            : ERR_reason_error_string(error);
    snprintf(reason, reason_size, "TLS handshake: %s", text != NULL ? text : "connection closed");
    ERR_clear_error();
    return RPC_CHANNEL_CLOSED;
}

static enum rpc_channel_result explain_errno(void) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return RPC_CHANNEL_BLOCKED;
    return RPC_CHANNEL_CLOSED;
}

enum rpc_channel_result rpc_channel_read(struct rpc_channel *channel, uint8_t *data, size_t size,
                                         size_t *count) {
    if (channel->ssl == NULL) {
        ssize_t got = recv(channel->fd, data, size, 0);
        if (got > 0)
            *count = (size_t)got;
        else
            return got == 0 ? RPC_CHANNEL_CLOSED : explain_errno();
        return RPC_CHANNEL_OK;
    }
    ERR_clear_error();
    int result = SSL_read_ex(channel->ssl, data, size, count);
    return result == 1 ? RPC_CHANNEL_OK : explain(channel, result);
}

enum rpc_channel_result rpc_channel_write(struct rpc_channel *channel, const uint8_t *data,
                                          size_t size, size_t *count) {
    if (channel->ssl == NULL) {
        ssize_t sent = send(channel->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0)
            return explain_errno();
        *count = (size_t)sent;
        return RPC_CHANNEL_OK;
    }
    ERR_clear_error();
    int result = SSL_write_ex(channel->ssl, data, size, count);
    return result == 1 ? RPC_CHANNEL_OK : explain(channel, result);
}

bool rpc_channel_has_pending(const struct rpc_channel *channel) {
    return channel->ssl != NULL && SSL_has_pending(channel->ssl) == 1;
}

bool rpc_channel_peer_name(const struct rpc_channel *channel, char *name, size_t size) {
    X509 *certificate = channel->ssl != NULL ? SSL_get0_peer_certificate(channel->ssl) : NULL;
    if (certificate == NULL || size > INT_MAX)
        return false;
    return X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                                     (int)size) > 0;
}
