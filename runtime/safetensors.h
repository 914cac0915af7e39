/* One safetensors file: header checked in full before anything is believed, data read by byte
 * range. Format: 8-byte little-endian header length, JSON header {name: {dtype, shape,
 * data_offsets}, "__metadata__": {...}}, data. */
#ifndef MOEBIUS_RUNTIME_SAFETENSORS_H
#define MOEBIUS_RUNTIME_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/tensor_type.h"

#define SAFETENSORS_DIMENSIONS_MAX 8
#define SAFETENSORS_HEADER_BYTES_MAX 100000000 /* as the reference implementation */

struct tensor_info {
    const char *name;
    enum tensor_type type;
    int32_t dimensions; /* 0: a scalar, one element */
    int64_t shape[SAFETENSORS_DIMENSIONS_MAX];
    int64_t offset; /* absolute byte offset in its file */
    int64_t bytes;  /* 0 when a dimension is 0 */
    int32_t shard;  /* set by checkpoint.c: which file */
};

struct safetensors_file;

/* Opens and checks a file: header length, JSON (duplicate names refused), dtypes, shapes (no
 * overflow), offsets (in order of the data: no gap, no overlap, exactly covering the file), size of
 * the file. Tensors are sorted by name (bytewise). STATUS_IO, STATUS_BAD_CHECKPOINT or
 * STATUS_NO_MEMORY, one line logged with file, tensor, expected, got. Local. */
enum status safetensors_open(const char *path, struct safetensors_file **file);
void safetensors_close(struct safetensors_file *file); /* NULL allowed */

/* The same check over a whole file in memory, header and data (for fuzzing and tests); `origin`
 * stands for the path. Local. */
enum status safetensors_check(const char *origin, const void *header_and_data, size_t size);

/* Tensors, in the order of their names; names and infos live until the file is closed. Local. */
int32_t safetensors_count(const struct safetensors_file *file);
const struct tensor_info *safetensors_at(const struct safetensors_file *file, int32_t index);
const struct tensor_info *safetensors_find(const struct safetensors_file *file,
                                           const char *name); /* NULL: none */

/* The file's descriptor (for reads of owned byte ranges) and its read-only mapping (the whole
 * file): a tensor's bytes, of any alignment. A read beyond the end of a file that shrank after it
 * was opened is a SIGBUS; read by descriptor where that matters. Local. */
int safetensors_descriptor(const struct safetensors_file *file);
const void *safetensors_data(const struct safetensors_file *file, const struct tensor_info *tensor);

#endif
