/* Addresses and sockets of the gRPC layer: listening for the doors, connecting for clients. */
#define _GNU_SOURCE
#include "runtime/rpc_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernels/base/log.h"

#define BACKLOG 1024

static enum status resolve_unix(const char *path, struct rpc_socket_addresses *addresses) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof(name.sun_path)) {
        LOG_ERROR("unix:%s: expected a path of 1 to %zu bytes", path, sizeof(name.sun_path) - 1);
        return STATUS_USAGE;
    }
    memcpy(name.sun_path, path, length);
    memcpy(&addresses->at[0], &name, sizeof(name));
    addresses->sizes[0] = sizeof(name);
    addresses->count = 1;
    snprintf(addresses->host, sizeof(addresses->host), "localhost");
    return STATUS_OK;
}

/* Splits "HOST:PORT" or "[HOST]:PORT"; returns the port's text, NULL: it is none. */
static const char *split_host(const char *address, char *host, size_t size) {
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon[1] == 0)
        return NULL;
    size_t length = (size_t)(colon - address);
    bool has_brackets = length >= 2 && address[0] == '[' && colon[-1] == ']';
    if (has_brackets) {
        address++;
        length -= 2;
    }
    if (length >= size || (!has_brackets && memchr(address, ':', length) != NULL))
        return NULL;
    memcpy(host, address, length);
    host[length] = 0;
    return colon + 1;
}

enum status rpc_socket_resolve(const char *address, bool to_listen,
                               struct rpc_socket_addresses *addresses) {
    *addresses = (struct rpc_socket_addresses){0};
    if (strncmp(address, "unix:", 5) == 0)
        return resolve_unix(address + 5, addresses);
    const char *port = split_host(address, addresses->host, sizeof(addresses->host));
    if (port == NULL || (addresses->host[0] == 0 && !to_listen)) {
        LOG_ERROR("address: expected HOST:PORT or unix:PATH, got %s", address);
        return STATUS_USAGE;
    }
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | (to_listen ? AI_PASSIVE : 0)};
    struct addrinfo *found = NULL;
    const char *host = addresses->host[0] != 0 ? addresses->host : NULL;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        LOG_ERROR("address %s: %s", address, gai_strerror(error));
        return STATUS_USAGE;
    }
    for (struct addrinfo *one = found; one != NULL && addresses->count < RPC_SOCKET_ADDRESSES_MAX;
         one = one->ai_next) {
        memcpy(&addresses->at[addresses->count], one->ai_addr, one->ai_addrlen);
        addresses->sizes[addresses->count++] = one->ai_addrlen;
    }
    freeaddrinfo(found);
    return STATUS_OK;
}

/* Whether a file at `path` is a socket that nobody listens on: left behind by a process that died.
 */
static bool is_stale(const struct sockaddr_un *name, socklen_t size) {
    struct stat facts;
    if (lstat(name->sun_path, &facts) != 0 || !S_ISSOCK(facts.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool is_refused =
        connect(fd, (const struct sockaddr *)name, size) != 0 && errno == ECONNREFUSED;
    close(fd);
    return is_refused;
}

static int bind_unix(int fd, const struct sockaddr_storage *at, socklen_t size) {
    struct sockaddr_un name;
    memcpy(&name, at, sizeof(name));
    if (is_stale(&name, size))
        unlink(name.sun_path);
    if (bind(fd, (const struct sockaddr *)&name, size) != 0)
        return -1;
    return chmod(name.sun_path, S_IRUSR | S_IWUSR);
}

static int bind_any(int fd, const struct sockaddr_storage *at, socklen_t size) {
    if (at->ss_family == AF_UNIX)
        return bind_unix(fd, at, size);
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    return bind(fd, (const struct sockaddr *)at, size);
}

static void tell_bound(int fd, const char *address, char *bound) {
    struct sockaddr_storage at = {0};
    socklen_t size = sizeof(at);
    snprintf(bound, RPC_SOCKET_TEXT_SIZE, "%s", address);
    if (getsockname(fd, (struct sockaddr *)&at, &size) != 0 || at.ss_family == AF_UNIX)
        return;
    char host[RPC_SOCKET_TEXT_SIZE];
    char peer[RPC_SOCKET_TEXT_SIZE];
    rpc_socket_peer(&at, peer, host);
    snprintf(bound, RPC_SOCKET_TEXT_SIZE, "%s", strchr(peer, ':') + 1);
}

enum status rpc_socket_bind(const char *address, struct rpc_socket_bound *bound) {
    struct rpc_socket_addresses addresses;
    RETURN_IF_ERROR(rpc_socket_resolve(address, true, &addresses));
    int error = EADDRNOTAVAIL;
    for (int32_t i = 0; i < addresses.count; i++) {
        int made = socket(addresses.at[i].ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (made < 0) {
            error = errno;
            continue;
        }
        if (bind_any(made, &addresses.at[i], addresses.sizes[i]) == 0) {
            tell_bound(made, address, bound->address);
            bound->fd = made;
            bound->is_bound = true;
            return STATUS_OK;
        }
        error = errno;
        close(made);
    }
    LOG_ERROR("cannot listen on %s: %s", address, strerror(error));
    return STATUS_IO;
}

enum status rpc_socket_listen(const struct rpc_socket_bound *bound) {
    if (listen(bound->fd, BACKLOG) == 0)
        return STATUS_OK;
    LOG_ERROR("cannot listen on %s: %s", bound->address, strerror(errno));
    return STATUS_IO;
}

void rpc_socket_unbind(struct rpc_socket_bound *bound) {
    if (!bound->is_bound)
        return;
    close(bound->fd);
    if (strncmp(bound->address, "unix:", 5) == 0)
        unlink(bound->address + 5);
    bound->is_bound = false;
}

enum status rpc_socket_connect(const struct rpc_socket_addresses *addresses, int32_t index,
                               int *fd) {
    const struct sockaddr_storage *at = &addresses->at[index];
    int made = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0)
        return STATUS_IO;
    if (connect(made, (const struct sockaddr *)at, addresses->sizes[index]) != 0 &&
        errno != EINPROGRESS) {
        close(made);
        return STATUS_IO;
    }
    *fd = made;
    return STATUS_OK;
}

int rpc_socket_error(int fd) {
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return errno;
    return error;
}

void rpc_socket_peer(const struct sockaddr_storage *address, char *peer, char *host) {
    char text[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof(in));
        inet_ntop(AF_INET, &in.sin_addr, text, sizeof(text));
        snprintf(host, RPC_SOCKET_TEXT_SIZE, "ipv4:%s", text);
        snprintf(peer, RPC_SOCKET_TEXT_SIZE, "ipv4:%s:%u", text, ntohs(in.sin_port));
    } else if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, address, sizeof(in));
        inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof(text));
        snprintf(host, RPC_SOCKET_TEXT_SIZE, "ipv6:[%s]", text);
        snprintf(peer, RPC_SOCKET_TEXT_SIZE, "ipv6:[%s]:%u", text, ntohs(in.sin6_port));
    } else {
        snprintf(host, RPC_SOCKET_TEXT_SIZE, "unix:");
        snprintf(peer, RPC_SOCKET_TEXT_SIZE, "unix:");
    }
}

void rpc_socket_set_no_delay(int fd) {
    int one = 1;
    /* Fails on a Unix socket, which does not delay anyway. */
    (void)!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}
