/* Opening and reading the user's files. Under the loader: json_file, safetensors and checkpoint
 * stand on it. */
/* fstat, pread, O_CLOEXEC */
#define _POSIX_C_SOURCE 200809L

#include "runtime/regular_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/log.h"

/* One read(2) takes at most 0x7ffff000 bytes; stay well below. */
#define READ_BYTES_MAX (INT64_C(1) << 30)

static const char *kind_name(mode_t mode) {
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a FIFO";
    if (S_ISSOCK(mode))
        return "a socket";
    return "a device";
}

enum status regular_file_open(const char *path, int *descriptor, int64_t *size) {
    /* O_NONBLOCK: opening a FIFO must not wait for its writer; it changes nothing for files. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        LOG_ERROR("%s: expected a readable file, got: %s", path, strerror(errno));
        return STATUS_IO;
    }
    struct stat facts;
    if (fstat(fd, &facts) != 0) {
        LOG_ERROR("%s: expected the size of the file, got: %s", path, strerror(errno));
        goto close_file;
    }
    if (!S_ISREG(facts.st_mode)) {
        LOG_ERROR("%s: expected a regular file, got %s", path, kind_name(facts.st_mode));
        goto close_file;
    }
    *descriptor = fd;
    *size = facts.st_size;
    return STATUS_OK;
close_file:
    close(fd);
    return STATUS_IO;
}

enum status regular_file_read_at(int descriptor, const char *path, int64_t offset, int64_t bytes,
                                 void *buffer) {
    int64_t done = 0;
    while (done < bytes) {
        int64_t wanted = bytes - done < READ_BYTES_MAX ? bytes - done : READ_BYTES_MAX;
        ssize_t got = pread(descriptor, (char *)buffer + done, (size_t)wanted, offset + done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            LOG_ERROR("%s: expected %" PRId64 " bytes at offset %" PRId64 ", got: %s", path, bytes,
                      offset, strerror(errno));
            return STATUS_IO;
        }
        if (got == 0) {
            LOG_ERROR("%s: expected %" PRId64 " bytes at offset %" PRId64 ", got %" PRId64
                      " and the end of the file (has it shrunk?)",
                      path, bytes, offset, done);
            return STATUS_IO;
        }
        done += got;
    }
    return STATUS_OK;
}

enum status regular_file_load(const char *path, int64_t bytes_max, char **text, size_t *size) {
    int descriptor = -1;
    int64_t bytes = 0;
    RETURN_IF_ERROR(regular_file_open(path, &descriptor, &bytes));
    enum status status = STATUS_LIMIT;
    char *buffer = NULL;
    if (bytes > bytes_max) {
        LOG_ERROR("%s: expected at most %" PRId64 " bytes, got a file of %" PRId64, path, bytes_max,
                  bytes);
        goto close_file;
    }
    buffer = malloc((size_t)bytes + 1);
    if (buffer == NULL) {
        LOG_ERROR("%s: no memory for its %" PRId64 " bytes", path, bytes);
        status = STATUS_NO_MEMORY;
        goto close_file;
    }
    status = regular_file_read_at(descriptor, path, 0, bytes, buffer);
    if (status != STATUS_OK) {
        free(buffer);
        goto close_file;
    }
    buffer[bytes] = '\0';
    *text = buffer;
    *size = (size_t)bytes;
close_file:
    close(descriptor);
    return status;
}
