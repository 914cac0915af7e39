/* Reading safetensors files: every number of a header is checked against every other and against
 * the size of the file before a tensor is handed out. Under checkpoint.c, at the start of loading.
 */
/* mmap, fstat */
#define _POSIX_C_SOURCE 200809L

#include "runtime/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "runtime/json_file.h"
#include "runtime/regular_file.h"

#define LENGTH_BYTES 8
#define METADATA_NAME "__metadata__"
/* Names go into messages with this much of them, so that the rest of the line survives. */
#define NAME "tensor \"%.200s\""

struct safetensors_file {
    struct tensor_info *tensors; /* [count], sorted by name */
    int32_t count;
    char *names; /* all names, NUL after each */
    int64_t size;
    int descriptor;
    const char *mapping; /* [size] */
};

/* What a header is checked against. */
struct header {
    const char *path;
    int64_t data_start; /* byte offset of the data in the file */
    int64_t data_bytes;
};

static enum status check_length(const char *path, int64_t file_size, const unsigned char *bytes,
                                int64_t *length) {
    uint64_t value = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    if (value > SAFETENSORS_HEADER_BYTES_MAX) {
        LOG_ERROR("%s: header length: expected at most %d bytes, got %" PRIu64, path,
                  SAFETENSORS_HEADER_BYTES_MAX, value);
        return STATUS_BAD_CHECKPOINT;
    }
    if ((int64_t)value > file_size - LENGTH_BYTES) {
        LOG_ERROR("%s: header length: expected at most the %" PRId64
                  " bytes that follow it in the file, got %" PRIu64 " (truncated?)",
                  path, file_size - LENGTH_BYTES, value);
        return STATUS_BAD_CHECKPOINT;
    }
    *length = (int64_t)value;
    return STATUS_OK;
}

static enum status check_file_size(const char *path, int64_t size) {
    if (size >= LENGTH_BYTES)
        return STATUS_OK;
    LOG_ERROR("%s: expected a safetensors file of at least %d bytes, got %" PRId64, path,
              LENGTH_BYTES, size);
    return STATUS_BAD_CHECKPOINT;
}

static enum status check_metadata(const char *path, json_t *metadata) {
    if (json_is_null(metadata))
        return STATUS_OK;
    if (!json_is_object(metadata)) {
        LOG_ERROR("%s: " METADATA_NAME ": expected an object of strings, got %s", path,
                  json_file_kind(metadata));
        return STATUS_BAD_CHECKPOINT;
    }
    const char *name;
    json_t *value;
    json_object_foreach(metadata, name, value) {
        if (!json_is_string(value)) {
            LOG_ERROR("%s: " METADATA_NAME ": \"%.200s\": expected a string, got %s", path, name,
                      json_file_kind(value));
            return STATUS_BAD_CHECKPOINT;
        }
    }
    return STATUS_OK;
}

static enum status parse_type(const struct header *header, const json_t *value,
                              struct tensor_info *tensor) {
    const char *text = json_string_value(value);
    if (text == NULL) {
        LOG_ERROR("%s: " NAME ": dtype: expected a string, got %s", header->path, tensor->name,
                  json_file_kind(value));
        return STATUS_BAD_CHECKPOINT;
    }
    if (tensor_type_parse(text, &tensor->type) != 0) {
        LOG_ERROR("%s: " NAME ": dtype: expected one of %s, got \"%.40s\"", header->path,
                  tensor->name, tensor_type_names(), text);
        return STATUS_BAD_CHECKPOINT;
    }
    return STATUS_OK;
}

