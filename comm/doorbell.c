/* UDP sockets and nothing else; who rings whom and when is transport_mpi.c's business. */
#define _GNU_SOURCE
#include "comm/doorbell.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"

#define TRY_NS 20000000 /* between two tries: a datagram may be lost */
#define NAP_NS 700000   /* between looks while foreign datagrams come */
#define TAKE_MAX 64     /* datagrams a look: nobody keeps a rank from its work by sending them */

struct datagram {
    unsigned char secret[DOORBELL_SECRET_BYTES];
    int32_t from, to; /* a port may have come to belong to another rank's host */
    int32_t word;
    int32_t number; /* of the address that is tried */
};

struct place {
    unsigned char address[16];
    int32_t port;
};

struct doorbell {
    int32_t rank, size;
    int socket; /* -1: none */
    int family; /* AF_INET6, for IPv4 too, or AF_INET where there is no IPv6 */
    int32_t address_count;
    unsigned char secret[DOORBELL_SECRET_BYTES];
    const struct doorbell_door *doors; /* [size] while they are tried */
    int64_t tried_ns;
    bool is_disturbed;    /* the last look found foreign datagrams */
    int32_t *heard;       /* [size] */
    bool *reaches;        /* [size] */
    struct place *places; /* [size] */
};

/* ---- the own door ---- */

static int open_socket(int family) {
    const struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
    const struct sockaddr_in any4 = {.sin_family = AF_INET};
    const void *any = family == AF_INET6 ? (const void *)&any6 : (const void *)&any4;
    socklen_t size = family == AF_INET6 ? sizeof any6 : sizeof any4;
    int opened = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (opened < 0)
        return -1;
    if ((family == AF_INET ||
         setsockopt(opened, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int)) == 0) &&
        bind(opened, any, size) == 0)
        return opened;
    close(opened);
    return -1;
}

/* In the host's byte order; 0: unknown. */
static int32_t port_of(int opened) {
    struct sockaddr_in6 own = {0}; /* the port of an IPv4 address is at the same place */
    socklen_t size = sizeof own;
    if (getsockname(opened, (struct sockaddr *)(void *)&own, &size) != 0)
        return 0;
    return ntohs(own.sin6_port);
}

/* Writes an interface's address as IPv6. Those that mean something on their own link only are of
 * no use to others. */
static bool write_address(const struct sockaddr *from, unsigned char address[16]) {
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)from;
        memset(address, 0, 10);
        memset(address + 10, 0xff, 2);
        memcpy(address + 12, &four->sin_addr, 4);
        return true;
    }
    if (from->sa_family != AF_INET6)
        return false;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)from;
    memcpy(address, &six->sin6_addr, 16);
    return !IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr);
}

static void list_addresses(const struct doorbell *bell, struct doorbell_door *door) {
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *one = all; one != NULL; one = one->ifa_next) {
        if (one->ifa_addr == NULL || (one->ifa_flags & IFF_UP) == 0 ||
            door->count == DOORBELL_ADDRESSES_MAX ||
            (bell->family == AF_INET && one->ifa_addr->sa_family != AF_INET))
            continue;
        if (write_address(one->ifa_addr, door->addresses[door->count]))
            door->count++;
    }
    freeifaddrs(all);
}

/* Which network a process is in: the boot of the machine and the network namespace on it. */
static void name_network(char *name, size_t size) {
    char boot[40] = "", space[24] = "";
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, boot, 36) : -1;
    if (file >= 0)
        close(file);
    if (length == 36 && readlink("/proc/self/ns/net", space, sizeof space - 1) > 0)
        snprintf(name, size, "%s %s", boot, space);
}

static void open_door(struct doorbell *bell, struct doorbell_door *door) {
    bell->family = AF_INET6;
    bell->socket = open_socket(AF_INET6);
    if (bell->socket < 0) {
        bell->family = AF_INET;
        bell->socket = open_socket(AF_INET);
    }
    if (bell->socket < 0)
        return;
    door->port = port_of(bell->socket);
    if (door->port == 0 || getrandom(door->secret, sizeof door->secret, 0) != sizeof door->secret)
        return;
    name_network(door->network, sizeof door->network);
    list_addresses(bell, door);
    bell->address_count = door->count;
}

