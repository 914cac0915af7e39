/* One safetensors file: header checked in full before anything is believed, data read by byte
 * range. Format: 8-byte little-endian header length, JSON header {name: {dtype, shape,
 * data_offsets}, "__metadata__": {...}}, data. */
#ifndef MOEBIUS_RUNTIME_SAFETENSORS_H
#define MOEBIUS_RUNTIME_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

#define SAFETENSORS_DIMENSIONS_MAX 8
#define SAFETENSORS_HEADER_BYTES_MAX (100u << 20) /* as the reference implementation */

enum tensor_type {
    TENSOR_F64,
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_F8_E4M3,
    TENSOR_F8_E5M2,
    TENSOR_I64,
    TENSOR_I32,
    TENSOR_I16,
    TENSOR_I8,
    TENSOR_U64,
    TENSOR_U32,
    TENSOR_U16,
    TENSOR_U8,
    TENSOR_BOOL,
    TENSOR_TYPE_COUNT
};

/* "F32", "BF16", ... as the format spells them. Local. */
const char *tensor_type_name(enum tensor_type type);
int64_t tensor_type_bytes(enum tensor_type type);

struct tensor_info {
    const char *name;
    enum tensor_type type;
    int32_t dimensions;
    int64_t shape[SAFETENSORS_DIMENSIONS_MAX];
    int64_t offset; /* absolute byte offset in its file */
    int64_t bytes;
    int32_t shard; /* set by checkpoint.c: which file */
};

struct safetensors_file;

/* Opens and checks a file: header length, JSON (duplicate names refused), dtypes, shapes (no
 * overflow), offsets (in order of the data: no gap, no overlap, exactly covering the file), size of
 * the file. Tensors are sorted by name. STATUS_IO or STATUS_BAD_CHECKPOINT, one line logged with
 * file, tensor, expected, got. Local. */
enum status safetensors_open(const char *path, struct safetensors_file **file);
void safetensors_close(struct safetensors_file *file); /* NULL allowed */

/* The same check over bytes in memory, without data (for fuzzing and tests): header_and_data[size].
 * Local. */
enum status safetensors_check(const char *origin, const void *header_and_data, size_t size);

int32_t safetensors_count(const struct safetensors_file *file);
const struct tensor_info *safetensors_at(const struct safetensors_file *file, int32_t index);
const struct tensor_info *safetensors_find(const struct safetensors_file *file,
                                           const char *name); /* NULL: none */

/* The file's descriptor (for reads of owned byte ranges) and its read-only mapping (the whole
 * file). */
int safetensors_descriptor(const struct safetensors_file *file);
const void *safetensors_data(const struct safetensors_file *file, const struct tensor_info *tensor);

/* A file being written: declare all tensors, then append the data of each in the declared order.
 * Used by --dump-logits. */
struct safetensors_writer;
enum status safetensors_writer_create(const char *path, const struct tensor_info *tensors,
                                      int32_t count, struct safetensors_writer **writer);
enum status safetensors_writer_append(struct safetensors_writer *writer, const void *data,
                                      size_t bytes);
/* Checks that exactly the declared bytes were written, closes the file. On any error the file is
 * removed. Frees the writer. */
enum status safetensors_writer_finish(struct safetensors_writer *writer);

#endif
