/* A checkpoint folder as one sorted list of tensors: the index and the headers must tell the same
 * story. At the start of loading, between the family's description and the weights. */
/* stat, strdup */
#define _POSIX_C_SOURCE 200809L

#include "runtime/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/json_file.h"
#include "runtime/regular_file.h"

#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"
/* Names go into messages with this much of them, so that the rest of the line survives. */
#define NAME "tensor \"%.200s\""

struct shard {
    char *path;
    struct safetensors_file *file;
};

struct checkpoint {
    struct shard *shards; /* [shard_count] */
    int32_t shard_count;
    struct tensor_info *tensors; /* [count], sorted by name; names belong to the shards */
    int32_t count;
    int64_t bytes;
};

/* One line of the index's weight_map; the strings belong to the JSON tree. */
struct index_entry {
    const char *tensor;
    const char *file;
};

struct weight_index {
    char *path;
    json_t *root;
    json_t *weight_map;
    struct index_entry *entries; /* [count], sorted by file, then tensor */
    size_t count;
};

static enum status no_memory(const char *path) {
    LOG_ERROR("%s: no memory for its list of tensors", path);
    return STATUS_NO_MEMORY;
}

/* FOLDER/FILE on the heap; NULL when memory ran out. */
static char *join_path(const char *folder, const char *file) {
    size_t size = strlen(folder) + strlen(file) + 2;
    char *path = malloc(size);
    if (path != NULL)
        snprintf(path, size, "%s/%s", folder, file);
    return path;
}

static bool exists(const char *path) {
    struct stat facts;
    return lstat(path, &facts) == 0; /* a dangling link exists: opening it tells why it fails */
}

