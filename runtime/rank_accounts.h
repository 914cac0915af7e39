/* What all ranks have counted since the start: how many (token, expert) pairs each computed, by
 * layer and expert, and what each sent to each other. The engine thread writes what the ranks told;
 * any thread reads. */
#ifndef MOEBIUS_RUNTIME_RANK_ACCOUNTS_H
#define MOEBIUS_RUNTIME_RANK_ACCOUNTS_H

#include <stdint.h>

#include "comm/traffic.h"
#include "kernels/base/status.h"

struct rank_accounts;

/* `layers` MoE layers of `experts` experts; both may be 0 (a dense model). STATUS_NO_MEMORY
 * (logged). Local. */
enum status rank_accounts_create(int32_t ranks, int32_t layers, int32_t experts,
                                 struct rank_accounts **accounts);
void rank_accounts_destroy(struct rank_accounts *accounts); /* NULL allowed */

int32_t rank_accounts_ranks(const struct rank_accounts *accounts);
int32_t rank_accounts_layers(const struct rank_accounts *accounts);
int32_t rank_accounts_experts(const struct rank_accounts *accounts);

/* Replaces a rank's counters: pairs [layers][experts] (NULL: none), sent [ranks] by destination
 * (NULL: none). `now_ns`: clock_now_ns. Engine thread. Local. */
void rank_accounts_set(struct rank_accounts *accounts, int32_t rank, const int64_t *pairs,
                       const struct traffic_peer *sent, int64_t now_ns);

/* Of one rank. Local. */
int64_t rank_accounts_pairs(const struct rank_accounts *accounts, int32_t rank, int32_t layer,
                            int32_t expert);
struct traffic_peer rank_accounts_sent(const struct rank_accounts *accounts, int32_t rank,
                                       int32_t to);

/* When rank_accounts_set was last called; 0: never. Local. */
int64_t rank_accounts_told_ns(const struct rank_accounts *accounts);

#endif
