/* Addresses as the flags say them become sockets; files become keys and certificates. */
#define _GNU_SOURCE /* gethostname */
#include "launcher/serve_entry.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kernels/base/log.h"

#define FILES_MIN 256  /* when the system does not say */
#define FILES_KEPT 256 /* not for clients */
#define GRPC_MAX 4096
#define HTTP_MAX 1024
#define ADMIN_MAX 256

/* `host` as --host has it: a Unix socket, an IPv6 number, or else. */
static enum status bind_port(const char *host, int32_t port, struct rpc_socket_bound *bound) {
    char address[RPC_SOCKET_TEXT_SIZE];
    if (strncmp(host, "unix:", 5) == 0)
        return rpc_socket_bind(host, bound);
    bool is_ipv6 = strchr(host, ':') != NULL;
    snprintf(address, sizeof address, is_ipv6 ? "[%s]:%d" : "%s:%d", host, port);
    return rpc_socket_bind(address, bound);
}

static int32_t at_most(int64_t count, int32_t limit) {
    return count < limit ? (int32_t)count : limit;
}

/* A client that opens as many connections as it can fills its own door only: each has a share of
 * the descriptors, and the rest is the ranks', the files' and the sockets' that are about to close.
 */
static void share_descriptors(struct serve_entry *entry) {
    struct rlimit files;
    int64_t count = FILES_MIN;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        struct rlimit raised = {.rlim_cur = files.rlim_max, .rlim_max = files.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            files = raised;
        count = files.rlim_cur < (rlim_t)INT32_MAX ? (int64_t)files.rlim_cur : INT32_MAX;
    }
    int64_t share = count - (count < 4 * FILES_KEPT ? count / 4 : FILES_KEPT);
    entry->grpc_max = at_most(share / 2, GRPC_MAX);
    entry->http_max = at_most(share / 4, HTTP_MAX);
    entry->admin_max = at_most(share / 8, ADMIN_MAX);
    if (entry->grpc_max < GRPC_MAX || entry->http_max < HTTP_MAX)
        LOG_WARN("at most %d gRPC and %d HTTP connections: the limit of open files is %lld "
                 "(ulimit -Hn)",
                 entry->grpc_max, entry->http_max, (long long)count);
}

enum status serve_entry_take(const struct serve_flags *flags, struct serve_entry *entry) {
    struct rpc_tls_files files = {.certificate = flags->ssl_certfile,
                                  .key = flags->ssl_keyfile,
                                  .authorities = flags->ssl_ca_certs};
    share_descriptors(entry);
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
