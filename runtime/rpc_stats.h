/* The server's figures as messages of the wire, in a call's arena. */
#ifndef MOEBIUS_RUNTIME_RPC_STATS_H
#define MOEBIUS_RUNTIME_RPC_STATS_H

#include <stdbool.h>

#include "comm/rank_group.h"
#include "moe/placement.h"
#include "proto/moebius/v1/admin.pb-c.h"
#include "runtime/metrics.h"
#include "runtime/rank_accounts.h"
#include "runtime/rpc_arena.h"

/* Each returns false when the arena's cap is reached, and fills a message that is initialized. */
bool rpc_stats_fill(const struct metrics *metrics, int64_t start_ns, bool per_rank,
                    struct rpc_arena *arena, Moebius__V1__GetStatsResponse *response);

/* Layers first .. first + count - 1, which exist. */
bool rpc_stats_load(const struct rank_accounts *accounts, int32_t first, int32_t count,
                    bool by_rank, struct rpc_arena *arena,
                    Moebius__V1__GetExpertLoadResponse *response);
bool rpc_stats_traffic(const struct rank_accounts *accounts, const struct rank_group *ranks,
                       bool by_node, struct rpc_arena *arena,
                       Moebius__V1__GetTrafficResponse *response);

/* `placement` NULL: one rank has all of `experts`. */
bool rpc_stats_placement(const struct placement *placement, int32_t experts, int32_t first,
                         int32_t count, struct rpc_arena *arena, Moebius__V1__Placement *response);

#endif