enum status doorbell_create(int32_t rank, int32_t size, struct doorbell **bell,
                            struct doorbell_door *door) {
    struct doorbell *made = calloc(1, sizeof *made);
    *door = (struct doorbell_door){.port = 0};
    if (made != NULL) {
        *made = (struct doorbell){.rank = rank, .size = size, .socket = -1};
        made->heard = calloc((size_t)size, sizeof *made->heard);
        made->reaches = calloc((size_t)size, sizeof *made->reaches);
        made->places = calloc((size_t)size, sizeof *made->places);
    }
    if (made == NULL || made->heard == NULL || made->reaches == NULL || made->places == NULL) {
        doorbell_destroy(made);
        LOG_ERROR("doorbell: cannot take the table of %d ranks", size);
        return STATUS_NO_MEMORY;
    }
    for (int32_t peer = 0; peer < size; peer++)
        made->heard[peer] = -1;
    open_door(made, door);
    *bell = made;
    return STATUS_OK;
}

void doorbell_destroy(struct doorbell *bell) {
    if (bell == NULL)
        return;
    if (bell->socket >= 0)
        close(bell->socket);
    free(bell->heard);
    free(bell->reaches);
    free(bell->places);
    free(bell);
}

/* ---- datagrams ---- */

/* Rank 0 and each of the others. */
static bool is_peer(const struct doorbell *bell, int32_t rank) {
    return rank >= 0 && rank < bell->size && (rank == 0) != (bell->rank == 0);
}

static void send_to(const struct doorbell *bell, const struct place *place,
                    const struct datagram *datagram) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)place->port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = six.sin6_port};
    memcpy(&six.sin6_addr, place->address, 16);
    memcpy(&four.sin_addr, place->address + 12, 4);
    if (bell->family == AF_INET && !IN6_IS_ADDR_V4MAPPED(&six.sin6_addr))
        return;
    const void *to = bell->family == AF_INET6 ? (const void *)&six : (const void *)&four;
    socklen_t size = bell->family == AF_INET6 ? sizeof six : sizeof four;
    (void)!sendto(bell->socket, datagram, sizeof *datagram, MSG_NOSIGNAL, to, size);
}

/* A datagram of this job for this rank, from a peer; *is_there: any at all. */
static bool take(struct doorbell *bell, struct datagram *datagram, bool *is_there) {
    char bytes[sizeof *datagram + 1]; /* one more: a longer one must not look like one of ours */
    ssize_t size = recv(bell->socket, bytes, sizeof bytes, 0);
    *is_there = size >= 0;
    if (size != sizeof *datagram)
        return false;
    memcpy(datagram, bytes, sizeof *datagram);
    return memcmp(datagram->secret, bell->secret, sizeof bell->secret) == 0 &&
           datagram->to == bell->rank && is_peer(bell, datagram->from);
}

/* Takes what has come; returns whether it rang. */
static bool look(struct doorbell *bell) {
    bool rang = false, is_there = true;
    bell->is_disturbed = false;
    for (int i = 0; i < TAKE_MAX && is_there; i++) {
        struct datagram datagram;
        if (!take(bell, &datagram, &is_there)) {
            bell->is_disturbed |= is_there;
            continue;
        }
        int32_t *heard = &bell->heard[datagram.from];
        rang |= datagram.word == DOORBELL_RING;
        if (datagram.word == DOORBELL_TRY && *heard < 0 && datagram.number >= 0 &&
            datagram.number < bell->address_count)
            *heard = datagram.number;
    }
    return rang;
}

