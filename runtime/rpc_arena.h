/* Memory of one request with a cap: what protobuf-c unpacks a message into. A small message can ask
 * for fifty times its size when it is unpacked; the cap says how far that goes. Nothing is freed
 * singly. */
#ifndef MOEBIUS_RUNTIME_RPC_ARENA_H
#define MOEBIUS_RUNTIME_RPC_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct rpc_arena_chunk;

struct rpc_arena {
    ProtobufCAllocator
        allocator; /* hand &arena->allocator to ..._unpack; never call ..._free_unpacked */
    struct rpc_arena_chunk *chunks;
    size_t used, capacity; /* bytes of the newest chunk */
    size_t total, total_max;
    bool is_exhausted; /* the cap refused something since the last reset */
};

/* Takes nothing yet. Local. */
void rpc_arena_init(struct rpc_arena *arena, size_t bytes_max);
void rpc_arena_deinit(struct rpc_arena *arena);

/* Forgets everything and keeps one chunk. Local. */
void rpc_arena_reset(struct rpc_arena *arena);

/* Zeroed bytes, aligned for any object; NULL: the cap is reached, or no memory. Local. */
void *rpc_arena_take(struct rpc_arena *arena, size_t bytes);

#endif
