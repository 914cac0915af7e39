/* Bearer tokens that a door accepts (--api-key-file): one a line. */
#ifndef MOEBIUS_RUNTIME_RPC_KEYS_H
#define MOEBIUS_RUNTIME_RPC_KEYS_H

#include <stdint.h>

#include "kernels/base/status.h"

struct rpc_keys;

/* Reads the file: a key a line, surrounding blanks dropped, empty lines and lines that begin with #
 * skipped. STATUS_IO (logged): cannot be read; STATUS_BAD_CONFIG (logged): no key, or more than
 * 1024. Keys are never logged. Local. */
enum status rpc_keys_load(const char *path, struct rpc_keys **keys);

/* Wipes and frees; NULL is allowed. Local. */
void rpc_keys_destroy(struct rpc_keys *keys);

/* Which key (from 1) stands in an authorization header's value, "Bearer KEY"; 0: none of them, or
 * `authorization` is NULL. Takes the same time for every key. Local. */
int32_t rpc_keys_find(const struct rpc_keys *keys, const char *authorization);

#endif