/* Names of the index stay inside the folder. */
static bool is_plain_name(const char *name) {
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static int compare_entries(const void *left, const void *right) {
    const struct index_entry *a = left;
    const struct index_entry *b = right;
    int by_file = strcmp(a->file, b->file);
    return by_file != 0 ? by_file : strcmp(a->tensor, b->tensor);
}

static int compare_tensors(const void *left, const void *right) {
    const struct tensor_info *a = left;
    const struct tensor_info *b = right;
    return strcmp(a->name, b->name);
}

static enum status read_entries(struct weight_index *index) {
    const char *tensor;
    json_t *value;
    json_object_foreach(index->weight_map, tensor, value) {
        const char *file = json_string_value(value);
        if (file == NULL) {
            LOG_ERROR("%s: weight_map: " NAME ": expected the name of a file, got %s", index->path,
                      tensor, json_file_kind(value));
            return STATUS_BAD_CHECKPOINT;
        }
        if (!is_plain_name(file)) {
            LOG_ERROR("%s: weight_map: " NAME
                      ": expected the name of a file in the same folder, got \"%.200s\"",
                      index->path, tensor, file);
            return STATUS_BAD_CHECKPOINT;
        }
        index->entries[index->count++] = (struct index_entry){.tensor = tensor, .file = file};
    }
    qsort(index->entries, index->count, sizeof *index->entries, compare_entries);
    return STATUS_OK;
}

static enum status index_load(const char *folder, struct weight_index *index) {
    index->path = join_path(folder, INDEX_NAME);
    if (index->path == NULL)
        return no_memory(folder);
    json_t *root = NULL;
    RETURN_IF_ERROR(json_file_load(index->path, STATUS_BAD_CHECKPOINT, &root));
    index->root = root;
    index->weight_map = json_object_get(index->root, "weight_map");
    if (!json_is_object(index->weight_map) || json_object_size(index->weight_map) == 0) {
        LOG_ERROR("%s: weight_map: expected an object with a file name for each tensor, got %s",
                  index->path,
                  json_is_object(index->weight_map) ? "an empty one"
                                                    : json_file_kind(index->weight_map));
        return STATUS_BAD_CHECKPOINT;
    }
    index->entries = calloc(json_object_size(index->weight_map), sizeof *index->entries);
    if (index->entries == NULL)
        return no_memory(index->path);
    return read_entries(index);
}

static void index_unload(struct weight_index *index) {
    free(index->entries);
    json_file_release(index->root);
    free(index->path);
}

static enum status open_shard(struct checkpoint *checkpoint, const char *folder, const char *file) {
    struct shard *shards =
        realloc(checkpoint->shards, ((size_t)checkpoint->shard_count + 1) * sizeof *shards);
    if (shards == NULL)
        return no_memory(folder);
    checkpoint->shards = shards;
    struct shard *shard = &shards[checkpoint->shard_count];
    *shard = (struct shard){.path = join_path(folder, file)};
    if (shard->path == NULL)
        return no_memory(folder);
    enum status status = safetensors_open(shard->path, &shard->file);
    if (status != STATUS_OK) {
        free(shard->path);
        return status;
    }
    checkpoint->shard_count++;
    return STATUS_OK;
}

static enum status refuse_unlisted(const struct weight_index *index, const struct shard *shard,
                                   const char *tensor) {
    const char *other = json_string_value(json_object_get(index->weight_map, tensor));
    if (other == NULL)
        LOG_ERROR("%s: " NAME ": expected a tensor that the index names, got one that it does not",
                  shard->path, tensor);
    else
        LOG_ERROR("%s: " NAME ": expected in \"%.200s\" (index), got it in this file", shard->path,
                  tensor, other);
    return STATUS_BAD_CHECKPOINT;
}

/* The index's entries for a shard and the shard's tensors, both sorted by name, must be the same
 * names. */
static enum status compare_shard(const struct weight_index *index, const struct index_entry *entry,
                                 size_t count, const struct shard *shard) {
    int32_t stored_count = safetensors_count(shard->file);
    int32_t stored = 0;
    for (size_t i = 0; i < count; i++, stored++) {
        const char *name = stored < stored_count ? safetensors_at(shard->file, stored)->name : NULL;
        int order = name == NULL ? -1 : strcmp(entry[i].tensor, name);
        if (order > 0)
            return refuse_unlisted(index, shard, name);
        if (order < 0) {
            LOG_ERROR("%s: " NAME ": expected in this file (index), got no such tensor",
                      shard->path, entry[i].tensor);
            return STATUS_BAD_CHECKPOINT;
        }
    }
    if (stored < stored_count)
        return refuse_unlisted(index, shard, safetensors_at(shard->file, stored)->name);
    return STATUS_OK;
}

static enum status open_indexed_shard(struct checkpoint *checkpoint, const char *folder,
                                      const struct weight_index *index, size_t first, size_t end) {
    const struct index_entry *entry = &index->entries[first];
    char *path = join_path(folder, entry->file);
    if (path == NULL)
        return no_memory(folder);
    if (!exists(path)) {
        LOG_ERROR("%s: weight_map: " NAME ": expected the file \"%.200s\" in this folder, got: %s",
                  index->path, entry->tensor, entry->file, strerror(errno));
        free(path);
        return STATUS_IO;
    }
    free(path);
    RETURN_IF_ERROR(open_shard(checkpoint, folder, entry->file));
    return compare_shard(index, entry, end - first,
                         &checkpoint->shards[checkpoint->shard_count - 1]);
}

/* A wrong sum loads all the same: real checkpoints have them. */
static void check_total_size(const struct checkpoint *checkpoint,
                             const struct weight_index *index) {
    const json_t *total = json_object_get(json_object_get(index->root, "metadata"), "total_size");
    if (total == NULL)
        return;
    int64_t bytes = 0;
    for (int32_t i = 0; i < checkpoint->shard_count; i++) {
        const struct safetensors_file *file = checkpoint->shards[i].file;
        for (int32_t j = 0; j < safetensors_count(file); j++)
            bytes += safetensors_at(file, j)->bytes;
    }
    if (!json_is_number(total))
        LOG_WARN("%s: metadata: total_size: expected %" PRId64 ", got %s", index->path, bytes,
                 json_file_kind(total));
    else if (json_number_value(total) != (double)bytes)
        LOG_WARN("%s: metadata: total_size: expected %" PRId64 " (bytes of all tensors), got %.0f",
                 index->path, bytes, json_number_value(total));
}

static enum status open_indexed(struct checkpoint *checkpoint, const char *folder) {
    struct weight_index index = {0};
    enum status status = index_load(folder, &index);
    size_t first = 0;
    while (status == STATUS_OK && first < index.count) {
        size_t end = first + 1;
        while (end < index.count && strcmp(index.entries[end].file, index.entries[first].file) == 0)
            end++;
        status = open_indexed_shard(checkpoint, folder, &index, first, end);
        first = end;
    }
    if (status == STATUS_OK)
        check_total_size(checkpoint, &index);
    index_unload(&index);
    return status;
}

static enum status check_folder(const char *folder) {
    struct stat facts;
    bool found = stat(folder, &facts) == 0;
    if (found && S_ISDIR(facts.st_mode))
        return STATUS_OK;
    LOG_ERROR("%s: expected a model folder, got: %s", folder, found ? "a file" : strerror(errno));
    return STATUS_IO;
}

static enum status open_shards(struct checkpoint *checkpoint, const char *folder) {
    RETURN_IF_ERROR(check_folder(folder));
    char *single = join_path(folder, SINGLE_NAME);
    char *index = join_path(folder, INDEX_NAME);
    enum status status = STATUS_OK;
    if (single == NULL || index == NULL) {
        status = no_memory(folder);
    } else if (exists(single)) {
        if (exists(index))
            LOG_WARN("%s: not read: the folder also has " SINGLE_NAME, index);
        status = open_shard(checkpoint, folder, SINGLE_NAME);
    } else if (exists(index)) {
        status = open_indexed(checkpoint, folder);
    } else {
        LOG_ERROR("%s: expected " SINGLE_NAME " or " INDEX_NAME ", got neither", folder);
        status = STATUS_IO;
    }
    free(single);
    free(index);
    return status;
}

static enum status list_tensors(struct checkpoint *checkpoint, const char *folder) {
    size_t count = 0;
    for (int32_t i = 0; i < checkpoint->shard_count; i++)
        count += (size_t)safetensors_count(checkpoint->shards[i].file);
    checkpoint->tensors = calloc(count + 1, sizeof *checkpoint->tensors);
    if (checkpoint->tensors == NULL || count > INT32_MAX)
        return no_memory(folder);
    for (int32_t i = 0; i < checkpoint->shard_count; i++) {
        const struct safetensors_file *file = checkpoint->shards[i].file;
        for (int32_t j = 0; j < safetensors_count(file); j++) {
            struct tensor_info *tensor = &checkpoint->tensors[checkpoint->count++];
            *tensor = *safetensors_at(file, j);
            tensor->shard = i;
            checkpoint->bytes += tensor->bytes;
        }
    }
    qsort(checkpoint->tensors, count, sizeof *checkpoint->tensors, compare_tensors);
    return STATUS_OK;
}

enum status checkpoint_open(const char *folder, struct checkpoint **checkpoint) {
    struct checkpoint *opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        return no_memory(folder);
    enum status status = open_shards(opened, folder);
    if (status == STATUS_OK)
        status = list_tensors(opened, folder);
    if (status != STATUS_OK) {
        checkpoint_close(opened);
        return status;
    }
    *checkpoint = opened;
    return STATUS_OK;
}

void checkpoint_close(struct checkpoint *checkpoint) {
    if (checkpoint == NULL)
        return;
    for (int32_t i = 0; i < checkpoint->shard_count; i++) {
        safetensors_close(checkpoint->shards[i].file);
        free(checkpoint->shards[i].path);
    }
    free(checkpoint->shards);
    free(checkpoint->tensors);
    free(checkpoint);
}

int32_t checkpoint_count(const struct checkpoint *checkpoint) {
    return checkpoint->count;
}

const struct tensor_info *checkpoint_at(const struct checkpoint *checkpoint, int32_t index) {
    ASSERT(index >= 0 && index < checkpoint->count);
    return &checkpoint->tensors[index];
}

const struct tensor_info *checkpoint_find(const struct checkpoint *checkpoint, const char *name) {
    struct tensor_info key = {.name = name};
    return bsearch(&key, checkpoint->tensors, (size_t)checkpoint->count,
                   sizeof *checkpoint->tensors, compare_tensors);
}

int64_t checkpoint_bytes(const struct checkpoint *checkpoint) {
    return checkpoint->bytes;
}

int32_t checkpoint_shards(const struct checkpoint *checkpoint) {
    return checkpoint->shard_count;
}

const char *checkpoint_shard_path(const struct checkpoint *checkpoint, int32_t shard) {
    ASSERT(shard >= 0 && shard < checkpoint->shard_count);
    return checkpoint->shards[shard].path;
}

const void *checkpoint_data(const struct checkpoint *checkpoint, const struct tensor_info *tensor) {
    ASSERT(tensor->shard >= 0 && tensor->shard < checkpoint->shard_count);
    return safetensors_data(checkpoint->shards[tensor->shard].file, tensor);
}

enum status checkpoint_read(const struct checkpoint *checkpoint, const struct tensor_info *tensor,
                            int64_t first, int64_t bytes, void *buffer) {
    ASSERT(tensor->shard >= 0 && tensor->shard < checkpoint->shard_count);
    ASSERT(first >= 0 && bytes >= 0 && first <= tensor->bytes && bytes <= tensor->bytes - first);
    const struct shard *shard = &checkpoint->shards[tensor->shard];
    return regular_file_read_at(safetensors_descriptor(shard->file), shard->path,
                                tensor->offset + first, bytes, buffer);
}
