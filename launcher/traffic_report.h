/* The traffic accounts for people and for scripts. */
#ifndef MOEBIUS_LAUNCHER_TRAFFIC_REPORT_H
#define MOEBIUS_LAUNCHER_TRAFFIC_REPORT_H

#include <stdio.h>

#include "launcher/job.h"
#include "moe/expert_exchange.h"

struct traffic_facts {
    const struct traffic *traffic; /* of all ranks */
    const struct job_load *load;
    int32_t ranks;
    const struct expert_exchange *exchange; /* of any rank: all choose alike. NULL: no experts, or
                                               all on one rank */
};

/* One line a kind, then one a layer with experts: messages and bytes that stayed on a rank, went to
 * the same node, to other nodes; then how local the routing was beside what chance gives, and which
 * flow the steps took and why. Local. */
void traffic_report_print(FILE *out, const struct traffic_facts *facts);

/* The same as one JSON object, into a file. Counts are sums over all ranks and all steps; a token
 * counts once for each layer with experts.
 *
 *   ranks                      how many
 *   local_activation_rate      local_pairs / pairs
 *   chance                     what that would be if experts were chosen blindly: 1 / ranks
 *   fan_out                    other ranks that a token must reach, mean
 *   node_fan_out               other nodes that it must reach, mean
 *   tokens                     at their home ranks
 *   pairs                      of a token and one of its experts
 *   local_pairs                those whose expert is on the token's home rank
 *   copies                     rows that left a rank in dispatches, forwarded ones included
 *   load                       array, by rank: pairs computed there
 *   load_max                   the largest of them
 *   load_mean                  their mean
 *   wait_seconds               asleep or polling before the first byte of a peer came
 *   transfer_seconds           from then on until all was there
 *   layers                     array, see below
 *
 * Where several ranks share experts:
 *
 *   moe_flow                   as --moe-flow says
 *   flow_steps                 object: steps with rows that went by each flow, which are
 *     deepspeed
 *     a2a
 *     a2a-dedup
 *     allgather
 *     hierarchical
 *
 * With --moe-flow auto also:
 *
 *   reckoned_dispatch_seconds  object, by flow (candidates only): one dispatch, mean over the steps
 *   node_link                  object: two ranks of a node, as measured at start
 *   remote_link                object: two ranks of different nodes
 *     latency_seconds          of a small message
 *     bytes_per_second         of a large one
 *
 * layers has an element for each layer, in order, then one for what belongs to none:
 *
 *   layer                      its number; -1: none
 *     plan                     object, and so are the others: the step's plan, from the coordinator
 *     rows                     results to the coordinator
 *     status                   agreement on a status
 *     dispatch                 tokens to experts
 *     combine                  expert outputs home
 *     reduce-scatter           partial sums of tensor-parallel attention
 *     all-gather               slices back to every rank of the group
 *     all-reduce               instead of both, with --moe-flow deepspeed
 *     norm                     sums of squares of a norm over the heads of several ranks
 *
 * A kind of which nothing was sent or kept is left out. The others have:
 *
 *   self_bytes                 rows that need not travel to be computed
 *   node_messages              sent to other ranks of the node
 *   node_bytes
 *   remote_messages            sent to other nodes
 *   remote_bytes
 *
 * What is counted is what steps send: not what ranks agree about at start, nor the probes of links,
 * nor signs of life. STATUS_IO (logged). Local. */
enum status traffic_report_write(const char *path, const struct traffic_facts *facts);

#endif
