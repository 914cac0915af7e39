/* Taken once a start, before the ranks agree that loading may begin. */
#include "runtime/model_digest.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/log.h"
#include "runtime/regular_file.h"

#define SAMPLES 64 /* few enough for a thousand ranks that start at once on one file system */
#define SAMPLE_BYTES 4096
#define CONFIG_BYTES_MAX (INT64_C(16) << 20)

static uint64_t mix(uint64_t hash, const void *bytes, size_t size) { /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(1099511628211);
    return hash;
}

static enum status mix_config(const char *folder, const char *name, bool may_lack, uint64_t *hash) {
    char path[4200], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (may_lack && access(path, F_OK) != 0)
        return STATUS_OK;
    RETURN_IF_ERROR(regular_file_load(path, CONFIG_BYTES_MAX, &text, &size));
    *hash = mix(*hash, text, size);
    free(text);
    return STATUS_OK;
}

static enum status mix_sample(const struct checkpoint *checkpoint, const struct tensor_info *tensor,
                              uint64_t *hash) {
    char sample[SAMPLE_BYTES];
    int64_t bytes = tensor->bytes < SAMPLE_BYTES ? tensor->bytes : SAMPLE_BYTES;
    RETURN_IF_ERROR(
        checkpoint_read(checkpoint, tensor, (tensor->bytes - bytes) / 2, bytes, sample));
    *hash = mix(*hash, tensor->name, strlen(tensor->name) + 1);
    *hash = mix(*hash, tensor->shape, sizeof *tensor->shape * (size_t)tensor->dimensions);
    *hash = mix(*hash, sample, (size_t)bytes);
    return STATUS_OK;
}

enum status model_digest_take(const char *folder, const struct checkpoint *checkpoint,
                              int64_t *digest) {
    uint64_t hash = UINT64_C(14695981039346656037);
    RETURN_IF_ERROR(mix_config(folder, "config.json", false, &hash));
    /* Every rank that samples has to ban the same end tokens while min_tokens are missing. */
    RETURN_IF_ERROR(mix_config(folder, "generation_config.json", true, &hash));
    int32_t count = checkpoint != NULL ? checkpoint_count(checkpoint) : 0;
    for (int32_t i = 0; i < count && i < SAMPLES; i++) {
        /* Not every so manyth: names repeat expert by expert. */
        int64_t index = count <= SAMPLES ? i : (i * INT64_C(0x9e3779b1)) % count;
        RETURN_IF_ERROR(mix_sample(checkpoint, checkpoint_at(checkpoint, (int32_t)index), &hash));
    }
    *digest = (int64_t)hash;
    return STATUS_OK;
}
