/* Files that the user names: opened so that nothing but a regular file is ever read (a FIFO would
 * hang, a device would never end), and read so that a file that shrinks is an error and not a
 * signal. */
#ifndef MOEBIUS_RUNTIME_REGULAR_FILE_H
#define MOEBIUS_RUNTIME_REGULAR_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* Opens `path` for reading, close-on-exec; symbolic links are followed. *size is its size in bytes.
 * STATUS_IO, logged: cannot be opened, or not a regular file. The caller closes *descriptor.
 * Local. */
enum status regular_file_open(const char *path, int *descriptor, int64_t *size);

/* Reads exactly [offset, offset + bytes) into buffer. STATUS_IO, logged with `path`: a read error,
 * or an end of file before that. Local. */
enum status regular_file_read_at(int descriptor, const char *path, int64_t offset, int64_t bytes,
                                 void *buffer);

/* The whole file as a heap string: *text has *size bytes and a NUL after them; free() it. STATUS_IO
 * or STATUS_NO_MEMORY, and STATUS_LIMIT if the file has more than bytes_max bytes; logged. Local.
 */
enum status regular_file_load(const char *path, int64_t bytes_max, char **text, size_t *size);

#endif
