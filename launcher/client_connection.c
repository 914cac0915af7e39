/* From the flags of complete, chat and bench serve to connections. */
#define _POSIX_C_SOURCE 200809L
#include "launcher/client_connection.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/rpc_tls.h"

/* The first line of a key file that is not empty. */
static enum status read_key(const char *path, char *key, int size) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        LOG_ERROR("--api-key-file: %s: cannot open: %s", path, strerror(errno));
        return STATUS_IO;
    }
    key[0] = '\0';
    while (key[0] == '\0' && fgets(key, size, file) != NULL) {
        key[strcspn(key, " \t\r\n")] = '\0';
        if (key[0] == '#')
            key[0] = '\0';
    }
    fclose(file);
    if (key[0] != '\0')
        return STATUS_OK;
    LOG_ERROR("--api-key-file: %s: expected a key, got none", path);
    return STATUS_BAD_CONFIG;
}

static enum status make_tls(struct client_connection *connection) {
    const struct client_flags *flags = connection->flags;
    if ((flags->ssl_certfile == NULL) != (flags->ssl_keyfile == NULL)) {
        LOG_ERROR("--ssl-certfile, --ssl-keyfile: expected both or none, got one");
        return STATUS_USAGE;
    }
    if (!flags->tls && flags->ssl_ca_certs == NULL && flags->ssl_certfile == NULL)
        return STATUS_OK;
    struct rpc_tls_files files = {.certificate = flags->ssl_certfile,
                                  .key = flags->ssl_keyfile,
                                  .authorities = flags->ssl_ca_certs};
    return rpc_tls_create_client(&files, &connection->tls);
}

enum status client_connection_init(struct client_connection *connection,
                                   const struct client_flags *flags) {
    *connection = (struct client_connection){.flags = flags};
    RETURN_IF_ERROR(make_tls(connection));
    if (flags->api_key_file == NULL)
        return STATUS_OK;
    return read_key(flags->api_key_file, connection->key, sizeof connection->key);
}

void client_connection_deinit(struct client_connection *connection) {
    rpc_tls_destroy(connection->tls);
    connection->tls = NULL;
}

enum status client_connection_open(const struct client_connection *connection,
                                   struct rpc_loop *loop, struct rpc_client **client) {
    struct rpc_client_options options;
    rpc_client_options_default(&options);
    options.address = connection->flags->server;
    options.tls = connection->tls;
    options.token = connection->key[0] != '\0' ? connection->key : NULL;
    return rpc_client_create(loop, &options, client);
}
