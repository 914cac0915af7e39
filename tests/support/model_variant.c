/* Makes broken models out of good ones. */
#define _XOPEN_SOURCE 700
#include "tests/support/model_variant.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/program.h"

#define PATH_SIZE 4352

static void die(const char *variant, const char *what) {
    fprintf(stderr, "test: variant %s: cannot %s\n", variant, what);
    exit(1);
}

/* Links every file of the base folder. */
static void link_files(const struct model_variant *variant, const char *folder) {
    char base[4096], from[PATH_SIZE], to[PATH_SIZE];
    DIR *files = realpath(variant->base, base) != NULL ? opendir(base) : NULL;
    if (files == NULL || mkdir(folder, 0700) != 0)
        die(variant->name, "start");
    for (struct dirent *entry; (entry = readdir(files)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(from, sizeof from, "%s/%.200s", base, entry->d_name);
        snprintf(to, sizeof to, "%.4000s/%.200s", folder, entry->d_name);
        if (symlink(from, to) != 0)
            die(variant->name, "link a file");
    }
    closedir(files);
}

/* The first place of `find` in data [size], both of which may hold NUL. */
static char *find_bytes(char *data, size_t size, const char *find) {
    size_t length = strlen(find);
    for (size_t i = 0; i + length <= size; i++)
        if (memcmp(data + i, find, length) == 0)
            return data + i;
    return NULL;
}

/* *data [*size], on the heap, with the first `find` replaced. */
static void replace(const struct model_variant *variant, char **data, size_t *size) {
    size_t find_length = strlen(variant->find), with_length = strlen(variant->with);
    char *place = find_bytes(*data, *size, variant->find);
    char *changed = malloc(*size + with_length + 1);
    if (place == NULL || changed == NULL)
        die(variant->name, "find what to replace");
    size_t before = (size_t)(place - *data), after = *size - before - find_length;
    memcpy(changed, *data, before);
    memcpy(changed + before, variant->with, with_length);
    memcpy(changed + before + with_length, place + find_length, after);
    free(*data);
    *data = changed;
    *size = before + with_length + after;
}

static uint64_t header_length(const char *data) {
    uint64_t length = 0;
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)(unsigned char)data[i] << (8 * i);
    return length;
}

static void replace_in_header(const struct model_variant *variant, char **data, size_t *size) {
    uint64_t length = header_length(*data) + strlen(variant->with) - strlen(variant->find);
    replace(variant, data, size);
    for (int i = 0; i < 8; i++)
        (*data)[i] = (char)(length >> (8 * i) & 0xff);
}

static void fill_with_nan(char *data, size_t size) {
    static const unsigned char nan_bytes[4] = {0, 0, 0xc0, 0x7f};
    for (size_t i = 8 + (size_t)header_length(data); i + 4 <= size; i += 4)
        memcpy(data + i, nan_bytes, 4);
}

/* The file's new content goes where the link was. */
static void change_content(const struct model_variant *variant, const char *path) {
    size_t size;
    char *data = program_read_file(path, &size);
    if (variant->change == VARIANT_REPLACE)
        replace(variant, &data, &size);
    else if (variant->change == VARIANT_HEADER)
        replace_in_header(variant, &data, &size);
    else if (variant->change == VARIANT_HALVE)
        size /= 2;
    else
        fill_with_nan(data, size);
    if (unlink(path) != 0)
        die(variant->name, "remove a link");
    program_write_file(path, data, size);
    free(data);
}

static void append(const struct model_variant *variant, const char *path) {
    size_t size, more = strlen(variant->with);
    char *data = program_read_file(path, &size);
    char *longer = realloc(data, size + more + 1);
    if (longer == NULL || unlink(path) != 0)
        die(variant->name, "append");
    memcpy(longer + size, variant->with, more);
    program_write_file(path, longer, size + more);
    free(longer);
}

void model_variant_make(const struct model_variant *variant, const char *parent) {
    char folder[PATH_SIZE], path[PATH_SIZE + 256];
    snprintf(folder, sizeof folder, "%s/%s", parent, variant->name);
    snprintf(path, sizeof path, "%s/%s", folder, variant->file);
    link_files(variant, folder);
    switch (variant->change) {
    case VARIANT_CONTENT:
        (void)unlink(path); /* there need not be one */
        program_write_file(path, variant->with, strlen(variant->with));
        break;
    case VARIANT_REMOVE:
    case VARIANT_FOLDER:
        if (unlink(path) != 0 || (variant->change == VARIANT_FOLDER && mkdir(path, 0700) != 0))
            die(variant->name, "remove a file");
        break;
    case VARIANT_APPEND:
        append(variant, path);
        break;
    case VARIANT_REPLACE:
    case VARIANT_HEADER:
    case VARIANT_HALVE:
    case VARIANT_NAN:
        change_content(variant, path);
        break;
    }
}
