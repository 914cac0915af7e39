/* Any bytes as model.safetensors.index.json beside two good shards. What opens must hold the three
 * tensors of the shards. */
#define _XOPEN_SOURCE 700

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "runtime/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = P_tmpdir "/moebius-fuzz-XXXXXX";
static char paths[3][sizeof folder + 64];
enum { ONE, TWO, INDEX };

static void write_file(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    ASSERT(file != NULL);
    ASSERT(fwrite(data, 1, size, file) == size);
    ASSERT(fclose(file) == 0);
}

static void write_shard(const char *path, const char *header, size_t data_bytes) {
    char bytes[256] = {0};
    size_t length = strlen(header);
    ASSERT(8 + length + data_bytes <= sizeof bytes);
    bytes[0] = (char)length;
    memcpy(bytes + 8, header, length);
    write_file(path, bytes, 8 + length + data_bytes);
}

static void remove_folder(void) {
    for (int i = 0; i < 3; i++)
        unlink(paths[i]);
    rmdir(folder);
}

static void make_folder(void) {
    static const char *const names[] = {"1.safetensors", "2.safetensors",
                                        "model.safetensors.index.json"};
    ASSERT(mkdtemp(folder) != NULL);
    for (int i = 0; i < 3; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
    atexit(remove_folder);
    write_shard(paths[ONE],
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                "\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}",
                6);
    write_shard(paths[TWO], "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (paths[0][0] == '\0')
        make_folder();
    write_file(paths[INDEX], data, size);
    struct checkpoint *checkpoint = NULL;
    enum status status = checkpoint_open(folder, &checkpoint);
    if (status == STATUS_OK) {
        int32_t count = checkpoint_count(checkpoint);
        ASSERT(count == 3 || count == 2 || count == 1); /* both shards, or one of them */
        checkpoint_close(checkpoint);
    } else {
        ASSERT(status == STATUS_BAD_CHECKPOINT || status == STATUS_IO);
        ASSERT(checkpoint == NULL);
    }
    return 0;
}