static enum status parse_shape(const struct header *header, const json_t *value,
                               struct tensor_info *tensor) {
    if (!json_is_array(value)) {
        LOG_ERROR("%s: " NAME ": shape: expected an array, got %s", header->path, tensor->name,
                  json_file_kind(value));
        return STATUS_BAD_CHECKPOINT;
    }
    size_t dimensions = json_array_size(value);
    if (dimensions > SAFETENSORS_DIMENSIONS_MAX) {
        LOG_ERROR("%s: " NAME ": shape: expected at most %d dimensions, got %zu", header->path,
                  tensor->name, SAFETENSORS_DIMENSIONS_MAX, dimensions);
        return STATUS_BAD_CHECKPOINT;
    }
    int64_t bytes = tensor_type_bytes(tensor->type);
    for (size_t i = 0; i < dimensions; i++) {
        const json_t *item = json_array_get(value, i);
        int64_t extent = json_integer_value(item);
        if (!json_is_integer(item) || extent < 0) {
            LOG_ERROR("%s: " NAME ": shape[%zu]: expected an integer of at least 0, got %s%s",
                      header->path, tensor->name, i, extent < 0 ? "a negative one" : "",
                      extent < 0 ? "" : json_file_kind(item));
            return STATUS_BAD_CHECKPOINT;
        }
        if (memory_multiply(bytes, extent, &bytes) != STATUS_OK) {
            LOG_ERROR("%s: " NAME ": shape[%zu]: expected a size that fits 63 bits, got a product "
                      "of more at %" PRId64,
                      header->path, tensor->name, i, extent);
            return STATUS_BAD_CHECKPOINT;
        }
        tensor->shape[i] = extent;
    }
    tensor->dimensions = (int32_t)dimensions;
    tensor->bytes = bytes;
    return STATUS_OK;
}

/* After type and shape: the two must agree with the offsets. */
static enum status parse_offsets(const struct header *header, const json_t *value,
                                 struct tensor_info *tensor) {
    const json_t *first = json_array_get(value, 0);
    const json_t *last = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(last)) {
        LOG_ERROR("%s: " NAME ": data_offsets: expected an array of two integers, got %s of %zu",
                  header->path, tensor->name, json_file_kind(value), json_array_size(value));
        return STATUS_BAD_CHECKPOINT;
    }
    int64_t start = json_integer_value(first);
    int64_t end = json_integer_value(last);
    if (start < 0 || end < start || end > header->data_bytes) {
        LOG_ERROR("%s: " NAME ": data_offsets: expected 0 <= start <= end <= %" PRId64
                  " (bytes of data in the file), got [%" PRId64 ", %" PRId64 "]%s",
                  header->path, tensor->name, header->data_bytes, start, end,
                  end > header->data_bytes ? " (truncated?)" : "");
        return STATUS_BAD_CHECKPOINT;
    }
    if (end - start != tensor->bytes) {
        LOG_ERROR("%s: " NAME ": data_offsets: expected %" PRId64
                  " bytes (dtype and shape), got %" PRId64 ": [%" PRId64 ", %" PRId64 "]",
                  header->path, tensor->name, tensor->bytes, end - start, start, end);
        return STATUS_BAD_CHECKPOINT;
    }
    tensor->offset = header->data_start + start;
    return STATUS_OK;
}

/* Keys that the format does not know are left alone, as the reference implementation does. */
static enum status parse_tensor(const struct header *header, const json_t *value,
                                struct tensor_info *tensor) {
    if (!json_is_object(value)) {
        LOG_ERROR("%s: " NAME ": expected an object, got %s", header->path, tensor->name,
                  json_file_kind(value));
        return STATUS_BAD_CHECKPOINT;
    }
    RETURN_IF_ERROR(parse_type(header, json_object_get(value, "dtype"), tensor));
    RETURN_IF_ERROR(parse_shape(header, json_object_get(value, "shape"), tensor));
    return parse_offsets(header, json_object_get(value, "data_offsets"), tensor);
}

static int compare_names(const void *left, const void *right) {
    const struct tensor_info *a = left;
    const struct tensor_info *b = right;
    return strcmp(a->name, b->name);
}

