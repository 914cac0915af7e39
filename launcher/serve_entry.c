/* Addresses as the flags say them become sockets; files become keys and certificates. */
#include "launcher/serve_entry.h"

#include <stdio.h>
#include <string.h>

static enum status bind_port(const char *host, int32_t port, struct rpc_socket_bound *bound) {
    char address[RPC_SOCKET_TEXT_SIZE];
    bool is_ipv6 = strchr(host, ':') != NULL;
    snprintf(address, sizeof address, is_ipv6 ? "[%s]:%d" : "%s:%d", host, port);
    return rpc_socket_bind(address, bound);
}

enum status serve_entry_take(const struct serve_flags *flags, struct serve_entry *entry) {
    struct rpc_tls_files files = {.certificate = flags->ssl_certfile,
                                  .key = flags->ssl_keyfile,
                                  .authorities = flags->ssl_ca_certs};
    if (flags->ssl_certfile != NULL)
        RETURN_IF_ERROR(rpc_tls_create_server(&files, &entry->tls));
    if (flags->api_key_file != NULL)
        RETURN_IF_ERROR(rpc_keys_load(flags->api_key_file, &entry->keys));
    if (flags->admin_api_key_file != NULL)
        RETURN_IF_ERROR(rpc_keys_load(flags->admin_api_key_file, &entry->admin_keys));
    RETURN_IF_ERROR(bind_port(flags->host, flags->port, &entry->grpc));
    if (flags->admin_address != NULL)
        RETURN_IF_ERROR(rpc_socket_bind(flags->admin_address, &entry->admin));
    return flags->no_http ? STATUS_OK : bind_port(flags->host, flags->http_port, &entry->http);
}

void serve_entry_give(struct serve_entry *entry) {
    rpc_socket_unbind(&entry->grpc);
    rpc_socket_unbind(&entry->admin);
    rpc_socket_unbind(&entry->http);
    rpc_keys_destroy(entry->admin_keys);
    rpc_keys_destroy(entry->keys);
    rpc_tls_destroy(entry->tls);
}