bool doorbell_hear(struct doorbell *bell, int32_t *peer, enum doorbell_word *word) {
    bool is_there = true;
    bell->is_disturbed = false;
    for (int i = 0; i < TAKE_MAX && is_there; i++) {
        struct datagram datagram;
        if (take(bell, &datagram, &is_there)) {
            *peer = datagram.from;
            *word = (enum doorbell_word)datagram.word;
            return true;
        }
        bell->is_disturbed |= is_there;
    }
    return false;
}

bool doorbell_is_disturbed(const struct doorbell *bell) {
    return bell->is_disturbed;
}

bool doorbell_wait(struct doorbell *bell, int32_t timeout_ms) {
    struct pollfd socket = {.fd = bell->socket, .events = POLLIN};
    if (bell->is_disturbed && timeout_ms > 0)
        nanosleep(&(struct timespec){0, NAP_NS}, NULL);
    else
        poll(&socket, 1, timeout_ms);
    return bell->socket >= 0 && look(bell);
}

/* ---- who reaches whom ---- */

void doorbell_meet(struct doorbell *bell, const struct doorbell_door *doors) {
    bell->doors = doors;
    memcpy(bell->secret, doors[0].secret, sizeof bell->secret);
}

static bool is_loopback(const unsigned char address[16]) {
    struct in6_addr six;
    memcpy(&six, address, 16);
    return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && address[12] == 127);
}

/* The loopback of another network would be our own, where a stranger may have the port. */
static void try_peer(struct doorbell *bell, int32_t peer) {
    const struct doorbell_door *own = &bell->doors[bell->rank], *door = &bell->doors[peer];
    bool is_near = own->network[0] != '\0' && strcmp(own->network, door->network) == 0;
    struct datagram datagram = {.from = bell->rank, .to = peer, .word = DOORBELL_TRY};
    memcpy(datagram.secret, bell->secret, sizeof bell->secret);
    for (int32_t i = 0; i < door->count; i++) {
        struct place place = {.port = door->port};
        memcpy(place.address, door->addresses[i], sizeof place.address);
        datagram.number = i;
        if (is_loopback(place.address) == is_near)
            send_to(bell, &place, &datagram);
    }
}

bool doorbell_try(struct doorbell *bell, int32_t timeout_ms) {
    int64_t now = clock_now_ns();
    bool is_due = bell->tried_ns == 0 || now - bell->tried_ns >= TRY_NS, all = true;
    if (is_due)
        bell->tried_ns = now;
    for (int32_t peer = 0; is_due && bell->socket >= 0 && peer < bell->size; peer++)
        if (is_peer(bell, peer))
            try_peer(bell, peer);
    doorbell_wait(bell, timeout_ms);
    for (int32_t peer = 0; peer < bell->size; peer++)
        all &= !is_peer(bell, peer) || bell->heard[peer] >= 0;
    return all;
}

const int32_t *doorbell_heard(const struct doorbell *bell) {
    return bell->heard;
}

void doorbell_settle(struct doorbell *bell, const int32_t *told) {
    ASSERT(bell->doors != NULL);
    for (int32_t peer = 0; peer < bell->size; peer++) {
        const struct doorbell_door *door = &bell->doors[peer];
        bell->reaches[peer] =
            bell->socket >= 0 && is_peer(bell, peer) && told[peer] >= 0 && told[peer] < door->count;
        if (!bell->reaches[peer])
            continue;
        bell->places[peer].port = door->port;
        memcpy(bell->places[peer].address, door->addresses[told[peer]], 16);
    }
    bell->doors = NULL;
}

bool doorbell_reaches(const struct doorbell *bell, int32_t peer) {
    return bell->reaches[peer];
}

bool doorbell_hears(const struct doorbell *bell, int32_t peer) {
    return bell->heard[peer] >= 0;
}

void doorbell_tell(struct doorbell *bell, int32_t peer, enum doorbell_word word) {
    struct datagram datagram = {.from = bell->rank, .to = peer, .word = (int32_t)word};
    memcpy(datagram.secret, bell->secret, sizeof bell->secret);
    if (bell->reaches[peer])
        send_to(bell, &bell->places[peer], &datagram);
}
