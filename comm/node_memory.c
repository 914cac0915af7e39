/* Shared memory without a name: the first rank of the node makes a memfd, the others open it
 * through /proc. Nothing is left behind after a kill -9, and no limit of /dev/shm applies. */
#define _GNU_SOURCE
#include "comm/node_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/log.h"
#include "kernels/base/memory.h"

/* Where the others find it. Process numbers may mean another process in another container: the file
 * has to be the same one. */
struct ticket {
    int64_t process, descriptor;
    uint64_t device, inode;
};

static const struct transport_scope memory_scope = {.step = 0, .layer = -1, .kind = TRAFFIC_STATUS};

/* The first member's: descriptor -1 when there is none to be had. */
static struct ticket make_ticket(const char *what, size_t bytes) {
    struct ticket ticket = {.process = getpid(), .descriptor = -1};
    struct stat facts;
    int descriptor = memfd_create(what, MFD_CLOEXEC);
    if (descriptor < 0)
        return ticket;
    if (ftruncate(descriptor, (off_t)bytes) != 0 || fstat(descriptor, &facts) != 0) {
        close(descriptor);
        return ticket;
    }
    ticket.descriptor = descriptor;
    ticket.device = facts.st_dev;
    ticket.inode = facts.st_ino;
    return ticket;
}

/* A descriptor of the file that the ticket means, or -1. */
static int open_ticket(const struct ticket *ticket, size_t bytes) {
    char path[64];
    struct stat facts;
    if (ticket->descriptor < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)ticket->process,
             (long long)ticket->descriptor);
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor >= 0 && (fstat(descriptor, &facts) != 0 || facts.st_dev != ticket->device ||
                            facts.st_ino != ticket->inode || facts.st_size != (off_t)bytes)) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

/* NULL when it cannot be mapped. */
static void *map(int descriptor, size_t bytes) {
    void *mapped = MAP_FAILED;
    if (descriptor >= 0)
        mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    (void)madvise(mapped, bytes, MADV_HUGEPAGE); /* only a wish, as in memory_acquire */
    return mapped;
}

/* Each for itself, and all or none. */
static enum status acquire_alone(const struct collective_group *group, const char *what,
                                 size_t bytes, void **region) {
    enum status agreed, mine = memory_acquire(what, bytes, region);
    RETURN_IF_ERROR(collective_agree(group, &memory_scope, mine, &agreed));
    if (agreed != STATUS_OK && mine == STATUS_OK) {
        memory_release(*region, bytes);
        *region = NULL;
    }
    return agreed;
}

enum status node_memory_acquire(const struct collective_group *group, const char *what,
                                size_t bytes, void **region, bool *is_shared) {
    *is_shared = false;
    if (group->count <= 1 || bytes == 0)
        return memory_acquire(what, bytes, region);
    struct ticket ticket = {0};
    int64_t size = sizeof ticket;
    if (group->self == 0)
        ticket = make_ticket(what, bytes);
    RETURN_IF_ERROR(
        collective_broadcast(group, &memory_scope, false, &ticket, sizeof ticket, &size));
    int descriptor = group->self == 0 ? (int)ticket.descriptor : open_ticket(&ticket, bytes);
    void *mapped = map(descriptor, bytes);
    enum status agreed, mine = mapped != NULL ? STATUS_OK : STATUS_NO_MEMORY;
    enum status status = collective_agree(group, &memory_scope, mine, &agreed);
    if (descriptor >= 0) /* by now everybody has it who can */
        close(descriptor);
    if (status == STATUS_OK && agreed == STATUS_OK) {
        *region = mapped;
        *is_shared = true;
        return STATUS_OK;
    }
    memory_release(mapped, bytes);
    RETURN_IF_ERROR(status);
    if (group->self == 0)
        LOG_WARN("%s: the ranks of this machine cannot share memory (%zu bytes): each takes and "
                 "reads its own",
                 what, bytes);
    return acquire_alone(group, what, bytes, region);
}
