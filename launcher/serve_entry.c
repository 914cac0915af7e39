/* Addresses as the flags say them become sockets; files become keys and certificates. */
#define _GNU_SOURCE /* gethostname */
#include "launcher/serve_entry.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* `host` as --host has it: a Unix socket, an IPv6 number, or else. */
static enum status bind_port(const char *host, int32_t port, struct rpc_socket_bound *bound) {
    char address[RPC_SOCKET_TEXT_SIZE];
    if (strncmp(host, "unix:", 5) == 0)
        return rpc_socket_bind(host, bound);
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

/* One that is open everywhere has no address that says where: this host's name does, also to
 * clients on other hosts, who need not know where Slurm has put the coordinator. */
static void tell(char *text, size_t size, const char *what, const char *address, const char *more) {
    char name[65] = "";
    bool is_everywhere = strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0;
    if (is_everywhere && gethostname(name, sizeof name - 1) == 0)
        address = strrchr(address, ':');
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s%s%s", what, name, address, more);
}

void serve_entry_tell(const struct serve_entry *entry, char *text, size_t size) {
    text[0] = '\0';
    bool is_unix = strncmp(entry->grpc.address, "unix:", 5) == 0;
    tell(text, size, "gRPC at ", entry->grpc.address,
         entry->tls != NULL && !is_unix ? " with TLS" : "");
    if (entry->http.is_bound)
        tell(text, size, entry->tls != NULL ? ", HTTP at https://" : ", HTTP at http://",
             entry->http.address, "");
    is_unix = strncmp(entry->admin.address, "unix:", 5) == 0;
    if (entry->admin.is_bound)
        tell(text, size, ", admin at ", entry->admin.address,
             entry->tls != NULL && !is_unix ? " with TLS" : "");
}