/* By start; an empty tensor comes before the one that starts where it stands. */
static int compare_places(const void *left, const void *right) {
    const struct tensor_info *a = *(const struct tensor_info *const *)left;
    const struct tensor_info *b = *(const struct tensor_info *const *)right;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static enum status check_sorted(const struct header *header, const struct tensor_info **places,
                                int32_t count) {
    int64_t end = header->data_start;
    const char *before = "the header";
    for (int32_t i = 0; i < count; i++) {
        const struct tensor_info *tensor = places[i];
        if (tensor->offset != end) {
            LOG_ERROR("%s: " NAME ": data_offsets: expected a start of %" PRId64
                      " (the end of \"%.200s\"), got %" PRId64 " (%s)",
                      header->path, tensor->name, end - header->data_start, before,
                      tensor->offset - header->data_start,
                      tensor->offset < end ? "overlap" : "gap");
            return STATUS_BAD_CHECKPOINT;
        }
        end = tensor->offset + tensor->bytes;
        before = tensor->name;
    }
    int64_t used = end - header->data_start;
    if (used != header->data_bytes) {
        LOG_ERROR("%s: data: expected %" PRId64
                  " bytes (up to the end of \"%.200s\"), got %" PRId64,
                  header->path, used, before, header->data_bytes);
        return STATUS_BAD_CHECKPOINT;
    }
    return STATUS_OK;
}

static enum status check_places(const struct header *header, const struct safetensors_file *file) {
    const struct tensor_info **places = malloc(((size_t)file->count + 1) * sizeof *places);
    if (places == NULL) {
        LOG_ERROR("%s: no memory for %" PRId32 " tensors", header->path, file->count);
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < file->count; i++)
        places[i] = &file->tensors[i];
    qsort(places, (size_t)file->count, sizeof *places, compare_places);
    enum status status = check_sorted(header, places, file->count);
    free(places);
    return status;
}

/* Room for all tensors and their names; the names are copied, the JSON tree goes away. */
static enum status take_tensors(const struct header *header, json_t *root,
                                struct safetensors_file *file) {
    size_t bytes = 1;
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value) bytes += strlen(name) + 1;
    file->tensors = calloc(json_object_size(root) + 1, sizeof *file->tensors);
    file->names = malloc(bytes);
    if (file->tensors == NULL || file->names == NULL) {
        LOG_ERROR("%s: no memory for %zu tensors", header->path, json_object_size(root));
        return STATUS_NO_MEMORY;
    }
    return STATUS_OK;
}

static enum status parse_tensors(const struct header *header, json_t *root,
                                 struct safetensors_file *file) {
    RETURN_IF_ERROR(take_tensors(header, root, file));
    char *names = file->names;
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value) {
        if (strcmp(name, METADATA_NAME) == 0) {
            RETURN_IF_ERROR(check_metadata(header->path, value));
            continue;
        }
        struct tensor_info *tensor = &file->tensors[file->count];
        size_t size = strlen(name) + 1;
        memcpy(names, name, size);
        tensor->name = names;
        names += size;
        RETURN_IF_ERROR(parse_tensor(header, value, tensor));
        file->count++;
    }
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, compare_names);
    return check_places(header, file);
}

/* text[length] is the header of a file of file->size bytes. Fills in tensors, count and names. */
static enum status parse_header(const char *path, const char *text, int64_t length,
                                struct safetensors_file *file) {
    if (length == 0 || text[0] != '{') {
        LOG_ERROR("%s: header: expected a JSON object from byte %d on, got %s", path, LENGTH_BYTES,
                  length == 0 ? "an empty header" : "something else");
        return STATUS_BAD_CHECKPOINT;
    }
    json_t *root = NULL;
    RETURN_IF_ERROR(json_file_parse(path, text, (size_t)length, STATUS_BAD_CHECKPOINT, &root));
    struct header header = {.path = path,
                            .data_start = LENGTH_BYTES + length,
                            .data_bytes = file->size - LENGTH_BYTES - length};
    enum status status = parse_tensors(&header, root, file);
    json_file_release(root);
    return status;
}

