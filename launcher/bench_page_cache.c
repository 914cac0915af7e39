/* Cold and warm starts of bench startup: no privileges needed. */
#define _GNU_SOURCE /* mincore */
#include "launcher/bench_page_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/log.h"

/* How many pages of an open file are in memory. */
static size_t count_resident(int descriptor, size_t bytes, size_t page) {
    size_t pages = (bytes + page - 1) / page, resident = 0;
    void *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    unsigned char *states = malloc(pages);
    if (mapped != MAP_FAILED && states != NULL && mincore(mapped, bytes, states) == 0)
        for (size_t i = 0; i < pages; i++)
            resident += states[i] & 1u;
    free(states);
    if (mapped != MAP_FAILED)
        munmap(mapped, bytes);
    return resident;
}

static void look_at_file(const char *path, bool drops, double *resident, double *bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct stat facts;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    if (fstat(descriptor, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size > 0) {
        if (drops) {
            fdatasync(descriptor); /* only clean pages go */
            posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
        }
        *resident += (double)(count_resident(descriptor, (size_t)facts.st_size, page) * page);
        *bytes += (double)facts.st_size;
    }
    close(descriptor);
}

enum status bench_page_cache_look(const char *folder, bool drops, double *share, double *bytes) {
    double resident = 0.0;
    *bytes = 0.0;
    DIR *listing = opendir(folder);
    if (listing == NULL) {
        LOG_ERROR("%s: cannot list: %s", folder, strerror(errno));
        return STATUS_IO;
    }
    for (const struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        char path[4096 + 256];
        int length = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (length > 0 && (size_t)length < sizeof path)
            look_at_file(path, drops, &resident, bytes);
    }
    closedir(listing);
    *share = *bytes > 0.0 ? resident / *bytes : 0.0;
    *share = *share < 1.0 ? *share : 1.0;
    return STATUS_OK;
}
