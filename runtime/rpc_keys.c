/* The file of bearer tokens. Both doors, gRPC and HTTP, ask here. */
#include "runtime/rpc_keys.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kernels/base/log.h"

#define KEYS_MAX 1024
#define KEY_BYTES_MAX 512

struct rpc_keys {
    int32_t count;
    struct key {
        size_t size;
        char bytes[KEY_BYTES_MAX];
    } keys[KEYS_MAX];
};

/* The key of a line, blanks dropped; false: it is empty or a comment. */
static bool parse_line(char *line, const char **key, size_t *size) {
    line += strspn(line, " \t");
    size_t length = strcspn(line, "\r\n");
    while (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\t'))
        length--;
    *key = line;
    *size = length;
    return length > 0 && line[0] != '#';
}

static enum status read_keys(FILE *file, const char *path, struct rpc_keys *keys) {
    char line[KEY_BYTES_MAX + 64];
    enum status status = STATUS_OK;
    for (int64_t number = 1; status == STATUS_OK && fgets(line, sizeof(line), file) != NULL;
         number++) {
        const char *key;
        size_t size;
        if (!parse_line(line, &key, &size))
            continue;
        bool is_cut = strchr(line, '\n') == NULL && !feof(file);
        if (size > KEY_BYTES_MAX || is_cut) {
            LOG_ERROR("%s: line %lld: expected a key of at most %d bytes", path, (long long)number,
                      KEY_BYTES_MAX);
            status = STATUS_BAD_CONFIG;
        } else if (keys->count == KEYS_MAX) {
            LOG_ERROR("%s: expected at most %d keys", path, KEYS_MAX);
            status = STATUS_BAD_CONFIG;
        } else {
            struct key *slot = &keys->keys[keys->count++];
            slot->size = size;
            memcpy(slot->bytes, key, size);
        }
    }
    OPENSSL_cleanse(line, sizeof(line));
    if (status == STATUS_OK && ferror(file)) {
        LOG_ERROR("%s: %s", path, strerror(errno));
        status = STATUS_IO;
    }
    if (status == STATUS_OK && keys->count == 0) {
        LOG_ERROR("%s: expected a key a line, got none", path);
        status = STATUS_BAD_CONFIG;
    }
    return status;
}

enum status rpc_keys_load(const char *path, struct rpc_keys **keys) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        LOG_ERROR("%s: %s", path, strerror(errno));
        return STATUS_IO;
    }
    struct rpc_keys *made = calloc(1, sizeof(*made));
    enum status status = made == NULL ? STATUS_NO_MEMORY : read_keys(file, path, made);
    fclose(file);
    if (status == STATUS_OK)
        *keys = made;
    else
        rpc_keys_destroy(made);
    return status;
}

void rpc_keys_destroy(struct rpc_keys *keys) {
    if (keys == NULL)
        return;
    OPENSSL_cleanse(keys, sizeof(*keys));
    free(keys);
}

int32_t rpc_keys_find(const struct rpc_keys *keys, const char *authorization) {
    static const char scheme[] = "bearer ";
    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
        return 0;
    const char *token = authorization + sizeof(scheme) - 1;
    token += strspn(token, " ");
    size_t size = strlen(token);
    char padded[KEY_BYTES_MAX] = {0};
    if (size > KEY_BYTES_MAX)
        return 0;
    memcpy(padded, token, size);
    int32_t found = 0;
    /* Every key is compared whole: how long this takes says nothing about any of them. */
    for (int32_t i = 0; i < keys->count; i++) {
        int differs = CRYPTO_memcmp(padded, keys->keys[i].bytes, KEY_BYTES_MAX);
        if (differs == 0 && size == keys->keys[i].size)
            found = i + 1;
    }
    OPENSSL_cleanse(padded, sizeof(padded));
    return found;
}
