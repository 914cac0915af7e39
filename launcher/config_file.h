/* A configuration file: YAML, one mapping of names to scalars or lists of scalars. What the names
 * mean is the caller's. */
#ifndef MOEBIUS_LAUNCHER_CONFIG_FILE_H
#define MOEBIUS_LAUNCHER_CONFIG_FILE_H

#include <stdint.h>

#include "kernels/base/status.h"

/* One scalar; a list is several items with one key. */
struct config_item {
    char *key, *value;
    int32_t line; /* of the value, from 1 */
};

/* {0} is an empty file. */
struct config_file {
    struct config_item *items; /* [count], in the file's order */
    int32_t count, capacity;
};

/* Reads `path`. STATUS_IO (logged): cannot be read. STATUS_USAGE (logged: path, line,
 * expected, got): no YAML, nested, a key twice, a key without a value. STATUS_NO_MEMORY (logged).
 * Free with config_file_deinit, in any case. Local. */
enum status config_file_read(const char *path, struct config_file *file);
void config_file_deinit(struct config_file *file);

#endif
