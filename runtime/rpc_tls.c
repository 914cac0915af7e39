/* TLS contexts of doors and clients: which versions, whose certificates, and the BIO by which
 * OpenSSL reaches a socket. */
#include "runtime/rpc_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "kernels/base/log.h"
#include "runtime/rpc_channel.h"
#include "runtime/rpc_tls_context.h"

/* ---- the BIO ---- */

static int finish_io(BIO *bio, ssize_t count, int retry_flag) {
    BIO_clear_retry_flags(bio);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        BIO_set_flags(bio, retry_flag | BIO_FLAGS_SHOULD_RETRY);
    return (int)count;
}

static int bio_write(BIO *bio, const char *data, int size) {
    const struct rpc_channel *channel = BIO_get_data(bio);
    return finish_io(bio, send(channel->fd, data, (size_t)size, MSG_NOSIGNAL), BIO_FLAGS_WRITE);
}

static int bio_read(BIO *bio, char *data, int size) {
    const struct rpc_channel *channel = BIO_get_data(bio);
    return finish_io(bio, recv(channel->fd, data, (size_t)size, 0), BIO_FLAGS_READ);
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *make_socket_method(void) {
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "rpc socket");
    if (method == NULL)
        return NULL;
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_ctrl(method, bio_control);
    return method;
}

/* ---- contexts ---- */

static const unsigned char alpn_h2[] = {2, 'h', '2'};

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                       const unsigned char *in, unsigned in_size, void *context) {
    (void)ssl;
    (void)context;
    for (unsigned at = 0; at + 3 <= in_size; at += 1U + in[at]) {
        if (memcmp(in + at, alpn_h2, sizeof(alpn_h2)) == 0) {
            *out = in + at + 1;
            *out_size = 2;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Logs what OpenSSL says of a file. */
static enum status file_error(const char *path, const char *what) {
    unsigned long error = ERR_peek_error();
    const char *reason =
        ERR_SYSTEM_ERROR(error) ? strerror(ERR_GET_REASON(error)) : ERR_reason_error_string(error);
    LOG_ERROR("%s: expected %s in PEM form: %s", path, what, reason != NULL ? reason : "unusable");
    ERR_clear_error();
    return STATUS_IO;
}

static enum status load_identity(SSL_CTX *context, const struct rpc_tls_files *files) {
    if (files->certificate == NULL || files->key == NULL)
        return STATUS_OK;
    if (SSL_CTX_use_certificate_chain_file(context, files->certificate) != 1)
        return file_error(files->certificate, "a certificate");
    if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1)
        return file_error(files->key, "the certificate's private key");
    return STATUS_OK;
}

static enum status load_authorities(SSL_CTX *context, const struct rpc_tls_files *files,
                                    bool is_server) {
    if (files->authorities != NULL && SSL_CTX_load_verify_file(context, files->authorities) != 1)
        return file_error(files->authorities, "certificates of authorities");
    if (!is_server) {
        if (files->authorities == NULL && SSL_CTX_set_default_verify_paths(context) != 1)
            return STATUS_NO_MEMORY;
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    } else if (files->authorities != NULL) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(files->authorities);
        if (names == NULL)
            return file_error(files->authorities, "certificates of authorities");
        SSL_CTX_set_client_CA_list(context, names);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return STATUS_OK;
}

static void configure(SSL_CTX *context, bool is_server) {
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    if (is_server) {
        SSL_CTX_set_alpn_select_cb(context, select_alpn, NULL);
        /* A session id context is asked for where client certificates are; resumption is not worth
         * its state here. */
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(context, 0);
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    } else {
        SSL_CTX_set_alpn_protos(context, alpn_h2, sizeof(alpn_h2));
    }
}

static enum status create(const struct rpc_tls_files *files, bool is_server, struct rpc_tls **tls) {
    struct rpc_tls *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->is_server = is_server;
    made->context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    made->socket_method = make_socket_method();
    enum status status = STATUS_NO_MEMORY;
    if (made->context != NULL && made->socket_method != NULL) {
        configure(made->context, is_server);
        status = load_identity(made->context, files);
        if (status == STATUS_OK)
            status = load_authorities(made->context, files, is_server);
    }
    if (status == STATUS_OK)
        *tls = made;
    else
        rpc_tls_destroy(made);
    return status;
}

enum status rpc_tls_create_server(const struct rpc_tls_files *files, struct rpc_tls **tls) {
    return create(files, true, tls);
}

enum status rpc_tls_create_client(const struct rpc_tls_files *files, struct rpc_tls **tls) {
    return create(files, false, tls);
}

void rpc_tls_destroy(struct rpc_tls *tls) {
    if (tls == NULL)
        return;
    SSL_CTX_free(tls->context);
    BIO_meth_free(tls->socket_method);
    free(tls);
}
