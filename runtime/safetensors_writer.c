/* Writing safetensors files, in one pass. At the far end of a request: dumps of logits and routing.
 */
/* fstat, fdopen, O_CLOEXEC */
#define _POSIX_C_SOURCE 200809L

#include "runtime/safetensors_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"

#define HEADER_ALIGNMENT 8 /* so that the data of a mapped file is aligned */

struct safetensors_writer {
    FILE *stream;
    char *path;
    int64_t declared_bytes;
    int64_t written_bytes;
};

static enum status fail(const char *path, const char *what) {
    LOG_ERROR("%s: expected to %s, got: %s", path, what, strerror(errno));
    return STATUS_IO;
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...} of a tensor whose data starts at *start; moves
 * *start to its end. */
static json_t *describe(const struct tensor_info *tensor, int64_t *start) {
    int64_t bytes = tensor_type_bytes(tensor->type);
    int64_t end = 0;
    json_t *shape = json_array();
    ASSERT(tensor->dimensions >= 0 && tensor->dimensions <= SAFETENSORS_DIMENSIONS_MAX);
    for (int32_t i = 0; i < tensor->dimensions; i++) {
        ASSERT(tensor->shape[i] >= 0);
        enum status product = memory_multiply(bytes, tensor->shape[i], &bytes);
        ASSERT(product == STATUS_OK);
        json_array_append_new(shape, json_integer(tensor->shape[i]));
    }
    enum status sum = memory_add(*start, bytes, &end);
    ASSERT(sum == STATUS_OK);
    json_t *described =
        json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor_type_name(tensor->type), "shape", shape,
                  "data_offsets", (json_int_t)*start, (json_int_t)end);
    *start = end;
    return described;
}

/* The header's text, NUL-terminated, on the heap; NULL when memory ran out. */
static char *make_header(const struct tensor_info *tensors, int32_t count, int64_t *data_bytes) {
    json_t *root = json_object();
    int64_t start = 0;
    for (int32_t i = 0; i < count; i++) {
        ASSERT(json_object_get(root, tensors[i].name) == NULL);
        json_t *described = describe(&tensors[i], &start);
        if (described == NULL || json_object_set_new(root, tensors[i].name, described) != 0) {
            json_decref(root);
            return NULL;
        }
    }
    *data_bytes = start;
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

static int put_header(FILE *stream, const char *text) {
    size_t length = strlen(text);
    size_t padded = (length + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    for (int i = 0; i < 8; i++)
        if (putc((int)((uint64_t)padded >> (8 * i) & 0xff), stream) == EOF)
            return -1;
    if (fwrite(text, 1, length, stream) != length)
        return -1;
    for (size_t i = length; i < padded; i++)
        if (putc(' ', stream) == EOF)
            return -1;
    return 0;
}

/* A device or a FIFO is refused before anything could remove it. */
static enum status open_descriptor(const char *path, int flags, int *descriptor) {
    int opened = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | flags, 0666);
    if (opened < 0)
        return fail(path, "create the file");
    struct stat facts;
    if (fstat(opened, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        LOG_ERROR("%s: expected a regular file to write to, got something else", path);
        close(opened);
        return STATUS_IO;
    }
    *descriptor = opened;
    return STATUS_OK;
}

/* All ranks of a job may look at once: a file that another one has made meanwhile is no error. */
enum status safetensors_writer_check(const char *path) {
    struct stat facts;
    bool is_there = lstat(path, &facts) == 0;
    int descriptor;
    RETURN_IF_ERROR(open_descriptor(path, is_there ? 0 : O_CREAT, &descriptor));
    close(descriptor);
    if (!is_there)
        unlink(path);
    return STATUS_OK;
}

static enum status open_stream(const char *path, FILE **stream) {
    int descriptor;
    RETURN_IF_ERROR(open_descriptor(path, O_CREAT, &descriptor));
    FILE *opened = ftruncate(descriptor, 0) == 0 ? fdopen(descriptor, "wb") : NULL;
    if (opened == NULL) {
        enum status status = fail(path, "write the file");
        close(descriptor);
        return status;
    }
    *stream = opened;
    return STATUS_OK;
}

enum status safetensors_writer_create(const char *path, const struct tensor_info *tensors,
                                      int32_t count, struct safetensors_writer **writer) {
    enum status status = STATUS_NO_MEMORY;
    struct safetensors_writer *created = calloc(1, sizeof *created);
    int64_t data_bytes = 0;
    char *header = make_header(tensors, count, &data_bytes);
    char *kept_path = strdup(path);
    if (created == NULL || header == NULL || kept_path == NULL) {
        LOG_ERROR("%s: no memory for a header of %" PRId32 " tensors", path, count);
        goto free_parts;
    }
    FILE *stream = NULL;
    status = open_stream(path, &stream);
    if (status != STATUS_OK)
        goto free_parts;
    *created = (struct safetensors_writer){
        .stream = stream, .path = kept_path, .declared_bytes = data_bytes};
    if (put_header(stream, header) != 0) {
        status = fail(path, "write the header");
        safetensors_writer_abandon(created);
        free(header);
        return status;
    }
    free(header);
    *writer = created;
    return STATUS_OK;
free_parts:
    free(kept_path);
    free(header);
    free(created);
    return status;
}

enum status safetensors_writer_append(struct safetensors_writer *writer, const void *data,
                                      size_t bytes) {
    ASSERT((int64_t)bytes <= writer->declared_bytes - writer->written_bytes);
    if (fwrite(data, 1, bytes, writer->stream) != bytes)
        return fail(writer->path, "write the data");
    writer->written_bytes += (int64_t)bytes;
    return STATUS_OK;
}

static void free_writer(struct safetensors_writer *writer) {
    free(writer->path);
    free(writer);
}

enum status safetensors_writer_finish(struct safetensors_writer *writer) {
    enum status status = STATUS_OK;
    if (writer->written_bytes != writer->declared_bytes) {
        LOG_ERROR("%s: expected %" PRId64 " bytes of data, got %" PRId64, writer->path,
                  writer->declared_bytes, writer->written_bytes);
        status = STATUS_INTERNAL;
    }
    int had_error = ferror(writer->stream);
    if ((fclose(writer->stream) != 0 || had_error) && status == STATUS_OK)
        status = fail(writer->path, "write the whole file");
    if (status != STATUS_OK)
        unlink(writer->path);
    free_writer(writer);
    return status;
}

void safetensors_writer_abandon(struct safetensors_writer *writer) {
    if (writer == NULL)
        return;
    fclose(writer->stream);
    unlink(writer->path);
    free_writer(writer);
}