static enum status read_header(const char *path, struct safetensors_file *file) {
    RETURN_IF_ERROR(check_file_size(path, file->size));
    unsigned char bytes[LENGTH_BYTES];
    RETURN_IF_ERROR(regular_file_read_at(file->descriptor, path, 0, LENGTH_BYTES, bytes));
    int64_t length = 0;
    RETURN_IF_ERROR(check_length(path, file->size, bytes, &length));
    char *text = malloc((size_t)length + 1);
    if (text == NULL) {
        LOG_ERROR("%s: no memory for a header of %" PRId64 " bytes", path, length);
        return STATUS_NO_MEMORY;
    }
    enum status status = regular_file_read_at(file->descriptor, path, LENGTH_BYTES, length, text);
    if (status == STATUS_OK)
        status = parse_header(path, text, length, file);
    free(text);
    return status;
}

static enum status map_file(const char *path, struct safetensors_file *file) {
    void *mapping = mmap(NULL, (size_t)file->size, PROT_READ, MAP_PRIVATE, file->descriptor, 0);
    if (mapping == MAP_FAILED) {
        LOG_ERROR("%s: expected to map %" PRId64 " bytes, got: %s", path, file->size,
                  strerror(errno));
        return STATUS_IO;
    }
    file->mapping = mapping;
    return STATUS_OK;
}

enum status safetensors_open(const char *path, struct safetensors_file **file) {
    struct safetensors_file *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        LOG_ERROR("%s: no memory", path);
        return STATUS_NO_MEMORY;
    }
    opened->descriptor = -1;
    enum status status = regular_file_open(path, &opened->descriptor, &opened->size);
    if (status == STATUS_OK)
        status = read_header(path, opened);
    if (status == STATUS_OK)
        status = map_file(path, opened);
    if (status != STATUS_OK) {
        safetensors_close(opened);
        return status;
    }
    *file = opened;
    return STATUS_OK;
}

void safetensors_close(struct safetensors_file *file) {
    if (file == NULL)
        return;
    if (file->mapping != NULL) {
        /* munmap wants a pointer to what we promised not to write. */
        munmap((void *)(uintptr_t)file->mapping, (size_t)file->size);
    }
    if (file->descriptor >= 0)
        close(file->descriptor);
    free(file->tensors);
    free(file->names);
    free(file);
}

enum status safetensors_check(const char *origin, const void *header_and_data, size_t size) {
    struct safetensors_file file = {.size = (int64_t)size, .descriptor = -1};
    RETURN_IF_ERROR(check_file_size(origin, file.size));
    int64_t length = 0;
    RETURN_IF_ERROR(check_length(origin, file.size, header_and_data, &length));
    const char *text = (const char *)header_and_data + LENGTH_BYTES;
    enum status status = parse_header(origin, text, length, &file);
    free(file.tensors);
    free(file.names);
    return status;
}

int32_t safetensors_count(const struct safetensors_file *file) {
    return file->count;
}

const struct tensor_info *safetensors_at(const struct safetensors_file *file, int32_t index) {
    ASSERT(index >= 0 && index < file->count);
    return &file->tensors[index];
}

const struct tensor_info *safetensors_find(const struct safetensors_file *file, const char *name) {
    struct tensor_info key = {.name = name};
    return bsearch(&key, file->tensors, (size_t)file->count, sizeof *file->tensors, compare_names);
}

int safetensors_descriptor(const struct safetensors_file *file) {
    return file->descriptor;
}

const void *safetensors_data(const struct safetensors_file *file,
                             const struct tensor_info *tensor) {
    ASSERT(tensor->offset >= 0 && tensor->bytes <= file->size &&
           tensor->offset <= file->size - tensor->bytes);
    return file->mapping + tensor->offset;
}
