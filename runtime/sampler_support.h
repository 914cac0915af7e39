/* The support: the ids that top_k, top_p and min_p leave to choose from. All three keep a prefix of
 * one order, greater logit first and lower id first among equals, so the support of a whole
 * vocabulary is said by its last member, and a rank that holds a shard of the vocabulary needs no
 * more than that to draw its part. */
#ifndef MOEBIUS_RUNTIME_SAMPLER_SUPPORT_H
#define MOEBIUS_RUNTIME_SAMPLER_SUPPORT_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/sampler_reach.h"
#include "runtime/sampling_params.h"

/* The border of the support of a whole row, bias and penalties already applied, temperature not yet
 * (params->temperature > 0). In this order, all borders with ties to the lower id:
 *   top_k  the k first of the order;
 *   top_p  of those, weighted exp((logit - greatest) / temperature), the shortest prefix whose sum
 *          reaches top_p times the sum of all (so at least one). Weights are those of sample_ops'
 *          weigh: f32, within 1e-6, and 0 below 2^-54 times the vocabulary;
 *   min_p  all with logit >= greatest + temperature log(min_p), in double; ties are all kept.
 * Infinite logits: +infinity outweighs all else. What `list` holds is overwritten. No allocation,
 * no errors. Local. */
struct sampler_border sampler_support_border(const struct sampling_params *params,
                                             const struct sampler_scan *scan,
                                             struct sampler_list *list);

#endif
